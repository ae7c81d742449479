#!/usr/bin/env python3
"""Bring the answers in `docs/` up to date: scripts/make_docs.py

`docs/sql.md` is made whole, from the questions of `runstore/audit/questions.py` and the store of format 1. In
`docs/auditor.md` what follows a command is replaced by what it prints on that store; in `docs/dask.md` the terminals
show the transcript of `scripts/walk_dask.py`.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.acceptance.pages import dask_page, sql_page, walk_page  # noqa: E402


def main() -> None:
    """Write the pages."""
    (ROOT / "docs" / "sql.md").write_text(sql_page(), encoding="utf-8")
    walk = ROOT / "docs" / "auditor.md"
    walk.write_text(walk_page(walk.read_text(encoding="utf-8")), encoding="utf-8")
    dask = ROOT / "docs" / "dask.md"
    dask.write_text(dask_page(dask.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
