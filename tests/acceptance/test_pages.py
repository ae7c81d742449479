"""Pages and pictures of a run with hostile keys and messages: whole, escaped, and nothing in them runs."""

import html.parser
import json
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import click.testing
import pytest

from execution import execute, job, op
from execution.cli.main import cli
from runstore import RunStore
from runstore.audit import Timeline, anchor, export_html, svg, timeline, timeline_text
from runstore.log.lines import to_lines
from tests.acceptance.audited import FAILED, HOSTILE, MESSAGE, RUN, TREE, Audited

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture
def store(audited: Audited) -> Iterator[RunStore]:
    """The store of the run, to read."""
    with RunStore.open(audited.store, must_exist=True) as found:
        yield found


def ask(audited: Audited, *words: str) -> str:
    """What the command prints."""
    ended = click.testing.CliRunner().invoke(cli, [*words, "--store", str(audited.store)])
    assert ended.exit_code == 0, ended.output
    return ended.output


# Timeline


def test_the_timeline_has_each_epoch_and_op(audited: Audited, store: RunStore) -> None:
    """Three epochs, as they ended; in each op as many attempts as calls, the failed and the killed marked."""
    found = timeline(store, RUN)
    assert [one.ended for one in found.epochs] == ["crashed", "failed", "succeeded"]
    calls = [
        step.partition("[")[0] for step, count in audited.attempts().items() for _ in range(count)
    ]
    assert {line.name: sum(bar.attempts for bar in line.bars) for line in found.lines} == {
        op: calls.count(op) for op in set(calls)
    }
    length = next(line for line in found.lines if line.name == "length")
    assert sum(bar.failed for bar in length.bars) == 1
    assert sum(bar.interrupted for bar in length.bars) == 1


def test_what_runs_is_not_interrupted(tmp_path: Path) -> None:
    """A step of a run that is being executed is at work; no sign says that it was interrupted."""
    seen: list[Timeline] = []

    @op
    def looks() -> None:
        with RunStore.open(tmp_path, must_exist=True) as found:
            seen.append(timeline(found))

    @job
    def looked_at() -> None:
        looks()

    assert execute(looked_at, tmp_path).success
    (bar,) = seen[0].lines[0].bars
    assert (seen[0].status, bar.interrupted, bar.attempts) == ("running", 0, 1)
    assert not any("!" in line for line in timeline_text(seen[0], 80))


def test_the_timeline_in_a_terminal(audited: Audited, store: RunStore) -> None:
    """Within its width, with the gaps between epochs, and nothing that a terminal takes for its own."""
    lines = list(timeline_text(timeline(store, RUN), 80))
    assert all(len(line) <= 80 for line in lines)
    assert sum(line.startswith("┊ ") for line in lines) == 2
    length = next(line for line in lines if line.startswith("length"))
    assert {"█", "✗", "!", "┊"} <= set(length)
    assert json.loads(ask(audited, "timeline", RUN, "--json"))["run_id"] == RUN


def test_the_picture_is_whole(audited: Audited, store: RunStore, tmp_path: Path) -> None:
    """XML that parses, with the gaps in it, and the time from left to right; also as a page."""
    root = ElementTree.fromstring("\n".join(svg(timeline(store, RUN))))
    places = [float(line.attrib["x1"]) for line in root.iter("{http://www.w3.org/2000/svg}line")]
    assert places == sorted(places)
    assert places
    titles = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}title")]
    assert sum("nobody executed the run" in title for title in titles) == 2
    for name in ("run.svg", "run.html"):
        ask(audited, "timeline", RUN, "--out", str(tmp_path / name))
        assert "<svg" in (tmp_path / name).read_text()


# The report


class Elements(html.parser.HTMLParser):
    """Every element, attribute and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[tuple[str, str | None]] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        self.attributes.update(attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_report_holds_what_it_should(store: RunStore) -> None:
    """Summary, anchor, keys, the error as the op raised it, and what the result was made from."""
    text = Elements("\n".join(export_html(store, RUN))).text
    assert str(anchor(store, RUN)) in text
    assert MESSAGE.replace("\x1b", "\\x1b") in text
    for region, cities in TREE.items():
        for city in cities:
            assert city.encode("unicode_escape").decode() in text or city in text
        assert region in text
    assert f"length[{FAILED[0]}]" in text
    assert "collected at seq" in text


def test_what_is_not_done_comes_before_all_keys(store: RunStore, tmp_path: Path) -> None:
    """In the report of a run that broke off; that of one that has succeeded has no such part."""
    heading = "Keys that are not done"
    assert heading not in "\n".join(export_html(store, RUN))
    rows = islice(store.rows(RUN), store.run(RUN).events // 3)
    with RunStore.open(tmp_path / "part", level="fast") as part:
        part.take_in(to_lines(RUN, rows), "a part")
        before, _, after = "\n".join(export_html(part, RUN)).partition(heading)
    left, _, grid = after.partition("<h2>Keys</h2>")
    assert "<h2>Keys</h2>" not in before
    assert 'class="pending"' in left
    assert 'class="succeeded"' in grid


def test_nothing_in_the_report_runs_or_is_fetched(store: RunStore) -> None:
    """No script, no handler, no address; no control character, and none that turns a line around."""
    page = "\n".join(export_html(store, RUN))
    found = Elements(page)
    assert found.tags.isdisjoint({"script", "img", "iframe", "link", "object", "a", "base", "form"})
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert not [name for name, _ in found.attributes if name in ("src", "href")]
    assert HOSTILE not in page
    assert not [char for char in page if not char.isprintable() and char != "\n"]


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
def test_a_browser_runs_nothing(store: RunStore, tmp_path: Path) -> None:
    """Opened in a browser, the page keeps its title, which a page that is not escaped does not."""
    (tmp_path / "report.html").write_text("\n".join(export_html(store, RUN)))
    (tmp_path / "forged.html").write_text(f"<title>run {RUN}</title><p>{HOSTILE}")
    assert f"<title>run {RUN}</title>" in dom(tmp_path / "report.html", tmp_path)
    assert "<title>owned</title>" in dom(tmp_path / "forged.html", tmp_path)


def dom(page: Path, folder: Path) -> str:
    """A page as a browser has it once it is loaded."""
    assert CHROMIUM is not None
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    shown = subprocess.run(
        [CHROMIUM, *flags, "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    return shown.stdout
