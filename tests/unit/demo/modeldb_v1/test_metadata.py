"""The metadata of the ModelDB V1 stand-in: texts as the real server's driver read, refused and
printed them, and the field calls.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from daemon.demo.modeldb_v1.metadata import MODEL_ID, Documents
from daemon.demo.modeldb_v1.mongo_json import parse_document, printed, printed_double
from daemon.demo.modeldb_v1.server import ModelDbV1StandIn
from daemon.demo.modeldb_v1.store import ServerError
from tests.support.modeldb_v1_plain_client import PlainClient, fit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def not_a_document(java_class: str) -> str:
    return (
        f"ClassCastException: class java.lang.{java_class} cannot be cast to class "
        f"com.mongodb.DBObject (java.lang.{java_class} is in"
        " module java.base of loader 'bootstrap'; com.mongodb.DBObject is in unnamed module of "
        "loader 'app')"
    )


STORED = [
    ('{"a":"\\/x\\f\\b\\t\\r\\q\\\'"}', '{ "a" : "/xf\\b\\t\\rq\'"}'),
    ("{'a':'b\"c'}", '{ "a" : "b\\"c"}'),
    ("{a:1,b :2}", '{ "a" : 1 , "b" : 2}'),
    ('{"a":1,}', '{ "a" : 1}'),
    ('{"a":1} trailing', '{ "a" : 1}'),
    ('  {"a" : 1 } ', '{ "a" : 1}'),
    ('{"a":01}', '{ "a" : 1}'),
    ('{"a":-0}', '{ "a" : 0}'),
    ('{"a":+5}', '{ "a" : 5}'),
    ('{"a":1.}', '{ "a" : 1.0}'),
    ('{"a":1e5}', '{ "a" : 100000.0}'),
    ('{"a":1E-7}', '{ "a" : 1.0E-7}'),
    ('{"a":123456789.5}', '{ "a" : 1.234567895E8}'),
    ('{"a":0.001}', '{ "a" : 0.001}'),
    ('{"a":0.0001}', '{ "a" : 1.0E-4}'),
    ('{"a":1e400}', '{ "a" : Infinity}'),
    ('{"a":-0.0}', '{ "a" : -0.0}'),
    ('{"a":2147483648}', '{ "a" : 2147483648}'),
    ('{"a":true,"b":false,"c":null}', '{ "a" : true , "b" : false , "c" :  null }'),
    ('{"a":NaN}', '{ "a" : NaN}'),
    ('{"a":[]}', '{ "a" : [ ]}'),
    ('{"a":[[],{}]}', '{ "a" : [ [ ] , { }]}'),
    ('{"a":"x\ny"}', '{ "a" : "x\\ny"}'),
    ('{"a":"\\u0000\\u0001x\\u001f"}', '{ "a" : "x"}'),
    ('{"a":"\\ud83d"}', '{ "a" : "\ufffd"}'),
    ('{"a":1,"a":2}', '{ "a" : 2}'),
    ('{"":1}', '{ "" : 1}'),
    ('{"y$":1}', '{ "y$" : 1}'),
    (
        '{"a":{"$oid":"6b05c445fdd62516f60a4927"}}',
        '{ "a" : { "$oid" : "6b05c445fdd62516f60a4927"}}',
    ),
    (
        '{"a":{"$date":"2026-11-23T00:00:00.000Z"}}',
        '{ "a" : { "$date" : "2026-11-23T00:00:00.000Z"}}',
    ),
    ('{"a":{"$date":1700000000000}}', '{ "a" : { "$date" : "2023-11-14T22:13:20.000Z"}}'),
    ('{"a":{"$date":"x"}}', '{ "a" :  null }'),
    ('{"a":{"$numberLong":"5"}}', '{ "a" : 5}'),
    (
        '{"a":{"$oid":"6b05c445fdd62516f60a4927","x":1}}',
        '{ "a" : { "$oid" : "6b05c445fdd62516f60a4927"}}',
    ),
    (
        '{"a":{"x":1,"$oid":"6b05c445fdd62516f60a4927"}}',
        '{ "a" : { "$oid" : "6b05c445fdd62516f60a4927"}}',
    ),
    ('{"a":{"$undefined":true}}', '{ "a" :  null }'),
    ('{"a":"\\u007f\u2028\xe9<>&"}', '{ "a" : "\x7f\u2028\xe9<>&"}'),
    ('{"a"\t:\n1\x0b}', '{ "a" : 1}'),
    ('{"a":1,"b":[{"k":"v"}, 2.50, "s"]}', '{ "a" : 1 , "b" : [ { "k" : "v"} , 2.5 , "s"]}'),
    ("{a\\u0062c:1}", '{ "abc" : 1}'),
    ('{"a":1.0}', '{ "a" : 1.0}'),
    ('{"a":100}', '{ "a" : 100}'),
    ('{"a":1e21}', '{ "a" : 1.0E21}'),
    ('{"a":1e-5}', '{ "a" : 1.0E-5}'),
    ('{"a":12345678}', '{ "a" : 12345678}'),
    ('{"a":12345678.0}', '{ "a" : 1.2345678E7}'),
    ('{"a":0.1e1}', '{ "a" : 1.0}'),
    ("{\"a\":'x'}", '{ "a" : "x"}'),
]
"""Texts, and how the real server printed what it had stored, without the ids."""

REFUSED = [
    ('{"a":1', 'JSONParseException: \n{"a":1\n      ^'),
    ('{"a"}', 'JSONParseException: \n{"a"}\n    ^'),
    ('{"a":}', 'JSONParseException: \n{"a":}\n     ^'),
    ("{,}", "JSONParseException: \n{,}\n   ^"),
    ('{"a":.5}', 'JSONParseException: \n{"a":.5}\n     ^'),
    ('{"a":1.5e}', 'JSONParseException: \n{"a":1.5e}\n     ^'),
    ('{"a":--1}', 'JSONParseException: \n{"a":--1}\n     ^'),
    ('{"a":9223372036854775808}', 'JSONParseException: \n{"a":9223372036854775808}\n     ^'),
    ('{"a":tru}', 'JSONParseException: \n{"a":tru}\n        ^'),
    ('{"a":nul}', 'JSONParseException: \n{"a":nul}\n        ^'),
    ('{"a":Nan}', 'JSONParseException: \n{"a":Nan}\n       ^'),
    ('{"a":undefined}', 'JSONParseException: \n{"a":undefined}\n     ^'),
    ('{"a":-Infinity}', 'JSONParseException: \n{"a":-Infinity}\n     ^'),
    ('{"a":[1,2,]}', 'JSONParseException: \n{"a":[1,2,]}\n          ^'),
    (
        '{"a\\u0000b":1}',
        (
            "BsonSerializationException: BSON cstring 'a\x00b' is not valid because it contains a "
            "null character at index 1"
        ),
    ),
    ('{"a":"\\u12"}', 'JSONParseException: \n{"a":"\\u12"}\n          ^'),
    ('{"a":"\\uzzzz"}', 'JSONParseException: \n{"a":"\\uzzzz"}\n        ^'),
    (
        '{"a":{"$oid":"zz"}}',
        "IllegalArgumentException: invalid hexadecimal representation of an ObjectId: [zz]",
    ),
    (
        "12",
        not_a_document("Integer"),
    ),
    (
        "true",
        not_a_document("Boolean"),
    ),
    ("-", "JSONParseException: \n-\n^"),
    ("[", "JSONParseException: \n[\n ^"),
    ("{", "JSONParseException: \n{\n ^"),
    ('{"a": "b', 'JSONParseException: \n{"a": "b\n        ^'),
    ('"a', 'JSONParseException: \n"a\n  ^'),
    (
        "NaN",
        not_a_document("Double"),
    ),
    ('\xa0{"a":1}', 'JSONParseException: \n\xa0{"a":1}\n^'),
    ('{"a":1 "b":2}', 'JSONParseException: \n{"a":1 "b":2}\n       ^'),
    ('{"a" "b":2}', 'JSONParseException: \n{"a" "b":2}\n     ^'),
    ('{"a":{"b":[{"c.d":1}]}}', "IllegalArgumentException: Invalid BSON field name c.d"),
    ('{"a":[{"$set":1}]}', "IllegalArgumentException: Invalid BSON field name $set"),
    ('{"a":{"$symbol":"x"}}', "IllegalArgumentException: Invalid BSON field name $symbol"),
    ('{"a":{"$numberLong":"x"}}', 'NumberFormatException: For input string: "x"'),
    ('{"$date":"x"}', "NullPointerException: null"),
    ('\ufeff{"a":1}', 'JSONParseException: \n\ufeff{"a":1}\n^'),
    ('{"a":"\\"}', 'JSONParseException: \n{"a":"\\"}\n         ^'),
    ('{"a":x}', 'JSONParseException: \n{"a":x}\n     ^'),
    ('{"a":-}', 'JSONParseException: \n{"a":-}\n     ^'),
    ('{"a":e5}', 'JSONParseException: \n{"a":e5}\n     ^'),
    ('{"a":1e5.5}', 'JSONParseException: \n{"a":1e5.5}\n     ^'),
]
"""Texts, and the real server's words."""

NULL = ("ServerLogicException", "NullPointerException: null")


def stored_as(text: str) -> str:
    documents = Documents()
    documents.insert({**parse_document(text), MODEL_ID: 1})
    shown = documents.printed_of(1)
    return re.sub(r'"_id" : { "\$oid" : "[0-9a-f]{24}"} , ', "", shown, count=1).replace(
        f' , "{MODEL_ID}" : 1}}', "}"
    )


@pytest.mark.parametrize(("text", "shown"), STORED)
def test_texts_that_are_stored(text: str, shown: str) -> None:
    assert stored_as(text) == shown


@pytest.mark.parametrize(("text", "error"), REFUSED)
def test_texts_that_are_refused(text: str, error: str) -> None:
    with pytest.raises(ServerError) as refused:
        stored_as(text)
    assert str(refused.value) == error


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('{"$oid":"6b05c445fdd62516f60a4927"}', "ClassCastException: class"),
        ('{"$date":1}', "ClassCastException: class"),
        ('{"$numberLong":5}', "ClassCastException: class"),
        ('{"a":{"$regex":"x"}}', "IllegalArgumentException: Invalid BSON field name $regex"),
        ("12345678901", "ClassCastException: class java.lang.Long"),
    ],
)
def test_rare_texts_are_refused_in_fewer_words_or_at_all(text: str, error: str) -> None:
    with pytest.raises(ServerError, match=re.escape(error)):
        stored_as(text)


def test_ids_in_a_text() -> None:
    documents = Documents()
    documents.insert(parse_document('{"b":1,"_id":"mine","MODELDB_model_id":7}'))
    assert documents.printed_of(7) == '{ "_id" : "mine" , "b" : 1 , "MODELDB_model_id" : 7}'
    with pytest.raises(
        ServerError, match="DuplicateKeyException: Write failed with error code 11000"
    ):
        documents.insert(parse_document('{"_id":"mine","MODELDB_model_id":8}'))
    assert documents.printed_of(8) == ""


def test_what_is_no_value_of_a_document_is_not_printed() -> None:
    with pytest.raises(TypeError):
        printed(object())


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


@pytest.fixture
async def server() -> AsyncIterator[ModelDbV1StandIn]:
    async with ModelDbV1StandIn() as server:
        yield server


@pytest.fixture
async def client(server: ModelDbV1StandIn) -> AsyncIterator[PlainClient]:
    async with PlainClient(server.port) as client:
        yield client


DOCUMENT = '{"x": "1", "l": ["p", "q"], "n": {"k": "v"}, "ll": [{"z": "w"}], "i": 1}'


@pytest.fixture
async def model_id(client: PlainClient) -> int:
    """A model with `DOCUMENT`."""
    run_id = await client.new_run()
    return int((await client.result("storeFitEvent", fe=fit(run_id, metadata=DOCUMENT)))["modelId"])


class TestSearch:
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
            ({"l.0": "p"}, True),
            ({"l.9": "p"}, False),
            ({"i": "1"}, False),
            ({"x": "1", "l": "q"}, True),
            ({"x": "1", "l": "n"}, False),
            ({"": "a"}, False),
        ],
    )
    async def test_conditions(
        self, client: PlainClient, model_id: int, conditions: dict[str, str], *, found: bool
    ) -> None:
        assert await client.result("getModelIds", keyValuePairs=conditions) == (
            [model_id] if found else []
        )

    async def test_a_second_document_is_found_and_not_read(
        self, client: PlainClient, model_id: int
    ) -> None:
        await client.result("storeFitEvent", fe=fit(1, model_id, metadata='{"x": "2"}'))
        assert await client.result("getModelIds", keyValuePairs={}) == [model_id, model_id]
        assert await client.result("getModelIds", keyValuePairs={"x": "2"}) == [model_id]
        assert '"x" : "1"' in (await client.result("getModel", modelId=model_id))["metadata"]
        created = [
            await client.result(
                "createVectorField", modelId=model_id, vectorName="vec", vectorConfig={}
            )
            for _ in ("first", "second", "none")
        ]
        assert created == [True, True, False]


class TestFields:
    @pytest.mark.parametrize(
        ("name", "value", "kind", "shown"),
        [
            ("a.b", "1", "int", '"a" : { "b" : 1}'),
            ("l.0", "P", "string", '"l" : [ "P" , "q"]'),
            ("l.3", "P", "string", '"l" : [ "p" , "q" ,  null  , "P"]'),
            ("i", "+5", "int", '"i" : 5'),
            ("d", "1e400", "double", '"d" : Infinity'),
            ("d", "NaN", "double", '"d" : NaN'),
            ("d", "1d", "double", '"d" : 1.0'),
            ("d", " 5 ", "double", '"d" : 5.0'),
            ("d", "5e-7", "double", '"d" : 5.0E-7'),
            ("b", "TRUE", "bool", '"b" : true'),
            ("b", "yes", "bool", '"b" : false'),
            (
                "t",
                "2026-11-23T10:11:12.5+02:00",
                "datetime",
                '"t" : { "$date" : "2026-11-23T08:11:12.500Z"}',
            ),
        ],
    )
    async def test_set(
        self, client: PlainClient, model_id: int, name: str, value: str, kind: str, shown: str
    ) -> None:
        call: dict[str, Any] = {"modelId": model_id, "key": name, "value": value, "valueType": kind}
        assert await client.result("createOrUpdateScalarField", **call) is True
        assert shown in (await client.result("getModel", modelId=model_id))["metadata"]

    @pytest.mark.parametrize(
        ("name", "value", "kind", "error"),
        [
            ("x.y", "1", "string", "Cannot create field 'y' in element {x: \"1\"}"),
            ("l.k", "P", "string", "Cannot create field 'k' in element {l: "),
            ("d", "0x10", "double", 'NumberFormatException: For input string: "0x10"'),
            ("d", "", "double", "NumberFormatException: empty String"),
            ("i", " 5", "int", 'NumberFormatException: For input string: " 5"'),
            ("i", "99999999999", "int", 'NumberFormatException: For input string: "99999999999"'),
            ("i", "", "int", 'NumberFormatException: For input string: ""'),
            (
                "L",
                "9223372036854775808",
                "long",
                'NumberFormatException: For input string: "9223372036854775808"',
            ),
            ("t", "x", "datetime", 'IllegalArgumentException: Invalid format: "x"'),
        ],
    )
    async def test_refused(
        self, client: PlainClient, model_id: int, name: str, value: str, kind: str, error: str
    ) -> None:
        call: dict[str, Any] = {"modelId": model_id, "key": name, "value": value, "valueType": kind}
        found, text = await client.error("createOrUpdateScalarField", **call)
        assert found == "ServerLogicException"
        assert error in text

    async def test_lists(self, client: PlainClient, model_id: int) -> None:
        async def create(name: str, model: int = model_id) -> Any:
            return await client.result(
                "createVectorField", modelId=model, vectorName=name, vectorConfig={}
            )

        async def append(name: str, model: int = model_id) -> Any:
            return await client.result(
                "appendToVectorField", modelId=model, vectorName=name, value="1", valueType="int"
            )

        assert [
            await create("vec"),
            await create("vec"),
            await create("x"),
            await create("q.r"),
            await create("vec", 4711),
        ] == [
            True,
            False,
            False,
            True,
            False,
        ]
        assert [
            await append("vec"),
            await append("new"),
            await append("x"),
            await append("x", 4711),
        ] == [True, True, False, False]
        update = {
            "modelId": model_id,
            "key": "vec",
            "valueIndex": 3,
            "value": "9",
            "valueType": "int",
        }
        assert await client.result("updateVectorField", **update) is True
        shown = (await client.result("getModel", modelId=model_id))["metadata"]
        assert '"vec" : [ 1 ,  null  ,  null  , 9] , "q" : { "r" : [ ]} , "new" : [ 1]}' in shown

    @pytest.mark.parametrize(
        "method", ["createOrUpdateScalarField", "updateVectorField", "appendToVectorField"]
    )
    async def test_unset(self, client: PlainClient, method: str) -> None:
        assert await client.error(method) == NULL

    async def test_a_list_without_a_name(self, client: PlainClient) -> None:
        error = "IllegalArgumentException: BSON field name can not be null"
        assert await client.error("createVectorField") == ("ServerLogicException", error)
