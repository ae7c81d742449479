"""Run configs: typed, checked before a run begins, and what an op is given of them (issue point 3.6)."""

import dataclasses
import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from execution import (
    DynamicOut,
    DynamicOutput,
    In,
    OpContext,
    build_op_context,
    execute,
    graph,
    job,
    op,
    plan_resume,
    resume,
)
from execution.definition.job import JobDefinition
from execution.errors import DefinitionError
from runstore import RunStore
from runstore.audit import explain
from runstore.errors import ConfigError


class Inner(msgspec.Struct):
    names: list[str] = []


class Settings(msgspec.Struct):
    limit: int
    since: dt.date | None = None
    inner: Inner = msgspec.field(default_factory=Inner)
    by_name: dict[str, Inner] = {}


@dataclasses.dataclass
class Defaults:
    limit: int = 5
    name: str = "x"


@op
def typed(config: Settings) -> str:
    assert type(config) is Settings
    return f"{config.limit} {config.since} {config.inner.names}"


@op
def defaulted(config: Defaults) -> str:
    return f"{config.limit}{config.name}"


@op
def optional(x: int, config: Defaults = Defaults(7)) -> str:  # noqa: B008
    return f"{x}{config.limit}"


@op(config_schema={"limit": int, "in-ner": {"names": [str]}})
def schemed(context: OpContext) -> Any:
    return context.op_config


@op(config_schema=int)
def bare(context: OpContext) -> int:
    return int(context.op_config) + 1


@op
def untyped(config: Any) -> Any:
    config["seen"] = True
    return config


def only(node: Callable[..., Any], *args: Any) -> JobDefinition:
    """A job of one op."""

    @job
    def j() -> None:
        node(*args)

    return j


def run(node: Any, config: Any = None, *args: Any, inputs: Any = None) -> Any:
    """What an op gives with this config."""
    settings = ({} if config is None else {"config": config}) | (
        {"inputs": inputs} if inputs else {}
    )
    run_config = {"ops": {node.name: settings}} if settings else None
    result = only(node, *args).execute_in_process(run_config=run_config)
    return result.output_for_node(node.name)


def test_a_config_arrives_in_the_class_of_its_parameter() -> None:
    """3.6: `config: MyConfig` is no input; a Struct is read from JSON data, with its defaults."""
    assert run(typed, {"limit": 3}) == "3 None []"
    given = {"limit": 3, "since": "2026-11-22", "inner": {"names": ["a"]}}
    assert run(typed, given) == "3 2026-11-22 ['a']"
    assert run(untyped, {"a": 1}) == {"a": 1, "seen": True}


def test_what_has_no_required_field_needs_no_entry() -> None:
    """3.6: defaults of the class, or of the parameter, apply where the run config says nothing."""
    assert run(defaulted) == "5x"
    assert run(defaulted, {"name": "y"}) == "5y"
    assert run(optional, None, 1) == "17"
    assert run(optional, {"limit": 2}, 1) == "12"
    assert run(untyped) == {"seen": True}


def test_a_pydantic_model_is_known_by_its_methods() -> None:
    """3.6: pydantic models work, strictly, and nothing imports pydantic."""
    pydantic = pytest.importorskip("pydantic")
    nested = pydantic.create_model("Nested", x=(int, ...))
    model = pydantic.create_model("Model", limit=(int, ...), n=(nested | None, None), q=(float, 1))

    def f(config: model) -> Any:  # type: ignore[valid-type]
        return [config.limit, config.q]  # type: ignore[attr-defined]

    made = op(name="load")(f)
    assert run(made, {"limit": 1, "n": {"x": 1}}) == [1, 1.0]
    for config, told in {
        "text": ({"limit": "1"}, "$.ops.load.config.limit: expected a valid integer, got str"),
        "typo": ({"limt": 1}, "$.ops.load.config.limt: unknown field; did you mean 'limit'?"),
        "missing": ({}, "$.ops.load.config.limit: required field is missing; give it a value"),
        "inside": ({"limit": 1, "n": {}}, "$.ops.load.config.n.x: required field is missing"),
    }.values():
        with pytest.raises(ConfigError) as caught:
            run(made, config)
        assert told in str(caught.value)


def test_each_attempt_gets_a_config_of_its_own() -> None:
    """3.6: a clone that changes its config changes nothing for the next."""

    @op(out=DynamicOut())
    def fan() -> Iterator[DynamicOutput[int]]:
        for number in range(3):
            yield DynamicOutput(number, number)

    @op
    def grow(x: int, config: Inner) -> int:
        config.names.append("more")
        return len(config.names)

    @job
    def j() -> None:
        fan().map(grow)

    config = {"ops": {"grow": {"config": {"names": ["a"]}}}}
    result = j.execute_in_process(run_config=config)
    assert result.output_for_node("grow") == {"0": 2, "1": 2, "2": 2}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"limit": 1, "by_name": {"a b": {"names": ["x", 2]}}},
            '.by_name["a b"].names[1]: expected str',
        ),
        (
            {"limit": 1, "by_name": {"x": {}, "y": {"nams": []}}},
            ".by_name.y.nams: unknown field; did",
        ),
        ({"limit": 1, "by_name": {"x": {}, "y": 5}}, ".by_name.y: expected object, got int"),
        ({"limit": 1, "since": "soon"}, ".since: invalid RFC3339 encoded date"),
        ({"limit": 1, "inner": None}, ".inner: expected object, got null"),
    ],
)
def test_the_place_is_named_through_tables_and_lists(given: Any, told: str) -> None:
    """3.6: the path leads to the very value, through keys of tables and places of lists."""
    with pytest.raises(ConfigError) as caught:
        run(typed, given)
    assert f"$.ops.typed.config{told}" in str(caught.value)


def test_config_schema_checks_the_config_of_the_context() -> None:
    """3.6: Dagster's dict of field to type, a nested dict, a list of one type, and a bare type."""
    config = {"limit": 1, "in-ner": {"names": ["a"]}}
    assert run(schemed, config) == config
    assert run(bare, 4) == 5
    for node, given, told in [
        (schemed, None, "$.ops.schemed.config.limit: required field is missing"),
        (schemed, {"limit": 1, "in-ner": {}}, "$.ops.schemed.config.in-ner.names: required field"),
        (
            schemed,
            {"limit": 1, "iner": {}},
            "$.ops.schemed.config.iner: unknown field; did you mean",
        ),
        (schemed, {"limit": True, "in-ner": {"names": []}}, "limit: expected int, got bool"),
        (bare, None, "$.ops.bare.config: int is required; give it a value"),
        (bare, "4", "$.ops.bare.config: expected int, got str"),
    ]:
        with pytest.raises(ConfigError) as caught:
            run(node, given)
        assert told in str(caught.value)


@pytest.mark.parametrize("where", ["start", "resume", "plan"])
def test_nothing_begins_on_a_bad_config(where: str, tmp_path: Path) -> None:
    """3.6: a config is checked before the run, or the epoch, begins; nothing is written."""
    failing = only(_fails)
    with RunStore.open(tmp_path / "s") as store:
        bad = {"ops": {"_fails": {"config": {"limt": 1}}}}
        if where == "start":
            with pytest.raises(ConfigError, match="did you mean 'limit'"):
                execute(failing, store, run_config=bad)
            assert not (tmp_path / "s").exists()
            return
        execute(failing, store, run_id="r")
        events = store.run("r").events
        with pytest.raises(ConfigError, match="did you mean 'limit'"):
            (resume if where == "resume" else plan_resume)("r", store, job=failing, run_config=bad)
        assert store.run("r").events == events


@op
def _fails(config: Defaults) -> None:
    raise ValueError("no")


def test_the_config_of_the_log_is_checked_against_the_code_that_goes_on(tmp_path: Path) -> None:
    """3.6, R7: a resume whose code demands more of the config is refused; what is gone no longer matters."""

    def made(config_type: Any, node: str) -> JobDefinition:
        def f(config: config_type) -> None:
            raise ValueError("no")

        return only(op(name=node)(f))

    config = {"ops": {"a": {"config": {"limit": 1}}}}
    with RunStore.open(tmp_path) as store:
        execute(made(Defaults, "a"), store, run_id="r", run_config=config)
        with pytest.raises(
            ConfigError, match=r"\$\.ops\.a\.config\.limit: unknown field; it has names"
        ):
            resume("r", store, job=made(Inner, "a"))
        assert resume("r", store, job=made(Inner, "b")).status == "failed"


def test_a_known_run_id_keeps_its_config(tmp_path: Path) -> None:
    """T1: `execute` again without a config goes on with the log's, also where a field is required."""
    done = only(typed)
    config = {"ops": {"typed": {"config": {"limit": 1}}}}
    assert execute(done, tmp_path, run_id="r", run_config=config).success
    assert execute(done, tmp_path, run_id="r").success
    assert execute(done, tmp_path, run_id="r", run_config=config).success
    with pytest.raises(ConfigError, match="exists with another config"):
        execute(done, tmp_path, run_id="r", run_config={"ops": {"typed": {"config": {"limit": 2}}}})


# Inputs


@op
def scale(x: int, since: dt.date, by: int = 2) -> str:
    return f"{x * by} {type(since).__name__}"


def test_inputs_that_are_not_connected_get_their_value_from_the_run_config() -> None:
    """3.6: legal at definition; the value is read as the annotation says, and may stand before a default."""
    assert run(scale, None, 3, inputs={"since": "2026-01-02"}) == "6 date"
    assert run(scale, None, 3, inputs={"since": "2026-01-02", "by": 5}) == "15 date"
    assert run(scale, None, inputs={"since": "2026-01-02", "x": 1}) == "2 date"


def test_inputs_of_clones_come_from_the_run_config_too(tmp_path: Path) -> None:
    """3.6: each clone gets the value; the log has it as config, and a resume goes on with it."""
    fails = [True]

    @op(out=DynamicOut())
    def fan() -> Iterator[DynamicOutput[int]]:
        yield DynamicOutput(1, "a")
        yield DynamicOutput(2, "b")

    @op(version="1")
    def add(x: int, y: int) -> int:
        if fails[0] and x == 2:
            raise ValueError("not yet")
        return x + y

    @job
    def j() -> None:
        fan().map(add)

    config = {"ops": {"add": {"inputs": {"y": 10}}}}
    execute(j, tmp_path, run_id="r", run_config=config)
    fails[0] = False
    result = resume("r", tmp_path, job=j)
    assert result.output_for_node("add") == {"a": 11, "b": 12}
    with RunStore.open(tmp_path) as store:
        assert store.state("r").config == config
        texts = [fact.text for fact in explain(store, "r", "add[b]").facts]
    assert texts[0].endswith("; it reads x from seq 4, y from the run config")


@graph
def pair(x):
    return typed(), shift(x)


@op
def shift(x: int, by: int) -> int:
    return x + by


@graph
def outer(x):
    return pair.alias("inner")(x)


@job
def grouped() -> None:
    outer(1)


@pytest.mark.parametrize("form", ["nested", "by full name"])
def test_the_ops_of_graphs_are_named_nested_or_in_full(form: str) -> None:
    """3.6, D10: `{g: {"ops": {n: …}}}` as Dagster has it, or the name of the node; the log has the name."""
    inner = {"typed": {"config": {"limit": 3}}, "shift": {"inputs": {"by": 5}}}
    flat = {f"outer.inner.{name}": settings for name, settings in inner.items()}
    nested = {"outer": {"ops": {"inner": {"ops": inner}}}}
    store = RunStore.in_memory()
    run_config = {"ops": nested if form == "nested" else flat}
    result = execute(grouped, store, run_id="r", run_config=run_config)
    assert result.output_for_node("outer.inner.shift") == 6
    assert result.output_for_node("outer.inner.typed") == "3 None []"
    assert store.state("r").config == {"ops": flat}


@pytest.mark.parametrize(
    ("ops", "told"),
    [
        ({"outer": {"ops": {"iner": {}}}}, "$.ops.outer.ops.iner: no op of job 'grouped'"),
        (
            {"outer": {"ops": {"inner": {"opps": {}}}}},
            "inner.opps: unknown setting of a graph; write ops",
        ),
        (
            {"outer": {"ops": {"inner": {"ops": {"typed": {"config": {"limt": 1}}}}}}},
            "$.ops.outer.ops.inner.ops.typed.config.limt: unknown field; did you mean 'limit'?",
        ),
        ({}, '$.ops["outer.inner.typed"].config.limit: required field is missing'),
    ],
)
def test_paths_through_graphs(ops: Any, told: str) -> None:
    """3.6, D10: an error names the path as it was written."""
    with pytest.raises(ConfigError) as caught:
        grouped.execute_in_process(run_config={"ops": ops})
    assert told in str(caught.value)


def test_a_declared_default_is_that_of_an_input_that_is_not_connected() -> None:
    """3.8: `In(default_value=…)` is less than a value of the run config, which is less than a connection."""
    made = op(name="f", ins={"x": In(int, default_value=7)})(lambda x: x)
    assert run(made) == 7
    assert run(made, inputs={"x": 8}) == 8
    assert run(made, None, 9) == 9
    assert op(name="f", ins={"x": In(default_value=None)})(lambda x: x)() is None


def _same(x: Any) -> Any:
    return x


def test_a_declared_default_is_part_of_the_code() -> None:
    """R5: another default in `In` is other code, as it is in the source of the function."""

    def made(value: Any) -> str:
        return op(ins={"x": In(default_value=value)})(_same).code

    assert made(1) == made(1) != made(2)


# An op called as a function


def test_a_direct_call_takes_a_config() -> None:
    """3.11: as an object, or as the data of the context; its defaults apply."""
    assert typed(config=Settings(4)) == "4 None []"
    assert defaulted() == "5x"
    assert schemed(build_op_context(config={"limit": 1, "in-ner": {"names": []}}))["limit"] == 1
    with pytest.raises(ConfigError, match=r"\$\.config\.limit: required field is missing"):
        typed()
    with pytest.raises(ConfigError, match=r"\$\.config\.limt: unknown field"):
        schemed(build_op_context(config={"limt": 1}))


# What cannot be


def _both() -> Any:
    return op(config_schema=int)(typed.function)


def _unresolved() -> Any:
    def f(config: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821

    return only(op(f)).execute_in_process()


class Noneable:
    def __init__(self, kind: type) -> None: ...


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (_both, "op 'typed' has a parameter 'config' and a config_schema; keep one of them"),
        (_unresolved, "op 'f': the type of its config, 'Nowhere', is not known; define it in"),
        (
            lambda: op(config_schema={"a": {"b": Noneable(int)}})(schemed.function),
            "op 'schemed': the config, field $.a.b, is declared as <tests.unit.test_run_config.None",
        ),
        (
            lambda: op(config_schema=Noneable)(schemed.function),
            "op 'schemed': the config is declared as Noneable, which is not supported; use a msgspec",
        ),
        (
            lambda: op(config_schema={1: int})(schemed.function),
            "op 'schemed': config_schema $ has field 1; name each field by text",
        ),
        (lambda: only(typed, 5), "job 'j', op 'typed' takes 0 inputs, 1 were given"),
    ],
)
def test_a_config_that_no_op_can_have_is_refused_at_definition(make: Any, told: str) -> None:
    """3.6: what cannot be supported is one error that names it."""
    with pytest.raises(DefinitionError) as caught:
        make()
    assert told in str(caught.value)
