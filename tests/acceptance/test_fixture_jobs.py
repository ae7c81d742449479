"""The example jobs give the right answers: each is compared with facts found another way."""

import multiprocessing
import textwrap
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import msgspec
import pytest

from execution import execute, resume
from fixtures.jobs import stdlib_metrics, timezones
from fixtures.jobs.stdlib_metrics import Metrics
from fixtures.jobs.timezones import Anomaly, AnomalyKind, Change, History, LocalTime
from tests.acceptance.stdlib_facts import Definitions, definitions_in
from tests.acceptance.timezone_facts import END, START, Clock, Transition, zone_facts

IGNORE_WARNINGS_OF_SOURCES = pytest.mark.filterwarnings(
    "ignore::SyntaxWarning", "ignore::DeprecationWarning"
)
DAY = 86_400
REMARKABLE_ZONES = [
    "Africa/Monrovia",
    "America/Argentina/Buenos_Aires",
    "America/St_Johns",
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Europe/Dublin",
    "Europe/Istanbul",
    "Europe/Paris",
    "Etc/GMT+12",
    "Pacific/Apia",
]


@pytest.fixture(scope="module")
def histories() -> dict[str, History]:
    """What the plain function finds for every zone, on all cores."""
    names = timezones.zone_names()
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(mp_context=spawn) as pool:
        return dict(zip(names, pool.map(timezones.history_of, names, chunksize=10), strict=True))


def test_changes_of_every_zone_are_those_of_its_tzif_file(histories: dict[str, History]) -> None:
    """For all zones each offset change, to the second, stands in the table or the rule of its file."""
    assert len(histories) > 500
    for zone, history in histories.items():
        facts = zone_facts(zone)
        assert [_as_fact(change) for change in history.changes] == facts.offset_changes, zone
        assert _as_clock(history.final) == facts.final, zone


def test_histories_survive_typed_json(histories: dict[str, History]) -> None:
    """The typed JSON that the values are stored as gives back every history exactly."""
    stored = msgspec.json.encode(histories)
    assert msgspec.json.decode(stored, type=dict[str, History]) == histories


@pytest.mark.parametrize(
    ("zone", "dst", "last_dst_year", "standard_time"),
    [
        ("Asia/Kolkata", "never", None, "+05:30"),
        ("Asia/Kathmandu", "never", None, "+05:45"),
        ("Africa/Monrovia", "never", None, "+00:00"),
        ("Etc/GMT+12", "never", None, "-12:00"),
        ("America/Sao_Paulo", "abolished", 2019, "-03:00"),
        ("Europe/Istanbul", "abolished", 2016, "+03:00"),  # its last summer time never ended
        ("Pacific/Apia", "abolished", 2021, "+13:00"),
        ("Europe/Paris", "in force", 2037, "+01:00"),
        ("Europe/Dublin", "in force", 2037, "+01:00"),  # the law calls its summer time standard
        ("Australia/Lord_Howe", "in force", 2037, "+10:30"),
    ],
)
def test_summary_of_well_known_zones(
    histories: dict[str, History],
    zone: str,
    dst: str,
    last_dst_year: int | None,
    standard_time: str,
) -> None:
    """Zones whose history is common knowledge are classified accordingly."""
    summary = timezones.summary_of(histories[zone])
    assert (summary.zone, summary.dst, summary.last_dst_year) == (zone, dst, last_dst_year)
    assert timezones.as_text(summary.standard_offset_s) == standard_time
    assert summary.changes == len(histories[zone].changes)


def test_paris_changes_twice_a_year_since_1976(histories: dict[str, History]) -> None:
    """France reintroduced summer time in 1976 and has since changed its clocks every half year."""
    years = Counter(change.at.year for change in histories["Europe/Paris"].changes)
    assert all(years[year] == 0 for year in range(1970, 1976))
    assert all(years[year] == 2 for year in range(1976, 2026))


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        ("Europe/Paris", []),
        ("America/New_York", []),
        ("Asia/Kolkata", [("part of an hour", "+05:30")]),
        ("Asia/Kathmandu", [("part of an hour", "+05:30"), ("part of an hour", "+05:45")]),
        ("Africa/Monrovia", [("part of an hour", "-00:44:30")]),
        ("Europe/Dublin", [("negative DST", "-01:00")]),
        ("Africa/Windhoek", [("negative DST", "-01:00")]),
        ("Antarctica/Troll", [("DST other than 1 h", "+02:00")]),
        ("America/Goose_Bay", [("DST other than 1 h", "+02:00")]),
        (
            "Australia/Lord_Howe",
            [
                ("part of an hour", "+10:30"),
                ("part of an hour", "+11:30"),
                ("DST other than 1 h", "+00:30"),
            ],
        ),
        (
            "Pacific/Apia",
            [("leap of 12 h or more", "2011-12-29 23:59:59, then 2011-12-31 00:00:00")],
        ),
        (
            "Pacific/Kwajalein",
            [("leap of 12 h or more", "1993-08-20 23:59:59, then 1993-08-22 00:00:00")],
        ),
    ],
)
def test_anomalies_of_well_known_zones(
    histories: dict[str, History], zone: str, expected: list[tuple[AnomalyKind, str]]
) -> None:
    """Odd offsets, skipped days and unusual DST are reported where they are known, and nothing else."""
    found = list(timezones.anomalies_of(histories[zone]))
    assert found == [Anomaly(zone, kind, detail) for kind, detail in expected]


def test_anomalies_of_all_zones(histories: dict[str, History]) -> None:
    """Over all zones, the leaps and the odd offsets are exactly those of the TZif files."""
    found = [each for history in histories.values() for each in timezones.anomalies_of(history)]
    facts = {zone: zone_facts(zone) for zone in histories}
    leaps = [
        zone
        for zone, each in facts.items()
        for _, before, after in each.offset_changes
        if abs(after.offset_s - before.offset_s) >= DAY / 2
    ]
    odd = {
        zone: {
            clock.offset_s
            for clock in [each.final, *(change.before for change in each.offset_changes)]
            if clock.offset_s % 3600
        }
        for zone, each in facts.items()
    }
    kinds = Counter((each.zone, each.kind) for each in found)
    assert [each.zone for each in found if each.kind == "leap of 12 h or more"] == leaps
    assert {zone: kinds[zone, "part of an hour"] for zone in facts} == {
        zone: len(offsets) for zone, offsets in odd.items()
    }


@pytest.mark.parametrize(
    "instants",
    [
        [],
        [START + 1],
        [START + DAY],
        [START + 5 * DAY + 3_600, START + 5 * DAY + 3_601, START + 6 * DAY - 1],
        [END - 2, END - 1],
    ],
)
def test_several_changes_within_a_day_are_all_found(instants: list[int]) -> None:
    """However close the changes are and wherever in the day, each is found at its very second."""

    def offset_at(instant: int) -> int:
        return sum(instant >= change for change in instants)

    assert list(timezones.change_instants(offset_at)) == instants


def test_timezone_audit_runs(
    histories: dict[str, History], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Executed, the job gives for each zone and each collect what its plain functions give."""
    names = sorted({*list(histories)[::20], *REMARKABLE_ZONES})
    monkeypatch.setattr(timezones, "zone_names", lambda: names)
    _check_timezone_audit(tmp_path / "store", {name: histories[name] for name in names})


@pytest.mark.slow
def test_timezone_audit_runs_for_every_zone(histories: dict[str, History], tmp_path: Path) -> None:
    """Executed over all zones of the package, the job gives what its plain functions give."""
    _check_timezone_audit(tmp_path / "store", histories)


def _check_timezone_audit(store: Path, expected: dict[str, History]) -> None:
    result = execute(timezones.timezone_audit, store)
    assert result.success
    assert list(result.output_for_node("zones").items()) == [(zone, zone) for zone in expected]
    assert result.output_for_node("offset_changes") == expected
    summaries = {zone: timezones.summary_of(history) for zone, history in expected.items()}
    assert result.output_for_node("summarise") == summaries
    assert result.output_for_node("anomalies") == [
        each for history in expected.values() for each in timezones.anomalies_of(history)
    ]
    table = result.output_for_node("audit_table")
    for dst, zones in Counter(_dst_use(zone) for zone in expected).items():
        assert f"| {dst} | {zones} | " in table


def _dst_use(zone: str) -> str:
    """By the TZif file: does any offset change of 2037, or of an earlier year, touch DST?"""
    of_dst = [at for at, *sides in zone_facts(zone).offset_changes if any(s.dst for s in sides)]
    year_2037 = END - 365 * DAY
    return (
        "in force" if any(at >= year_2037 for at in of_dst) else "abolished" if of_dst else "never"
    )


def _as_fact(change: Change) -> Transition:
    return Transition(int(change.at.timestamp()), _as_clock(change.before), _as_clock(change.after))


def _as_clock(time: LocalTime) -> Clock:
    return Clock(time.offset_s, time.dst, time.abbreviation)


def test_all_modules_are_the_python_files_of_the_standard_library() -> None:
    """Another walk finds the same files, and site-packages is none of them."""
    root = stdlib_metrics.STDLIB
    paths = [path.relative_to(root) for path in root.rglob("*.py")]
    expected = [path for path in paths if stdlib_metrics.NOT_STDLIB.isdisjoint(path.parts)]
    assert stdlib_metrics.all_modules() == sorted(path.as_posix() for path in expected)
    assert {"json/decoder.py", "ast.py"} < set(stdlib_metrics.all_modules())


def test_lines_are_those_of_a_text_reader() -> None:
    """Counting line ends in bytes gives what Python's text files give, for every module."""
    for module in stdlib_metrics.all_modules():
        path = stdlib_metrics.STDLIB / module
        with path.open(encoding="latin-1") as file:  # universal newlines; no byte is illegal
            lines = sum(1 for _ in file)
        expected = stdlib_metrics.Length(module, lines, path.stat().st_size)
        assert stdlib_metrics.length_of(module) == expected


@IGNORE_WARNINGS_OF_SOURCES
def test_metrics_are_those_of_the_tokens() -> None:
    """The tree and the tokens agree on the definitions and their depth, in every fifth module."""
    modules = list(filter(stdlib_metrics.is_parsable, stdlib_metrics.all_modules()[::5]))
    assert len(modules) > 50
    for module in modules:
        metrics = stdlib_metrics.metrics_of(module)
        found = Definitions(metrics.functions, metrics.classes, metrics.depth)
        assert found == definitions_in(stdlib_metrics.STDLIB / module), module
        assert metrics.lines == stdlib_metrics.length_of(module).lines


def test_depth_counts_definitions_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks may stand between a definition and the one around it; only definitions count."""
    source = """
        class A:
            if True:
                try: pass
                except E:
                    async def f():
                        with x:
                            def g(): return lambda: 0
            class B: pass
        match A():
            case _:
                def h(): pass
        """
    (tmp_path / "m.py").write_text(textwrap.dedent(source))
    monkeypatch.setattr(stdlib_metrics, "STDLIB", tmp_path)
    found = stdlib_metrics.metrics_of("m.py")
    assert found == Metrics("m.py", lines=12, functions=3, classes=2, depth=3)
    assert definitions_in(tmp_path / "m.py") == Definitions(functions=3, classes=2, depth=3)


@IGNORE_WARNINGS_OF_SOURCES
def test_modules_can_be_restricted() -> None:
    """Packages, a limit and parsability each leave out what they say and keep the order."""
    every = stdlib_metrics.all_modules()
    chosen = list(stdlib_metrics.chosen_modules(packages=["json", "ast"]))
    assert chosen == [m for m in every if m == "ast.py" or m.partition("/")[0] == "json"]
    assert list(stdlib_metrics.chosen_modules(limit=7)) == every[:7]
    parsable = list(stdlib_metrics.chosen_modules(packages=["json"], parsable_only=True))
    assert parsable == list(stdlib_metrics.chosen_modules(packages=["json"]))


def test_stdlib_metrics_runs(tmp_path: Path) -> None:
    """Executed over a few packages, each clone and each collect gives what the functions give."""
    packages = ["asyncio", "json", "ast"]
    config = _config({"packages": packages})
    expected = list(stdlib_metrics.chosen_modules(packages=packages))
    result = execute(stdlib_metrics.stdlib_metrics, tmp_path / "store", run_config=config)
    assert result.success
    lengths = [stdlib_metrics.length_of(module) for module in expected]
    metrics = [stdlib_metrics.metrics_of(module) for module in expected]
    assert list(result.output_for_node("modules")) == expected
    assert result.output_for_node("count_lines") == {each.module: each for each in lengths}
    assert result.output_for_node("parse") == {each.module: each for each in metrics}
    assert result.output_for_node("longest") == sorted(lengths, key=lambda each: -each.lines)
    assert result.output_for_node("rank") == stdlib_metrics.table_of(metrics)


def test_a_module_that_does_not_parse_blocks_its_collect_alone(
    small_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its siblings run and the other collect gets them all; `rank` starts after it is mended."""
    every = ["a.py", "bad.py", "pkg/b.py"]
    ranked: list[list[str]] = []

    def table_of(metrics: list[Metrics]) -> str:
        ranked.append([each.module for each in metrics])
        return "a table"

    monkeypatch.setattr(stdlib_metrics, "table_of", table_of)
    result = execute(stdlib_metrics.stdlib_metrics, tmp_path / "store")
    assert not result.success
    assert [each.step_key for each in result.failures] == ["parse[bad.py]"]
    assert list(result.output_for_node("count_lines")) == every
    assert sorted(each.module for each in result.output_for_node("longest")) == every
    assert list(result.output_for_node("parse")) == ["a.py", "pkg/b.py"]
    assert ranked == []

    (small_library / "bad.py").write_text("print('good')\n")
    result = resume("last", tmp_path / "store", job=stdlib_metrics.stdlib_metrics)
    assert result.success
    assert list(result.output_for_node("parse")) == every
    assert ranked == [every]


def test_parsable_only_leaves_out_what_would_fail(small_library: Path, tmp_path: Path) -> None:
    """With `parsable_only` the same folder gives a run that succeeds."""
    config = _config({"parsable_only": True})
    result = execute(stdlib_metrics.stdlib_metrics, tmp_path / "store", run_config=config)
    assert result.success
    assert list(result.output_for_node("modules")) == ["a.py", "pkg/b.py"]


@pytest.mark.slow
@IGNORE_WARNINGS_OF_SOURCES
def test_stdlib_metrics_runs_for_every_module(tmp_path: Path) -> None:
    """Over the whole standard library exactly the clones of the files that do not parse fail."""
    result = execute(stdlib_metrics.stdlib_metrics, tmp_path / "store")
    every = stdlib_metrics.all_modules()
    parsable = list(filter(stdlib_metrics.is_parsable, every))
    assert list(result.output_for_node("count_lines")) == every
    assert list(result.output_for_node("parse")) == parsable
    assert result.success == (parsable == every)


@pytest.fixture
def small_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of the standard library: three modules, one of which is not Python."""
    root = tmp_path / "lib"
    (root / "pkg").mkdir(parents=True)
    (root / "a.py").write_text("def f(): pass\n")
    (root / "bad.py").write_text("print 'bad'\n")
    (root / "pkg" / "b.py").write_text("class B:\n    def f(self): pass\n")
    monkeypatch.setattr(stdlib_metrics, "STDLIB", root)
    return root


def _config(of_modules: dict[str, object]) -> dict[str, object]:
    return {"ops": {"modules": {"config": of_modules}}}
