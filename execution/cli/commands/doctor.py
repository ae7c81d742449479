"""`runstore doctor`."""

import platform
from importlib.metadata import PackageNotFoundError, version

import click

from execution.cli.failure import Command
from execution.cli.options import json_option, outputs_option, store_option
from execution.cli.terminal import coloured, print_json
from runstore.audit import Check, doctor
from runstore.version import __version__

_PACKAGES = ("click", "fsspec", "msgspec", "rich", "sqlite-utils")


@click.command(cls=Command)
@json_option
@store_option
@outputs_option
@click.pass_context
def command(ctx: click.Context, as_json: bool, store: str | None, outputs: str | None) -> None:
    """Check the store, its disk and this installation; exit code 1 where something is to be mended."""
    checks = [_versions(), *doctor(store, outputs)]
    if as_json:
        print_json(checks)
    else:
        for check in checks:
            click.echo(f"{coloured(check.verdict, 8)} {check.name:<12} {check.fact}")
            if check.remedy:
                click.echo(f"{'':<21} {check.remedy}")
    ctx.exit(any(check.verdict == "problem" for check in checks))


def _versions() -> Check:
    named = [f"{package} {_version(package)}" for package in _PACKAGES]
    python = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    return Check("versions", "ok", f"runstore {__version__}, {python}, {', '.join(named)}")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
