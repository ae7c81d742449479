"""Questions about steps of a run that was killed, failed and resumed, with answers known from outside the log."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click.testing
import pytest

from execution import execute
from execution.cli.main import cli
from runstore import RunStore
from runstore.audit import (
    collect_inputs,
    dot,
    explain,
    find_output,
    lineage,
    mermaid,
    show_step,
    tree,
    verify,
    who,
)
from runstore.errors import StepNotFound
from runstore.keys import escape_key
from tests.acceptance.audited import (
    FAILED,
    HOSTILE,
    KILLED,
    MESSAGE,
    RUN,
    TREE,
    Audited,
    count_cities,
)


@pytest.fixture
def store(audited: Audited) -> Iterator[RunStore]:
    """Its store, to read."""
    with RunStore.open(audited.store, must_exist=True) as found:
        yield found


def ask(audited: Audited, *words: str, code: int = 0) -> str:
    """What the command prints."""
    ended = click.testing.CliRunner().invoke(cli, [*words, "--store", str(audited.store)])
    assert ended.exit_code == code, ended.output
    return ended.output


def file_of(store: RunStore, step: str) -> Path:
    """Where a step's output lies."""
    return Path(find_output(store, store.state(RUN), step).address)


# who


def test_who_wrote_each_file(audited: Audited, store: RunStore) -> None:
    """Of each file that counts, the step and the attempt that its op has noted."""
    values = {step: value for step, value in audited.values().items() if step.startswith("length")}
    for step in values:
        first = who(store, str(file_of(store, step))).writers[0]
        assert (first.run_id, first.step, first.attempt) == (RUN, step, audited.attempts()[step])
        assert first.by == "address and sha256"
        assert first.counts


def test_who_wrote_a_file_that_was_moved(audited: Audited, store: RunStore, tmp_path: Path) -> None:
    """By its digest alone, also where it bears another name."""
    moved = tmp_path / "mystery.bin"
    shutil.copy(file_of(store, "report"), moved)
    digest = hashlib.sha256(moved.read_bytes()).hexdigest()
    for what in (str(moved), digest, digest[:12].upper()):
        (writer,) = who(store, what).writers
        assert (writer.step, writer.epoch, writer.by) == ("report", 3, "sha256")


def test_who_wrote_at_an_address_that_holds_other_bytes(audited: Audited, tmp_path: Path) -> None:
    """An altered file, and one that is gone, are still known by where they lie."""
    copied = tmp_path / "store"
    shutil.copytree(audited.store, copied)
    with RunStore.open(copied, must_exist=True) as store:
        altered, gone = file_of(store, "report"), file_of(store, Audited.step(*KILLED))
        altered.write_text("forged")
        gone.unlink()
        for path, step in ((altered, "report"), (gone, Audited.step(*KILLED))):
            (writer,) = who(store, str(path)).writers
            assert (writer.step, writer.by) == (step, "address")
        with pytest.raises(StepNotFound, match="has stored"):
            who(store, "0" * 64)


def test_who_is_answered_from_the_index(store: RunStore) -> None:
    """A digest is looked up in `digest_index`; of the log no more is read than the rows behind its end."""
    from runstore.audit import who as question  # noqa: F401
    from runstore.audit.who import _BYTES, _COUNT

    for sql, parameters in ((_BYTES, ("0" * 64, 1)), (_COUNT, ("0" * 64,))):
        plan = " ".join(row[3] for row in store.query("EXPLAIN QUERY PLAN " + sql, parameters))
        assert "SEARCH digest_index USING PRIMARY KEY (sha8=?)" in plan
        assert "SEARCH events USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)" in plan
        assert "SCAN events" not in plan


# lineage


def test_lineage_up_from_the_report(store: RunStore) -> None:
    """Everything that was called, and nothing else; a collect without members has read no output."""
    found = lineage(store, RUN, "report", members=None)
    cities = {Audited.step(region, city) for region in TREE for city in TREE[region]}
    regions = {f"{op}[{escape_key(region)}]" for op in ("cities", "add") for region in TREE}
    regions.remove("cities[nowhere]")
    assert {one.step for one in found.steps} == {"report", "regions"} | cities | regions


def test_lineage_down_from_one_piece(store: RunStore) -> None:
    """What was made of one region: its own cities and sums, no other region's."""
    found = lineage(store, RUN, "regions[Europe]", "down", members=None)
    steps = {one.step for one in found.steps[1:]}
    assert steps == {
        "cities[Europe]",
        *(Audited.step("Europe", city) for city in TREE["Europe"]),
        "add[Europe]",
        "report",
    }


def test_depth_and_members_bound_a_lineage(store: RunStore) -> None:
    """One reading far, one member wide; what is left out is said."""
    found = lineage(store, RUN, "report", depth=1, members=1)
    assert [one.step for one in found.steps] == ["report", "add[Europe]"]
    (collect,) = found.collects
    assert (collect.sealed, collect.succeeded, collect.followed) == (3, 3, 1)
    assert any("2 more of the 3 values" in line for line in tree(found))


def test_drawings_escape_hostile_keys(audited: Audited, store: RunStore) -> None:
    """No key ends a label, opens a tag or reaches the terminal as a control character."""
    found = lineage(store, RUN, "report", members=None)
    for line in dot(found):
        assert line.count('"') % 2 == 0
    assert "<script" not in "\n".join(mermaid(found))
    for form in ("--dot", "--mermaid"):
        shown = ask(audited, "lineage", RUN, "report", form, "--members", "0")
        assert all(char not in shown for char in ("\x1b", "\u202e"))


# collect-inputs


def test_what_fed_each_collect(audited: Audited, store: RunStore) -> None:
    """The keys in the order in which they were yielded, the digests of the values that the ops gave, the proof."""
    values = audited.values()
    for region, cities in TREE.items():
        (answer,) = collect_inputs(store, RUN, f"add[{escape_key(region)}]")
        assert [member.keys for member in answer.members] == [(city,) for city in cities]
        digests = [
            hashlib.sha256(str(values[Audited.step(region, city)]).encode()).hexdigest()
            for city in cities
        ]
        assert [member.sha256 for member in answer.members] == digests
        assert (answer.sealed, answer.succeeded, answer.skipped) == (len(cities), len(cities), 0)
        text = "".join(f"{city}\0{digest}\0" for city, digest in zip(cities, digests, strict=True))
        assert answer.digest == hashlib.sha256(text.encode()).hexdigest()
        assert answer.holds
        (seal,) = answer.seals
        keys = "".join(f"{city}\0" for city in cities)
        assert seal.keys_digest == hashlib.sha256(keys.encode()).hexdigest()
    with pytest.raises(StepNotFound, match="has collected nothing"):
        collect_inputs(store, RUN, "regions")


# show and explain


def test_show_of_a_clone_that_was_killed(audited: Audited, store: RunStore) -> None:
    """Two attempts, the first interrupted; its input is the piece of that key, its output what the op gave."""
    step = Audited.step(*KILLED)
    shown = show_step(store, RUN, step)
    assert [one.outcome for one in shown.attempts] == ["interrupted", "succeeded"]
    assert len(shown.attempts) == audited.attempts()[step]
    (read,) = shown.inputs
    assert (read.source, read.output, read.key) == ("cities[Europe]", "result", KILLED[1])
    (stored,) = shown.outputs
    assert stored.preview == str(audited.values()[step])
    assert Path(stored.address).read_text() == stored.preview
    assert not stored.problem


def test_show_of_a_clone_that_failed(audited: Audited, store: RunStore) -> None:
    """The error is that of the op; the terminal gets no control character of it."""
    step = Audited.step(*FAILED)
    shown = show_step(store, RUN, step)
    assert [one.outcome for one in shown.attempts] == ["failed", "succeeded"]
    assert shown.attempts[0].error is not None
    assert shown.attempts[0].error.message == MESSAGE
    assert "\x1b" not in ask(audited, "show", RUN, step)


def test_show_of_what_yields_keys(store: RunStore) -> None:
    """Its pieces in order, the seal, and how many are not shown."""
    shown = show_step(store, RUN, "regions", pieces=2)
    assert [one.key for one in shown.outputs] == list(TREE)[:2]
    assert [one.preview for one in shown.outputs] == list(TREE)[:2]
    (seal,) = shown.pieces
    assert seal.sealed == len(TREE)


def test_show_says_what_is_lost(audited: Audited, tmp_path: Path) -> None:
    """Bytes that are gone or altered have no preview, and the reason is given."""
    copied = tmp_path / "store"
    shutil.copytree(audited.store, copied)
    with RunStore.open(copied, must_exist=True) as store:
        file_of(store, "report").write_text("forged")
        (stored,) = show_step(store, RUN, "report").outputs
    assert stored.preview is None
    assert "are not the" in stored.problem


def test_explain_names_the_events(audited: Audited, store: RunStore) -> None:
    """Why each clone ran as often as it did: killed, failed, or once and reused."""
    calls = audited.attempts()
    killed, failed = (explain(store, RUN, Audited.step(*keys)) for keys in (KILLED, FAILED))
    once = explain(store, RUN, Audited.step("Europe", "Paris"))
    assert "in epoch 2" in killed.because
    assert any("interrupted when epoch 1 died" in fact.text for fact in killed.facts)
    assert "ran again in epoch 3, since attempt 1 had failed" in failed.because
    assert "reused by the resume of epoch 3" in once.because
    assert calls[once.step] == 1
    for answer in (killed, failed, once):
        for fact in answer.facts:
            assert store.event(RUN, fact.seq).epoch == fact.epoch


# The commands


@pytest.mark.parametrize(
    "words",
    [
        ("who", "{report}"),
        ("lineage", RUN, "report"),
        ("lineage", RUN, "report", "--down"),
        ("collect-inputs", RUN, "report"),
        ("show", RUN, "report"),
        ("explain", RUN, "report"),
        ("show", RUN, f"cities[{escape_key(HOSTILE)}]"),
    ],
)
def test_every_answer_as_text_and_as_json(
    audited: Audited, store: RunStore, words: tuple[str, ...]
) -> None:
    """A person gets lines without control characters, a program gets JSON."""
    given = [word.format(report=file_of(store, "report")) for word in words]
    shown = ask(audited, *given)
    assert shown.strip()
    assert all(char.isprintable() or char == "\n" for char in shown)
    found: Any = json.loads(ask(audited, *given, "--json"))
    assert found


def test_outputs_that_share_an_object(audited: Audited, tmp_path: Path) -> None:
    """Small outputs that are packed are found one by one by their digest, and all of an object by its path."""
    notes = tmp_path / "notes"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUDITED_NOTES", str(notes))
        directory = tmp_path / "packed"
        with RunStore.open(directory, small_outputs="pack") as packed:
            assert execute(count_cities, packed, run_id=RUN, run_config={}).success
    with RunStore.open(directory, must_exist=True) as store:
        found = find_output(store, store.state(RUN), Audited.step("Europe", "Paris"))
        assert found.reference.offset is not None
        path = str(directory / "outputs" / RUN / found.reference.path)
        at_path = who(store, path).writers
        assert {one.by for one in at_path} == {"address and sha256"}
        assert found.seq in [one.seq for one in at_path]
        by_digest = who(store, found.reference.sha256).writers
        assert found.seq in [one.seq for one in by_digest]
        assert verify(store, RUN, deep=True).ok
        Path(path).unlink()
        assert {one.rule for one in verify(store, RUN).findings} == {"O1"}
