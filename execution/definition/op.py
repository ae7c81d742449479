"""`@op`: a function, what goes into it and what comes out. Read once, from signature and annotations (rule D2)."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any, overload

from execution.definition.annotations import (
    annotated_outputs,
    hints,
    inferred_out,
    is_resolvable,
    is_stream,
)
from execution.definition.bounds import checked_count, checked_rate, checked_timeout
from execution.definition.code_digest import code_digest
from execution.definition.composition import Invocation
from execution.definition.config_schema import ConfigSchema, schema_of
from execution.definition.declarations import check_declarations, check_name, is_nothing
from execution.definition.hooks import HookDefinition
from execution.definition.ins_outs import In, Nothing, Out, refuse_unknown
from execution.definition.resources import checked_keys, is_resource
from execution.definition.retries import RetryPolicy, check_policy
from execution.definition.tags import checked_tags
from execution.definition.types import is_untyped
from execution.errors import DefinitionError
from runstore.outputs.serializers import is_enforced

CONTEXT_NAMES = ("context", "_context", "_")
CONFIG_NAME = "config"
"""The parameter of this name is no input: it receives the op's config."""


class OpDefinition:
    """An op: called inside a `@job` body it becomes a node."""

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        description: str | None,
        ins: Mapping[str, In],
        outs: Mapping[str, Out],
        tags: Mapping[str, str],
        version: str | None,
        config_schema: Any = None,
        retry_policy: RetryPolicy | None = None,
        *,
        required_resource_keys: Iterable[str] = (),
        timeout: float | None = None,
        concurrency: int | None = None,
        rate: str | None = None,
    ) -> None:
        self.function = function
        self.name = name
        self.description = description or inspect.getdoc(function)
        self.tags = checked_tags(tags, f"op {name!r}")
        self.retry_policy = check_policy(retry_policy, f"op {name!r}")
        self.timeout_s = checked_timeout(timeout, f"op {name!r}")
        """How long an attempt may take; None: as long as it likes."""
        self.concurrency = checked_count(concurrency, f"op {name!r}: concurrency")
        """How many of its steps may run at a time in one run; None: any number."""
        self.rate_per_s = checked_rate(rate, f"op {name!r}")
        """How many of its steps may start per second in one run; None: any number."""
        self.outs = dict(outs)
        self.dynamic_outputs = tuple(
            name for name, out in self.outs.items() if getattr(out, "dynamic", False)
        )
        self.is_async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(
            function
        )
        self._version = version
        self.parameters = list(inspect.signature(function).parameters.values())
        self.takes_context = bool(self.parameters) and self.parameters[0].name in CONTEXT_NAMES
        given = self.parameters[1:] if self.takes_context else self.parameters
        self.resource_parameters = [one.name for one in given if is_resource(one)]
        self._parameters = [
            one for one in given if one.name != CONFIG_NAME and not is_resource(one)
        ]
        self.nothing_inputs = [name for name, one in ins.items() if is_nothing(one)]
        """Inputs that are only waited for; no parameters of the function."""
        self.inputs = [*self._parameters, *map(_unpassed, self.nothing_inputs)]
        self.required_resource_keys = checked_keys(required_resource_keys, f"op {name!r}").union(
            self.resource_parameters
        )
        self._config_parameter = next((one for one in given if one.name == CONFIG_NAME), None)
        self._config_schema = config_schema
        self.ins = dict(ins)
        check_name(name)
        check_declarations(f"op {name!r}", self._parameters, self.ins, self.outs)
        self._check_config()
        self.__doc__ = function.__doc__
        self.__name__ = name

    def _check_config(self) -> None:
        if self._config_schema is not None and self.takes_config:
            raise DefinitionError(
                f"op {self.name!r} has a parameter 'config' and a config_schema; keep one of them"
            )
        parameter = self._config_parameter
        if self._config_schema is not None or (parameter and is_resolvable(self.function)):
            _ = self.config  # what cannot be a config is found here

    @property
    def takes_config(self) -> bool:
        """The function has a parameter `config`."""
        return self._config_parameter is not None

    @property
    def has_default_config(self) -> bool:
        """The parameter `config` has a default, which holds where the run config says nothing."""
        parameter = self._config_parameter
        return parameter is not None and parameter.default is not parameter.empty

    @cached_property
    def config(self) -> ConfigSchema:
        """What the op's config may be; raises DefinitionError where its type is not known or cannot be one."""
        where = f"op {self.name!r}"
        declared = self._config_schema
        if self._config_parameter is not None:
            declared = hints(self.function).get(CONFIG_NAME)
        if isinstance(declared, str):
            raise DefinitionError(
                f"{where}: the type of its config, {declared!r}, is not known; define it in the op's module"
            )
        return schema_of(declared, where)

    @cached_property
    def input_types(self) -> dict[str, Any]:
        """Input -> the type that `In` or the annotation declares, None where there is none."""
        annotated = hints(self.function)
        types = {}
        for parameter in self._parameters:
            declared = self.ins[parameter.name].declared if parameter.name in self.ins else None
            declared = annotated.get(parameter.name) if declared is None else declared
            types[parameter.name] = None if isinstance(declared, str) else declared
        return types

    @cached_property
    def streamed_inputs(self) -> frozenset[str]:
        """The inputs that receive a collect one by one: those annotated `Iterator[T]` or `Iterable[T]` (rule D9)."""
        return frozenset(name for name, kind in self.input_types.items() if is_stream(kind))

    @cached_property
    def unenforced(self) -> dict[str, Any]:
        """Output -> type, for the outputs whose stored form does not hold values to their declared type."""
        return {
            name: declared
            for name, declared in self.declared.items()
            if not is_untyped(declared) and not self._is_enforced(name)
        }

    def _is_enforced(self, output: str) -> bool:
        return is_enforced(self.declared[output], self.outs[output].serializer)

    @property
    def required_inputs(self) -> list[str]:
        """The inputs without a default: each is connected in the job, or gets its value from the run config."""
        return [
            parameter.name
            for parameter in self._parameters
            if parameter.default is parameter.empty and parameter.name not in self.defaults
        ]

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """Input -> the default that `In` declares."""
        return {name: one.default_value for name, one in self.ins.items() if one.has_default}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return Invocation(self)(*args, **kwargs)

    def alias(self, name: str) -> Invocation:
        """The same op as a node of another name."""
        return Invocation(self).alias(name)

    def tag(self, tags: Mapping[str, str]) -> Invocation:
        """The same op with more tags."""
        return Invocation(self).tag(tags)

    def with_retry_policy(self, retry_policy: RetryPolicy) -> Invocation:
        """The same op as a node with a retry policy of its own."""
        return Invocation(self).with_retry_policy(retry_policy)

    def with_hooks(self, hooks: Iterable[HookDefinition]) -> Invocation:
        """The same op, with hooks that are told how each step ends."""
        return Invocation(self).with_hooks(hooks)

    @cached_property
    def code(self) -> str:
        """Digest of the op's source without comments and layout, or of its declared version (rule R5).

        Sixteen hexadecimal digits. Functions that the op calls are not seen.
        """
        return code_digest(self.function, self._version, self.defaults)

    @cached_property
    def declared(self) -> dict[str, Any]:
        """Output -> the type of its value, None where none is declared; for a dynamic output that of one value."""
        annotated = annotated_outputs(self.function, list(self.outs))
        types = {
            name: out.declared if out.declared is not None else annotated.get(name)
            for name, out in self.outs.items()
        }
        return {name: None.__class__ if one is Nothing else one for name, one in types.items()}

    @cached_property
    def required_outputs(self) -> frozenset[str]:
        """The plain outputs that an attempt must give."""
        return frozenset(
            name for name, out in self.outs.items() if out.is_required and not out.dynamic
        )

    @cached_property
    def nothing_outputs(self) -> tuple[str, ...]:
        """Outputs that carry no value; they are given by ending, and stored as null."""
        annotated = annotated_outputs(self.function, list(self.outs))
        return tuple(
            name
            for name, out in self.outs.items()
            if (
                out.declared is Nothing or (out.declared is None and annotated.get(name) is Nothing)
            )
            and not out.dynamic
        )

    @cached_property
    def value_outputs(self) -> tuple[str, ...]:
        """The outputs that a returned value is for: those that carry one, or all where none does."""
        names = tuple(name for name in self.outs if name not in self.nothing_outputs)
        return names or tuple(self.outs)

    def __repr__(self) -> str:
        return f"<op {self.name}>"


@overload
def op(compute_fn: Callable[..., Any], /) -> OpDefinition: ...
@overload
def op(
    *,
    name: str | None = None,
    description: str | None = None,
    ins: Mapping[str, In] | None = None,
    out: Out | Mapping[str, Out] | None = None,
    tags: Mapping[str, str] | None = None,
    version: str | None = None,
    code_version: str | None = None,
    config_schema: Any = None,
    retry_policy: RetryPolicy | None = None,
    required_resource_keys: Iterable[str] = (),
    timeout: float | None = None,
    concurrency: int | None = None,
    rate: str | None = None,
    **unknown: Any,
) -> Callable[[Callable[..., Any]], OpDefinition]: ...
def op(
    compute_fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    ins: Mapping[str, In] | None = None,
    out: Out | Mapping[str, Out] | None = None,
    tags: Mapping[str, str] | None = None,
    version: str | None = None,
    code_version: str | None = None,
    config_schema: Any = None,
    retry_policy: RetryPolicy | None = None,
    required_resource_keys: Iterable[str] = (),
    timeout: float | None = None,
    concurrency: int | None = None,
    rate: str | None = None,
    **unknown: Any,
) -> OpDefinition | Callable[[Callable[..., Any]], OpDefinition]:
    """Make an op of a function.

    A first parameter named `context` (or `_context`, `_`) receives the context, one named `config` the op's config in
    the type that it is annotated with, one annotated `ResourceParam[T]` the resource of its name; all others are
    inputs. Without `out` there is one output `result`, typed by the return annotation; `-> list[DynamicOutput[T]]`
    declares a dynamic one. `config_schema`: the type of `context.op_config`, or a dict of field to type.
    `required_resource_keys`: what the op reads from `context.resources` besides. `version` (or `code_version`) stands
    for the source where resume asks whether the code has changed. `retry_policy`: whether and when a step is tried
    again that has failed. `timeout`: seconds that an attempt may take, from before its inputs are loaded to after its
    last output is stored; then it has failed, in a process by being killed, elsewhere when it ends. `concurrency`: how
    many steps of the op may run at a time in one run; `rate`: how often one may start, "10/s", "90/m" or "500/h".
    Raises DefinitionError.
    """
    refuse_unknown("@op", unknown)

    def decorate(function: Callable[..., Any]) -> OpDefinition:
        outs = dict(out) if isinstance(out, Mapping) else {"result": out or inferred_out(function)}
        return OpDefinition(
            function,
            name or function.__name__,
            description,
            ins or {},
            outs,
            tags or {},
            code_version if version is None else version,
            config_schema,
            retry_policy,
            required_resource_keys=required_resource_keys,
            timeout=timeout,
            concurrency=concurrency,
            rate=rate,
        )

    return decorate if compute_fn is None else decorate(compute_fn)


def _unpassed(name: str) -> inspect.Parameter:
    """An input that stands after those of the function, and that nobody has to connect."""
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None)
