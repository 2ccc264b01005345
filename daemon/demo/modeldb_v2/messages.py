"""How ModelDB V2's REST gateway reads JSON: the messages, their fields, and what a malformed one is
answered.

Every fact here was watched on ModelDB 2.0.8.1. What a reader gives back is what the server would
store and print: fields by their snake_case names, zero values left out, 64-bit integers as strings,
enums by name.

Unlike the real gateway: the text about a syntax error is exact for a body cut short and NaN, and
close for the rest; messages, enums and 64-bit integers in a query string are ignored.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from multidict import MultiMapping

# gRPC status codes, as they stand in the `code` of an error.
CANCELLED = 1
UNKNOWN = 2
INVALID_ARGUMENT = 3
DEADLINE_EXCEEDED = 4
NOT_FOUND = 5
ALREADY_EXISTS = 6
PERMISSION_DENIED = 7
RESOURCE_EXHAUSTED = 8
UNIMPLEMENTED = 12
INTERNAL = 13
UNAVAILABLE = 14
UNAUTHENTICATED = 16

_HTTP_STATUS = {
    CANCELLED: 408,
    UNKNOWN: 500,
    INVALID_ARGUMENT: 400,
    DEADLINE_EXCEEDED: 504,
    NOT_FOUND: 404,
    ALREADY_EXISTS: 409,
    PERMISSION_DENIED: 403,
    RESOURCE_EXHAUSTED: 429,
    UNIMPLEMENTED: 501,
    INTERNAL: 500,
    UNAVAILABLE: 503,
    UNAUTHENTICATED: 401,
}


class ApiError(Exception):
    """An answer that is an error.

    Args:
        code: the gRPC status code, which decides the HTTP status.
        text: what the server says; empty for an exception nobody caught there, and then left out of
            the answer.
        details: the message type that some answers name, without its package; empty: the answer has
            no details.
    """

    def __init__(self, code: int, text: str = "", details: str = "") -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.details = details

    @property
    def status(self) -> int:
        return _HTTP_STATUS[self.code]

    @property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = {"error": self.text} if self.text else {}
        body["code"] = self.code
        if self.text:
            body["message"] = self.text
        if self.details:
            body["details"] = [{"@type": f"type.googleapis.com/ai.verta.modeldb.{self.details}"}]
        return body


@dataclass(frozen=True, slots=True)
class _Unrepresentable:
    """A number beyond the range of a double, as it was written."""

    text: str


def parse_body(body: bytes) -> object:
    """The JSON value at the start of a body; an empty one counts as an empty object, and what
    follows the value is not read.

    Raises:
        ApiError: it is not JSON.
    """
    text = body.decode("utf-8", "replace").lstrip(" \t\r\n")
    if not text:
        return {}
    try:
        value, _end = _DECODER.raw_decode(text)
    except json.JSONDecodeError as error:
        if error.pos >= len(text) or error.msg.startswith("Unterminated"):
            raise ApiError(INVALID_ARGUMENT, "unexpected EOF") from error
        found = repr(text[error.pos])
        raise ApiError(
            INVALID_ARGUMENT, f"invalid character {found} looking for beginning of value"
        ) from error
    return value


def _read_float(text: str) -> float | _Unrepresentable:
    number = float(text)
    return number if math.isfinite(number) else _Unrepresentable(text)


def _refuse_constant(text: str) -> None:
    raise ApiError(
        INVALID_ARGUMENT, f"invalid character '{text[0]}' looking for beginning of value"
    )


_DECODER = json.JSONDecoder(parse_float=_read_float, parse_constant=_refuse_constant)


_KINDS = {bool: "bool", str: "string", list: "array", dict: "object"}


def _mismatch(given: object, wanted: str) -> ApiError:
    kind = _KINDS.get(type(given), "number")
    if kind == "number" and wanted.startswith(("int", "protoreflect")):
        kind = f"number {given}"
    return ApiError(
        INVALID_ARGUMENT, f"json: cannot unmarshal {kind} into Go value of type {wanted}"
    )


def string(given: object) -> str:
    if not isinstance(given, str):
        raise _mismatch(given, "string")
    return given


def boolean(given: object) -> bool:
    if not isinstance(given, bool):
        raise _mismatch(given, "bool")
    return given


def _integer(given: object, bits: int) -> int:
    if isinstance(given, str) and (found := re.match(r"-?\d+", given, re.ASCII)):
        # The gateway reads a string in an integer's place as JSON once more.
        if rest := given[found.end() :]:
            raise ApiError(INVALID_ARGUMENT, f"invalid character '{rest[0]}' after top-level value")
        given = int(given)
    if (
        not isinstance(given, int)
        or isinstance(given, bool)
        or not -(2 ** (bits - 1)) <= given < 2 ** (bits - 1)
    ):
        raise _mismatch(given, f"int{bits}")
    return given


def int32(given: object) -> int:
    return _integer(given, 32)


def int64(given: object) -> str:
    """Comes back as a string, and not at all when it is 0."""
    number = _integer(given, 64)
    return str(number) if number else ""


def value(given: object) -> object:
    """google.protobuf.Value: numbers are doubles; an integral one prints without a fraction."""
    match given:
        case str() | bool() | None:
            return given
        case int() | float():
            number = float(given)
            return (
                int(number)
                if number.is_integer() and abs(number) < _FIRST_WITH_EXPONENT
                else number
            )
        case list():
            return [value(item) for item in given]
        case dict():
            return {key: value(item) for key, item in given.items()}
        case _Unrepresentable():
            raise ApiError(INVALID_ARGUMENT, f'unrecognized type for Value "{given.text}"')
        case _:
            raise TypeError(f"{type(given)} is not what JSON is made of")


_FIRST_WITH_EXPONENT = 1e21


def enum(type_name: str, *members: str) -> Callable[[Any], str | int]:
    """A reader of an enum: names or numbers in, names out; an unknown number is kept, the first
    member is a zero value.
    """
    numbers = {name: number for number, name in enumerate(members)}

    def read(given: object) -> str | int:
        if isinstance(given, str):
            if given not in numbers:
                spelled = " ".join(
                    str(byte) for byte in json.dumps(given, ensure_ascii=False).encode()
                )
                raise ApiError(INVALID_ARGUMENT, f"unknown value [{spelled}] for enum {type_name}")
            return given if numbers[given] else ""
        if not isinstance(given, int) or isinstance(given, bool):
            raise _mismatch(given, "protoreflect.EnumNumber")
        return members[given] if 0 < given < len(members) else given

    return read


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    read: Callable[[Any], Any]
    """Takes a JSON value, gives what is stored; raises `ApiError`."""
    repeated: bool = False


class Message:
    """A protobuf message, as far as its fields matter here."""

    def __init__(self, *fields: Field) -> None:
        self._fields = {field.name: field for field in fields}
        self._camel_cases = {name: _camel_case(name) for name in self._fields}
        self._names = {camel_case: name for name, camel_case in self._camel_cases.items()} | {
            name: name for name in self._fields
        }

    def read(self, given: object) -> dict[str, Any]:
        """Reads a JSON object; unknown fields are ignored.

        Raises:
            ApiError: a field has the wrong type.
        """
        if given is None:
            return {}
        if not isinstance(given, dict):
            raise _mismatch(given, "map[string]json.RawMessage")
        found: dict[str, Any] = {}
        for spelling, item in given.items():
            name = self._names.get(spelling)
            # Both spellings are read; the camelCase one wins.
            if name is None or (
                spelling != self._camel_cases[name] and self._camel_cases[name] in given
            ):
                continue
            field = self._fields[name]
            if field.read is value:
                found[name] = value(item)
            elif item is not None:
                read = self._read_list(field, item) if field.repeated else field.read(item)
                if not _is_zero(read):
                    found[name] = read
        return found

    @staticmethod
    def _read_list(field: Field, given: object) -> list[Any]:
        if not isinstance(given, list):
            raise _mismatch(given, "[]json.RawMessage")
        return ["" if item is None and field.read is string else field.read(item) for item in given]

    def read_query(self, query: MultiMapping[str]) -> dict[str, Any]:
        """Reads a query string: of a repeated name the first counts, unless the field is a list.

        Raises:
            ApiError: a number or a boolean does not read as one.
        """
        found: dict[str, Any] = {}
        for name, field in self._fields.items():
            texts = query.getall(self._camel_cases[name], None) or query.getall(name, None)
            read = _FROM_QUERY.get(field.read)
            if texts and read:
                item = [read(text) for text in texts] if field.repeated else read(texts[0])
                if not _is_zero(item):
                    found[name] = item
        return found


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def _is_zero(item: object) -> bool:
    """Zero values are left out of an answer; a message stays even when it is empty."""
    return not item and not isinstance(item, dict)


def _int32_in_query(text: str) -> int:
    if not re.fullmatch(r"[+-]?\d+", text, re.ASCII):
        raise ApiError(INVALID_ARGUMENT, f'strconv.ParseInt: parsing "{text}": invalid syntax')
    return int(text)


_FROM_QUERY: Mapping[Callable[[Any], Any], Callable[[str], Any]] = {
    string: str,
    boolean: lambda text: text == "true",
    int32: _int32_in_query,
}


def _strings(name: str) -> Field:
    return Field(name, string, repeated=True)


def _messages(name: str, message: Message) -> Field:
    return Field(name, message.read, repeated=True)


_ID = Field("id", string)
_PROJECT_ID = Field("project_id", string)
_EXPERIMENT_ID = Field("experiment_id", string)
_NAME = Field("name", string)
_DESCRIPTION = Field("description", string)
_TAGS = _strings("tags")

_VALUE_TYPE = Field(
    "value_type",
    enum("ai.verta.common.ValueTypeEnum.ValueType", "STRING", "NUMBER", "LIST", "BLOB"),
)
KEY_VALUE = Message(Field("key", string), Field("value", value), _VALUE_TYPE)
ARTIFACT = Message(
    Field("key", string),
    Field("path", string),
    Field("path_only", boolean),
    Field(
        "artifact_type",
        enum(
            "ai.verta.common.ArtifactTypeEnum.ArtifactType",
            *("IMAGE", "MODEL", "TENSORBOARD", "DATA", "BLOB", "STRING", "CODE", "CONTAINER"),
        ),
    ),
    Field("linked_artifact_id", string),
    Field("filename_extension", string),
)
OBSERVATION = Message(
    Field("attribute", KEY_VALUE.read),
    Field("artifact", ARTIFACT.read),
    Field("timestamp", int64),
    Field("epoch_number", value),
)
CODE_VERSION = Message(
    Field(
        "git_snapshot",
        Message(
            _strings("filepaths"),
            Field("repo", string),
            Field("hash", string),
            Field(
                "is_dirty", enum("ai.verta.common.TernaryEnum.Ternary", "UNKNOWN", "TRUE", "FALSE")
            ),
        ).read,
    ),
    Field("code_archive", ARTIFACT.read),
    Field("date_logged", int64),
)
_ATTRIBUTES = _messages("attributes", KEY_VALUE)
_ARTIFACTS = _messages("artifacts", ARTIFACT)
_PAGING = (
    Field("page_number", int32),
    Field("page_limit", int32),
    Field("ascending", boolean),
    Field("sort_key", string),
)
_OPERATOR = enum(
    "ai.verta.common.OperatorEnum.Operator",
    *("EQ", "NE", "GT", "GTE", "LT", "LTE", "CONTAIN", "NOT_CONTAIN", "IN"),
)
_PREDICATES = _messages(
    "predicates",
    Message(Field("key", string), Field("value", value), Field("operator", _OPERATOR)),
)
_FINDING = (_PREDICATES, Field("ids_only", boolean), *_PAGING)

NOTHING = Message()
BY_ID = Message(_ID)
BY_IDS = Message(_strings("ids"))
BY_NAME = Message(_NAME)
LISTING = Message(*_PAGING)
CREATE_PROJECT = Message(
    _NAME,
    _DESCRIPTION,
    Field("readme_text", string),
    Field(
        "project_visibility",
        enum("ai.verta.modeldb.ProjectVisibility", "PRIVATE", "PUBLIC", "ORG_SCOPED_PUBLIC"),
    ),
    _ATTRIBUTES,
    _TAGS,
    _ARTIFACTS,
)
FIND_PROJECTS = Message(*_FINDING)
UPDATE_DESCRIPTION = Message(_ID, _DESCRIPTION)
UPDATE_ATTRIBUTE = Message(_ID, Field("attribute", KEY_VALUE.read))
CREATE_EXPERIMENT = Message(_PROJECT_ID, _NAME, _DESCRIPTION, _ATTRIBUTES, _TAGS, _ARTIFACTS)
FIND_EXPERIMENTS = Message(_PROJECT_ID, *_FINDING)
BY_EXPERIMENT_AND_NAME = Message(_EXPERIMENT_ID, _NAME)
CREATE_RUN = Message(
    _PROJECT_ID,
    _EXPERIMENT_ID,
    _NAME,
    _DESCRIPTION,
    Field("start_time", int64),
    Field("end_time", int64),
    Field("code_version", string),
    Field("code_version_snapshot", CODE_VERSION.read),
    Field("parent_id", string),
    _TAGS,
    _ATTRIBUTES,
    _messages("hyperparameters", KEY_VALUE),
    _ARTIFACTS,
    _messages("datasets", ARTIFACT),
    _messages("metrics", KEY_VALUE),
    _messages("observations", OBSERVATION),
    _messages("features", Message(_NAME)),
)
FIND_RUNS = Message(_PROJECT_ID, _EXPERIMENT_ID, *_FINDING)
RUN_TAGS = Message(_ID, _TAGS)
BY_ID_AND_KEY = Message(_ID, Field("key", string))
LOGGED = {
    "metrics": KEY_VALUE,
    "hyperparameters": KEY_VALUE,
    "attributes": KEY_VALUE,
    "artifacts": ARTIFACT,
    "datasets": ARTIFACT,
    "observations": OBSERVATION,
}
"""What the lists of a run hold that can be added to."""


def log_several(member: str) -> Message:
    """The request that adds to one of `LOGGED`."""
    return Message(_ID, _messages(member, LOGGED[member]), Field("overwrite", boolean))


def log_one(member: str) -> Message:
    """The request that adds one entry to one of `LOGGED`."""
    return Message(_ID, Field(member.removesuffix("s"), LOGGED[member].read))


def delete_keys(member: str) -> Message:
    """The request that deletes from one of `LOGGED`."""
    return Message(_ID, _strings(f"{member.removesuffix('s')}_keys"), Field("delete_all", boolean))
