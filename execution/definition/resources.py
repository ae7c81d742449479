"""Resources: what ops use and a job provides, under a key; `@resource` says how one is opened and closed.

Only their definitions stand here. Whoever runs steps opens them, in its own process, and none is ever stored.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Annotated, Any, NamedTuple, TypeVar, get_origin, overload

from execution.definition.config_schema import ConfigSchema, Untyped, schema_of
from execution.definition.ins_outs import refuse_unknown
from execution.errors import DefinitionError

T = TypeVar("T")


class _Resource:
    """Marks the annotation of a parameter that is a resource."""


ResourceParam = Annotated[T, _Resource]
"""`db: ResourceParam[Db]`: this parameter of an op is no input but the resource `db`."""


class ResourceDefinition:
    """How a resource comes to be: a function of one optional parameter, the init context.

    It returns the resource; or yields it once, and what stands behind the yield closes it; or returns a context manager
    of contextlib's, or is async.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        description: str | None = None,
        config_schema: Any = None,
        required_resource_keys: Iterable[str] = (),
    ) -> None:
        self.function = function
        self.name = getattr(function, "__name__", type(function).__name__)
        self.description = description
        self.required_resource_keys = checked_keys(
            required_resource_keys, f"resource {self.name!r}"
        )
        self._config_schema = config_schema
        self.__doc__ = function.__doc__
        parameters = list(inspect.signature(function).parameters.values())
        self.takes_context = bool(parameters)
        if sum(parameter.default is parameter.empty for parameter in parameters) > 1:
            raise DefinitionError(
                f"resource {self.name!r} takes {len(parameters)} parameters; give its function one, the init context, "
                "or none"
            )

    @cached_property
    def config(self) -> ConfigSchema:
        """What its config may be; raises DefinitionError for a `config_schema` that cannot be one."""
        return schema_of(self._config_schema, f"resource {self.name!r}")

    def built(self, data: Any) -> Any:
        """The config as the function is given it: an object of the type that is declared, else the data."""
        if self._config_schema is None or isinstance(self._config_schema, Mapping):
            return Untyped().build(data)
        return self.config.build(data)

    def __call__(self, init_context: Any = None) -> Any:
        """What the function gives, for unit tests: a value, or a generator that is not begun."""
        return self.function(init_context) if self.takes_context else self.function()

    def __repr__(self) -> str:
        return f"<resource {self.name}>"


class StandIn(NamedTuple):
    """A plain object in place of a resource, in a test: given as it is, and closed by whoever has made it."""

    value: Any


def stand_ins(given: Mapping[str, Any]) -> dict[str, Any]:
    """Resources for a test: definitions as they are, everything else a StandIn."""
    return {
        key: one if isinstance(one, ResourceDefinition) else StandIn(one)
        for key, one in given.items()
    }


@overload
def resource(resource_fn: Callable[..., Any], /) -> ResourceDefinition: ...
@overload
def resource(
    config_schema: Any = None,
    description: str | None = None,
    required_resource_keys: Iterable[str] = (),
    **unknown: Any,
) -> Callable[[Callable[..., Any]], ResourceDefinition]: ...
def resource(
    config_schema: Any = None,
    description: str | None = None,
    required_resource_keys: Iterable[str] = (),
    **unknown: Any,
) -> ResourceDefinition | Callable[[Callable[..., Any]], ResourceDefinition]:
    """Make a resource of a function.

    `config_schema`: the type of its config, `run_config["resources"][key]["config"]`, or a dict of field to type.
    `required_resource_keys`: other resources that it uses; they are opened before it. Raises DefinitionError.
    """
    if inspect.isfunction(config_schema):
        return ResourceDefinition(config_schema)
    refuse_unknown("@resource", unknown)
    return lambda function: ResourceDefinition(
        function,
        description=description,
        config_schema=config_schema,
        required_resource_keys=required_resource_keys,
    )


def is_resource(parameter: inspect.Parameter) -> bool:
    """True for a parameter annotated with `ResourceParam[…]`, also where annotations are texts."""
    annotation = parameter.annotation
    if isinstance(annotation, str):
        return annotation.partition("[")[0].rpartition(".")[2] == "ResourceParam"
    return get_origin(annotation) is Annotated and _Resource in annotation.__metadata__


def checked_keys(keys: Iterable[str], where: str) -> frozenset[str]:
    """Resource keys, each a Python identifier, since it is read as an attribute; raises DefinitionError."""
    if isinstance(keys, str):
        raise DefinitionError(f"{where}: required_resource_keys is text; write {{{keys!r}}}")
    for key in keys:
        if not key.isidentifier() or key.startswith("_"):
            raise DefinitionError(
                f"{where}: resource key {key!r} is not a public Python identifier; choose another"
            )
    return frozenset(keys)


def check_resources(
    where: str, resources: Mapping[str, Any], required: Iterable[tuple[str, Iterable[str]]]
) -> None:
    """Raise DefinitionError where something requires a resource that is not among `resources`.

    `required`: (who, keys), such as ("op 'load'", {"db"}).
    """
    checked_keys(resources, where)
    for who, keys in [*required, *_of_resources(resources)]:
        for key in sorted(keys):
            if key not in resources:
                raise DefinitionError(
                    f"{where}: {who} requires resource {key!r}, which is not there; "
                    f"add it: resource_defs={{{key!r}: …}}"
                )
    _check_no_circle(where, dict(_of_resources(resources)))


def _of_resources(resources: Mapping[str, Any]) -> Iterable[tuple[str, frozenset[str]]]:
    for key, definition in resources.items():
        if isinstance(definition, ResourceDefinition):
            yield f"resource {key!r}", definition.required_resource_keys


def _check_no_circle(where: str, required: Mapping[str, frozenset[str]]) -> None:
    left = dict(required)
    while left:
        ready = [
            who for who, keys in left.items() if not any(f"resource {k!r}" in left for k in keys)
        ]
        if not ready:
            raise DefinitionError(
                f"{where}: {' and '.join(sorted(left))} require each other in a circle; break it"
            )
        for who in ready:
            del left[who]
