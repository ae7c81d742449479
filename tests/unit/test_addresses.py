"""Rule K3: file names of outputs are readable, of few characters, short, and distinct also where case is ignored."""

import re
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from runstore.outputs.addresses import MAX_PATH_BYTES, file_name, output_path
from tests.unit.strategies import NASTY_KEYS, key_paths, mapping_keys, names

PART = re.compile(r"[A-Za-z0-9_=@+][A-Za-z0-9._=@+-]*")
DEVICES = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"{port}{n}" for port in ("com", "lpt") for n in range(10)),
}


@given(mapping_keys)
def test_file_names_are_harmless(key: str) -> None:
    """K3: one part of few characters, that is no device, not hidden, no option, no dot at its end."""
    name = file_name(key)
    assert PART.fullmatch(name)
    assert len(name) <= 100
    assert not name.endswith(".")
    assert name.split(".")[0].lower() not in DEVICES


def _variants(key: str) -> st.SearchStrategy[str]:
    other = st.sampled_from(
        [key.swapcase(), key.lower(), key.upper(), key.casefold(), file_name(key)]
    )
    escaped = st.sampled_from(
        [f"{key}@1", f"{key}.e1a2", key.replace("/", "=2f"), key.replace("/", "%2f")]
    )
    return st.one_of(other, escaped, mapping_keys)


@given(mapping_keys.flatmap(lambda key: st.tuples(st.just(key), _variants(key))))
def test_two_keys_never_share_a_file(pair: tuple[str, str]) -> None:
    """K3: names are distinct, also where a file system ignores case or folds it."""
    one, other = pair
    if one == other:
        return
    for fold in (str, str.lower, str.upper, str.casefold):
        assert fold(file_name(one)) != fold(file_name(other))


def test_the_nasty_keys_are_distinct() -> None:
    """K3: every pair of the known troublemakers has names that differ when case is ignored."""
    for one, other in combinations(sorted(set(NASTY_KEYS)), 2):
        assert file_name(one).casefold() != file_name(other).casefold(), (one, other)


def test_names_are_readable() -> None:
    """K3: a person finds an output by its key."""
    assert file_name("cat.jpg") == "cat.jpg"
    assert file_name("Europe/Paris") == "Europe=2fParis@41"
    assert output_path("summarise", "result", ["paris"], epoch=1, attempt=1, extension="json") == (
        "summarise/result/paris.json"
    )


attempts = st.tuples(st.integers(1, 300), st.integers(1, 300))


@given(names, names, key_paths, attempts)
def test_paths_are_short_and_of_legal_parts(
    node: str, output: str, key_path: tuple[str, ...], at: tuple[int, int]
) -> None:
    """K3: each part has at most 100 characters, a path at most 800 bytes, however deep and long the keys."""
    path = output_path(node, output, key_path, epoch=at[0], attempt=at[1], extension="msgpack")
    assert len(path.encode()) <= MAX_PATH_BYTES
    for part in path.split("/"):
        assert PART.fullmatch(part)
        assert len(part) <= 100


@given(
    st.lists(mapping_keys, min_size=12, max_size=16),
    st.lists(mapping_keys, min_size=12, max_size=16),
)
def test_deep_paths_are_shortened_and_stay_distinct(one: list[str], other: list[str]) -> None:
    """K3: a path that would be too long keeps node and output, and is still of its keys alone."""
    paths = {
        tuple(keys): output_path("op", "result", keys, epoch=1, attempt=1, extension="json")
        for keys in (one, other)
    }
    assert len({path.casefold() for path in paths.values()}) == len(paths)
    for path in paths.values():
        assert len(path) <= MAX_PATH_BYTES
        assert path.startswith("op/result/")


@given(
    mapping_keys.flatmap(lambda key: st.tuples(st.just(key), _variants(key))), attempts, attempts
)
def test_no_address_is_ever_used_twice(
    pair: tuple[str, str], first: tuple[int, int], second: tuple[int, int]
) -> None:
    """An address is of one key, one epoch and one attempt: a late writer cannot touch accepted bytes."""
    (one, other), suffix = pair, "json"
    if (one, first) == (other, second):
        return
    written = [
        output_path(
            "op", "result", [key], epoch=epoch, attempt=attempt, extension=suffix
        ).casefold()
        for key, (epoch, attempt) in ((one, first), (other, second))
    ]
    assert written[0] != written[1]
