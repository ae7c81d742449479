"""How many steps of an op stand how, counted in the index of the log: no body is read, and no step looked up.

An op is counted by the kinds of its events, which is exact because each step succeeds, is skipped, or fails in an epoch
once. Where work was said to count no more that does not hold: the steps that were named are looked up one by one, and
`TooMany` is raised where the keys themselves may have changed, or where so many steps are no ordinary ones that the
log is better read as a whole.
"""

from collections import Counter

from runstore.audit.clones import Clones
from runstore.audit.lookup import Lookup, Rows, TooMany
from runstore.keys import KeyPath, parse_step_key
from runstore.log.events import (
    ExpansionSealed,
    RunResumed,
    StepFailed,
    StepInvalidated,
    StepRetried,
    StepReused,
    StepSkipped,
    StepStarted,
    StepSucceeded,
)
from runstore.log.expanded import StepId
from runstore.log.graph import Level, Node
from runstore.log.transitions import FAILED, PENDING, STATUS_NAMES

_MOST = 400
"""Steps that are looked up one by one before reading the whole log is the shorter way."""

# One number for two: 2^32 for each success, and 1 for each attempt of this epoch, taken back by its end. One sum costs
# two thirds of two, and most events of the op pass through it: not those that store something or seal, whose kinds are
# before all others in the alphabet. Of the rest there are few, and of most ops none.
_COUNTED = """
SELECT coalesce(sum(CASE kind WHEN 'StepStarted' THEN +row_id > :resumed
                     WHEN 'StepSucceeded' THEN 4294967296 - (+row_id > :resumed)
                     WHEN 'StepReused' THEN +row_id > :resumed
                     WHEN 'StepFailed' THEN -(+row_id > :resumed)
                     WHEN 'StepRetried' THEN -(+row_id > :resumed) ELSE 0 END), 0),
       count(*) FILTER (WHERE kind < 'StepStarted' AND kind <> 'StepReused') {below} AND kind > 'OutputStored'"""
_UNUSUAL = """
SELECT count(*) FILTER (WHERE kind = 'StepSkipped'),
       count(*) FILTER (WHERE kind = 'StepFailed' AND row_id > :resumed),
       count(*) FILTER (WHERE kind = 'StepRetried' AND row_id > :ended)
{below} AND kind IN ('StepSkipped', 'StepFailed', 'StepRetried')"""
# What was to be tried again may have been, or was skipped.
_WAITING = """
SELECT count(*) {below} AND kind = 'StepRetried' AND +row_id > :ended AND NOT EXISTS (
    SELECT 1 FROM events AS next WHERE next.run = :run AND next.step = events.step AND next.key IS NULL
    AND next.kind IN ('StepStarted', 'StepReused', 'StepSkipped') AND +next.row_id > events.row_id {of_next})"""
_FAILED = "SELECT step, seq {below} AND kind = 'StepFailed' AND +row_id > :resumed"
_PIECES = "SELECT count(*) {below} AND key IS NOT NULL"
_SEALS = """
SELECT coalesce(sum(body ->> '$.count'), 0) {below}
AND key IS NULL AND kind = 'ExpansionSealed' AND body ->> '$.output' = :output"""
# Steps whose attempts are not one alone, which has succeeded.
_ODD = """
SELECT step {below}
AND key IS NULL AND kind IN ('StepStarted', 'StepReused', 'StepSucceeded')
GROUP BY step HAVING count(*) <> 2 OR count(*) FILTER (WHERE kind = 'StepSucceeded') <> 1 LIMIT :most"""
# The pieces whose clone has not succeeded and was not skipped; where a key is escaped in the step key, perhaps others.
_UNSETTLED = """
SELECT step, key {below} {of_makers} AND key IS NOT NULL AND (
    key GLOB '*[^-A-Za-z0-9 ._/@+=:,]*' OR NOT EXISTS (
        SELECT 1 FROM events AS done WHERE done.run = :run AND done.key IS NULL
        AND done.step = :op || substr(events.step, :path) || '[' || events.key || ']'
        AND done.kind IN ('StepSucceeded', 'StepSkipped') {of_done}))
LIMIT :most"""
# Only steps whose pieces are more than the clones that have ended: counting is shorter than looking for each of these.
# Not where a clone may have ended twice, nor where not all pieces have one.
_OF_MAKERS = """
AND step IN (
    SELECT step {below} AND kind = 'StepSucceeded' AND (
        SELECT count(*) FROM events AS piece WHERE piece.run = :run AND piece.step = events.step
        AND piece.key IS NOT NULL
    ) > (
        SELECT count(*) FROM events AS done WHERE done.run = :run
        AND done.step > :op || substr(events.step, :path) || '['
        AND done.step < :op || substr(events.step, :path) || '\\'
        AND done.kind IN ('StepSucceeded', 'StepSkipped') {of_done}))"""
_SETTLED = "SELECT step {below} AND key IS NULL AND kind IN ('StepSucceeded', 'StepSkipped')"


class Census:
    """A run, counted. `upto`: a seq, as of which; for a run that goes on while it is asked."""

    def __init__(self, look: Lookup, upto: int | None = None) -> None:
        self.upto = upto
        self._look = look
        self._clones = Clones(look, upto)
        self._named: dict[str, set[StepId]] = {}
        """Op -> those of its steps that were invalidated by name."""
        self._undone: set[str] = set()
        """Ops that have invalidated steps."""
        self._raw: dict[tuple[str, KeyPath], tuple[int, int, int]] = {}
        for _, event in self._clones.wide:
            if isinstance(event, StepInvalidated):
                self._invalidated(event)
            elif isinstance(event, RunResumed) and event.graph is not None:
                raise TooMany  # what was known of its ops may be void

    def _invalidated(self, event: StepInvalidated) -> None:
        if event.steps is None:
            raise TooMany
        self._undone.add(event.node)
        named = self._named.setdefault(event.node, set())
        named.update(StepId(*parse_step_key(text)) for text in event.steps)
        if len(named) > _MOST:
            raise TooMany

    @property
    def keys_stand(self) -> bool:
        """True where no step that has yielded keys was invalidated: what is cloned for them has all it stems from."""
        return not any(self._look.graph.dynamic_outputs[op] for op in self._undone)

    # Steps

    def tally(self, node: Node, below: KeyPath = ()) -> Counter[str]:
        """State -> number of clones of a node below a key path that is shorter than theirs, without those that are
        pending; of a node that is not mapped the one step.
        """
        if not node.scope:
            return self._state_of(StepId(node.name, ()))
        succeeded, running, unusual = self._counted(node, below)
        found = Counter({"succeeded": succeeded, "running": running})
        if unusual:
            found["skipped"], found["failed"], retried = self._clones.row(_UNUSUAL, node, below)
            found["waiting"] = self._clones.row(_WAITING, node, below)[0] if retried else 0
        for step in self._named_below(node, below):
            found.subtract(self._counted_of(step))
            found.update(self._state_of(step))
        return found

    def _state_of(self, step: StepId) -> Counter[str]:
        status = self._look.history(step, self.upto).status
        return Counter() if status == PENDING else Counter((STATUS_NAMES[status],))

    def _counted(self, node: Node, below: KeyPath) -> tuple[int, int, int]:
        """How many have succeeded, run, and have events of the kinds that are rare."""
        found = self._raw.get((node.name, below))
        if found is None:
            both, unusual = self._clones.row(_COUNTED, node, below)
            succeeded = (both + (1 << 31)) >> 32
            found = self._raw[node.name, below] = succeeded, both - (succeeded << 32), unusual
        return found

    def _counted_of(self, step: StepId) -> Counter[str]:
        """As what a step is counted, by the kinds of its events alone."""
        found: Counter[str] = Counter()
        for seq, event in self._own(step):
            now = seq > self._clones.resumed
            match event:
                case StepStarted() | StepReused():
                    found["running"] += now
                    found["waiting"] = 0
                case StepSucceeded():
                    found["running"] -= now
                    found["succeeded"] += 1
                case StepFailed():
                    found["running"] -= now
                    found["failed"] += now
                case StepRetried():
                    found["running"] -= now
                    found["waiting"] = int(seq > self._clones.ended)
                case StepSkipped():
                    found["skipped"] += 1
                    found["waiting"] = 0
        return found

    def _own(self, step: StepId) -> Rows:
        rows = self._look.own(step)
        return [(seq, event) for seq, event in rows if self.upto is None or seq <= self.upto]

    def failures(self, node: Node) -> dict[StepId, int]:
        """The steps of a node that have failed in this epoch, and the seq of the event that says so."""
        if not node.scope:
            step = StepId(node.name, ())
            found = {step: self._failed_at(step)}
        else:
            rows = self._clones.rows(_FAILED, node, ())
            found = {StepId(*parse_step_key(step)): seq for step, seq in rows}
            for step in self._named.get(node.name, ()):
                found[step] = self._failed_at(step)
        return {step: seq for step, seq in found.items() if seq}

    def _failed_at(self, step: StepId) -> int:
        history = self._look.history(step, self.upto)
        return history.last.ended_seq if history.status == FAILED and history.last else 0

    def may_have_retried(self, node: Node) -> bool:
        """False for a node of which it was counted that none of its steps was ever to be tried again."""
        _, _, unusual = self._raw.get((node.name, ()), (0, 0, 1))
        return unusual > 0

    def settled(self, node: Node, below: KeyPath) -> set[str]:
        """The step keys of the clones of a node below a key path that have succeeded or were skipped."""
        found = {step for (step,) in self._clones.rows(_SETTLED, node, below)}
        named = self._named_below(node, below)
        return found.difference(
            str(one) for one in named if not self._state_of(one).keys() & {"succeeded", "skipped"}
        )

    def unsettled(self, node: Node, below: KeyPath, most: int) -> list[KeyPath]:
        """The clones of a node below a key path that may be neither succeeded nor skipped, in no order.

        Raises TooMany where they are more than `most`, or the node is cloned for a product.
        """
        maker = self._look.graph.by_name[node.scope[-1].node]
        if maker.scope != node.scope[:-1] or maker.name in self._undone:
            raise TooMany
        marks = {"op": node.name, "path": len(maker.name) + 1, "most": most + 1}
        is_plain = node.name not in self._undone and not self._has_several(maker)
        asked = _UNSETTLED.replace("{of_makers}", _OF_MAKERS if is_plain else "")
        rows = self._clones.rows(asked, maker, below, **marks)
        if len(rows) > most:
            raise TooMany
        paths = [(*parse_step_key(step)[1], key) for step, key in rows]
        undone = [step.key_path for step in self._named_below(node, below)]
        return list(dict.fromkeys([*paths, *undone]))

    def _named_below(self, node: Node, below: KeyPath) -> list[StepId]:
        """The clones of a node below a key path that were invalidated by name."""
        named = self._named.get(node.name, ())
        return [step for step in named if step.key_path[: len(below)] == below]

    # Keys

    def clones(self, scope: tuple[Level, ...]) -> int:
        """How many steps a node of this scope has."""
        if any(level.node in self._undone for level in scope):
            raise TooMany  # there may be orphans, and clones whose maker is to run again
        if not scope:
            return 1
        level, before = scope[-1], scope[:-1]
        maker = self._look.graph.by_name[level.node]
        if set(maker.scope) == set(before):
            return self.keys(level)
        if not maker.scope:
            return self.keys(level) * self.clones(before)
        raise TooMany

    def keys(self, level: Level, below: KeyPath = ()) -> int:
        """How many keys a dynamic output was last sealed with, by all steps of its op at or below a key path."""
        maker = self._look.graph.by_name[level.node]
        if level.node in self._undone:
            raise TooMany
        if len(below) == len(maker.scope):
            return self._sealed(level, StepId(level.node, below))
        several = self._has_several(maker)
        asked = _SEALS if several else _PIECES
        (count,) = self._clones.row(asked, maker, below, output=level.output)
        for text in self._odd(maker, below):
            step = StepId(*parse_step_key(text))
            count += self._sealed(level, step) - self._stored(level, step, several=several)
        return int(count)

    def _has_several(self, maker: Node) -> bool:
        return len(self._look.graph.dynamic_outputs[maker.name]) > 1

    def _sealed(self, level: Level, step: StepId) -> int:
        history = self._look.history(step, self.upto)
        if not history.successes:
            return 0
        begun = history.successes[-1].started
        seals = [seal for one in history.attempts if one.seq == begun for seal in one.seals]
        return sum(seal.count for seal in seals if seal.output == level.output)

    def _stored(self, level: Level, step: StepId, *, several: bool) -> int:
        """What a step has added to the count of all pieces, or of all seals."""
        if several:
            seals = [one for _, one in self._own(step) if isinstance(one, ExpansionSealed)]
            return sum(seal.count for seal in seals if seal.output == level.output)
        return int(self._clones.row(_PIECES, self._look.graph.by_name[step.node], step.key_path)[0])

    def _odd(self, node: Node, below: KeyPath) -> list[str]:
        """The steps that have not just one attempt, which has succeeded."""
        _, running, unusual = self._counted(node, below)
        if not (running or unusual or self._clones.resumed):
            return []
        odd = [step for (step,) in self._clones.rows(_ODD, node, below, most=_MOST + 1)]
        if len(odd) > _MOST:
            raise TooMany
        return odd
