"""Lost bytes are made again, or the run says why they cannot be; never does a step read others (rule R6).

A resume looks at every output that the remaining steps will read: at level `durable` whether it exists with its size,
at level `fast` also its sha256. Whatever it overlooks is found when it is loaded, in the middle of the run.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from execution import (
    DynamicOut,
    DynamicOutput,
    JobDefinition,
    OpContext,
    Out,
    Output,
    ResumePlan,
    RunResult,
    execute,
    job,
    op,
    plan_resume,
    resume,
)
from execution.errors import ExpansionChanged, OutputNotReproduced
from runstore import OutputCorrupted, OutputLost, RunStore
from runstore.log.graph import Level
from runstore.log.recorder import reference_of
from runstore.testing import Failpoint, armed, in_fork
from tests.acceptance.three_stages import note

RUN = "the-run"


@op(out={"pieces": DynamicOut(str), "title": Out(str)})
def letters(context: OpContext) -> Iterator[DynamicOutput[str] | Output[str]]:
    """Pieces under the keys of the file `keys`, each holding the text of the file `text` as well, and a title."""
    note(context)
    folder = Path(context.op_config["calls"]).parent
    text = (folder / "text").read_text()
    for key in (folder / "keys").read_text():
        yield DynamicOutput(key + text, mapping_key=key, output_name="pieces")
    yield Output("title" + text, "title")


@op
def upper(context: OpContext, piece: str) -> str:
    """In capitals."""
    note(context)
    return piece.upper()


@op
def join(context: OpContext, found: list[str]) -> str:
    """One text."""
    note(context)
    return "".join(found)


@op
def headline(context: OpContext, title: str, text: str) -> str:
    """Title and text."""
    note(context)
    return f"{title}: {text}"


@job
def writing() -> None:
    """Two outputs of one generator, one mapped and collected."""
    generated = letters()
    headline(generated.title, join(generated.pieces.map(upper).collect()))


@op
def early(context: OpContext, piece: str) -> str:
    """The piece; the first of two ops that read it."""
    note(context)
    return piece


@op
def late(context: OpContext, piece: str, seen: str) -> str:
    """The piece; the second."""
    note(context)
    assert seen == piece
    return piece


@op
def list_all(context: OpContext, one: list[str], other: list[str]) -> list[list[str]]:
    """Both lists."""
    note(context)
    return [one, other]


@job
def reading_twice() -> None:
    """Each piece is read by two ops, one after the other."""
    pieces = letters().pieces
    seen = pieces.map(lambda piece: (first := early(piece), late(piece, first)))
    list_all(seen[0].collect(), seen[1].collect())


class Scene:
    """A folder with a store, and the files that tell the generator what to yield."""

    def __init__(self, folder: Path, level: str, job: JobDefinition = writing) -> None:
        self.folder = folder
        self.job = job
        self.level = level
        self.tell("abcd")

    def tell(self, keys: str, text: str = "-") -> None:
        """What the generator yields from now on."""
        (self.folder / "keys").write_text(keys)
        (self.folder / "text").write_text(text)

    def open(self) -> RunStore:
        """The store."""
        return RunStore.open(self.folder / "store", level=self.level)  # type: ignore[arg-type]

    def execute(self) -> RunResult:
        """Start the run."""
        calls = {"calls": str(self.folder / "calls")}
        config = {"ops": {node: {"config": calls} for node in self.job.ops}}
        return execute(self.job, self.open(), run_config=config, run_id=RUN)

    def crash_in(self, step: str) -> None:
        """Run in a process that is killed inside this step; its start, and all before it, is on disk."""

        def run() -> None:
            with armed(Failpoint(point="event.before", kind="OutputStored", step=step)):
                self.execute()

        assert in_fork(run).killed
        self.take_calls()

    def plan(self) -> ResumePlan:
        """What a resume would do."""
        return plan_resume(RUN, self.open(), job=self.job)

    def resume(self) -> RunResult:
        """Go on with the run."""
        return resume(RUN, self.open(), job=self.job)

    def finish(self, node: str) -> Any:
        """Resume to the end; the value of one node."""
        result = self.resume()
        assert result.success
        return result.output_for_node(node)

    def headline(self) -> Any:
        """Resume to the end; the last value."""
        return self.finish("headline")

    def take_calls(self) -> list[str]:
        """Step keys that were called since the last question, sorted."""
        path = self.folder / "calls"
        calls = sorted(path.read_text().splitlines()) if path.exists() else []
        path.unlink(missing_ok=True)
        return calls

    def file(self, step: str, key: str = "", output: str = "result") -> Path:
        """The file of an output, or of the piece under `key`, as the newest event in the log names it."""
        with self.open() as store:
            for _, event in reversed(store.step_events(RUN, step)):
                if (
                    getattr(event, "output", None) == output
                    and getattr(event, "mapping_key", "") == key
                ):
                    reference = reference_of(event)
                    return self.folder / "store" / "outputs" / RUN / reference.path
        raise AssertionError(f"{step} has no output {output}")

    def references(self) -> dict[str, str]:
        """Mapping key -> path, of the pieces as a reader of the run gets them."""
        with self.open() as store:
            state = store.state(RUN)
            expansion = state.expansion(Level("letters", "pieces"))
            assert expansion is not None
            seqs = [expansion.seqs[slot] for slot in expansion.order]
            return {
                key: reference_of(store.event(RUN, seq)).path
                for key, seq in zip(expansion.ordered_keys(), seqs, strict=True)
            }

    def events(self) -> list[dict[str, Any]]:
        """Every event, as it stands on disk."""
        with self.open() as store:
            return [json.loads(body) for _, body in store.rows(RUN)]


def flip(path: Path) -> None:
    """One bit of one byte."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    """The last byte gone."""
    path.write_bytes(path.read_bytes()[:-1])


Damage = Callable[[Path], object]
DAMAGES: list[Damage] = [Path.unlink, truncate, flip]

every_damage = pytest.mark.parametrize("damage", DAMAGES, ids=["deleted", "truncated", "flipped"])
RIGHT = "title-: A-B-C-D-"


@pytest.fixture(params=["fast", "durable"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Scene:
    """Nothing has run yet."""
    return Scene(tmp_path, request.param)


@every_damage
def test_a_plain_output_lost_before_a_resume(scene: Scene, damage: Damage) -> None:
    """Its step runs again, and nothing else that had finished."""
    scene.crash_in("join")
    damage(scene.file("upper[b]"))
    plan = scene.plan()
    if damage is not flip or scene.level == "fast":
        assert plan.lost == ("upper[b]",)
        assert {node.node: node.run for node in plan.nodes}["upper"] == {"lost": 1}
    else:
        assert plan.lost == ()  # level `durable` looks at sizes; the load finds it
    assert scene.headline() == RIGHT
    assert scene.take_calls() == ["headline", "join", "upper[b]"]
    assert_invalidated(scene, "upper[b]", "result")


@every_damage
def test_an_output_that_nobody_will_read_is_not_missed(scene: Scene, damage: Damage) -> None:
    """What the remaining steps do not read is neither looked at nor made again."""
    scene.crash_in("headline")
    damage(scene.file("upper[b]"))
    assert scene.plan().lost == ()
    assert scene.headline() == RIGHT
    assert scene.take_calls() == ["headline"]


@every_damage
def test_a_lost_piece(scene: Scene, damage: Damage) -> None:
    """The generator runs again for the lost piece; others keep their references, finished clones stay finished."""
    scene.crash_in("upper[c]")
    before = scene.references()
    damage(scene.file("letters", "c", "pieces"))
    scene.headline()
    assert scene.take_calls() == ["headline", "join", "letters", "upper[c]", "upper[d]"]
    after = scene.references()
    assert list(after) == list(before) == list("abcd")
    assert [key for key in before if before[key] != after[key]] == ["c"]
    assert_invalidated(scene, "letters", "pieces[c]")


@every_damage
def test_a_lost_plain_output_of_a_generator(scene: Scene, damage: Damage) -> None:
    """The generator runs again; its pieces keep their references, and its clones their work."""
    scene.crash_in("headline")
    before = scene.references()
    damage(scene.file("letters", output="title"))
    assert scene.headline() == RIGHT
    assert scene.take_calls() == ["headline", "letters"]
    assert scene.references() == before


def test_a_loss_behind_a_loss(scene: Scene) -> None:
    """A step that runs again for lost bytes reads its own inputs; what is lost of these is made again first."""
    scene.crash_in("join")
    scene.file("upper[b]").unlink()
    scene.file("letters", "b", "pieces").unlink()
    assert set(scene.plan().lost) == {"upper[b]", "letters"}
    assert scene.headline() == RIGHT
    assert scene.take_calls() == ["headline", "join", "letters", "upper[b]"]


def test_every_output_lost(scene: Scene) -> None:
    """Without any stored bytes everything that the rest needs runs again."""
    scene.crash_in("join")
    for path in (scene.folder / "store" / "outputs").rglob("*"):
        if path.is_file():
            path.unlink()
    assert scene.headline() == RIGHT
    assert scene.take_calls() == [
        "headline",
        "join",
        "letters",
        *(f"upper[{key}]" for key in "abcd"),
    ]


def test_all_collected_outputs_lost_during_a_run(scene: Scene) -> None:
    """What a collect has lost is found at once and made again once, not piece after piece."""
    scene.crash_in("upper[d]")

    def lose() -> None:
        for path in (scene.folder / "store").rglob("upper/result/*"):
            path.unlink()

    with armed(Failpoint(point="event.after", kind="StepStarted", step="join", action=lose)):
        assert scene.headline() == RIGHT
    assert scene.take_calls() == [
        "headline",
        "join",
        *(f"upper[{key}]" for key in "abcd"),
        "upper[d]",
    ]


@every_damage
@pytest.mark.parametrize("lost", ["upper[b]", "letters"])
def test_lost_during_a_run(scene: Scene, damage: Damage, lost: str) -> None:
    """Bytes that vanish while the run goes on are made again in the same run."""

    def lose() -> None:
        damage(scene.file("letters", "c", "pieces") if lost == "letters" else scene.file(lost))

    # `upper[c]` has not begun, or the success of `upper[b]` is on disk
    last = "upper[b]" if lost == "letters" else "upper[c]"
    here = Failpoint(point="event.before", kind="StepSucceeded", step=last, action=lose)
    with armed(here):
        result = scene.execute()
    assert here.reached
    assert result.success
    assert result.output_for_node("headline") == RIGHT
    calls = scene.take_calls()
    assert [step for step in set(calls) if calls.count(step) > 1] == [lost]
    assert_invalidated(scene, lost, "pieces[c]" if lost == "letters" else "result")
    assert {event["epoch"] for event in scene.events()} == {1}


def assert_invalidated(scene: Scene, step: str, label: str) -> None:
    """The log says that this output of this step was lost."""
    lost = [
        (event["steps"], event["lost"])
        for event in scene.events()
        if event["kind"] == "StepInvalidated" and event["reason"] == "output lost"
    ]
    assert lost == [([step], [label])]


@pytest.mark.parametrize("keys", ["abc", "abcde", "badc", "wxyz", ""])
def test_other_keys_are_refused(scene: Scene, keys: str) -> None:
    """A generator that runs again for a lost piece must yield the sealed keys in order; then the run goes on."""
    scene.crash_in("upper[c]")
    scene.file("letters", "c", "pieces").unlink()
    scene.tell(keys)
    with pytest.raises(
        ExpansionChanged, match=r"step 'letters' ran again for lost bytes .* new run"
    ):
        scene.resume()
    assert "join" not in scene.take_calls()
    with scene.open() as store:
        assert store.run(RUN).status == "crashed"
    scene.tell("abcd")
    assert scene.headline() == RIGHT
    assert scene.take_calls() == ["headline", "join", "letters", "upper[c]", "upper[d]"]


@every_damage
def test_other_bytes_that_somebody_has_read(tmp_path: Path, damage: Damage) -> None:
    """Bytes that differ from those a finished step has read are refused, naming both steps and the remedies."""
    scene = Scene(tmp_path, "fast", reading_twice)
    scene.crash_in("late[c]")
    lost = scene.file("letters", "c", "pieces")
    data = lost.read_bytes()
    damage(lost)
    scene.tell("abcd", "+")
    rows = len(scene.events())
    with pytest.raises(OutputNotReproduced) as caught:
        scene.resume()
    message = str(caught.value)
    assert (
        "step 'letters' ran again for the lost output 'pieces[c]' and gave other bytes" in message
    )
    assert "'early[c]' has succeeded with the lost ones" in message
    assert f"restore {lost} from a copy, or start a new run" in message
    assert scene.take_calls() == ["letters"]
    assert not [event for event in scene.events()[rows:] if event["kind"] == "StepSucceeded"]

    lost.write_bytes(data)  # one remedy that the message names
    assert scene.finish("list_all") == [["a-", "b-", "c-", "d-"]] * 2
    assert scene.references()["c"].endswith("c.txt")


def test_the_same_bytes_that_somebody_has_read(tmp_path: Path) -> None:
    """Where the lost bytes come back as they were, whoever has read them keeps its work."""
    scene = Scene(tmp_path, "fast", reading_twice)
    scene.crash_in("late[c]")
    scene.file("letters", "c", "pieces").unlink()
    assert scene.finish("list_all") == [["a-", "b-", "c-", "d-"]] * 2
    assert scene.take_calls() == [
        *("early[d]", "late[c]", "late[d]", "letters", "list_all"),
    ]


def test_other_bytes_that_nobody_has_read(scene: Scene) -> None:
    """As long as no finished step has read the lost bytes, others may take their place."""
    scene.crash_in("upper[c]")
    scene.file("letters", "c", "pieces").unlink()
    scene.tell("abcd", "+")
    assert scene.headline() == "title-: A-B-C+D-"
    assert scene.take_calls() == ["headline", "join", "letters", "upper[c]", "upper[d]"]


def test_a_restored_copy_is_accepted(scene: Scene) -> None:
    """The remedy that the message names works: with the lost file back, the resume goes on."""
    scene.crash_in("headline")
    path = scene.file("letters", output="title")
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)
    assert scene.headline() == RIGHT
    assert scene.take_calls() == ["headline"]


def test_a_loss_that_comes_back_is_an_error(scene: Scene) -> None:
    """Bytes that are lost again at once stop the run with an error that names them, not in a circle."""

    def lose_every_result() -> None:
        for path in (scene.folder / "store").rglob("upper/result/b*"):
            path.unlink()

    here = Failpoint(point="event.before", kind="StepStarted", step="join", nth=10**9)
    with pytest.raises(OutputLost), armed(Watch(here, lose_every_result)):
        scene.execute()
    with scene.open() as store:
        assert store.run(RUN).status == "crashed"
    assert scene.headline() == RIGHT


class Watch:
    """Calls an action at every point that a failpoint counts."""

    def __init__(self, failpoint: Failpoint, action: Callable[[], None]) -> None:
        self._failpoint = failpoint
        self._action = action

    def __call__(self, name: str, subject: Any) -> None:
        """Hear of a point."""
        before = self._failpoint.reached
        self._failpoint(name, subject)
        if self._failpoint.reached > before:
            self._action()


@every_damage
def test_a_result_is_verified_when_it_is_read(scene: Scene, damage: Damage) -> None:
    """A value whose bytes are not those of the log is never given: OutputLost names the file."""
    result = scene.execute()
    path = scene.file("headline")
    damage(path)
    with pytest.raises(OutputLost, match=str(path)) as caught:
        result.output_for_node("headline")
    assert isinstance(caught.value, OutputCorrupted) == (damage is not Path.unlink)
