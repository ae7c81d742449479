"""A run whose outputs were taken elsewhere is the same run: killed in between, resumed, rerun, pruned."""

import contextlib
import datetime as dt
import secrets
import shutil
from pathlib import Path

import fsspec
import pytest

from execution import RunResult, rerun, resume
from runstore import OutputReference, RunStore
from runstore.audit import cat
from runstore.errors import ConfigError, OutputConflict, OutputLost, StorageFailed
from runstore.housekeeping import move, prune
from runstore.log import recorder
from runstore.log.events import STORES, BaseMoved
from runstore.outputs import segments
from runstore.testing import Failpoint, in_fork, record_points
from tests.acceptance.test_crash_matrix import failpoints_for, kill_run
from tests.acceptance.three_stages import EXPECTED, RUN, Scene, file_digests, three_stages, values
from tests.object_stores.moto import Moto
from tests.object_stores.proxy import Proxy
from tests.object_stores.rclone import Rclone

AGAIN = "again"


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A run with outputs of two epochs, some of which do not count; and a rerun that uses some of them."""
    monkeypatch.setattr(recorder, "GROUP_S", 0.0)
    scene = Scene(tmp_path, "fast")
    kill_run(scene.execute, Failpoint(point="event.before", kind="StepSucceeded", step="fan_out"))
    assert scene.resume().success
    with scene.open() as store:
        assert rerun(RUN, store, select=["wrap[a]*"], job=three_stages, new_run_id=AGAIN).success
    return scene


def check(store: RunStore, run: str = RUN) -> None:
    """Every value of a run is there, and verified."""
    assert values(RunResult.load(run, store, job=three_stages)) == EXPECTED


def named(store: RunStore) -> dict[str, OutputReference]:
    """Path -> reference of what the run's events name."""
    events = (event for _, event in store.events(RUN))
    return {one.reference.path: one.reference for one in events if isinstance(one, STORES)}


@pytest.mark.parametrize("delete_old", [False, True])
def test_kill_at_every_point_of_a_move(delete_old: bool, scene: Scene, tmp_path: Path) -> None:
    """Killed at each point that a whole move passes the run is whole, and moved again it is at the new place."""
    place, copy = tmp_path / "elsewhere", tmp_path / "copy"
    shutil.copytree(scene.store, copy)

    def moved() -> None:
        with scene.open() as store:
            move(store, RUN, str(place), delete_old=delete_old)

    points = record_points(moved)
    files, left = file_digests(place), file_digests(scene.store / "outputs")
    for failpoint in failpoints_for(points):
        shutil.rmtree(place)
        shutil.rmtree(scene.store)
        shutil.copytree(copy, scene.store)
        place.mkdir()
        kill_run(moved, failpoint)
        with scene.open() as store:
            check(store)
            check(store, AGAIN)
        with contextlib.suppress(ConfigError):  # where it was killed when all was done
            moved()
        assert file_digests(place) == files, f"{failpoint}"
        assert file_digests(scene.store / "outputs") == left, f"{failpoint}"
        with scene.open() as store:
            assert store.state(RUN).bases == [f"{place}/{RUN}"]
            check(store)
            check(store, AGAIN)


def test_a_moved_run_goes_on_at_its_new_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Crashed, moved and its old place gone, it is resumed, shown and rerun from where it is now."""
    monkeypatch.setattr(recorder, "GROUP_S", 0.0)
    scene = Scene(tmp_path, "durable")
    kill_run(scene.execute, Failpoint(point="event.before", kind="StepStarted", step="shout[d]"))
    before = scene.state()
    with scene.open() as store:
        told = move(store, RUN, str(tmp_path / "new"), delete_old=True)
        unnamed = 1  # what the killed attempt had written
        assert told.deleted.objects == told.copied.objects + unnamed
        assert store.run(RUN).status == "crashed"
        assert not (scene.store / "outputs" / RUN).exists()
        assert store.state(RUN).running == before.running
        scene.take_calls()
        assert values(scene.resume(store)) == EXPECTED
        assert not {"shout[a]", "wrap[a]", "fan_out"} & set(scene.take_calls())
        assert not (scene.store / "outputs" / RUN).exists()
        assert cat(store, RUN, "gather").data.decode() == EXPECTED["gather"]
        again = rerun(RUN, store, select=["gather"], job=three_stages, new_run_id=AGAIN)
        assert values(again) == EXPECTED
        assert store.users_of(RUN) == [AGAIN]
        store.remove(AGAIN)
        store.remove(RUN)
        assert not (tmp_path / "new" / RUN).exists()


def test_what_a_rerun_uses_stays_where_it_was(scene: Scene, tmp_path: Path) -> None:
    """A deletion of the old place leaves what reruns took from there; when they are gone, prune deletes that too."""
    with scene.open() as store:
        told = move(store, RUN, str(tmp_path / "new"), delete_old=True)
        assert told.users == (AGAIN,)
        assert told.in_use.objects
        kept = file_digests(scene.store / "outputs" / RUN)
        assert len(kept) == told.in_use.objects
        check(store)
        check(store, AGAIN)
        (one,) = prune(store, RUN)
        assert one.in_use == told.in_use
        store.remove(AGAIN)
        (one,) = prune(store, RUN)
        assert one.why["left behind"] == told.in_use
        assert not file_digests(scene.store / "outputs")
        check(store)


@pytest.mark.parametrize("small_outputs", ["file", "pack"])
def test_round_the_world(
    small_outputs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the store to memory, to a folder, and back into the store, where its place is told by a relative path."""
    monkeypatch.setattr(segments, "GROUP_S", 3600.0)
    scene = Scene(tmp_path, "durable")
    bucket = f"memory://{secrets.token_hex(8)}"
    with RunStore.open(scene.store, small_outputs=small_outputs) as store:  # type: ignore[arg-type]
        assert scene.execute(store).success
        first = file_digests(scene.store / "outputs" / RUN)
        for url, base in (
            (bucket, f"{bucket}/{RUN}"),
            (f"file://{tmp_path}/b", f"{tmp_path}/b/{RUN}"),
            (str(scene.store / "outputs"), f"outputs/{RUN}"),
        ):
            told = move(store, RUN, url, delete_old=True)
            assert told.place == base
            assert (told.copied.objects, told.skipped) == (len(first), 0)
            assert store.state(RUN).bases == [base]
            check(store)
            with pytest.raises(ConfigError, match="name another place"):
                move(store, RUN, url)
        assert file_digests(scene.store / "outputs" / RUN) == first
        assert not fsspec.filesystem("memory").find(bucket)


def options_table(url: str, endpoint: str, key: str, secret: str) -> str:
    """What pyproject.toml says of one service."""
    named = {"endpoint_url": endpoint, "key": key, "secret": secret}
    lines = [
        f'[tool.runstore.storage."{url}"]',
        *(f'{name} = "{one}"' for name, one in named.items()),
    ]
    return "\n".join(lines) + "\n"


def keys_shown_to(proxy: Proxy) -> set[str]:
    """The keys with which the requests to a service are signed."""
    signed = [one.headers["authorization"].partition("Credential=")[2] for one in proxy.requests]
    return {words.partition("/")[0] for words in signed}


@pytest.mark.parametrize("is_back", [False, True])
def test_from_service_to_service(
    is_back: bool, moto: Moto, rclone: Rclone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has an endpoint and keys of its own, of which the other sees nothing; the run goes on where it is now."""
    monkeypatch.setattr(recorder, "GROUP_S", 0.0)
    for name, value in rclone.environment("http://127.0.0.1:1").items():
        monkeypatch.setenv(name, "of-nobody" if "ACCESS_KEY" in name else value)
    monkeypatch.chdir(tmp_path)
    scene = Scene(tmp_path, "durable")
    with Proxy(moto.port) as first, Proxy(rclone.port) as second:
        one, other = f"s3://{moto.fresh_bucket()}/runs", f"s3://{rclone.fresh_bucket()}"
        tables = options_table(one, first.endpoint, "moto-key", "moto-secret")
        tables += options_table(other, second.endpoint, rclone.key, rclone.secret)
        (tmp_path / "pyproject.toml").write_text(tables)
        old, new, left = (other, one, second) if is_back else (one, other, first)
        crash = Failpoint(point="event.before", kind="StepStarted", step="gather")
        kill_run(Scene(tmp_path, "durable", old).execute, crash)
        with scene.open() as store:
            told = move(store, RUN, new, delete_old=True)
            assert told.copied.objects
            assert store.state(RUN).bases == [f"{new}/{RUN}"]
            asked = len(left.requests)
            scene.take_calls()
            assert values(scene.resume(store)) == EXPECTED
            assert "fan_out" not in scene.take_calls()
            assert len(left.requests) == asked
        assert keys_shown_to(first) == {"moto-key"}
        assert keys_shown_to(second) == {rclone.key}


@pytest.mark.usefixtures("service")
def test_to_a_bucket_that_is_not_there(scene: Scene) -> None:
    """It is named, and the run is where it was."""
    with scene.open() as store:
        with pytest.raises(StorageFailed, match="there is no bucket 'nowhere' at this endpoint"):
            move(store, RUN, "s3://nowhere/runs")
        check(store)


def test_lost_outputs_are_not_moved(scene: Scene, tmp_path: Path) -> None:
    """An output that counts and is lost or altered keeps the run where it is; others are passed over."""
    outputs = scene.store / "outputs" / RUN
    with scene.open() as store:
        state = store.state(RUN)
        orphan = next(path for path in named(store) if path == "fan_out/result/a.txt")
        (outputs / orphan).unlink()
        (outputs / "wrap/result/b.e2a1.txt").unlink()
        (outputs / "wrap/result/c.e2a1.txt").write_bytes(b"<CCC!")
        with pytest.raises(OutputLost, match=r"2 outputs .* wrap\[b\] .*b.e2a1.txt.* wrap\[c\]"):
            move(store, RUN, str(tmp_path / "new"))
        assert store.state(RUN).bases == state.bases
        assert not any(isinstance(event, BaseMoved) for _, event in store.events(RUN))
        (outputs / "wrap/result/b.e2a1.txt").write_bytes(b"<BBB>")
        (outputs / "wrap/result/c.e2a1.txt").write_bytes(b"<CCC>")
        told = move(store, RUN, str(tmp_path / "new"))
        assert (told.skipped, told.there.objects, told.copied.objects) == (
            1,
            len(named(store)) - 3,
            2,
        )
        check(store)


def test_what_was_pruned_is_not_missed(scene: Scene, tmp_path: Path) -> None:
    """Outputs that were deleted on purpose do not keep a run where it is."""
    with scene.open() as store:
        store.remove(AGAIN)
        list(prune(store, RUN, older_than=dt.timedelta(0)))
        told = move(store, RUN, str(tmp_path / "new"), delete_old=True)
        assert (told.copied.objects, told.skipped) == (0, 0)


def test_nothing_is_overwritten(scene: Scene, tmp_path: Path) -> None:
    """Where other bytes are at the new place the move stops, and both are as they were."""
    other = tmp_path / "new" / RUN / "gather" / "result.e2a1.txt"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"of somebody else")
    with scene.open() as store:
        with pytest.raises(OutputConflict, match="holds other bytes"):
            move(store, RUN, str(tmp_path / "new"), delete_old=True)
        assert other.read_bytes() == b"of somebody else"
        check(store)
        inside = scene.store / "outputs" / RUN / "wrap"
        with pytest.raises(ConfigError, match="lies inside"):
            move(store, RUN, str(inside))


def test_a_rerun_that_was_killed_while_it_took_goes_on(scene: Scene, tmp_path: Path) -> None:
    """What it has not taken yet stays at the old place for it, also when that is deleted, and pruned."""
    with scene.open() as store:
        store.remove(AGAIN)
    begun = Failpoint(point="commit.after")

    def again() -> None:
        with scene.open() as store:
            rerun(RUN, store, select=["gather"], job=three_stages, new_run_id=AGAIN)

    kill_run(again, begun)
    with scene.open() as store:
        assert store.state(AGAIN).is_taking
        told = move(store, RUN, str(tmp_path / "new"), delete_old=True)
        assert told.users == (AGAIN,)
        assert told.deleted.objects < told.copied.objects
        list(prune(store))
        assert values(resume(AGAIN, store, job=three_stages)) == EXPECTED
        check(store)


def test_a_rerun_moves_what_is_its_own(scene: Scene, tmp_path: Path) -> None:
    """What it took stays with its parent."""
    with scene.open() as store:
        before = store.state(AGAIN).bases
        assert move(store, AGAIN, str(tmp_path / "new"), delete_old=True).copied.objects == 2
        assert store.state(AGAIN).bases == [*before[:-1], f"{tmp_path}/new/{AGAIN}"]
        check(store, AGAIN)
        check(store)
    assert in_fork(lambda: check(scene.open(), AGAIN)).code == 0
