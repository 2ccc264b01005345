"""Codec for ModelDB V1 messages: Thrift's strict binary protocol and the structs of
``modeldb_v1.thrift``.

thriftpy2 parses the interface and encodes messages. Decoding is done here, because thriftpy2's C
reader returns uninitialised memory when a message is too short. The reader checks every length
against the bytes that are left and caps the nesting depth; the size of a frame is capped by the
connection. It is not hardened beyond that: the configured server is trusted (SECURITY.md).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import thriftpy2
from thriftpy2.protocol.cybin import TCyBinaryProtocol  # type: ignore[attr-defined] # in C, without type information
from thriftpy2.thrift import TApplicationException, TDecodeException, TMessageType, TPayload, TType
from thriftpy2.transport.memory import TCyMemoryBuffer  # type: ignore[attr-defined] # as above

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

INTERFACE: Final[Any] = thriftpy2.load(
    str(Path(__file__).with_name("modeldb_v1.thrift")), module_name="modeldb_v1_thrift"
)
"""The structs and exceptions of the interface, by name: ``INTERFACE.Project(name="churn", …)``."""

METHODS: Final = frozenset(INTERFACE.ModelDBService.thrift_services)

UNKNOWN_METHOD = 1
INTERNAL_ERROR = 6


class MalformedMessageError(ValueError):
    """Bytes that are not a message of this interface."""


@dataclass(frozen=True, slots=True)
class ApplicationException:
    """The server's answer to a call that it could not carry out at all."""

    number: int
    """`UNKNOWN_METHOD` or `INTERNAL_ERROR` (an undeclared exception); the server sends no other."""
    message: str


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: a result, or an exception."""

    method: str
    sequence_id: int
    result: Any
    """None exactly if there is an exception."""
    exception: Any
    """None, an exception struct of the interface, or an `ApplicationException`."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request."""

    method: str
    sequence_id: int
    arguments: Mapping[str, Any]
    """By their names in the interface; None if not sent."""


def encode_call(method: str, arguments: Mapping[str, object], sequence_id: int) -> bytes:
    """Encodes a request.

    Args:
        method: one of `METHODS`.
        arguments: by their names in the interface; one that is missing or None is not sent.
        sequence_id: echoed in the answer; a signed 32-bit integer.

    Returns:
        A frame without its length prefix.

    Raises:
        ValueError: a value does not fit its field; the message names the field, never the value.
    """
    return _written(method, TMessageType.CALL, sequence_id, _struct_of(method, "args")(**arguments))


def decode_reply(frame: bytes) -> Reply:
    """Decodes an answer from a frame without its length prefix.

    Raises:
        MalformedMessageError: the frame is not an answer of this interface.
    """
    reader = _Reader(frame)
    method, kind, sequence_id = reader.header()
    if kind == TMessageType.EXCEPTION:
        failure = reader.whole(TApplicationException)
        return Reply(
            method,
            sequence_id,
            None,
            ApplicationException(failure.type or 0, failure.message or ""),
        )
    if kind != TMessageType.REPLY:
        raise MalformedMessageError(f"a message of type {kind} is not an answer")
    answer = reader.whole(_struct_of(method, "result"))
    for _, name, *_ in answer.thrift_spec.values():
        if name != "success" and (exception := getattr(answer, name)) is not None:
            return Reply(method, sequence_id, None, exception)
    if answer.success is None:
        raise MalformedMessageError(f"the answer of {method} has neither a result nor an exception")
    return Reply(method, sequence_id, answer.success, None)


def decode_call(frame: bytes) -> Call:
    """Decodes a request from a frame without its length prefix; the server's side.

    Raises:
        MalformedMessageError: the frame is not a request of this interface.
    """
    reader = _Reader(frame)
    method, kind, sequence_id = reader.header()
    if kind not in {TMessageType.CALL, TMessageType.ONEWAY}:
        raise MalformedMessageError(f"a message of type {kind} is not a request")
    arguments = reader.whole(_struct_of(method, "args"))
    return Call(
        method,
        sequence_id,
        {name: getattr(arguments, name) for _, name, *_ in arguments.thrift_spec.values()},
    )


def encode_reply(method: str, sequence_id: int, result: object) -> bytes:
    """Encodes an answer with a result; the server's side."""
    return _written(
        method, TMessageType.REPLY, sequence_id, _struct_of(method, "result")(success=result)
    )


def encode_exception(method: str, sequence_id: int, exception: object) -> bytes:
    """Encodes an answer with an exception.

    Raises:
        ValueError: the method does not declare it.
    """
    answer = _struct_of(method, "result")
    for _, name, declared, *_ in answer.thrift_spec.values():
        if name != "success" and isinstance(exception, declared):
            return _written(method, TMessageType.REPLY, sequence_id, answer(**{name: exception}))
    raise ValueError(f"{method} does not declare {type(exception).__name__}")


def encode_application_exception(
    method: str, sequence_id: int, exception: ApplicationException
) -> bytes:
    """Encodes a protocol-level failure; the method need not be one of `METHODS`."""
    return _written(
        method,
        TMessageType.EXCEPTION,
        sequence_id,
        TApplicationException(exception.number, exception.message),
    )


def plain(value: Any) -> Any:  # noqa: ANN401 - any value of the interface
    """A value of the interface as JSON data: without unset fields, NaN and infinities as strings,
    map keys as strings.
    """
    if isinstance(value, TPayload):
        fields = {name: getattr(value, name) for _, name, *_ in value.thrift_spec.values()}
        return {name: plain(field) for name, field in fields.items() if field is not None}
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _struct_of(method: str, part: str) -> Any:  # noqa: ANN401 - a class that thriftpy2 made
    if method not in METHODS:
        raise MalformedMessageError(f"{method[:80]!r} is not a method of this interface")
    return getattr(INTERFACE.ModelDBService, f"{method}_{part}")


def _written(method: str, kind: int, sequence_id: int, body: Any) -> bytes:  # noqa: ANN401 - a Thrift struct
    memory = TCyMemoryBuffer()
    protocol = TCyBinaryProtocol(memory)
    protocol.write_message_begin(method, kind, sequence_id)
    try:
        protocol.write_struct(body)
    except TDecodeException as error:
        # the error's text contains the value, and so would the traceback of a cause
        raise ValueError(
            f"{error.struct_name}.{error.field} must be {error.type_repr}, in range and in Unicode"
        ) from None
    protocol.write_message_end()
    return bytes(memory.getvalue())


_VERSION_1 = 0x8001_0000
_DEEPEST = 16
"""The interface nests 6 deep."""

_NUMBERS: Mapping[int, struct.Struct] = {
    TType.BOOL: struct.Struct("?"),
    TType.BYTE: struct.Struct("b"),
    TType.DOUBLE: struct.Struct("!d"),
    TType.I16: struct.Struct("!h"),
    TType.I32: struct.Struct("!i"),
    TType.I64: struct.Struct("!q"),
}
_INT16, _INT32 = _NUMBERS[TType.I16], _NUMBERS[TType.I32]
_STRING, _STRUCT, _MAP, _SET, _LIST = TType.STRING, TType.STRUCT, TType.MAP, TType.SET, TType.LIST


class _Reader:
    """Reads one message.

    Unknown fields and fields of an unexpected type are skipped, as Thrift does. In a list or a map,
    an unexpected type is an error.
    """

    __slots__ = ("_at", "_frame")

    def __init__(self, frame: bytes) -> None:
        self._frame = frame
        self._at = 0

    def header(self) -> tuple[str, int, int]:
        """The method, message type and sequence id."""
        try:
            first = self._number(_INT32)
            if first & 0xFFFF_0000 != _VERSION_1:
                raise MalformedMessageError(
                    f"not Thrift's binary protocol, version 1: it begins with {self._frame[:8]!r}"
                )
            return self._text(), first & 0xFF, self._number(_INT32)
        except (struct.error, UnicodeDecodeError) as error:
            raise MalformedMessageError(
                f"truncated or garbled: it begins with {self._frame[:8]!r}"
            ) from error

    def whole(self, made: Any) -> Any:  # noqa: ANN401 - a class that thriftpy2 made, and an instance of it
        """The body; nothing may follow it."""
        try:
            body = self._struct(made, _DEEPEST)
        except (struct.error, IndexError) as error:
            raise MalformedMessageError("the message is truncated") from error
        except UnicodeDecodeError as error:
            raise MalformedMessageError("a string is not UTF-8") from error
        if self._at != len(self._frame):
            raise MalformedMessageError(f"{len(self._frame) - self._at} bytes follow the message")
        return body

    def _struct(self, made: Any, depth: int) -> Any:  # noqa: ANN401 - as above
        _check_depth(depth)
        frame, value, fields = self._frame, made(), made.thrift_spec
        while kind := frame[self._at]:
            (number,) = _INT16.unpack_from(frame, self._at + 1)
            self._at += 3
            field = fields.get(number)
            if field is None or field[0] != kind:
                self._skip(kind, depth - 1)
            else:
                setattr(value, field[1], self._value(kind, field[2], depth - 1))
        self._at += 1
        return value

    def _value(self, kind: int, of: Any, depth: int) -> Any:  # noqa: ANN401 - as the interface says
        """Reads a value.

        Args:
            kind: its Thrift type.
            of: as in thriftpy2's ``thrift_spec``: the class of a struct; the item type of a list or
                the pair of types of a map, each a type or a pair (type, `of`); otherwise unused.
            depth: how much deeper it may nest.
        """
        if kind == _STRING:
            return self._text()
        if kind in _NUMBERS:
            return self._number(_NUMBERS[kind])
        if kind == _STRUCT:
            return self._struct(of, depth)
        sides = [
            (side, None) if isinstance(side, int) else side
            for side in (of if kind == _MAP else (of,))
        ]
        count = self._count_of_items(kind, [side for side, _ in sides], depth)
        if kind == _MAP:
            (key, of_key), (item, of_item) = sides
            return {
                self._value(key, of_key, depth - 1): self._value(item, of_item, depth - 1)
                for _ in range(count)
            }
        ((item, of_item),) = sides
        return [self._value(item, of_item, depth - 1) for _ in range(count)]

    def _skip(self, kind: int, depth: int) -> None:
        """Skips a value of an unknown field."""
        if kind == _STRING:
            self._bytes()
        elif kind in _NUMBERS:
            self._number(_NUMBERS[kind])
        elif kind == _STRUCT:
            _check_depth(depth)
            while inner := self._frame[self._at]:
                self._at += 3
                self._skip(inner, depth - 1)
            self._at += 1
        elif kind in {_LIST, _SET, _MAP}:
            kinds = self._frame[self._at : self._at + (2 if kind == _MAP else 1)]
            count = self._count_of_items(kind, kinds, depth)
            for _ in range(count):
                for inner in kinds:
                    self._skip(inner, depth - 1)
        else:
            raise MalformedMessageError(f"{kind} is not a type")

    def _count_of_items(self, kind: int, kinds: Sequence[int], depth: int) -> int:
        """Reads the head of a list, set or map with items of these types."""
        _check_depth(depth)
        found = self._frame[self._at : self._at + len(kinds)]
        self._at += len(kinds)
        count = int(self._number(_INT32))
        if not 0 <= count <= len(self._frame) - self._at:  # each takes at least a byte
            raise MalformedMessageError(
                f"a container of {count} items in a message of {len(self._frame)} bytes"
            )
        if count and list(found) != list(kinds):
            raise MalformedMessageError(
                f"a container of type {kind} has items of types {list(found)}, not {list(kinds)}"
            )
        return count

    def _text(self) -> str:
        return self._bytes().decode()

    def _bytes(self) -> bytes:
        length = self._number(_INT32)
        start, end = self._at, self._at + length
        if not start <= end <= len(self._frame):
            raise MalformedMessageError(
                f"a string of {length} bytes in a message of {len(self._frame)}"
            )
        self._at = end
        return self._frame[start:end]

    def _number(self, layout: struct.Struct) -> Any:  # noqa: ANN401 - int, float or bool
        (number,) = layout.unpack_from(self._frame, self._at)
        self._at += layout.size
        return number


def _check_depth(depth: int) -> None:
    if depth <= 0:
        raise MalformedMessageError("nested too deeply")
