"""A rerun: a new run of the same job that takes what is not selected from a run that was, its parent, by reference.

From then on it is a run like any other: it is resumed, explained and collected from its own log.
"""

import contextlib
import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import structs

from execution.definition.job import JobDefinition, check_given
from execution.definition.run_config import check_config, check_logged
from execution.executors.base import Executor
from execution.planning.rerun_plan import Division, RerunPlan, rerun_nodes
from execution.planning.resume_plan import changed_code
from execution.planning.selection import parse_selection
from execution.running.adoption import ParentRun, divide, take
from execution.running.control import Control, NoControl
from execution.running.launch import (
    StoreLike,
    check_tags,
    drive,
    job_of,
    resume,
)
from execution.running.lost_outputs import invalidate_lost
from execution.running.result import RunResult
from runstore.errors import ConfigError, RunStoreError
from runstore.keys import check_run_id, new_run_id
from runstore.log.events import FORMAT_VERSION, Parent, RunStarted
from runstore.log.recorder import Recorder, this_host
from runstore.store import RunStore, opened_for
from runstore.version import __version__


def rerun(
    run_id: str = "last",
    store: StoreLike = None,
    *,
    select: str | Iterable[str] = (),
    from_failure: bool = False,
    job: JobDefinition | None = None,
    run_config: Mapping[str, Any] | None = None,
    new_run_id: str | None = None,
    executor: Executor | None = None,
    tags: Mapping[str, str] | None = None,
    fail_fast: bool = False,
    control: Control | None = None,
) -> RunResult:
    """Start a new run of a run's job in which just the selected steps run; the others are taken from that run.

    `select`: expressions such as `op`, `op*`, `+op`, `op[key]*`, `op[2024-*]`; `from_failure`: what had not finished,
    and what needs it. With neither, everything runs anew. `job`, `run_config`, `tags`: in place of the parent's.
    With a `new_run_id` of your choice the call is idempotent, as that of `execute` is.

    A step that is not selected and needs one that is, is left out: the new run has no value of it. What is cloned for
    the keys of an op that runs again runs too. Raises InvalidSelection, SelectionIncomplete, PlanChanged, RunAlive
    while the parent is executed, and what `execute` raises.
    """
    check_given(job, executor)
    with opened_for(store, must_exist=True) as opened:
        rerunning = _Rerun(opened, run_id, select, from_failure, job, run_config, tags)
        if new_run_id is not None and opened.has_run(check_run_id(new_run_id)):
            rerunning.refuse_other(new_run_id)
            return resume(
                new_run_id,
                opened,
                job=job,
                executor=executor,
                fail_fast=fail_fast,
                control=control,
            )
        rerunning.read_parent()
        recorder = opened.start(*rerunning.started(new_run_id or new_id()))
        try:
            plan = rerunning.begin(recorder, commit=True)
            (control or NoControl()).planned(plan)
        except BaseException:
            # What stopped the run is the news; that its claim could not be given back is none.
            with contextlib.suppress(RunStoreError):
                recorder.close()
            raise
        return drive(opened, recorder, rerunning.job, executor, fail_fast, control)


def plan_rerun(
    run_id: str = "last",
    store: StoreLike = None,
    *,
    select: str | Iterable[str] = (),
    from_failure: bool = False,
    job: JobDefinition | None = None,
    run_config: Mapping[str, Any] | None = None,
) -> RerunPlan:
    """What `rerun` with the same arguments will take, run and leave out; writes nothing (rule R4)."""
    with opened_for(store, must_exist=True) as opened:
        rerunning = _Rerun(opened, run_id, select, from_failure, job, run_config, None)
        rerunning.read_parent()
        return rerunning.begin(opened.sketch(*rerunning.started("")), commit=False)


def new_id() -> str:
    """A new run id."""
    return new_run_id(dt.datetime.now(dt.UTC))


class _Rerun:
    """What is asked for, held against the parent."""

    parent: ParentRun
    job: JobDefinition
    division: Division | None
    """None where everything runs anew."""

    def __init__(
        self,
        store: RunStore,
        run_id: str,
        select: str | Iterable[str],
        from_failure: bool,
        job: JobDefinition | None,
        run_config: Mapping[str, Any] | None,
        tags: Mapping[str, str] | None,
    ) -> None:
        self._store = store
        self._run_id = store.resolve(run_id)
        self._select = tuple(map(str, parse_selection(select)))
        self._from_failure = from_failure
        self._given_job, self._given_config, self._given_tags = job, run_config, tags

    def refuse_other(self, new_run_id: str) -> None:
        """Raise ConfigError where a run of that id exists that is not this very rerun."""
        state = self._store.state(new_run_id, upto=1)
        assert state.started is not None
        known = state.started.parent
        asked = (self._run_id, self._select, self._from_failure)
        if known is None or (known.run, known.select, known.from_failure) != asked:
            what = f"a rerun of {known.run!r} with another selection" if known else "no rerun"
            raise ConfigError(f"run {new_run_id!r} exists and is {what}; use another run id")
        config = self._given_config
        if config is not None:
            self._given_job = self._given_job or job_of(state)
            if check_config(self._given_job, config) != state.config:
                raise ConfigError(
                    f"run {new_run_id!r} exists with another config ({state.config}); use another run id, or resume "
                    "it with the new config"
                )

    def read_parent(self) -> None:
        """Read the parent's log and decide what becomes of each of its steps; nothing is written."""
        self._store.refuse_living(self._run_id)
        self.parent = ParentRun(self._store, self._run_id)
        self.job = self._given_job or job_of(self.parent.state)
        self.division = divide(self.parent.state, self.job.graph, self._asked())

    def _asked(self) -> Parent:
        return Parent(
            run=self._run_id,
            seq=self.parent.state.seq,
            select=self._select,
            from_failure=self._from_failure,
        )

    def started(self, run_id: str) -> tuple[str, RunStarted]:
        """(id, first event) of the new run."""
        old, (host, pid) = self.parent.state, this_host()
        config = self._given_config
        uses = self.division is not None and self.division.reuses_anything()
        asked = self._asked()
        assert old.started is not None
        if config is None:
            check_logged(self.job, old.config)
        return run_id, RunStarted(
            format=FORMAT_VERSION,
            job=self.job.reference,
            graph=self.job.graph,
            config=old.config if config is None else check_config(self.job, config),
            tags=old.started.tags if self._given_tags is None else check_tags(self._given_tags),
            level=self._store.level,
            base=self._store.base_for(run_id) if run_id else "",
            small_outputs=self._store.small_outputs,
            host=host,
            pid=pid,
            version=__version__,
            parent=structs.replace(asked, bases=tuple(old.bases)) if uses else asked,
        )

    def begin(self, recorder: Recorder, *, commit: bool) -> RerunPlan:
        """Take what is reused, look for its bytes, and say what follows."""
        state, old = recorder.state, self.parent.state
        take(recorder, self.parent, self.division, commit=commit)
        lost = invalidate_lost(recorder, self._store)
        new = {"graph": state.graph != old.graph, "config": state.config != old.config}
        codes = {node: op.code for node, op in self.job.ops.items()}
        return RerunPlan(
            run_id=state.run_id,
            parent=self._run_id,
            select=self._select,
            from_failure=self._from_failure,
            unasked=tuple(self.division.unasked) if self.division else (),
            changed_code=tuple(changed_code(state, codes)),
            changes=tuple(name for name, is_new in new.items() if is_new),
            lost=lost,
            nodes=rerun_nodes(self.division, state),
        )
