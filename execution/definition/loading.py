"""`FILE_OR_MODULE:JOB` to a job: for the command, and for a resume in another process."""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from execution.definition.beside import after_loading, before_loading, digest_of, drop_changed
from execution.definition.job import JobDefinition
from execution.errors import JobNotFound

_PREFIX = "runstore_job_"
"""Of the names of modules that are loaded from a file."""
_sources: dict[str, str] = {}
"""Module -> sha256 of its file, as it was when a job of it was loaded."""


def load_job(reference: str) -> JobDefinition:
    """The job behind `path/to/file.py:name` or `package.module:name`.

    The name may be left out where the file defines just one job. Raises JobNotFound in one line; an error in the file's
    own code is raised as it is.
    """
    place, _, name = reference.rpartition(":")
    if not place or "/" in name or name.endswith(".py"):
        place, name = reference, ""
    module = (
        _load_file(Path(place), reference)
        if place.endswith(".py")
        else _load_module(place, reference)
    )
    jobs = {key: value for key, value in vars(module).items() if isinstance(value, JobDefinition)}
    if name in jobs:
        return jobs[name]
    if not name and len(jobs) == 1:
        return next(iter(jobs.values()))
    listed = ", ".join(sorted(jobs)) or "no job"
    fact = f"{place} has no job {name!r}" if name else f"{place} has several jobs"
    raise JobNotFound(f"{fact}; it has {listed}. Write {place}:NAME")


def load_afresh(reference: str) -> JobDefinition:
    """As `load_job`; a file that this process has loaded before is loaded as it is now. Modules stay as they are."""
    place = reference.rpartition(":")[0]
    if place.endswith(".py"):
        sys.modules.pop(_module_name(Path(place).absolute()), None)
    return load_job(reference)


def forget_changed(reference: str) -> None:
    """Have the jobs of a file's folder loaded anew where a module beside them has changed since."""
    place = reference.rpartition(":")[0]
    if not place.endswith(".py"):
        return
    folder = Path(place).absolute().parent
    if drop_changed(folder):
        importlib.invalidate_caches()
        for name, module in list(sys.modules.items()):
            if name.startswith(_PREFIX) and Path(str(module.__file__)).parent == folder:
                del sys.modules[name]


def source_of(reference: str, *, now: bool = False) -> str:
    """The sha256 of the file of a job, as this process has loaded it, or as it is `now`; empty where it has none."""
    place = reference.rpartition(":")[0]
    is_file = place.endswith(".py")
    name = _module_name(Path(place).absolute()) if is_file else place
    if name in _sources and not now:
        return _sources[name]
    file = place if is_file else getattr(sys.modules.get(place), "__file__", None)
    return digest_of(Path(file)) if file else ""


def load_files(paths: Iterable[str]) -> None:
    """Load files as `load_job` does, for what names their modules."""
    for path in paths:
        _load_file(Path(path), path)


def loaded_files() -> list[str]:
    """The files that `load_job` has loaded in this process."""
    modules = [module for name, module in sys.modules.items() if name.startswith(_PREFIX)]
    return [str(module.__file__) for module in modules]


def _load_file(path: Path, reference: str) -> ModuleType:
    if not path.is_file():
        raise JobNotFound(
            f"no file {path}; write the job as path/to/file.py:job or package.module:job"
        )
    path = path.absolute()
    name = _module_name(path)
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise JobNotFound(
            f"{path} cannot be loaded as Python; write the job as path/to/file.py:job"
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs, so that its types can be found by name
    _add_to_path(path.parent)
    before_loading(path.parent)
    _sources[name] = digest_of(path)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    after_loading(path.parent)
    return module


def _module_name(path: Path) -> str:
    return f"{_PREFIX}{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def _load_module(name: str, reference: str) -> ModuleType:
    _add_to_path(Path.cwd())
    is_loaded = name in sys.modules
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise JobNotFound(
                f"no module {name!r} for the job {reference!r}; write path/to/file.py:job or package.module:job"
            ) from None
        raise
    except (ValueError, TypeError):
        raise JobNotFound(
            f"{reference!r} names no module; write path/to/file.py:job or package.module:job"
        ) from None
    if not is_loaded and module.__file__:
        _sources[name] = digest_of(Path(module.__file__))
    return module


def _add_to_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
