"""The nested example on real packages gives what a plain reading of the same file gives."""

from email.parser import HeaderParser
from pathlib import Path

import pytest

from execution import execute
from fixtures.jobs import packages
from fixtures.jobs.packages import STATUS_FILE, Finding, Verdict, dependency_audit
from runstore import RunStore

SAMPLE = """\
Package: editor
Status: install ok installed
Section: editors
Version: 1.0
Depends: library (>= 2), mail-agent, gone | library:any, library (<< 3)

Package: library
Status: install ok installed
Section: libs
Version: 2.5

Package: postman
Status: install ok installed
Section: contrib/mail
Version: 0.1
Provides: mail-agent (= 1),
 other-agent
Pre-Depends: library
Depends: missing-thing,
 other-agent

Package: leftover
Status: deinstall ok config-files
Section: libs
Version: 9
Depends: never-asked
"""


def test_a_sample_of_every_kind(tmp_path: Path) -> None:
    """Installed, provided, alternative and missing; written twice is one dependency, removed is none."""
    (tmp_path / "status").write_text(SAMPLE)
    status = {"status": str(tmp_path / "status")}
    config = {"ops": {name: {"config": status} for name in ("sections", "providers")}}
    result = dependency_audit.execute_in_process(run_config=config)
    found = result.output_for_node("check")
    assert found == {
        ("editors", "editor", "library"): Finding("library", "installed", "library"),
        ("editors", "editor", "mail-agent"): Finding("mail-agent", "provided", "postman"),
        ("editors", "editor", "gone | library"): Finding("gone | library", "installed", "library"),
        ("mail", "postman", "library"): Finding("library", "installed", "library"),
        ("mail", "postman", "missing-thing"): Finding("missing-thing", "missing"),
        ("mail", "postman", "other-agent"): Finding("other-agent", "provided", "postman"),
    }
    assert result.output_for_node("judge") == {
        ("editors", "editor"): Verdict("editor", 3, []),
        ("libs", "library"): Verdict("library", 0, []),
        ("mail", "postman"): Verdict("postman", 3, ["missing-thing"]),
    }
    assert result.output_for_node("report").splitlines()[1:] == [
        "editors                 1            3 -",
        "libs                    1            0 -",
        "mail                    1            3 postman",
    ]


@pytest.mark.skipif(not Path(STATUS_FILE).exists(), reason=f"no {STATUS_FILE} on this machine")
def test_debian_packages_are_those_that_an_email_parser_finds() -> None:
    """Names, sections and dependencies of all installed packages, read as the RFC 822 paragraphs that they are."""
    expected = {}
    for paragraph in Path(STATUS_FILE).read_text().strip().split("\n\n"):
        fields = HeaderParser().parsestr(paragraph)
        if fields["Status"].split()[2] == "installed":
            written = f"{fields['Pre-Depends'] or ''},{fields['Depends'] or ''}"
            groups = [one.split("|") for one in written.replace("\n", "").split(",") if one.strip()]
            names = {tuple(name.split()[0].partition(":")[0] for name in one) for one in groups}
            expected[fields["Package"]] = (fields["Version"], names)
    found = {
        one.name: (one.version, {tuple(names) for names in one.needs.values()})
        for one in packages.known_packages(STATUS_FILE)
    }
    assert found == expected


def test_a_section_of_this_machine(tmp_path: Path) -> None:
    """The smallest section of what is installed here, three levels deep, as the plain functions say."""
    known = packages.known_packages(STATUS_FILE)
    sizes = {one.section: 0 for one in known}
    for one in known:
        sizes[one.section] += 1
    section = min((name for name in sizes if sizes[name] > 1), key=lambda name: (sizes[name], name))
    config = {"ops": {"sections": {"config": {"only": [section]}}}}
    with RunStore.open(tmp_path / "store", level="fast") as store:
        result = execute(dependency_audit, store, run_config=config)
        assert result.success
        assert set(result.output_for_node("check")) == {
            (section, one.name, need)
            for one in known
            if one.section == section
            for need in one.needs
        }
        (summary,) = result.output_for_node("summarise").values()
    assert summary.packages == sizes[section]


def test_distributions_where_there_is_no_debian() -> None:
    """Without a status file the installed Python distributions are read, of which this project is one."""
    found = {one.name: one for one in packages.known_packages("/nowhere/status")}
    assert {"msgspec", "sqlite-utils", "fsspec"} <= set(found["runstore"].needs)
    assert set(found["runstore"].needs) - {"tomli"} <= set(found)
