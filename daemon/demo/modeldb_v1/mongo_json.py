"""Metadata texts of ModelDB V1: how its MongoDB driver (3.4) reads them, and how it prints
documents.

Watched on the real server, text for text: names and strings in single quotes, names without quotes,
numbers with a plus or with leading zeros, a comma before a closing brace, bare NaN and anything
behind the object are taken; the caret of an error stands where the driver puts it. Of extended
JSON, ``$oid``, ``$date``, ``$numberLong`` and ``$undefined`` are interpreted; the rarer forms are
refused here as any name that begins with "$" is.
"""

from __future__ import annotations

import contextlib
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from daemon.demo.modeldb_v1.store import ServerError, null_pointer

Document = dict[str, Any]

_WHITE_SPACE: Final = " \t\n\r\v\f\x1c\x1d\x1e\x1f"
_NUMBER: Final = re.compile(r"[+-]?[0-9.eE+-]*")
_WHOLE: Final = re.compile(r"[+-]?[0-9]+")
_FRACTION: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")
_LONGS: Final = range(-(2**63), 2**63)
_ESCAPED: Final = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", '"': '"', "'": "'", "\\": "\\"}
_PRINTED: Final = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b"}
_OBJECT_ID: Final = re.compile(r"[0-9a-fA-F]{24}")
_HEXADECIMAL: Final = "0123456789abcdefABCDEF"
_CLASSES: Final = {str: "String", bool: "Boolean", float: "Double"}
_PLAIN: Final = (1e-3, 1e7)
"""Between these Java prints a number without an exponent."""


@dataclass(frozen=True, slots=True)
class ObjectId:
    text: str


@dataclass(frozen=True, slots=True)
class Moment:
    time: datetime


def parse_document(text: str) -> Document:
    """A metadata text as the document that it is stored as.

    Raises:
        ServerError: it is no JSON object.
    """
    value = _Parser(text.strip(_WHITE_SPACE + "\0")).whole() if text.strip(_WHITE_SPACE) else None
    if isinstance(value, dict):
        return value
    if value is None:
        raise null_pointer()
    if isinstance(value, list):
        raise ServerError(
            "IllegalArgumentException: BasicBSONList can only work with numeric keys, not: "
            "[MODELDB_model_id]"
        )
    if isinstance(value, ObjectId | Moment):
        raise ServerError(
            f"ClassCastException: class {type(value).__name__} cannot be cast to class "
            f"com.mongodb.DBObject"
        )
    name = _CLASSES.get(type(value)) or ("Integer" if -(2**31) <= value < 2**31 else "Long")
    raise ServerError(
        f"ClassCastException: class java.lang.{name} cannot be cast to class com.mongodb.DBObject "
        f"(java.lang.{name} is in module"
        " java.base of loader 'bootstrap'; com.mongodb.DBObject is in unnamed module of loader "
        "'app')"
    )


def check_names(document: Document) -> None:
    """Raises `ServerError` for a name, at any depth, that the driver does not insert."""
    for name, value in document.items():
        if "." in name or name.startswith("$"):
            raise ServerError(f"IllegalArgumentException: Invalid BSON field name {name}")
        if "\0" in name:
            where = f"because it contains a null character at index {name.index(chr(0))}"
            raise ServerError(
                f"BsonSerializationException: BSON cstring '{name}' is not valid {where}"
            )
        _check_names_in(value)


def _check_names_in(value: object) -> None:
    if isinstance(value, dict):
        check_names(value)
    elif isinstance(value, list):
        for item in value:
            _check_names_in(item)


def printed(value: object) -> str:
    """A document or a value in one as the driver prints it."""
    match value:
        case None:
            text = " null "
        case bool():
            text = "true" if value else "false"
        case int():
            text = str(value)
        case float():
            text = printed_double(value)
        case str():
            text = f'"{"".join(_PRINTED.get(sign, sign if sign >= " " else "") for sign in value)}"'
        case ObjectId():
            text = f'{{ "$oid" : "{value.text}"}}'
        case Moment():
            text = f'{{ "$date" : "{value.time:%Y-%m-%dT%H:%M:%S}.{value.time.microsecond // 1000:03}Z"}}'  # noqa: E501
        case list():
            text = f"[ {' , '.join(printed(item) for item in value)}]"
        case dict():
            text = f"{{ {' , '.join(f'{printed(name)} : {printed(item)}' for name, item in value.items())}}}"  # noqa: E501
        case _:
            raise TypeError(f"{value!r} is not in a document")
    return text


def printed_double(value: float) -> str:
    """A number as Java prints a double."""
    if math.isnan(value) or math.isinf(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    smallest, limit = _PLAIN
    if value == 0 or smallest <= abs(value) < limit:
        return repr(value)
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    first, *rest = map(str, digits)
    return f"{'-' if sign else ''}{first}.{''.join(rest) or '0'}E{int(exponent) + len(digits) - 1}"


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def whole(self) -> Any:  # noqa: ANN401 - any value of a document
        return self._value()

    def _error(self, at: int | None = None) -> ServerError:
        return ServerError(
            f"JSONParseException: \n{self._text}\n{' ' * (self._at if at is None else at)}^"
        )

    def _next(self) -> str:
        """The next character that is no white space; "" at the end."""
        while self._at < len(self._text) and self._text[self._at] in _WHITE_SPACE:
            self._at += 1
        return self._text[self._at : self._at + 1]

    def _read(self, characters: str) -> None:
        for character in characters:
            if self._next() != character:
                raise self._error()
            self._at += 1

    def _value(self) -> Any:  # noqa: ANN401 - any value of a document
        words = {
            "t": ("true", True),
            "f": ("false", False),
            "n": ("null", None),
            "N": ("NaN", math.nan),
        }
        match self._next():
            case "{":
                return self._object()
            case "[":
                return self._list()
            case '"' | "'":
                return self._string()
            case "t" | "f" | "n" | "N" as first:
                word, value = words[first]
                self._read(word)
                return value
            case character if character and character in "+-0123456789":
                return self._number()
        raise self._error()

    def _object(self) -> Any:  # noqa: ANN401 - a document, or what extended JSON makes of it
        self._read("{")
        document: Document = {}
        while self._next() != "}":
            name = self._string()
            self._read(":")
            document[name] = self._value()
            if self._next() != ",":
                break
            self._read(",")
        self._read("}")
        return _extended(document)

    def _list(self) -> list[Any]:
        self._read("[")
        items = []
        if self._next() != "]":
            items.append(self._value())
            while self._next() == ",":
                self._read(",")
                items.append(self._value())
        self._read("]")
        return items

    def _number(self) -> int | float:
        start = self._at
        found = _NUMBER.match(self._text, start)
        literal = found[0] if found else ""
        self._at += len(literal)
        if _WHOLE.fullmatch(literal) and int(literal) in _LONGS:
            return int(literal)
        if _FRACTION.fullmatch(literal) and not _WHOLE.fullmatch(literal):
            return float(literal)
        raise self._error(start)

    def _string(self) -> str:
        """Also a name without quotes, which ends at a colon or a space."""
        quote = self._next() if self._next() in {"'", '"'} else ""
        self._at += len(quote)
        ends = quote or ": "
        signs = []
        while self._at < len(self._text) and self._text[self._at] not in ends:
            sign = self._text[self._at]
            self._at += 1
            signs.append(self._escape() if sign == "\\" else sign)
        self._read(quote)
        # Java's strings are UTF-16, and half a pair becomes U+FFFD in the database.
        return "".join(signs).encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    def _escape(self) -> str:
        sign = self._next()
        self._at += 1
        if sign != "u":
            return _ESCAPED.get(sign, sign)
        start = self._at
        while self._at < start + 4:
            if self._text[self._at : self._at + 1] not in _HEXADECIMAL or self._at >= len(
                self._text
            ):
                raise self._error()
            self._at += 1
        return chr(int(self._text[start : self._at], 16))


def _extended(document: Document) -> Any:  # noqa: ANN401 - a document, or the value that it stands for
    if "$oid" in document:
        text = document["$oid"]
        if not isinstance(text, str) or not _OBJECT_ID.fullmatch(text):
            raise ServerError(
                f"IllegalArgumentException: invalid hexadecimal representation of an ObjectId: "
                f"[{text}]"
            )
        return ObjectId(text.lower())
    if "$date" in document:
        return _moment(document["$date"])
    if "$numberLong" in document:
        text = document["$numberLong"]
        if not isinstance(text, str):
            raise ServerError(
                "ClassCastException: class java.lang.Integer cannot be cast to class "
                "java.lang.String (…)"
            )
        if not _WHOLE.fullmatch(text) or int(text) not in _LONGS:
            raise ServerError(f'NumberFormatException: For input string: "{text}"')
        return int(text)
    return None if "$undefined" in document else document


def _moment(value: object) -> Moment | None:
    if isinstance(value, int):
        return Moment(datetime.fromtimestamp(value / 1000, UTC))
    for form in ("%Y-%m-%dT%H:%M:%S.%fZ", "%Y-%m-%dT%H:%M:%SZ"):
        with contextlib.suppress(ValueError):
            return Moment(datetime.strptime(str(value), form).replace(tzinfo=UTC))
    return None
