"""The picture of a run: it fits every terminal, whatever is in it, and shows what matters where room is short."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.cli.counting import OpCount
from execution.cli.frame import ASCII, Picture, Row, Running, frame
from runstore.keys import format_step_key

pytest.importorskip("rich")
from rich.cells import cell_len


@st.composite
def rows(draw: st.DrawFn, **more: Any) -> Row:
    """An op that stands anyhow."""
    sealed = draw(st.none() | st.integers(0, 10**9))
    settled = draw(st.integers(0, sealed or 0))
    failed = draw(st.integers(0, (sealed or 0) - settled))
    waiting = draw(st.integers(0, (sealed or 0) - settled - failed))
    node = draw(st.from_regex(r"[a-z_é日]{1,60}", fullmatch=True))
    is_closed = draw(st.booleans())
    op = OpCount(node, draw(st.booleans()), 0, sealed, settled, failed, waiting, is_closed)
    return Row(op, draw(st.integers(0, settled)), draw(st.booleans()))


KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80).filter(
    lambda key: "\0" not in key
)
STEPS = st.builds(lambda key: format_step_key("op", (key,)), KEYS)
RUNNING = st.builds(
    Running, STEPS, st.floats(0, 10**6), st.sampled_from(["", "process 4711"]) | st.text()
)
PICTURES = st.builds(
    Picture,
    st.lists(rows(), min_size=1, max_size=40),
    st.lists(RUNNING, max_size=30),
    st.text(),
    st.text(),
)


@given(PICTURES, st.integers(10, 200), st.integers(6, 60), st.booleans())
def test_a_picture_fits(picture: Picture, width: int, height: int, ascii_only: bool) -> None:
    """No line is wider than the terminal, the picture is lower than it, and nothing in it moves the cursor."""
    lines = frame(picture, width, height, ASCII if ascii_only else None)
    assert len(lines) < height
    for line in lines:
        assert cell_len(line.plain) <= width
        assert not any(ord(char) < 32 or ord(char) == 127 for char in line.plain)


@given(PICTURES)
def test_what_is_not_shown_is_counted(picture: Picture) -> None:
    """Ops and steps that have no line are in the number of those that have none."""
    for height in (12, 24, 50):
        plain = [line.plain for line in frame(picture, 200, height)]
        counted = [line for line in plain if line.startswith("and ")]
        hidden = int(counted[0].split()[1]) if counted else 0
        below = 1 + bool(picture.note)
        at_work = [line for line in plain if line.startswith("  and ") and line.endswith("at work")]
        running = 0
        if picture.running:
            more = int(at_work[0].split()[1]) if at_work else 0
            running = len(picture.running) - more + len(at_work)
        shown = len(plain) - 1 - len(counted) - running - below
        assert shown + hidden == len(picture.rows)


def op(node: str, sealed: int, settled: int, failed: int = 0, **more: Any) -> Row:
    """A mapped op."""
    return Row(OpCount(node, True, 1, sealed, settled, failed), 0, **more)


def test_a_low_terminal_shows_what_is_at_work_and_what_failed() -> None:
    """Of thirty ops those come first that run, then those that failed, in the order of the job."""
    many = [op(f"op_{n:02}", 10, 0) for n in range(30)]
    many[7], many[20], many[29] = (
        op("broken", 10, 3, 2),
        op("busy", 10, 1, is_at_work=True),
        op("over", 10, 10),
    )
    running = [Running(f"busy[{n}]", 100 - n) for n in range(9)]
    plain = [line.plain for line in frame(Picture(many, running, "here"), 78, 10)]
    assert [line.split()[0] for line in plain] == [
        "op", "op_00", "op_01", "broken", "busy", "and", "1", "and", "here",
    ]  # fmt: skip
    assert plain[5] == "and 26 other ops: 1 done, 25 to come"
    assert plain[6].split() == ["1", "min", "40", "s", "busy[0]"]
    assert plain[7] == "  and 8 more at work"


def test_a_narrow_terminal_keeps_what_is_needed() -> None:
    """Bars go first, then counts that follow from others; names, what is done and what has failed stay."""
    row = Row(OpCount("transform_all", True, 1, 12_000, 3_000, 40, 7), 1_000, True)
    running = [Running("transform_all[a key]", 75, "process 4711")]

    def head(width: int) -> list[str]:
        return frame(Picture([row], running, ""), width, 20)[0].plain.split()

    assert head(78) == ["op", "done", "reused", "waiting", "failed", "left"]
    assert "━" in frame(Picture([row], running, ""), 78, 20)[1].plain
    assert head(38) == ["op", "done", "failed"]
    narrow = [line.plain for line in frame(Picture([row], running, ""), 38, 20)]
    assert narrow[1].split() == ["transform_all", "3,000/12,000", "40"]
    assert narrow[2].split() == ["1", "min", "15", "s", "transform_all[a", "key]"]


@given(rows())
def test_a_bar_shows_whatever_there_is(row: Row) -> None:
    """What was reused, done and failed has a cell at least; a bar to which more may come is never full."""
    line = frame(Picture([row], [], ""), 200, 10, ASCII)[1].plain
    bar = line[cell_name(row) :][:32]
    told = {"-": row.reused, "=": row.op.settled - row.reused, "x": row.op.failed}
    for glyph, count in told.items():
        assert (glyph in bar) is (count > 0)
    if row.op.left or not row.op.is_closed:
        assert "." in bar


def cell_name(row: Row) -> int:
    """Where the bar begins, in characters."""
    return min(len(row.op.node), 32)
