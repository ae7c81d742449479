"""Options that several subcommands share, and the store that they lead to."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from runstore.store import RunStore

F = TypeVar("F", bound=Callable[..., Any])


def store_option(function: F) -> F:
    """`--store DIR`."""
    return click.option(
        "--store",
        metavar="DIR",
        type=click.Path(),
        help="Folder of the store (else RUNSTORE_STORE, pyproject.toml, .runstore here or above).",
    )(function)


def outputs_option(function: F) -> F:
    """`--outputs URL`."""
    return click.option(
        "--outputs", metavar="URL", help="Where outputs are: a path or a URL; the store by default."
    )(function)


def level_option(function: F) -> F:
    """`--level durable|fast`."""
    return click.option(
        "--level",
        type=click.Choice(["durable", "fast"]),
        help="durable (default) survives a power cut, fast a killed process.",
    )(function)


def small_outputs_option(function: F) -> F:
    """`--small-outputs file|pack`."""
    return click.option(
        "--small-outputs",
        type=click.Choice(["file", "pack"]),
        help="file (default): each output is a file; pack: small ones of an op share files.",
    )(function)


def json_option(function: F) -> F:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def run_argument(default: str | None = None) -> Callable[[F], F]:
    """`RUN`: an id, a unique beginning of one, or `last`."""
    return click.argument("run", metavar="RUN" if default is None else "[RUN]", default=default)


@contextmanager
def opened(
    store: str | None,
    outputs: str | None = None,
    level: Any = None,
    *,
    small_outputs: Any = None,
    must_exist: bool = True,
) -> Iterator["RunStore"]:
    """The store that the options lead to; raises StoreNotFound."""
    from runstore.store import RunStore

    opening = RunStore.open(
        store, outputs, level, small_outputs=small_outputs, must_exist=must_exist
    )
    with opening as found:
        yield found
