"""The metadata documents of the ModelDB V1 stand-in; texts and errors are the real server's."""

from __future__ import annotations

import pytest

from daemon.demo.modeldb_v1.metadata import MODEL_ID, Documents, parse_document
from daemon.demo.modeldb_v1.store import ServerError


def documents_with(*texts: str) -> Documents:
    """Each text the document of the model with its number, from 1."""
    documents = Documents()
    for number, text in enumerate(texts, 1):
        documents.insert({**parse_document(text), MODEL_ID: number})
    return documents


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "NullPointerException"),
        ("[1]", "IllegalArgumentException: BasicBSONList"),
        ("12", "ClassCastException"),
        ('{"a":1', "JSONParseException"),
        ('{"a":9223372036854775808}', "JSONParseException"),
        ('{"a":-Infinity}', "JSONParseException"),
        ('{"a":{"b":[{"c.d":1}]}}', "IllegalArgumentException: Invalid BSON field name c.d"),
        ('{"a":[{"$set":1}]}', "IllegalArgumentException: Invalid BSON field name \\$set"),
        ('{"a\\u0000b":1}', "BsonSerializationException: BSON cstring 'a\x00b' is not valid"),
    ],
)
def test_texts_that_are_refused(text: str, error: str) -> None:
    with pytest.raises(ServerError, match=error):
        documents_with(text)


@pytest.mark.parametrize(
    ("conditions", "found"),
    [
        ({}, True),
        ({"x": "1"}, True),
        ({"x": "2"}, False),
        ({"n": "v"}, False),
        ({"n.k": "v"}, True),
        ({"n.k.k": "v"}, False),
        ({"i": "1"}, False),
        ({"x": "1", "n.k": "v"}, True),
        ({"x": "1", "n.k": "w"}, False),
        ({"": "a"}, False),
    ],
)
def test_conditions(conditions: dict[str, str], *, found: bool) -> None:
    documents = documents_with('{"x": "1", "n": {"k": "v"}, "i": 1}')
    assert documents.model_ids(conditions) == ([1] if found else [])


def test_a_second_document_is_found_and_not_read() -> None:
    documents = documents_with('{"x": "1"}')
    documents.insert({"x": "2", MODEL_ID: 1})
    assert documents.model_ids({}) == [1, 1]
    assert documents.model_ids({"x": "2"}) == [1]
    assert '"x": "1"' in documents.printed_of(1)
