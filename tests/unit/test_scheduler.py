"""Which step comes next: the order of X4, cursors instead of entries, skips, and who goes last.

That the order is right for any job is tried in tests/property; here stands what each rule means.
"""

from collections.abc import Callable, Iterable

import msgspec

from execution.planning.scheduler import Decision, Scheduler
from runstore.log.events import AnyEvent, RunCancelled, RunFailed, StepInvalidated, StepSkipped
from runstore.log.graph import (
    FanIn,
    FromCollect,
    FromOutput,
    Graph,
    Input,
    Level,
    Node,
    Output,
    Over,
)
from tests.unit.logs import CHAIN, KEYS, Fold, fail, fan_out, plain, run_resumed, start

Runs = Callable[[Decision], Iterable[AnyEvent]]


def attempt_of(fold: Fold, step: str) -> int:
    """The number of the next attempt of a step."""
    columns, slot = fold.state._place(0, step)[1:]
    return columns.attempts[slot] + 1


def drive(
    fold: Fold, keys: str = "abc", failing: Iterable[str] = (), most: int = 10_000
) -> list[str]:
    """Run what the scheduler gives, as the engine does; the steps in order, the skipped ones in brackets."""
    scheduler, order = Scheduler(fold.state), []
    while len(order) < most and (decision := scheduler.take()) is not None:
        step = str(decision.step)
        order.append(f"({step})" if decision.skip else step)
        for event in _events(fold, decision, step, keys, failing):
            settled = fold.state.apply(fold.state.seq + 1, fold.stamped(event))
            if settled is not None:
                scheduler.settled(settled)
    return order


def _events(
    fold: Fold, decision: Decision, step: str, keys: str, failing: Iterable[str]
) -> list[AnyEvent]:
    attempt = attempt_of(fold, step)
    if decision.skip:
        return [StepSkipped(step, decision.skip)]
    if step in failing:
        return [start(step, attempt), fail(step, attempt)]
    return fan_out(keys, attempt) if step == "fan_out" else plain(step, attempt)


def test_a_chain_finishes_before_the_next_begins() -> None:
    """X4: by key position; at the same key the later in the graph first."""
    assert drive(Fold()) == [
        "fan_out",
        "echo[a]",
        "shout[a]",
        "echo[b]",
        "shout[b]",
        "echo[c]",
        "shout[c]",
        "total",
    ]


def test_the_order_is_that_of_yielding() -> None:
    """X4: keys count by their position, not by their text."""
    assert drive(Fold(), keys="bca")[1::2] == ["echo[b]", "echo[c]", "echo[a]", "total"]


def test_a_path_comes_before_its_extensions() -> None:
    """X4: a step without keys that is ready goes before all clones; at the same place the definition decides."""
    one, two = (Node(name, name, (), (Output("result"),)) for name in ("one", "two"))
    fold = Fold(Graph("g", (*CHAIN.nodes, one, two)))
    assert drive(fold)[:4] == ["fan_out", "one", "two", "echo[a]"]


def test_it_goes_on_at_the_first_incomplete_clone() -> None:
    """A resume begins at the first step in this order without a success or a skip."""
    for cut in range(8):
        fold = Fold()
        done = drive(fold, most=cut)
        fold(run_resumed())
        assert done + drive(fold) == drive(Fold())


def test_a_failed_clone_stops_its_chain_and_collects() -> None:
    """F2: nobody is told of a failure; what needs it is just never ready."""
    assert drive(Fold(), failing=["echo[b]"]) == [
        "fan_out",
        "echo[a]",
        "shout[a]",
        "echo[b]",
        "echo[c]",
        "shout[c]",
    ]
    assert drive(Fold(), failing=["fan_out"]) == ["fan_out"]


def test_failed_steps_come_again_in_their_place() -> None:
    """R2: after a resume failed steps, and what waited for them, run in the same order as ever."""
    fold = Fold()
    drive(fold, failing=["echo[b]", "shout[c]"])
    fold(RunFailed({}), run_resumed())
    assert drive(fold) == ["echo[b]", "shout[b]", "shout[c]", "total"]


def test_who_was_running_at_two_deaths_goes_last() -> None:
    """R2: a step that was running when each of the last two epochs died waits for all others, and still runs."""
    fold = Fold()
    fold(fan_out("abc"), start("echo[a]"), run_resumed())
    assert drive(fold, most=1) == ["echo[a]"]
    fold = Fold()
    fold(fan_out("abc"), start("echo[a]"), run_resumed(), start("echo[a]", 2), run_resumed())
    order = ["echo[b]", "shout[b]", "echo[c]", "shout[c]", "echo[a]", "shout[a]", "total"]
    assert drive(fold) == order
    fold = Fold()
    fold(
        fan_out("ab"),
        start("echo[a]"),
        RunCancelled({}, "x"),
        run_resumed(),
        start("echo[a]", 2),
        run_resumed(),
    )
    assert drive(fold, most=1) == ["echo[a]"], "an epoch that ended did not die"


def test_who_goes_last_and_has_lost_its_input() -> None:
    """R2, R6: it runs once its input has been made again, behind all others."""
    fold = Fold()
    fold(fan_out("ab"), start("echo[a]"), run_resumed(), start("echo[a]", 2), run_resumed())
    lost = StepInvalidated(
        node="fan_out", steps=("fan_out",), reason="output lost", lost=("result[a]",)
    )
    fold(lost)
    order = ["fan_out", "echo[b]", "shout[b]", "echo[a]", "shout[a]", "total"]
    assert drive(fold, keys="ab") == order


def test_who_goes_last_without_keys() -> None:
    """R2: also a step that is not mapped waits for the others."""
    other = Node("other", "other", (), (Output("result"),))
    fold = Fold(Graph("g", (CHAIN.nodes[0], other)))
    fold(start("fan_out"), run_resumed(), start("fan_out", 2), run_resumed())
    assert drive(fold) == ["other", "fan_out"]


def test_no_keys_give_an_empty_collect() -> None:
    """X3: a required dynamic output without keys: no clones, and the collect runs, on nothing."""
    assert drive(Fold(), keys="") == ["fan_out", "total"]


def optional(graph: Graph, node: str) -> Graph:
    """The graph with the outputs of one node not required."""
    changed = [
        msgspec.structs.replace(
            one, outputs=tuple(msgspec.structs.replace(out, required=False) for out in one.outputs)
        )
        if one.name == node
        else one
        for one in graph.nodes
    ]
    return Graph(graph.name, tuple(changed))


def test_no_keys_of_an_optional_output_skip() -> None:
    """X3: no key of an output that is not required skips the collect over it."""
    assert drive(Fold(optional(CHAIN, "fan_out")), keys="") == ["fan_out", "(total)"]


def test_an_output_that_was_left_out_skips_down_its_chain() -> None:
    """F1: key by key what needs it is skipped; the collect gets the others, and is skipped where none is left."""
    for left_out, total in (("b", "total"), ("abc", "(total)")):
        fold = Fold(optional(CHAIN, "echo"))
        fold(fan_out("abc"))
        for key in "abc":
            events = plain(f"echo[{key}]")
            fold([events[0], *([] if key in left_out else [events[1]]), events[2]])
        order = drive(fold)
        assert order == [
            f"(shout[{key}])" if key in left_out else f"shout[{key}]" for key in "abc"
        ] + [total]


def test_a_skip_names_its_cause() -> None:
    """F1: a decision to skip says which input was skipped, and where that came from."""
    fold = Fold(optional(CHAIN, "echo"))
    fold(fan_out("a"), start("echo[a]"), plain("echo[a]")[2])
    decision = Scheduler(fold.state).take()
    assert decision is not None
    assert (str(decision.step), decision.skip) == ("shout[a]", "input 'x' was skipped: echo.result")


def _either() -> Graph:
    source = (FromOutput("one", "result"), FromOutput("two", "result"))
    nodes = [Node(name, name, (), (Output("result", required=False),)) for name in ("one", "two")]
    both = Node("both", "both", (Input("x", source[0]), Input("y", source[1])), (Output("result"),))
    listed = Node("listed", "listed", (Input("xs", FanIn(source)),), (Output("result"),))
    return Graph("g", (*nodes, both, listed))


def test_one_skipped_input_skips_and_all_of_a_list_do() -> None:
    """F1: a step needs each argument; of a list it needs one element."""
    fold = Fold(_either())
    fold(start("one"), plain("one")[2], plain("two"))
    assert drive(fold) == ["(both)", "listed"]
    fold = Fold(_either())
    for name in ("one", "two"):
        fold(start(name), plain(name)[2])
    assert drive(fold) == ["(both)", "(listed)"]


def test_a_failed_input_wins_over_a_skipped_one() -> None:
    """F1: skipping is decided when all inputs are settled, and a failed one never is."""
    fold = Fold(_either())
    fold(start("one"), plain("one")[2], start("two"), fail("two"))
    assert drive(fold) == []


def test_an_expansion_is_one_cursor_per_node() -> None:
    """The queue holds a place per node, not per key: a million keys cost nothing until they are reached."""
    fold = Fold()
    fold(fan_out(f"k{number}" for number in range(1000)))
    scheduler = Scheduler(fold.state)
    assert len(scheduler._heap) <= 2 * len(CHAIN.nodes)
    scheduler.take()
    assert len(scheduler._heap) <= 2 * len(CHAIN.nodes)


def test_the_queue_stays_small_while_running() -> None:
    """Nothing is queued again and again: the queue never outgrows the graph, however many clones have run."""
    fold = Fold()
    fold(fan_out(f"k{number}" for number in range(300)))
    scheduler, largest = Scheduler(fold.state), 0
    while (decision := scheduler.take()) is not None:
        for event in plain(str(decision.step)):
            settled = fold.state.apply(fold.state.seq + 1, fold.stamped(event))
            if settled is not None:
                scheduler.settled(settled)
        largest = max(largest, len(scheduler._heap))
    assert largest <= 3 * len(CHAIN.nodes)


def test_rebuilding_forgets_nothing_and_repeats_nothing() -> None:
    """R6: after an invalidation the queue is derived anew, and only what is not done is given again."""
    fold = Fold()
    drive(fold, most=5)
    fold(StepInvalidated(node="echo", steps=("echo[a]",), reason="asked for"))
    fold(StepInvalidated(node="shout", steps=("shout[a]",), reason="asked for"))
    assert drive(fold) == ["echo[a]", "shout[a]", "echo[c]", "shout[c]", "total"]


def test_a_producer_that_runs_again_holds_up_its_clones() -> None:
    """R6: while a dynamic op runs again for lost bytes, none of its clones is started."""
    fold = Fold()
    drive(fold, most=3)
    fold(
        StepInvalidated(
            node="fan_out", steps=("fan_out",), reason="output lost", lost=("result[b]",)
        )
    )
    assert drive(fold, most=2) == ["fan_out", "echo[b]"]


def test_only_sealed_keys_are_given() -> None:
    """R5: after another seal clones of its keys run in its order; orphans neither run nor hold up a collect."""
    fold = Fold()
    drive(fold, most=3)
    fold(StepInvalidated(node="fan_out", reason="code changed"))
    assert drive(fold, keys="dc") == [
        "fan_out",
        "echo[d]",
        "shout[d]",
        "echo[c]",
        "shout[c]",
        "total",
    ]


def test_a_barrier_under_the_map_waits_for_all_clones() -> None:
    """D8: an op mapped under a level that also reads a collect of it starts when all clones are done, in key order."""
    barrier = Node(
        "share",
        "share",
        (
            Input("x", FromOutput("echo", "result")),
            Input("xs", FromCollect("echo", "result", (Over(KEYS),))),
        ),
        (Output("result"),),
        (Level("fan_out", "result"),),
    )
    assert drive(Fold(Graph("g", (*CHAIN.nodes[:2], barrier)))) == [
        "fan_out",
        "echo[a]",
        "echo[b]",
        "echo[c]",
        "share[a]",
        "share[b]",
        "share[c]",
    ]


def test_the_work_of_a_barrier_grows_with_its_clones() -> None:
    """O(1) per event: a barrier under a map of a thousand keys looks at each clone a few times, not a thousand."""
    barrier = Node(
        "share",
        "share",
        (
            Input("x", FromOutput("echo", "result")),
            Input("xs", FromCollect("echo", "result", (Over(KEYS),))),
        ),
        (Output("result"),),
        (KEYS,),
    )
    count = 300
    fold = Fold(Graph("g", (*CHAIN.nodes[:2], barrier)))
    fold(fan_out(f"k{number}" for number in range(count)))
    scheduler, looks = Scheduler(fold.state), []
    readiness = scheduler._readiness
    scheduler._readiness = lambda *given: looks.append(1) or readiness(*given)  # type: ignore[method-assign,func-returns-value]
    while (decision := scheduler.take()) is not None:
        for event in plain(str(decision.step)):
            settled = fold.state.apply(fold.state.seq + 1, fold.stamped(event))
            if settled is not None:
                scheduler.settled(settled)
    assert fold.status("share", f"k{count - 1}") == 2
    assert len(looks) < 20 * count
