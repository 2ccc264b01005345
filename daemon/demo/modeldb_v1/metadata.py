"""The metadata documents of the ModelDB V1 stand-in: what the server keeps in MongoDB.

As on the real server, a model may have several documents: reads see the first, a search finds all.
A condition is the equality of a text; dots in its name lead into documents.

Unlike the real server, a text must be strict JSON: the driver's own dialect (names without quotes,
extended JSON) is refused, with fewer words than the driver has. Documents are printed as plain
JSON, an ``_id`` in a text need not be unique, and conditions do not look into lists.
"""

from __future__ import annotations

import json
import math
import secrets
from typing import TYPE_CHECKING, Any, Final

from daemon.demo.modeldb_v1.store import ServerError, null_pointer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Document = dict[str, Any]
MODEL_ID = "MODELDB_model_id"

_LONGS: Final = range(-(2**63), 2**63)


class Documents:
    """All of them, in the order in which they were stored."""

    def __init__(self) -> None:
        self._documents: list[Document] = []

    def __iter__(self) -> Iterator[Document]:
        return iter(self._documents)

    def insert(self, document: Document) -> None:
        """Adds a document that has its model's id; raises `ServerError` for a name in it."""
        check_names(document)
        self._documents.append({"_id": {"$oid": secrets.token_hex(12)}, **document})

    def clear(self) -> None:
        """Drops the collection."""
        self._documents.clear()

    def set_field(self, model_id: int, name: str, value: object) -> bool:
        """Sets a member of a model's first document; False: it has none."""
        document = next((each for each in self._documents if each[MODEL_ID] == model_id), None)
        if document is None:
            return False
        *path, last = name.split(".")
        inner: Document = document
        for each in path:
            inner = inner.setdefault(each, {})
        inner[last] = value
        return True

    def printed_of(self, model_id: int) -> str:
        """A model's first document as JSON; "" when it has none."""
        found = (document for document in self._documents if document[MODEL_ID] == model_id)
        document = next(found, None)
        return "" if document is None else json.dumps(document, ensure_ascii=False)

    def model_ids(self, conditions: Mapping[str, str]) -> list[int]:
        """The model ids of the documents that meet every condition."""
        return [
            document[MODEL_ID]
            for document in self._documents
            if all(_member(document, name) == value for name, value in conditions.items())
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


def cast_value(text: str, value_type: str) -> object:
    """The value of a field that is set by itself; "datetime" is not imitated.

    Raises:
        ServerError: the type is unknown, or the text is none of it.
    """
    match value_type:
        case "string":
            return text
        case "bool":
            return text.lower() == "true"
        case "int" | "long" | "double":
            try:
                return float(text) if value_type == "double" else int(text)
            except ValueError as error:
                raise ServerError(f'NumberFormatException: For input string: "{text}"') from error
    raise ServerError(f"IllegalArgumentException: Unsupported value type: {value_type}")


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


def _member(document: Document, name: str) -> object:
    value: object = document
    for each in name.split("."):
        value = value.get(each) if isinstance(value, dict) else None
    return value
