"""The command `runstore`. A subcommand's module is imported when it is used, so that `--help` is quick."""

import sys
from importlib import import_module

import click

from runstore.version import __version__

COMMANDS = {
    "run": "Start a run of a job, or go on with the one of that --run-id.",
    "resume": "Go on with a run that crashed, failed or was cancelled.",
    "rerun": "Start a new run of which selected steps run, the rest taken from an older run.",
    "runs": "List the runs: status and progress of each.",
    "show": "Show one run: its epochs, its ops, its first errors.",
    "log": "Print the events of a run, or follow them.",
    "messages": "Print what the ops of a run have logged, or follow it.",
    "keys": "Show keys against ops, or list the steps of one op.",
    "search": "Find clones by key, over all runs.",
    "errors": "Group the errors of a run by type and message.",
    "cat": "Print what a step stored.",
    "who": "Say who wrote these bytes: a file, a URL or a sha256.",
    "lineage": "Show what a step was made from, or what was made from it.",
    "collect-inputs": "List the keys that fed a collect, with the proof.",
    "explain": "Say why a step ran, was reused, or will run.",
    "diff": "Compare two runs: keys, outputs, time, code, config.",
    "verify": "Check that a run's log is valid and every output there.",
    "anchor": "Print the digest of a run's log, to keep elsewhere.",
    "timeline": "Draw when each op was at work, and when nobody executed the run.",
    "export": "Give a run to other programs: jsonl, parquet, html, openlineage, otel.",
    "import": "Take an exported run into this store.",
    "datasette-metadata": "Print descriptions and questions for Datasette.",
    "cancel": "Stop a run; it can be resumed.",
    "prune": "Delete outputs that nobody needs.",
    "storage": "Try a place for outputs, or take a run's outputs to another.",
    "rm": "Delete a run for ever: its log and its outputs.",
    "doctor": "Check the store, its disk and this installation.",
}


class Commands(click.Group):
    """The subcommands by name; `execution.cli.commands.<name>` holds each as `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which a user meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a subcommand."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"execution.cli.commands.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `--help`, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="runstore", message="%(prog)s %(version)s")
def cli() -> None:
    """Run jobs whose graphs grow at run time, resume them from their log, and ask what produced what.

    RUN is a run's id, a unique beginning of it, or `last`. A step is written as it is shown: 'op' or 'op[key]'.

    Exit codes: 0 done, 1 the run failed, 2 usage, 3 stopped by log, storage or plan (resumable), 4 the run is
    alive or was taken over, 130 and 143 stopped by SIGINT and SIGTERM.
    """


def main() -> None:
    """Entry point of the console script."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")  # a key never fails for the terminal's encoding
    cli(prog_name="runstore")


if __name__ == "__main__":
    main()
