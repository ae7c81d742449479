"""The page on Dask shows what was really typed and printed."""

import re

from tests.acceptance.pages import DASK_WALK, ROOT, dask_page


def test_the_page_has_the_transcript() -> None:
    """docs/dask.md is what scripts/make_docs.py makes of it, with each block of the transcript."""
    page = (ROOT / "docs" / "dask.md").read_text(encoding="utf-8")
    assert page.count("```console") == DASK_WALK.read_text(encoding="utf-8").count("=== terminal")
    assert dask_page(page) == page


def test_the_transcript_says_nothing_of_where_it_was_made() -> None:
    """Neither a path nor a port of the machine is in it, and both deaths happened."""
    text = DASK_WALK.read_text(encoding="utf-8")
    assert "/tmp" not in text
    assert "/home" not in text
    ports = set(re.findall(r":(\d{4,5})\b", text))
    assert ports == {"8786", "8787", "40001"}
    assert "WorkerLost" in text
    assert "the connection to the Dask scheduler is lost" in text
