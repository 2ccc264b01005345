"""Messages of ModelDB V1: Thrift's binary protocol, from and to the structs of
``modeldb_v1.thrift``.

thriftpy2 parses the interface and writes messages. Its reader trusts what it reads: of a message
that is cut short, or in which a length or a type is a lie, it makes garbage, or gigabytes. So
messages are read here.
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
    """Bytes that are no message of this interface."""


@dataclass(frozen=True, slots=True)
class ApplicationException:
    """The server's answer to a call that it could not carry out at all."""

    number: int
    """`UNKNOWN_METHOD`, or `INTERNAL_ERROR`: one that the interface does not declare. Thrift knows
    more; the server sends no other."""
    message: str


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: a result, or an exception."""

    method: str
    sequence_id: int
    result: Any
    """None if and only if there is an exception."""
    exception: Any
    """None, an exception struct of the interface, or an `ApplicationException`."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request."""

    method: str
    sequence_id: int
    arguments: Mapping[str, Any]
    """By the names of the interface; one that was not sent is None."""


def encode_call(method: str, arguments: Mapping[str, object], sequence_id: int) -> bytes:
    """A request as one frame without its length.

    Args:
        method: one of `METHODS`.
        arguments: by the names of the interface; one that is left out or None is not sent.
        sequence_id: comes back with the answer; 32 bits with sign.

    Raises:
        ValueError: a value does not fit its field; the text names the field, never the value.
    """
    return _written(method, TMessageType.CALL, sequence_id, _struct_of(method, "args")(**arguments))


def decode_reply(frame: bytes) -> Reply:
    """An answer from one frame without its length.

    Raises:
        MalformedMessageError: it is no answer of this interface.
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
        raise MalformedMessageError(f"a message of type {kind} is no answer")
    answer = reader.whole(_struct_of(method, "result"))
    for _, name, *_ in answer.thrift_spec.values():
        if name != "success" and (exception := getattr(answer, name)) is not None:
            return Reply(method, sequence_id, None, exception)
    if answer.success is None:
        raise MalformedMessageError(f"the answer of {method} has neither a result nor an exception")
    return Reply(method, sequence_id, answer.success, None)


def decode_call(frame: bytes) -> Call:
    """A request from one frame without its length; what a server reads.

    Raises:
        MalformedMessageError: it is no request of this interface.
    """
    reader = _Reader(frame)
    method, kind, sequence_id = reader.header()
    if kind not in {TMessageType.CALL, TMessageType.ONEWAY}:
        raise MalformedMessageError(f"a message of type {kind} is no request")
    arguments = reader.whole(_struct_of(method, "args"))
    return Call(
        method,
        sequence_id,
        {name: getattr(arguments, name) for _, name, *_ in arguments.thrift_spec.values()},
    )


def encode_reply(method: str, sequence_id: int, result: object) -> bytes:
    """An answer with a result; what a server writes."""
    return _written(
        method, TMessageType.REPLY, sequence_id, _struct_of(method, "result")(success=result)
    )


def encode_exception(method: str, sequence_id: int, exception: object) -> bytes:
    """An answer with an exception that the method declares.

    Raises:
        ValueError: it does not.
    """
    answer = _struct_of(method, "result")
    for _, name, declared, *_ in answer.thrift_spec.values():
        if name != "success" and isinstance(exception, declared):
            return _written(method, TMessageType.REPLY, sequence_id, answer(**{name: exception}))
    raise ValueError(f"{method} does not declare {type(exception).__name__}")


def encode_application_exception(
    method: str, sequence_id: int, exception: ApplicationException
) -> bytes:
    """An answer to a call that could not be carried out at all; the method need not be one of
    `METHODS`.
    """
    return _written(
        method,
        TMessageType.EXCEPTION,
        sequence_id,
        TApplicationException(exception.number, exception.message),
    )


def plain(value: Any) -> Any:  # noqa: ANN401 - any value of the interface
    """A value of the interface as JSON data: fields that are unset left out, NaN and infinities as
    words, map keys as text.
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
        raise MalformedMessageError(f"{method[:80]!r} is no method of this interface")
    return getattr(INTERFACE.ModelDBService, f"{method}_{part}")


def _written(method: str, kind: int, sequence_id: int, body: Any) -> bytes:  # noqa: ANN401 - a Thrift struct
    memory = TCyMemoryBuffer()
    protocol = TCyBinaryProtocol(memory)
    protocol.write_message_begin(method, kind, sequence_id)
    try:
        protocol.write_struct(body)
    except TDecodeException as error:
        # its own text holds the value, and so would the traceback of a cause
        raise ValueError(
            f"{error.struct_name}.{error.field} must be {error.type_repr}, in range and in Unicode"
        ) from None
    protocol.write_message_end()
    return bytes(memory.getvalue())


_VERSION_1 = 0x8001_0000
_DEEPEST = 16
"""The interface nests 6 deep."""
_LEAST_BYTES_OF_STRUCTS = 16
"""On average: empty structs take a byte each in a message and some hundred in memory."""
_SPARE_STRUCTS = 1_000

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

    Every length is held against what is left of the message before anything is made of it. A field
    of another type than the interface says is passed over, as Thrift does; within a list or a map
    that is an error.
    """

    __slots__ = ("_at", "_frame", "_structs_left")

    def __init__(self, frame: bytes) -> None:
        self._frame = frame
        self._at = 0
        self._structs_left = _SPARE_STRUCTS + len(frame) // _LEAST_BYTES_OF_STRUCTS

    def header(self) -> tuple[str, int, int]:
        """Method, message type and sequence id."""
        try:
            first = self._number(_INT32)
            if first & 0xFFFF_0000 != _VERSION_1:
                raise MalformedMessageError(
                    f"not Thrift's binary protocol, version 1: it begins with {self._frame[:8]!r}"
                )
            return self._text(), first & 0xFF, self._number(_INT32)
        except (struct.error, UnicodeDecodeError) as error:
            raise MalformedMessageError(
                f"cut short or garbled: it begins with {self._frame[:8]!r}"
            ) from error

    def whole(self, made: Any) -> Any:  # noqa: ANN401 - a class that thriftpy2 made, and an instance of it
        """The body, with which the message must end."""
        try:
            body = self._struct(made, _DEEPEST)
        except (struct.error, IndexError) as error:
            raise MalformedMessageError("the message is cut short") from error
        except UnicodeDecodeError as error:
            raise MalformedMessageError("a text is not UTF-8") from error
        if self._at != len(self._frame):
            raise MalformedMessageError(f"{len(self._frame) - self._at} bytes follow the message")
        return body

    def _struct(self, made: Any, depth: int) -> Any:  # noqa: ANN401 - as above
        self._count_struct(depth)
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
        """A value.

        Args:
            kind: its type.
            of: the class of a struct; what a list or a map is of: a type, or a pair of a type and
                this again. Else of no meaning.
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
        """Passes over a value that this interface does not know."""
        if kind == _STRING:
            self._bytes()
        elif kind in _NUMBERS:
            self._number(_NUMBERS[kind])
        elif kind == _STRUCT:
            self._count_struct(depth)
            while inner := self._frame[self._at]:
                self._at += 3
                self._skip(inner, depth - 1)
            self._at += 1
        elif kind in {_LIST, _SET, _MAP}:
            kinds = self._frame[self._at : self._at + (2 if kind == _MAP else 1)]
            count = self._count_of_items(kind, kinds, depth)
            if all(inner in _NUMBERS for inner in kinds):  # at once: there can be millions
                self._at += count * sum(_NUMBERS[inner].size for inner in kinds)
            else:
                for _ in range(count):
                    for inner in kinds:
                        self._skip(inner, depth - 1)
        else:
            raise MalformedMessageError(f"{kind} is no type")

    def _count_of_items(self, kind: int, kinds: Sequence[int], depth: int) -> int:
        """How many items of these types a list, set or map says that it has."""
        if depth <= 0:
            raise MalformedMessageError("nested too deeply")
        found = self._frame[self._at : self._at + len(kinds)]
        self._at += len(kinds)
        count = int(self._number(_INT32))
        if not 0 <= count <= len(self._frame) - self._at:  # each takes a byte at least
            raise MalformedMessageError(
                f"a container of {count} items in a message of {len(self._frame)} bytes"
            )
        if count and list(found) != list(kinds):
            raise MalformedMessageError(
                f"a container of type {kind} has items of types {list(found)}, not {list(kinds)}"
            )
        return count

    def _count_struct(self, depth: int) -> None:
        if depth <= 0:
            raise MalformedMessageError("nested too deeply")
        self._structs_left -= 1
        if self._structs_left < 0:
            raise MalformedMessageError("more structs than a message of its length can hold")

    def _text(self) -> str:
        return self._bytes().decode()

    def _bytes(self) -> bytes:
        length = self._number(_INT32)
        start, end = self._at, self._at + length
        if not start <= end <= len(self._frame):
            raise MalformedMessageError(
                f"a text of {length} bytes in a message of {len(self._frame)}"
            )
        self._at = end
        return self._frame[start:end]

    def _number(self, layout: struct.Struct) -> Any:  # noqa: ANN401 - int, float or bool
        (number,) = layout.unpack_from(self._frame, self._at)
        self._at += layout.size
        return number
