"""How MLflow's server reads a request: JSON into protobuf messages, with a parse that stops.

The first value of a wrong type ends the parse. What stood before it is kept, all that follows is
lost, and the server goes on as if nothing had happened; only members that it checks by name
(`checks.py`) are refused. `parse` returns what was kept and says whether it stopped.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from daemon.demo.mlflow.replies import Crash

if TYPE_CHECKING:
    from collections.abc import Mapping

Json: TypeAlias = Any
"""What JSON can hold."""

Message = dict[str, Any]
"""The members that were sent, by name; of a repeated one the list."""

_UNPAIRED_SURROGATE = re.compile(
    "[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]"
)
_INT_BITS = {"int32": 31, "int64": 63}


class ParseStoppedError(Exception):
    """A value of a wrong type: the rest of the body is lost."""


class _UnknownNameError(Exception):
    """A word that names no value of an enumeration: the server ignores the member."""


@dataclass(frozen=True, slots=True)
class Field:
    """A member of a message.

    Attributes:
        kind: string, int32, int64, double, or the values of an enumeration by name, or the fields
            of a message.
    """

    kind: str | Mapping[str, int] | Fields
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Fields:
    """A kind of message."""

    by_name: Mapping[str, Field]
    by_json_name: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        names = {_camel(name): name for name in self.by_name} | {n: n for n in self.by_name}
        object.__setattr__(self, "by_json_name", names)


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def load_json(body: bytes) -> Json:
    """The body as the server's web framework reads it, whatever its content type says.

    Returns:
        None for a body that is no JSON; NaN, Infinity and lone surrogates are taken.
    """
    try:
        return json.loads(body)
    except ValueError:
        return None


def normalized(value: Json) -> Json:
    """The body of old clients, which print their JSON twice, and the empty one.

    Raises:
        Crash: a JSON string that holds no JSON.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise Crash from error
    return {} if value is None else value


def parse(value: Json, fields: Fields) -> tuple[Message, str]:
    """A JSON value as a message.

    Returns:
        What was kept; why the parse stopped, or "".

    Raises:
        Crash: neither an object nor a list nor a string.
    """
    message: Message = {}
    if not isinstance(value, dict | list | str):
        raise Crash
    try:
        _parse_into(message, value, fields)
    except ParseStoppedError as error:
        return message, str(error)
    return message, ""


def _parse_into(message: Message, value: Json, fields: Fields) -> None:
    try:
        names = list(value)
    except TypeError as error:
        raise ParseStoppedError(str(error)) from error
    seen = set()
    for given in names:
        name = fields.by_json_name.get(given) if isinstance(given, str) else None
        if name is None:
            if not isinstance(given, str):
                # Looked up as an extension, by a pattern that takes texts only.
                raise ParseStoppedError(f"not a name: {type(given).__name__}")
            continue
        if not isinstance(value, dict):
            raise ParseStoppedError(f"{name}: not in an object")
        if given in seen:
            raise ParseStoppedError(f"{name}: twice")
        seen.add(given)
        _parse_member(message, name, value[given], fields.by_name[name])


def _parse_member(message: Message, name: str, value: Json, kind: Field) -> None:
    if value is None:
        message.pop(name, None)
    elif kind.repeated:
        items: list[Any] = []
        message[name] = items
        if not isinstance(value, list):
            raise ParseStoppedError(f"{name}: no list but {type(value).__name__}")
        for item in value:
            if isinstance(kind.kind, Fields):
                kept: Message = {}
                items.append(kept)
                if item is None:
                    raise ParseStoppedError(f"{name}: null in a list")
                _parse_into(kept, item, kind.kind)
            elif item is None:
                raise ParseStoppedError(f"{name}: null in a list")
            else:
                items.append(_scalar(name, item, kind.kind))
    elif isinstance(kind.kind, Fields):
        kept = message.setdefault(name, {})
        _parse_into(kept, value, kind.kind)
    else:
        try:
            message[name] = _scalar(name, value, kind.kind)
        except _UnknownNameError:
            return


def _scalar(name: str, value: Json, kind: str | Mapping[str, int]) -> Json:
    try:
        if not isinstance(kind, str):
            return _enumerated(value, kind)
        if kind == "string":
            return _string(value)
        if kind == "double":
            return _double(value)
        return _integer(value, _INT_BITS[kind])
    except (TypeError, ValueError, OverflowError) as error:
        raise ParseStoppedError(f"{name}: {type(value).__name__}") from error


def _string(value: Json) -> str:
    if not isinstance(value, str):
        raise TypeError
    if _UNPAIRED_SURROGATE.search(value):
        raise ValueError
    return value


def _integer(value: Json, bits: int) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError
    if isinstance(value, str) and " " in value:
        raise ValueError
    try:
        number = int(value)
    except ValueError:
        exact = float(value)
        if not exact.is_integer():
            raise
        number = int(exact)
    if not -(1 << bits) <= number < 1 << bits:
        raise ValueError
    return number


def _double(value: Json) -> float:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError
    if value == "nan":
        raise ValueError
    return float(value)


def _enumerated(value: Json, numbers: Mapping[str, int]) -> str:
    """The name of the value."""
    if isinstance(value, str) and value in numbers:
        return value
    try:
        number = int(value)
    except ValueError as error:
        raise _UnknownNameError from error
    for name, known in numbers.items():
        if known == number:
            return name
    raise ValueError
