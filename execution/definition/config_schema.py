"""What the config of an op may be, and whether a value of a run config fits it. Pure.

A config is JSON data; an op declares its form by a parameter `config: MyConfig` (a msgspec Struct, a dataclass, a
pydantic model, or anything else that msgspec can type) or by `@op(config_schema=…)`, a type or a dict of field to
type. What fits is not changed: each attempt builds an object of its own from the data.
"""

import types
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec
from msgspec import inspect

from execution.definition.config_paths import child, fact_and_place, instead, named_keys, refusal
from execution.errors import DefinitionError
from runstore.errors import ConfigError
from runstore.outputs.serializers import type_name

_INFO = (inspect.Type, inspect.Field)
_OBJECTS = (inspect.StructType, inspect.DataclassType, inspect.TypedDictType)
_SEQUENCES = (
    inspect.ListType,
    inspect.SetType,
    inspect.FrozenSetType,
    inspect.VarTupleType,
    inspect.CollectionType,
)


class ConfigSchema(Protocol):
    """The form of a config."""

    def check(self, value: Any, path: str) -> None:
        """Raise ConfigError where JSON data does not fit; `path` is where it stands in the run config."""

    def check_missing(self, path: str) -> None:
        """Raise ConfigError where no value at all does not do."""

    def build(self, value: Any) -> Any:
        """What the op is given for data that fits."""


def schema_of(declared: Any, where: str) -> ConfigSchema:
    """The schema of an annotation or of `config_schema`; raises DefinitionError naming what cannot be one."""
    if declared is Any or declared is None:
        return Untyped()
    if isinstance(declared, Mapping):
        return Typed(_as_struct(declared, where, "$"))
    if _is_pydantic(declared):
        return PydanticModel(declared)
    return Typed(_supported(declared, where, "$"))


class Untyped:
    """Any JSON data; `{}` where there is none."""

    def check(self, value: Any, path: str) -> None:
        """All fits."""

    def check_missing(self, path: str) -> None:
        """Nothing is needed."""

    def build(self, value: Any) -> Any:
        """A copy: an attempt that changes it changes nothing for the next."""
        return msgspec.json.decode(msgspec.json.encode(value))


class Typed:
    """A type that msgspec knows. Values are read as JSON is: a datetime from its text, a class from an object."""

    def __init__(self, declared: Any) -> None:
        self.declared = declared
        self._info = inspect.type_info(declared)

    def check(self, value: Any, path: str) -> None:
        """Fields first, since these can be named, then everything else."""
        _check_fields(value, self._info, path)
        text = self._refusal(value)
        if text:
            fact, place = fact_and_place(text)
            named = named_keys(place, value, lambda part: self._refusal(part) == text)
            raise refusal(path + named, fact, "give it a value of that type")

    def check_missing(self, path: str) -> None:
        """An object without required fields may be left out."""
        if not isinstance(self._info, (*_OBJECTS, inspect.DictType)):
            raise refusal(path, f"{_named(self.declared)} is required", "give it a value")
        self.check({}, path)

    def _refusal(self, value: Any) -> str:
        try:
            self.build(value)
        except (ValueError, TypeError) as error:
            return str(error)
        return ""

    def build(self, value: Any) -> Any:
        """The value in its type."""
        return msgspec.convert(value, self.declared, strict=True)


class PydanticModel:
    """A pydantic model, known by its methods: this package does not import pydantic."""

    def __init__(self, model: Any) -> None:
        self.declared = model

    def check(self, value: Any, path: str) -> None:
        """What the model says, and no field that it does not have."""
        _check_model_fields(value, self.declared, path)
        try:
            self.build(value)
        except ValueError as error:
            raise _model_misfit(error, path) from None

    def check_missing(self, path: str) -> None:
        """A model without required fields may be left out."""
        self.check({}, path)

    def build(self, value: Any) -> Any:
        """The model, read as JSON is and strictly: no text becomes a number."""
        return self.declared.model_validate_json(msgspec.json.encode(value), strict=True)


# What is declared


def _as_struct(fields: Mapping[Any, Any], where: str, path: str) -> Any:
    """A dict of field -> type as a class; nested dicts are nested objects, all fields are required."""
    for name in fields:
        if not isinstance(name, str):
            raise DefinitionError(
                f"{where}: config_schema {path} has field {name!r}; name each field by text"
            )
    typed = [
        (f"field_{place}", _field(declared, where, child(path, name)))
        for place, (name, declared) in enumerate(fields.items())
    ]
    renamed = {f"field_{place}": name for place, name in enumerate(fields)}
    return msgspec.defstruct("object", typed, rename=renamed, forbid_unknown_fields=True)


def _field(declared: Any, where: str, path: str) -> Any:
    if isinstance(declared, Mapping):
        return _as_struct(declared, where, path)
    if isinstance(declared, list) and len(declared) == 1:  # Dagster's `[int]`
        return types.GenericAlias(list, (_field(declared[0], where, path),))
    return _supported(declared, where, path)


def _supported(declared: Any, where: str, path: str) -> Any:
    try:
        unknown = _unknown_type(inspect.type_info(declared), set())
        msgspec.json.Decoder(declared)
    except (TypeError, ValueError, NameError):
        unknown = declared
    if unknown is not None:
        at = "" if path == "$" else f", field {path},"
        raise DefinitionError(
            f"{where}: the config{at} is declared as {_named(unknown)}, which is not supported; use a msgspec Struct, "
            "a dataclass, a pydantic model, a type such as int, list[str] or dict[str, int], or a dict of field to type"
        )
    return declared


def _unknown_type(info: Any, seen: set[int]) -> Any:
    """A class inside a type that msgspec cannot read from JSON; None if there is none."""
    if isinstance(info, inspect.CustomType):
        return info.cls
    if id(info) in seen:
        return None
    seen.add(id(info))
    parts = [getattr(info, name) for name in getattr(info, "__struct_fields__", ())]
    inner = [one for part in parts for one in (part if isinstance(part, tuple) else (part,))]
    found = (_unknown_type(one, seen) for one in inner if isinstance(one, _INFO))
    return next((one for one in found if one is not None), None)


def _named(declared: Any) -> str:
    return type_name(declared) if isinstance(declared, type) else repr(declared)


def _is_pydantic(declared: Any) -> bool:
    return isinstance(declared, type) and hasattr(declared, "model_validate_json")


# What is given


def _check_fields(value: Any, info: Any, path: str) -> None:
    """Raise for the first unknown or missing field, all the way down; other misfits are left to msgspec."""
    if isinstance(info, inspect.UnionType):
        _check_union(value, info, path)
    elif isinstance(info, _OBJECTS) and isinstance(value, dict):
        _check_object(value, info, path)
    elif isinstance(info, inspect.DictType) and isinstance(value, dict):
        for name, part in value.items():
            _check_fields(part, info.value_type, child(path, name))
    elif isinstance(info, _SEQUENCES) and isinstance(value, list):
        for place, part in enumerate(value):
            _check_fields(part, info.item_type, f"{path}[{place}]")
    elif isinstance(info, inspect.TupleType) and isinstance(value, list):
        for place, (part, kind) in enumerate(zip(value, info.item_types, strict=False)):
            _check_fields(part, kind, f"{path}[{place}]")


def _check_union(value: Any, info: inspect.UnionType, path: str) -> None:
    members = [one for one in info.types if isinstance(one, _OBJECTS)]
    if len(members) > 1:  # told apart by their tags
        members = [
            one
            for one in members
            if isinstance(value, dict)
            and isinstance(one, inspect.StructType)
            and value.get(one.tag_field or "") == one.tag
        ]
    others = [one for one in info.types if not isinstance(one, _OBJECTS)]
    for member in (*members, *others):
        _check_fields(value, member, path)


def _check_object(value: dict[str, Any], info: Any, path: str) -> None:
    fields = {field.encode_name: field for field in info.fields}
    tag = getattr(info, "tag_field", None)
    for name, part in value.items():
        if name in fields:
            _check_fields(part, fields[name].type, child(path, name))
        elif name != tag:
            raise refusal(child(path, name), "unknown field", instead(name, fields))
    for name, field in fields.items():
        if field.required and name not in value:
            raise refusal(child(path, name), "required field is missing", "give it a value")


def _check_model_fields(value: Any, model: Any, path: str) -> None:
    if not isinstance(value, dict) or getattr(model, "model_config", {}).get("extra") == "allow":
        return
    fields = {
        name: field
        for key, field in model.model_fields.items()
        for name in {key, field.alias or key}
    }
    for name, part in value.items():
        if name not in fields:
            raise refusal(child(path, name), "unknown field", instead(name, fields))
        if _is_pydantic(fields[name].annotation):
            _check_model_fields(part, fields[name].annotation, child(path, name))


def _model_misfit(error: ValueError, path: str) -> ConfigError:
    """The first misfit that a pydantic model names, in our form."""
    found = next(iter(error.errors()), None) if hasattr(error, "errors") else None
    if found is None:
        return refusal(path, " ".join(str(error).split()), "give it a value that fits")
    for name in found["loc"]:
        path = f"{path}[{name}]" if isinstance(name, int) else child(path, name)
    if found["type"] == "missing":
        return refusal(path, "required field is missing", "give it a value")
    got = type(found["input"]).__name__
    fact = found["msg"].removeprefix("Input ").replace("should be", "expected", 1)
    return refusal(path, f"{fact}, got {got}", "give it a value of that type")
