"""What a node is given beside stored outputs: its config, values of the run config, and declared defaults."""

from collections.abc import Mapping
from typing import Any

from execution.definition.config_schema import schema_of
from execution.definition.op import CONFIG_NAME, OpDefinition
from execution.running.inputs import Argument, Built, Given
from runstore.log.graph import Node


def given_to(node: Node, op: OpDefinition, config: Mapping[str, Any]) -> dict[str, Argument]:
    """Argument -> its value, for all that is not read from the graph; `config` was checked against the job."""
    settings = config.get("ops", {}).get(node.name, {})
    connected = {argument.name for argument in node.inputs}
    given: dict[str, Argument] = {
        name: Given(value) for name, value in op.defaults.items() if name not in connected
    }
    for name, value in settings.get("inputs", {}).items():
        given[name] = Built(schema_of(op.input_types[name], name).build, value)
    if op.takes_config and ("config" in settings or not op.has_default_config):
        given[CONFIG_NAME] = Built(op.config.build, settings.get("config", {}))
    return given
