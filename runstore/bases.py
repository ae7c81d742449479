"""Bases, from what a log declares to the places themselves, as this process opens them.

What stands in a log is the same wherever its store is, and holds no credentials; the folder of the store and the
options of the storage are added here, and nowhere else.
"""

from pathlib import Path

from runstore.config import find_settings
from runstore.credentials import Options
from runstore.outputs.addresses import file_name
from runstore.outputs.base import Base
from runstore.outputs.output_store import OutputStore, Whereabouts, open_base
from runstore.outputs.urls import below, public_url, scheme_of


class Bases:
    """The places that the outputs of one store go to."""

    def __init__(
        self,
        directory: Path | None,
        outputs: str | None,
        options: Options | None = None,
        *,
        allow_pickle: bool = False,
    ) -> None:
        self._allow_pickle = allow_pickle
        self._directory = directory
        self._outputs = outputs
        self._options = options or Options()
        self._looked_from = None if directory is None else Path.cwd()

    @classmethod
    def reopened(cls, where: Whereabouts) -> "Bases":
        """Those that another process of this machine has open; credentials come from where that process got them."""
        looked_from = Path(where.looked_from)
        options = find_settings(where.store, directory=looked_from).options
        outputs = _configured(where.outputs, looked_from)
        return cls(Path(where.store), outputs, options, allow_pickle=where.allow_pickle)

    def for_run(self, run_id: str) -> str:
        """The base that the outputs of a run get, as the log declares it: without credentials."""
        root = "outputs" if self._outputs is None else public_url(self._outputs).rstrip("/")
        return f"{root}/{file_name(run_id)}"

    def open(self, base: str, *, durable: bool = False) -> Base:
        """The place behind a base as a log declares it; raises ConfigError where there cannot be one."""
        return open_base(self.address(base), durable=durable, options=self._options)

    def place(self, base: str) -> str:
        """A declared base in a form that is the same for the same place, without credentials."""
        return public_url(self.address(base)).removeprefix("file://").rstrip("/")

    def address(self, base: str) -> str:
        """A declared base as a URL or a path, with what credentials were given for it."""
        if self._outputs is not None and scheme_of(self._outputs) != "file":
            root = public_url(self._outputs).rstrip("/")
            if base.startswith(root + "/"):
                return below(self._outputs, base[len(root) + 1 :])
        if scheme_of(base) == "file" and not base.startswith(("/", "file://")):
            return f"{self._directory}/{base}"
        return base

    def outputs(self, bases: tuple[str, ...], *, durable: bool, pack: bool) -> OutputStore:
        """The stored outputs over the bases that a log declares."""
        return OutputStore(
            [self.open(base, durable=durable) for base in bases],
            pack=pack,
            allow_pickle=self._allow_pickle,
            whereabouts=self._whereabouts(bases, durable=durable, pack=pack),
        )

    def _whereabouts(
        self, bases: tuple[str, ...], *, durable: bool, pack: bool
    ) -> Whereabouts | None:
        if self._looked_from is None or any(scheme_of(base) == "memory" for base in bases):
            return None
        public = None if self._outputs is None else public_url(self._outputs)
        if public != self._outputs and _configured(public, self._looked_from) == public:
            return None  # its credentials were given to this process alone
        places = (str(self._directory), str(self._looked_from))
        return Whereabouts(*places, public, bases, durable, pack, self._allow_pickle)


def _configured(outputs: str | None, looked_from: Path) -> str | None:
    """A URL without credentials as environment or `[tool.runstore]` have it, with those; as it is where they do not."""
    found = find_settings(directory=looked_from).outputs
    return found if found is not None and public_url(found) == outputs else outputs
