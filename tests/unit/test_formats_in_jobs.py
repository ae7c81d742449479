"""Formats seen from a job: what flows between ops, what results give, what `cat` shows."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from execution import DynamicOut, Out, RunResult, execute
from execution.cli.main import cli
from execution.errors import DefinitionError
from runstore import NotReadable, RunStore
from runstore.exactness import same
from tests.unit import format_jobs as jobs
from tests.unit import outline_jobs

FILE = Path(outline_jobs.__file__)


def outputs(store: RunStore, run: str) -> dict[str, Any]:
    """The reference of each plain output of a run, by its name."""
    return {
        event.output: event.reference
        for _, event in store.events(run)
        if type(event).__name__ == "OutputStored"
    }


def is_same(one: Any, other: Any) -> bool:
    """Equal and of the same type."""
    if type(one).__module__.partition(".")[0] == "numpy":
        return type(one) is type(other) and one.dtype == other.dtype and np.array_equal(one, other)
    if hasattr(one, "equals"):
        return type(one) is type(other) and bool(one.equals(other))
    return same(one, other)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run `every` that has an output of every format."""
    directory = tmp_path_factory.mktemp("formats") / "runs"
    assert execute(jobs.formats, directory, run_id="every").success
    return directory


def test_every_format_is_picked_and_named_in_the_log(stored: Path) -> None:
    """The log names the format of each output, and its file has the format's extension."""
    with RunStore.open(stored) as store:
        found = outputs(store, "every")
    assert {name: one.serializer for name, one in found.items()} == jobs.FORMATS
    assert found["small_json"].path == "every/small_json.json.zst"
    assert found["small_json"].size_bytes < 60
    assert (stored / "outputs" / "every" / found["pandas"].path).suffix == ".parquet"


@pytest.mark.parametrize("name", jobs.VALUES)
def test_a_result_gives_the_value(stored: Path, name: str) -> None:
    """`output_for_node` gives each value as it was, with the job's types."""
    with RunStore.open(stored) as store:
        result = RunResult.load("every", store, job=jobs.formats)
        assert is_same(result.output_for_node("every", name), jobs.VALUES[name])


def test_a_result_without_the_job_knows_the_library(stored: Path) -> None:
    """Without the job's code a frame is one of its own library, an array an array."""
    with RunStore.open(stored) as store:
        result = RunResult.load("every", store)
        for name in ("array", "scalar", "pandas", "polars", "arrow", "small_frame", "small_text"):
            assert is_same(result.output_for_node("every", name), jobs.VALUES[name]), name


@pytest.mark.parametrize("name", jobs.VALUES)
def test_cat_of_each_format(stored: Path, name: str) -> None:
    """Text as text, JSON and MessagePack as JSON, compressed or not; all else as its stored bytes, also into a file."""
    words = ["cat", "every", "every", "--output", name, "--store", str(stored)]
    ended = CliRunner().invoke(cli, words)
    assert ended.exit_code == 0, ended.output
    with RunStore.open(stored) as store:
        reference = outputs(store, "every")[name]
        data = store.outputs(store.state("every")).get(reference)
    match jobs.FORMATS[name].partition("+")[0]:
        case "text":
            assert ended.stdout == jobs.VALUES[name]
        case "json" if name != "typed":
            assert json.loads(ended.stdout) == jobs.VALUES[name]
        case "json":
            assert json.loads(ended.stdout) == [1, "a"]
        case "msgpack":
            assert ended.stdout == '[\n  NaN,\n  "YQ=="\n]\n'
        case _:
            assert ended.stdout_bytes == data
    file = stored / f"{name}.out"
    assert CliRunner().invoke(cli, [*words, "--out", str(file)]).exit_code == 0
    assert file.read_bytes() == data


def test_frames_and_arrays_flow_through_maps_and_collects(tmp_path: Path) -> None:
    """A frame per key, an array per clone, all of both in a collect, in the order of the keys."""
    result = execute(jobs.pipeline, tmp_path / "runs")
    assert result.success, result.failures
    assert {key: part.tolist() for key, part in result.output_for_node("numbers").items()} == {
        "Paris": [1, 3],
        "Oslo": [2],
    }
    found = result.output_for_node("joined")
    assert isinstance(found, pd.DataFrame)
    assert found.to_dict("list") == {"city": ["Paris", "Paris", "Oslo"], "n": [10, 30, 20]}
    assert found.index.tolist() == [0, 2, 1]


def test_an_output_says_how_it_is_compressed() -> None:
    """What is not known is refused where it is declared."""
    assert Out(compress="zstd").compress == DynamicOut(compress="zstd").compress == "zstd"
    for wrong in (True, "gzip", "zstd:23"):
        with pytest.raises(
            DefinitionError, match=r"DynamicOut: compress=.* is not known; use 'zstd'"
        ):
            DynamicOut(compress=wrong)  # type: ignore[arg-type]


# A format that only the job's code knows


def without_serializer() -> str:
    """The same job in a file that registers nothing, and whose `measured` fails no more."""
    text = FILE.read_text()
    head, _, rest = text.partition('@serializer("outline"')
    return head + "class Corners:\n" + rest.partition("class Corners:\n")[2]


def test_a_resume_without_the_serializer_says_which_is_missing(tmp_path: Path) -> None:
    """A run whose outputs are in a user's format is resumed by code that does not register it: one clear error."""
    file = tmp_path / "job.py"
    failing = FILE.read_text().replace("return sum(polygon.corners)", "raise ValueError('later')")
    file.write_text(failing)

    def runstore(*words: str) -> subprocess.CompletedProcess[str]:
        code = "from execution.cli.main import main; main()"
        return subprocess.run(
            [sys.executable, "-c", code, *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    assert runstore("run", "job.py:shapes", "--run-id", "shapes").returncode == 1
    file.write_text(without_serializer())
    ended = runstore("resume", "shapes")
    assert ended.returncode == 1
    assert "NotReadable" in ended.stdout + ended.stderr
    with RunStore.open(tmp_path / ".runstore") as store:
        (failure,) = RunResult.load("shapes", store).failures
        assert failure.step_key == "measured"
        told = "is stored by serializer 'outline', which this process does not know; import the"
        assert told in failure.error.message
    assert runstore("cat", "shapes", "drawn").stdout == "3,4,5"
    file.write_text(FILE.read_text())
    assert runstore("resume", "shapes").returncode == 0
    assert runstore("cat", "shapes", "measured").stdout.strip() == "12"


def test_a_result_without_the_serializer_says_which_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a result nor anybody else guesses at bytes of a format that is not known."""
    result = execute(outline_jobs.shapes, tmp_path / "runs")
    assert result.output_for_node("drawn").corners == (3, 4, 5)
    monkeypatch.setattr("runstore.outputs.serializers.by_name", {})
    monkeypatch.setattr("runstore.outputs.formats.registry.by_name", {})
    with pytest.raises(NotReadable, match="serializer 'outline', which this process does not know"):
        result.output_for_node("drawn")
