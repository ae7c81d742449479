"""What an op is told about the run and the step that it is called for."""

from typing import Any

import msgspec

from runstore.keys import KeyPath, format_step_key


class OpContext(msgspec.Struct, frozen=True):
    """The first argument of an op whose first parameter is named `context`."""

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
    """Of the job and the node."""

    @property
    def step_key(self) -> str:
        """`echo[a]` (rule K2)."""
        return format_step_key(self.node, self.key_path)

    @property
    def mapping_key(self) -> str | None:
        """The innermost key that this clone stands for; None in a step that is not mapped."""
        return self.key_path[-1] if self.key_path else None


OpExecutionContext = OpContext
"""The name that jobs written for Dagster use."""
