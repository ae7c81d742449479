"""Who watches a run and may stop it, as the engine sees them."""

from collections.abc import Callable, Mapping
from typing import Protocol

from execution.planning.rerun_plan import RerunPlan
from execution.planning.resume_plan import ResumePlan
from runstore.log.state import RunState


class Control(Protocol):
    """Who watches a run and may stop it."""

    def planned(self, plan: ResumePlan | RerunPlan) -> None:
        """Called once when a resume or a rerun begins, with what it will do; never for a run without a past."""

    def began(self, at_work: Callable[[], Mapping[str, str]]) -> None:
        """Called once when steps may run; `at_work` gives step key -> worker, as far as known, at any time after."""

    def stop_requested(self) -> str:
        """Why the run is to stop after its running steps; empty while it is not."""

    def progressed(self, state: RunState) -> None:
        """Called after every event, and now and then during a wait; whoever shows something decides how often."""

    def stopping(self, running: int, left_s: float) -> None:
        """Called now and then while the run is to stop and steps run still, which in `left_s` will be left alone."""


class NoControl:
    """Nobody watches."""

    def planned(self, plan: ResumePlan | RerunPlan) -> None:
        """Nothing to show."""

    def began(self, at_work: Callable[[], Mapping[str, str]]) -> None:
        """Nothing to ask."""

    def stop_requested(self) -> str:
        """Never."""
        return ""

    def progressed(self, state: RunState) -> None:
        """Nothing to show."""

    def stopping(self, running: int, left_s: float) -> None:
        """Nothing to show."""
