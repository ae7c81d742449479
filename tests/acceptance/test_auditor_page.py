"""The page for auditors shows what the commands print."""

from tests.acceptance.pages import ROOT, walk_page


def test_the_page_has_the_real_output_of_each_command() -> None:
    """docs/auditor.md is what scripts/make_docs.py makes of it."""
    page = (ROOT / "docs" / "auditor.md").read_text(encoding="utf-8")
    assert page.count("$ runstore") >= 12
    assert walk_page(page) == page
