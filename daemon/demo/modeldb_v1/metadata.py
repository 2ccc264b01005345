"""The metadata documents of the ModelDB V1 stand-in: what the server keeps in MongoDB, and its
calls for them.

Watched on the real server with a look-alike of MongoDB behind it: a model may have several
documents, of which reads and changes see the first; a search finds all. A condition is the equality
of a text, its name may lead into documents and lists by dots.

Unlike it: a condition whose name begins with "$" finds nothing, changes of ``_id`` and of names
that begin with "$" are not refused, a time must be one that Python reads, and a list in the text of
an error is printed as in a document.
"""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from daemon.demo.modeldb_v1.mongo_json import Moment, ObjectId, check_names, printed
from daemon.demo.modeldb_v1.store import ServerError, null_pointer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from daemon.demo.modeldb_v1.mongo_json import Document

MODEL_ID = "MODELDB_model_id"

_WHOLE = re.compile(r"[+-]?[0-9]+", re.ASCII)
_FRACTION = re.compile(
    r"([+-]?)(NaN|Infinity|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)[dDfF]?", re.ASCII
)
_BITS = {"int": 31, "long": 63}


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
        own_id = document.get("_id", ObjectId(secrets.token_hex(12)))
        if any(other["_id"] == own_id for other in self._documents):
            shown = own_id.text if isinstance(own_id, ObjectId) else printed(own_id)
            error = (
                f"E11000 duplicate key error collection: modeldb_metadata.model_metadata index: "
                f"_id_ dup "
                f"key: {{ _id: {shown} }}"
            )
            raise ServerError(
                f"DuplicateKeyException: Write failed with error code 11000 and error message "
                f"'{error}'"
            )
        self._documents.append(
            {"_id": own_id, **{name: value for name, value in document.items() if name != "_id"}}
        )

    def printed_of(self, model_id: int) -> str:
        """A model's first document as the driver prints it; "" when it has none."""
        document = self._first(model_id)
        return "" if document is None else printed(document)

    def model_ids(self, conditions: Mapping[str, str]) -> list[int]:
        """Of the documents that meet every condition."""
        return [
            document[MODEL_ID]
            for document in self._documents
            if all(
                value in _reached(document, name.split(".")) for name, value in conditions.items()
            )
        ]

    def set_scalar(
        self, model_id: int, name: str | None, value: str | None, kind: str | None
    ) -> bool:
        """Sets a field; dots in the name lead into documents and lists. False: the model has no
        document.

        Raises:
            ServerError: the value is none of its kind, or what the name leads into is a plain
                value.
        """
        typed = _typed(value, kind)
        document = self._first(model_id)
        if document is None:
            return False
        _set(document, _given(name).split("."), typed)
        return True

    def create_vector(self, model_id: int, name: str | None) -> bool:
        """Sets a field to an empty list, in the first document that lacks it; False: there is
        none.
        """
        path = _given(name, "IllegalArgumentException: BSON field name can not be null").split(".")
        of_model = (document for document in self._documents if document[MODEL_ID] == model_id)
        document = next(
            (document for document in of_model if not list(_reached(document, path))), None
        )
        if document is None:
            return False
        _set(document, path, [])
        return True

    def append_to_vector(
        self, model_id: int, name: str | None, value: str | None, kind: str | None
    ) -> bool:
        """Adds a value to a list, which need not exist. False: the model has no document, or the
        field is no list.
        """
        typed = _typed(value, kind)
        document = self._first(model_id)
        if document is None:
            return False
        path = _given(name).split(".")
        vector = next(_reached(document, path), None)
        if vector is None:
            _set(document, path, [typed])
        elif isinstance(vector, list):
            vector.append(typed)
        else:
            return False
        return True

    def _first(self, model_id: int) -> Document | None:
        return next(
            (document for document in self._documents if document[MODEL_ID] == model_id), None
        )


def _given(text: str | None, otherwise: str = "NullPointerException: null") -> str:
    if text is None:
        raise ServerError(otherwise)
    return text


def _typed(value: str | None, kind: str | None) -> Any:  # noqa: ANN401 - a value of a document
    """A field call's value; raises `ServerError` when it is none of its kind."""
    if value is None or kind is None:
        raise null_pointer()
    match kind:
        case "string":
            return value
        case "int" | "long":
            if (
                not _WHOLE.fullmatch(value)
                or not -(2 ** _BITS[kind]) <= int(value) < 2 ** _BITS[kind]
            ):
                raise ServerError(f'NumberFormatException: For input string: "{value}"')
            return int(value)
        case "double":
            found = _FRACTION.fullmatch(value.strip())
            if found is None:
                raise ServerError(
                    f"NumberFormatException: "
                    f"{f'For input string: {chr(34)}{value}{chr(34)}' if value else 'empty String'}"
                )
            return float(found[1] + found[2])
        case "bool":
            return value.lower() == "true"
        case "datetime":
            try:
                moment = datetime.fromisoformat(value)
            except ValueError as error:
                raise ServerError(f'IllegalArgumentException: Invalid format: "{value}"') from error
            return Moment(moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC))
    raise ServerError(f"IllegalArgumentException: Unsupported value type: {kind}")


def _reached(value: object, path: Sequence[str]) -> Iterator[object]:
    """What a path leads to: in a list, by a number or into every item; of a list itself also its
    items.
    """
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


def _set(document: Document, path: Sequence[str], value: object) -> None:
    holder: Any = document
    before = ""
    for name, following in zip(path, [*path[1:], None], strict=True):
        if isinstance(holder, list) and name.isdecimal():
            holder.extend([None] * (int(name) + 1 - len(holder)))
            key: str | int = int(name)
        elif isinstance(holder, dict):
            key = name
        else:
            error = f"Cannot create field '{name}' in element {{{before}: {printed(holder)}}}"
            raise ServerError(
                f"WriteConcernException: Write failed with error code 28 and error message "
                f"'{error}'"
            )
        if following is None:
            holder[key] = value
            return
        if isinstance(holder, dict):
            holder.setdefault(name, {})
        holder, before = holder[key], name
