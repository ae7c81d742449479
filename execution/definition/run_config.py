"""A run config, checked against the job that it is for, before anything is begun. Pure.

`{"ops": {NODE: {"config": …, "inputs": {NAME: VALUE}}}, "resources": {KEY: {"config": …}}}`: one function for each
section. What fits comes back in the form in which it goes into the log, as it was given: values that classes add by
default stand in the code.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from execution.definition.config_paths import child, instead, refusal
from execution.definition.config_schema import ConfigSchema, schema_of
from execution.definition.job import JobDefinition
from execution.definition.op import OpDefinition
from execution.definition.resources import ResourceDefinition
from execution.errors import DefinitionError
from runstore.errors import ConfigError, NotStorable
from runstore.exactness import first_inexact
from runstore.log.codec import check_exact
from runstore.outputs.serializers import type_name

_NODE = ("config", "inputs")


def check_config(job: JobDefinition, run_config: Mapping[str, Any] | None) -> dict[str, Any]:
    """A run config as it goes into the log; raises ConfigError with the path of what does not fit the job."""
    given = _mapping(run_config or {}, "$")
    for name in given:
        if name not in _SECTIONS:
            raise refusal(child("$", name), "unknown section", instead(name, _SECTIONS))
    _check_json(given)
    checked = {name: check(job, given.get(name, {})) for name, check in _SECTIONS.items()}
    return {name: section for name, section in checked.items() if section}


def check_logged(job: JobDefinition, config: Mapping[str, Any]) -> None:
    """Raise ConfigError where the config of a log does not fit the job that is to go on with it.

    What it says of nodes and resources that are gone no longer matters.
    """
    known = {"ops": job.ops, "resources": job.resources}
    still = {
        section: {name: settings for name, settings in given.items() if name in known[section]}
        for section, given in config.items()
    }
    check_config(job, still)


def check_ops(job: JobDefinition, given: Any) -> dict[str, Any]:
    """The section `ops`: config and inputs of each node, by its name; those of a graph's nodes may be nested."""
    found = dict(_by_node(job, _mapping(given, "$.ops"), "$.ops", ""))
    for node, op in job.ops.items():
        path, settings = found.get(node, (child("$.ops", node), {}))
        for name in settings:
            if name not in _NODE:
                raise refusal(child(path, name), "unknown setting of an op", instead(name, _NODE))
        _check_op_config(op, settings, f"{path}.config")
        _check_inputs(job, node, op, settings.get("inputs", {}), f"{path}.inputs")
    return {node: dict(settings) for node, (_, settings) in found.items()}


def check_resources(job: JobDefinition, given: Any) -> dict[str, Any]:
    """The section `resources`: the config of each, by its key."""
    found = _mapping(given, "$.resources")
    for key, settings in found.items():
        path = child("$.resources", key)
        if key not in job.resources:
            raise refusal(path, f"no resource of job {job.name!r}", instead(key, job.resources))
        for name in _mapping(settings, path):
            if name != "config":
                fact = "unknown setting of a resource"
                raise refusal(child(path, name), fact, instead(name, ("config",)))
    for key, definition in job.resources.items():
        _check_resource_config(definition, found.get(key, {}), child("$.resources", key))
    return {key: dict(settings) for key, settings in found.items()}


def _check_resource_config(definition: Any, settings: Mapping[str, Any], path: str) -> None:
    if isinstance(definition, ResourceDefinition) and "config" in settings:
        definition.config.check(settings["config"], f"{path}.config")
    elif isinstance(definition, ResourceDefinition):
        definition.config.check_missing(f"{path}.config")
    elif settings:
        raise refusal(f"{path}.config", "a plain object takes no config", "leave it out")


_SECTIONS: dict[str, Callable[[JobDefinition, Any], Any]] = {
    "ops": check_ops,
    "resources": check_resources,
}
"""What checks a section and gives it in the form of the log; it is called with `{}` where the section is not given."""


def _by_node(
    job: JobDefinition, given: Mapping[str, Any], path: str, prefix: str
) -> Iterator[tuple[str, tuple[str, Mapping[str, Any]]]]:
    """(node, (path, settings)) of each node that is named; `{g: {"ops": {n: …}}}` names the node `g.n`."""
    for name, settings in given.items():
        node, here = f"{prefix}{name}", child(path, name)
        within = [other for other in job.ops if other.startswith(f"{node}.")]
        if node in job.ops:
            yield node, (here, _mapping(settings, here))
        elif within:
            inner = _mapping(settings, here)
            for other in inner:
                if other != "ops":
                    raise refusal(child(here, other), "unknown setting of a graph", "write ops")
            ops = _mapping(inner.get("ops", {}), f"{here}.ops")
            yield from _by_node(job, ops, f"{here}.ops", f"{node}.")
        else:
            known = [other.removeprefix(prefix) for other in job.ops if other.startswith(prefix)]
            raise refusal(here, f"no op of job {job.name!r}", instead(name, known))


def _check_op_config(op: OpDefinition, settings: Mapping[str, Any], path: str) -> None:
    if "config" in settings:
        op.config.check(settings["config"], path)
    elif not op.has_default_config:
        op.config.check_missing(path)


def _check_inputs(job: JobDefinition, node: str, op: OpDefinition, given: Any, path: str) -> None:
    connected = {argument.name for argument in job.graph.by_name[node].inputs}
    values = _mapping(given, path)
    for name, value in values.items():
        here = child(path, name)
        if name in connected:
            raise refusal(here, f"input {name!r} is connected in the job", "leave it out")
        if name not in op.input_types:
            raise refusal(here, f"no input of op {op.name!r}", instead(name, op.input_types))
        _schema_of_input(op.input_types[name], name, here).check(value, here)
    for name in op.required_inputs:
        if name not in connected and name not in values:
            raise refusal(
                child(path, name),
                f"input {name!r} of {node!r} is not connected and has no value",
                f"give it one here, or connect it in job {job.name!r}",
            )


def _schema_of_input(declared: Any, name: str, path: str) -> ConfigSchema:
    try:
        return schema_of(declared, name)
    except DefinitionError:
        fact = (
            f"input {name!r} is declared as {type_name(declared)}, which a run config cannot hold"
        )
        raise refusal(path, fact, "connect it in the job") from None


def _mapping(value: Any, path: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise refusal(path, f"expected a mapping, got {type(value).__name__}", "write a mapping")
    return value


def _check_json(given: Mapping[str, Any]) -> None:
    found = first_inexact(dict(given))
    if found is not None:
        try:
            check_exact(found[1], f"run config: {found[0]}")
        except NotStorable as error:
            raise ConfigError(str(error)) from None
