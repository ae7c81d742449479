"""What an op is told about the run and the step that it is called for."""

import hashlib
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import msgspec

from execution.running.output_metadata import AddedMetadata
from execution.running.resources import OpenResources
from execution.running.step_log import StepLog
from runstore.keys import KeyPath, format_step_key


class OpContext(msgspec.Struct, frozen=True, dict=True):
    """The first argument of an op whose first parameter is named `context`.

    Its fields are data and travel to the worker; what is derived there (`log`) is made when it is first asked for.
    """

    run_id: str
    job_name: str
    node: str
    key_path: KeyPath
    attempt: int
    """1 for the first; counts over all epochs of the run."""
    epoch: int
    """How many times the run was executed or resumed."""
    op_config: Any = None
    """`run_config["ops"][node]["config"]`; `{}` where there is none."""
    tags: dict[str, str] = {}
    """Of the job, the run and the node."""
    retry_number: int = 0
    """How many times this step was tried again since the run was last started or resumed."""

    @property
    def step_key(self) -> str:
        """`echo[a]` (rule K2)."""
        return format_step_key(self.node, self.key_path)

    @property
    def mapping_key(self) -> str | None:
        """The innermost key that this clone stands for; None in a step that is not mapped."""
        return self.key_path[-1] if self.key_path else None

    @cached_property
    def log(self) -> StepLog:
        """A logger; its lines go to the table `messages` with the step's events, and to handlers of `runstore.op`."""
        return StepLog(self.run_id, self.step_key, self.attempt)

    @cached_property
    def resources(self) -> OpenResources:
        """What the op requires, as attributes, open in this process: `context.resources.db`."""
        return OpenResources({})  # a worker puts those of the op in its place

    @property
    def idempotency_key(self) -> str:
        """32 hexadecimal digits, the same for every attempt of this step in this run, another for any other.

        Give it to a service that drops what it has seen: an op is called at least once, so its effects may come twice.
        """
        text = f"{self.run_id}\0{self.step_key}".encode()
        return hashlib.sha256(text).hexdigest()[:32]

    @cached_property
    def added_metadata(self) -> AddedMetadata:
        """What the op has said of outputs that it has not given yet."""
        return AddedMetadata()

    def add_output_metadata(
        self,
        metadata: Mapping[str, Any],
        output_name: str | None = None,
        mapping_key: str | int | None = None,
    ) -> None:
        """Say something of an output before it is given: JSON data, which stands in the log beside its reference.

        `output_name` may be left out where the op has one output; a piece of a dynamic output takes its `mapping_key`.
        """
        self.added_metadata.add(metadata, output_name, mapping_key)

    def get_mapping_key(self) -> str | None:
        """`mapping_key`."""
        return self.mapping_key

    def has_tag(self, key: str) -> bool:
        """True where the job, the run or the node has this tag."""
        return key in self.tags

    def get_tag(self, key: str) -> str | None:
        """The tag's value; None where there is no such tag."""
        return self.tags.get(key)


OpExecutionContext = OpContext
"""The name that jobs written for Dagster use."""


def added_metadata(context: OpContext) -> AddedMetadata | None:
    """What an op has said of its outputs; None, at no cost, where it has said nothing."""
    return context.__dict__.get("added_metadata")


def taken_log(context: OpContext) -> Any:
    """The lines that an op has logged since the last call; costs nothing where it has asked for no log."""
    log = context.__dict__.get("log")
    return log.take() if log is not None else ()
