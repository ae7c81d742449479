"""`runstore datasette-metadata`."""

import click

from execution.cli.failure import Command
from execution.cli.terminal import print_json
from runstore.audit import datasette_metadata


@click.command(cls=Command)
def command() -> None:
    """Print what Datasette takes as --metadata: descriptions of the views, and ten questions as canned queries.

    datasette runs.db --metadata FILE
    """
    print_json(datasette_metadata())
