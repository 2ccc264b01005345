"""The metadata documents of the ModelDB V1 stand-in: what the server keeps in MongoDB.

As on the real server, a model may have several documents: reads see the first, a search finds all.
A condition is the equality of a text; dots in its name lead into documents and lists. Documents are
printed as its MongoDB driver (3.4) prints them.

Unlike the real server, a text must be strict JSON: the driver's own dialect (names without quotes,
extended JSON) is refused, with fewer words than the driver has.
"""

from __future__ import annotations

import json
import math
import secrets
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from daemon.demo.modeldb_v1.store import ServerError, null_pointer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Document = dict[str, Any]
MODEL_ID = "MODELDB_model_id"

_LONGS: Final = range(-(2**63), 2**63)
_WORDS: Final = {None: " null ", True: "true", False: "false"}
_PRINTED: Final = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b"}
_PLAIN: Final = (1e-3, 1e7)
"""Between these Java prints a number without an exponent."""


class Documents:
    """All of them, in the order in which they were stored."""

    def __init__(self) -> None:
        self._documents: list[Document] = []

    def __iter__(self) -> Iterator[Document]:
        return iter(self._documents)

    def insert(self, document: Document) -> None:
        """Adds a document that has its model's id; gives it an ``_id`` if it has none.

        Raises:
            ServerError: a name in it, or an ``_id`` that is taken.
        """
        check_names(document)
        own_id = document.get("_id", {"$oid": secrets.token_hex(12)})
        if any(other["_id"] == own_id for other in self._documents):
            raise ServerError(
                "DuplicateKeyException: Write failed with error code 11000 and error message "
                "'E11000 duplicate key error collection: modeldb_metadata.model_metadata index: "
                f"_id_ dup key: {{ _id: {printed(own_id)} }}'"
            )
        self._documents.append(
            {"_id": own_id, **{name: value for name, value in document.items() if name != "_id"}}
        )

    def printed_of(self, model_id: int) -> str:
        """A model's first document as the driver prints it; "" when it has none."""
        found = (document for document in self._documents if document[MODEL_ID] == model_id)
        document = next(found, None)
        return "" if document is None else printed(document)

    def model_ids(self, conditions: Mapping[str, str]) -> list[int]:
        """The model ids of the documents that meet every condition."""
        return [
            document[MODEL_ID]
            for document in self._documents
            if all(
                value in _reached(document, name.split(".")) for name, value in conditions.items()
            )
        ]


def parse_document(text: str) -> Document:
    """The document that a metadata text is stored as.

    Raises:
        ServerError: it is no JSON object, or has a number that the driver does not read.
    """
    try:
        value = json.loads(text, parse_int=_long, parse_constant=_nan) if text else None
    except ValueError as error:
        raise ServerError(f"JSONParseException: \n{text}") from error
    if value is None:
        raise null_pointer()
    if isinstance(value, list):
        raise ServerError(
            "IllegalArgumentException: BasicBSONList can only work with numeric keys, "
            f"not: [{MODEL_ID}]"
        )
    if not isinstance(value, dict):
        raise ServerError("ClassCastException: the value cannot be cast to com.mongodb.DBObject")
    return value


def _long(text: str) -> int:
    number = int(text)
    if number not in _LONGS:
        raise ValueError
    return number


def _nan(text: str) -> float:
    if text != "NaN":
        raise ValueError
    return math.nan


def check_names(value: object) -> None:
    """Raises `ServerError` for a name, at any depth, that the driver does not insert."""
    if isinstance(value, list):
        for item in value:
            check_names(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            if "." in name or name.startswith("$"):
                raise ServerError(f"IllegalArgumentException: Invalid BSON field name {name}")
            if "\0" in name:
                where = f"because it contains a null character at index {name.index(chr(0))}"
                raise ServerError(
                    f"BsonSerializationException: BSON cstring '{name}' is not valid {where}"
                )
            check_names(item)


def printed(value: object) -> str:
    """A document, or a value in one, as the driver prints it."""
    match value:
        case None | bool():
            return _WORDS[value]
        case int():
            return str(value)
        case float():
            return printed_double(value)
        case list():
            return f"[ {' , '.join(map(printed, value))}]"
        case dict():
            members = [f"{printed(name)} : {printed(item)}" for name, item in value.items()]
            return f"{{ {' , '.join(members)}}}"
    signs = (_PRINTED.get(sign, sign if sign >= " " else "") for sign in str(value))
    return f'"{"".join(signs)}"'


def printed_double(value: float) -> str:
    """A number as Java prints a double."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    smallest, limit = _PLAIN
    if value == 0 or smallest <= abs(value) < limit:
        return repr(value)
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    first, *rest = map(str, digits)
    return f"{'-' if sign else ''}{first}.{''.join(rest) or '0'}E{int(exponent) + len(digits) - 1}"


def _reached(value: object, path: Sequence[str]) -> Iterator[object]:
    """What a path leads to: in a list, by a number or into every item; of a list also its items."""
    if not path:
        yield value
        if isinstance(value, list):
            yield from value
        return
    name, *rest = path
    if isinstance(value, dict) and name in value:
        yield from _reached(value[name], rest)
    if isinstance(value, list):
        if name.isdecimal() and int(name) < len(value):
            yield from _reached(value[int(name)], rest)
        for item in value:
            if isinstance(item, dict):
                yield from _reached(item, path)
