"""Object stores for tests to share: one of each kind per process of tests, started when first asked for."""

from collections.abc import Iterator

import pytest

from tests.object_stores.client import lead_to
from tests.object_stores.ministack import Ministack
from tests.object_stores.moto import Moto
from tests.object_stores.proxy import Proxy
from tests.object_stores.rclone import Rclone
from tests.object_stores.server import ObjectStore

STORES: dict[str, type[ObjectStore]] = {"moto": Moto, "ministack": Ministack, "rclone": Rclone}


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    """A server to share: each test makes a bucket of its own in it, and leaves it running."""
    with Moto(tmp_path_factory.mktemp("moto")) as store:
        yield store


@pytest.fixture(scope="session")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ministack]:
    """A server to share: each test makes a bucket of its own in it, and leaves it running."""
    with Ministack(tmp_path_factory.mktemp("ministack")) as store:
        yield store


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rclone]:
    """A server to share: each test makes a bucket of its own in it, and leaves it running."""
    with Rclone(tmp_path_factory.mktemp("rclone")) as store:
        yield store


@pytest.fixture(params=STORES)
def any_store(request: pytest.FixtureRequest) -> ObjectStore:
    """Each kind of shared server in turn."""
    store: ObjectStore = request.getfixturevalue(request.param)
    return store


@pytest.fixture
def service(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> Moto:
    """The shared moto, to which the environment leads."""
    lead_to(monkeypatch, moto)
    return moto


@pytest.fixture
def proxy(moto: Moto) -> Iterator[Proxy]:
    """A proxy of this test's own before the shared moto."""
    with Proxy(moto.port) as proxy:
        yield proxy
