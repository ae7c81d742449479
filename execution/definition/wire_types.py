"""Whether what is wired fits the types that are declared, as far as that is known before anything runs; and which
inputs have to be looked at when it does.
"""

from collections.abc import Mapping
from types import GenericAlias
from typing import Any

from execution.definition.op import OpDefinition
from execution.definition.types import covers, is_untyped, misfit
from execution.errors import DefinitionError
from runstore.log.graph import Constant, FanIn, FromCollect, Graph, Input, Node, Single

Ops = Mapping[str, OpDefinition]


def check_wires(graph: Graph, ops: Ops) -> None:
    """Raise DefinitionError for a plain value of another type than its input declares, and for a value of nothing."""
    for node in graph.nodes:
        for argument in node.inputs:
            where = f"job {graph.name!r}, op {node.name!r}, input {argument.name!r}"
            for single in argument.singles:
                _check_nothing(argument, single, ops, where)
            declared = ops[node.name].input_types.get(argument.name)
            if isinstance(argument.source, Constant):
                found = misfit(argument.source.value, declared)
                if found is not None:
                    raise DefinitionError(f"{where}: {found}; pass a value of that type")


def _check_nothing(argument: Input, single: Single, ops: Ops, where: str) -> None:
    if isinstance(single, Constant):
        if argument.order:
            raise DefinitionError(f"{where} is Nothing and takes no value; pass a handle")
    elif not argument.order and single.output in ops[single.node].nothing_outputs:
        raise DefinitionError(
            f"{where} was given output {single.output!r} of {single.node!r}, which is Nothing and has no value; "
            f"declare the input with ins={{{argument.name!r}: In(Nothing)}}, or another type of output"
        )


def types_to_check(node: Node, graph: Graph, ops: Ops) -> dict[str, Any]:
    """Input -> type, for the inputs whose type does not follow from that of what they read."""
    found = {}
    for argument in node.inputs:
        declared = ops[node.name].input_types.get(argument.name)
        if not is_untyped(declared) and not _follows(argument, declared, graph, ops):
            found[argument.name] = declared
    return found


def _follows(argument: Input, declared: Any, graph: Graph, ops: Ops) -> bool:
    if isinstance(argument.source, Constant):
        return True  # checked at definition
    if isinstance(argument.source, FanIn):
        arrive = [_arrives_as(one, graph, ops) for one in argument.singles]
        return all(covers(declared, GenericAlias(list, one)) for one in arrive)
    return covers(declared, _arrives_as(argument.source, graph, ops))


def _arrives_as(source: Single, graph: Graph, ops: Ops) -> Any:
    """The type of what a source gives; `object` where that is not known."""
    if isinstance(source, Constant):
        return type(source.value)
    produced = ops[source.node].declared.get(source.output)
    kind = object if is_untyped(produced) else produced
    if isinstance(source, FromCollect):
        for one in reversed(source.over):
            of_keys = one.form == "dict"
            kind = GenericAlias(dict, (str, kind)) if of_keys else GenericAlias(list, kind)
    return kind
