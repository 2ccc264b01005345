"""The metadata documents of the ModelDB V1 stand-in; texts and errors are the real server's."""

from __future__ import annotations

import pytest

from daemon.demo.modeldb_v1.metadata import MODEL_ID, Documents, cast_value, parse_document
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


def test_a_field_is_set_in_the_first_document_only() -> None:
    documents = documents_with('{"x": {"y": 1}}')
    documents.insert({"x": {"y": 2}, MODEL_ID: 1})
    assert documents.set_field(1, "x.y", 3)
    assert documents.set_field(1, "n.k", "v")
    assert [(each["x"], each.get("n")) for each in documents] == [
        ({"y": 3}, {"k": "v"}),
        ({"y": 2}, None),
    ]


def test_a_model_without_a_document_gets_none_by_a_field() -> None:
    documents = documents_with('{"x": 1}')
    assert not documents.set_field(2, "x", 2)
    assert documents.model_ids({}) == [1]


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("a", "string", "a"),
        ("7", "int", 7),
        ("-7", "long", -7),
        ("0.5", "double", 0.5),
        ("TRUE", "bool", True),
        ("yes", "bool", False),
    ],
)
def test_values_of_fields(text: str, kind: str, value: object) -> None:
    assert cast_value(text, kind) == value


@pytest.mark.parametrize(
    ("text", "kind", "error"),
    [
        ("x", "int", 'NumberFormatException: For input string: "x"'),
        ("1", "byte", "IllegalArgumentException: Unsupported value type: byte"),
    ],
)
def test_values_that_are_none(text: str, kind: str, error: str) -> None:
    with pytest.raises(ServerError, match=error):
        cast_value(text, kind)


def test_a_dropped_collection_is_empty() -> None:
    documents = documents_with("{}", "{}")
    documents.clear()
    assert list(documents) == []
