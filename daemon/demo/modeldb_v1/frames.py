"""How the ModelDB V1 stand-in reads requests: as Thrift for Java does it, forgiving where the
daemon's own codec is strict.

Watched on the real server: the frames of a connection are one stream of bytes (a message may be
longer than its frame, and what follows a message in its frame is the start of the next one), texts
that are not UTF-8 get U+FFFD in them, unknown fields and fields of another type are skipped,
numbers that are unset are 0, an enum's unknown number is null. A message with the version word is
read, and one without; any other version ends the connection.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from daemon.targets.modeldb_v1.codec import INTERFACE, METHODS, Call

LARGEST_FRAME: Final = 16_384_000
"""In bytes, without its length."""

_BOOL, _BYTE, _DOUBLE, _I16, _I32, _I64, _STRING, _STRUCT, _MAP, _SET, _LIST = (
    2,
    3,
    4,
    6,
    8,
    10,
    11,
    12,
    13,
    14,
    15,
)
_NUMBERS = {
    _BOOL: struct.Struct("!?"),
    _BYTE: struct.Struct("!b"),
    _DOUBLE: struct.Struct("!d"),
    _I16: struct.Struct("!h"),
    _I32: struct.Struct("!i"),
    _I64: struct.Struct("!q"),
}
_ZEROS = {_BOOL: False, _DOUBLE: 0.0, _I32: 0}
_VERSION_1 = 0x8001_0000 - (1 << 32)
_VERSION_BITS = -0x1_0000
_WITH_DETAIL = 4
"""How many members thriftpy2's description of a field has, when a detail is one of them."""


class IncompleteMessageError(Exception):
    """The message goes on in the next frame."""


class BrokenMessageError(Exception):
    """The server closes the connection."""


def read_call(data: bytes) -> tuple[Call, int]:
    """The first message of a stream, and how many bytes it takes.

    An argument that was not sent is None, or 0 where Java has no null. The arguments of an unknown
    method are skipped.

    Raises:
        IncompleteMessageError: more bytes are needed.
        BrokenMessageError: no message begins so.
    """
    reader = _Reader(data)
    first = reader.number(_I32)
    if first < 0 and first & _VERSION_BITS != _VERSION_1:
        raise BrokenMessageError
    if first < 0:
        method = reader.text()
    else:
        method = reader.text(first)
        reader.number(_BYTE)  # the message's type: a oneway call is answered as well
    sequence_id = reader.number(_I32)
    if method not in METHODS:
        reader.skip(_STRUCT)
        return Call(method, sequence_id, {}), reader.at
    arguments = reader.structure(getattr(INTERFACE.ModelDBService, f"{method}_args"))
    return Call(
        method,
        sequence_id,
        {name: getattr(arguments, name) for _, name, *_ in arguments.thrift_spec.values()},
    ), reader.at


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.at = 0
        self._data = data

    def number(self, kind: int) -> Any:  # noqa: ANN401 - an int, a float or a bool, as the kind says
        form = _NUMBERS[kind]
        return form.unpack(self._take(form.size))[0]

    def text(self, length: int | None = None) -> str:
        if length is None:
            length = self.number(_I32)
        return self._take(length).decode(errors="replace")

    def structure(self, form: Any) -> Any:  # noqa: ANN401 - a class of the interface, and an object of it
        thing = form()
        while kind := self.number(_BYTE):
            declared = form.thrift_spec.get(self.number(_I16))
            if declared is None or declared[0] != kind:
                self.skip(kind)
            else:
                setattr(thing, declared[1], self._value(kind, _detail(declared)))
        for declared in form.thrift_spec.values():
            kind, name, *_ = declared
            if kind in _ZEROS and getattr(thing, name) is None and _detail(declared) is None:
                setattr(thing, name, _ZEROS[kind])
        return thing

    def skip(self, kind: int) -> None:
        if kind in _NUMBERS:
            self.number(kind)
        elif kind == _STRING:
            self._take(self.number(_I32))
        elif kind == _STRUCT:
            while field := self.number(_BYTE):
                self.number(_I16)
                self.skip(field)
        elif kind == _MAP:
            kinds = self.number(_BYTE), self.number(_BYTE)
            for _ in range(self._count()):
                for each in kinds:
                    self.skip(each)
        elif kind in {_LIST, _SET}:
            item = self.number(_BYTE)
            for _ in range(self._count()):
                self.skip(item)
        else:
            raise BrokenMessageError

    def _value(self, kind: int, detail: Any) -> Any:  # noqa: ANN401 - any value of the interface, and what it declares of it
        if kind == _STRING:
            return self.text()
        if kind == _STRUCT:
            return self.structure(detail)
        if kind == _LIST:
            self.number(_BYTE)
            inner, more = detail if isinstance(detail, tuple) else (detail, None)
            return [self._value(inner, more) for _ in range(self._count())]
        if kind == _MAP:
            self.number(_BYTE), self.number(_BYTE)
            return {
                self._value(detail[0], None): self._value(detail[1], None)
                for _ in range(self._count())
            }
        number = self.number(kind)
        return number if detail is None or number in detail._VALUES_TO_NAMES else None  # noqa: SLF001 - thriftpy2's way to ask

    def _count(self) -> int:
        count: int = self.number(_I32)
        if count < 0:
            raise BrokenMessageError
        return count

    def _take(self, length: int) -> bytes:
        if length < 0:
            raise BrokenMessageError
        start, self.at = self.at, self.at + length
        if self.at > len(self._data):
            raise IncompleteMessageError
        return self._data[start : self.at]


def _detail(declared: tuple[Any, ...]) -> Any:  # noqa: ANN401 - what thriftpy2 keeps of a type beside its kind
    """Of a field of a struct: its class; of a list or a map: what is in it."""
    return declared[2] if len(declared) == _WITH_DETAIL else None
