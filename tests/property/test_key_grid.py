"""A page of keys against ops is the same whether its steps are looked up or the whole log is folded."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from runstore.audit.key_grid import Filter, _page_folded, _page_looked_up
from runstore.audit.lookup import Lookup
from runstore.audit.waiting_for import TooMany
from tests.property.crashed import Crash, crashed_run, crashes
from tests.property.logs import RUN
from tests.property.test_runs import COMMON
from tests.property.test_waiting_for import failing_shapes
from tests.shapes import Shape, shapes

TRIED = settings(COMMON, max_examples=25)
FILTERS = [
    Filter(),
    Filter(retried=True),
    Filter(like="a*"),
    *(Filter(status=frozenset({one})) for one in ("succeeded", "failed", "blocked", "pending")),
]


@TRIED
@given(st.one_of(failing_shapes(), shapes(most=6)), st.one_of(st.just([]), crashes), st.booleans())
def test_both_ways_give_the_same_page(shape: Shape, history: list[Crash], all_rows: bool) -> None:
    """Rows, states, attempts and counts, by every filter, in runs that have ended well or badly."""
    with (
        tempfile.TemporaryDirectory() as root,
        crashed_run(shape, history, Path(root)) as store,
    ):
        look, state = Lookup(store, RUN), store.state(RUN)
        for wanted in FILTERS:
            limit = 1_000 if all_rows else 2
            try:
                page, counts = _page_looked_up(look, wanted, None, limit)
            except TooMany:
                continue
            folded, all_counts = _page_folded(state, wanted, None, limit, alive=False)
            assert page == folded
            for op, states in all_counts.items():
                states.pop("orphan", 0)
                assert counts.get(op, {}) == states
