"""The metadata documents of the ModelDB V1 stand-in; texts and errors are the real server's."""

from __future__ import annotations

import pytest

from daemon.demo.modeldb_v1.metadata import (
    MODEL_ID,
    Documents,
    parse_document,
    printed,
    printed_double,
)
from daemon.demo.modeldb_v1.store import ServerError


def documents_with(*texts: str) -> Documents:
    """Each text the document of the model with its number, from 1."""
    documents = Documents()
    for number, text in enumerate(texts, 1):
        documents.insert({**parse_document(text), MODEL_ID: number})
    return documents


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"a":"\\f\\b\\t\\r\'"}', '{ "a" : "\\b\\t\\r\'"}'),
        ('{"a":1,"b":[{"k":"v"}, 2.50, "s"]}', '{ "a" : 1 , "b" : [ { "k" : "v"} , 2.5 , "s"]}'),
        ('{"a":true,"b":false,"c":null}', '{ "a" : true , "b" : false , "c" :  null }'),
        ('{"a":[[],{}],"b":NaN}', '{ "a" : [ [ ] , { }] , "b" : NaN}'),
        ('{"a":"\\u0000\\u0001x\\u001f"}', '{ "a" : "x"}'),
        ('{"a":1,"a":2}', '{ "a" : 2}'),
        ('{"a":"\\u007f\u2028\xe9<>&"}', '{ "a" : "\x7f\u2028\xe9<>&"}'),
    ],
)
def test_texts_that_are_stored(text: str, shown: str) -> None:
    assert printed(parse_document(text)) == shown


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


def test_numbers_are_printed_as_by_java() -> None:
    numbers = (1e7, 9999999.0, -1.5e-4, 1e21, 1.0, 0.001, float("inf"), float("-inf"))
    assert [printed_double(number) for number in numbers] == [
        "1.0E7",
        "9999999.0",
        "-1.5E-4",
        "1.0E21",
        "1.0",
        "0.001",
        "Infinity",
        "-Infinity",
    ]


def test_an_id_in_a_text_is_unique() -> None:
    documents = documents_with('{"b":1,"_id":"mine"}')
    assert documents.printed_of(1) == '{ "_id" : "mine" , "b" : 1 , "MODELDB_model_id" : 1}'
    with pytest.raises(ServerError, match="DuplicateKeyException: Write failed with error code"):
        documents.insert({"_id": "mine", MODEL_ID: 2})
    assert documents.printed_of(2) == ""


@pytest.mark.parametrize(
    ("conditions", "found"),
    [
        ({}, True),
        ({"x": "1"}, True),
        ({"x": "2"}, False),
        ({"l": "p"}, True),
        ({"n.k": "v"}, True),
        ({"ll.z": "w"}, True),
        ({"ll.0.z": "w"}, True),
        ({"l.9": "p"}, False),
        ({"i": "1"}, False),
        ({"x": "1", "l": "q"}, True),
        ({"x": "1", "l": "n"}, False),
        ({"": "a"}, False),
    ],
)
def test_conditions(conditions: dict[str, str], *, found: bool) -> None:
    documents = documents_with(
        '{"x": "1", "l": ["p", "q"], "n": {"k": "v"}, "ll": [{"z": "w"}], "i": 1}'
    )
    assert documents.model_ids(conditions) == ([1] if found else [])


def test_a_second_document_is_found_and_not_read() -> None:
    documents = documents_with('{"x": "1"}')
    documents.insert({"x": "2", MODEL_ID: 1})
    assert documents.model_ids({}) == [1, 1]
    assert documents.model_ids({"x": "2"}) == [1]
    assert '"x" : "1"' in documents.printed_of(1)
