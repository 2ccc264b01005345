"""What each answer of MLflow, and of what stands around it, is taken as."""

from __future__ import annotations

import json
from typing import Any

import pytest

from daemon.targets.http.answers import Answer, Request
from daemon.targets.mlflow.errors import ApiError, ApiErrorKind, judged, without_values

URL = "http://mlflow.example.com:5000/api/2.0/mlflow/runs/create"
JSON = "application/json"
HTML = "text/html; charset=utf-8"
TEXT = "text/plain; charset=utf-8"


def error_of(status: int, content_type: str, body: str, url: str = URL) -> ApiError:
    answer = Answer(status, content_type, body.encode(), "/login" if status < 400 else "")
    with pytest.raises(ApiError) as caught:
        judged(answer, Request("runs/create", url, 5))
    return caught.value


def words(code: Any, message: str = "no") -> str:
    return json.dumps({"error_code": code, "message": message, "sqlstate": None})


ACTIVE = "The run 0f must be in the 'active' state. Current state is deleted."
HOST = "Invalid Host header - possible DNS rebinding attack detected"
WERKZEUG = (
    "<!doctype html>\n<html lang=en>\n<title>500 Internal Server Error</title>\n<h1>Internal "
    "Server Error</h1>\n<p>The server encountered an internal error and was unable to complete "
    "your request. Either the server is overloaded or there is an error in the application.</p>\n"
)
NGINX = "<html><head><title>500 Internal Server Error</title></head>"
PAGE = "<!doctype html>\n<html lang=en>\n<title>404 Not Found</title>"
LINK = "(Background on this error at: https://sqlalche.me/e/20/"


@pytest.mark.parametrize(
    ("status", "content_type", "body", "kind", "unknown"),
    [
        # the API's own words
        (503, JSON, words("TEMPORARILY_UNAVAILABLE"), ApiErrorKind.DATABASE_DOWN, True),
        (500, JSON, words("INTERNAL_ERROR"), ApiErrorKind.INTERNAL, True),
        (500, JSON, words("INVALID_STATE"), ApiErrorKind.INTERNAL, True),
        (500, JSON, words("DATA_LOSS"), ApiErrorKind.INTERNAL, True),
        (500, JSON, words("FEATURE_DISABLED"), ApiErrorKind.NOT_THE_API, False),
        (501, JSON, words("NOT_IMPLEMENTED"), ApiErrorKind.NOT_THE_API, False),
        (400, JSON, words("BAD_REQUEST"), ApiErrorKind.DATABASE_REFUSED, False),
        (400, JSON, words("INVALID_PARAMETER_VALUE"), ApiErrorKind.INVALID, False),
        (400, JSON, words("INVALID_PARAMETER_VALUE", ACTIVE), ApiErrorKind.INACTIVE, False),
        (400, JSON, words("RESOURCE_ALREADY_EXISTS"), ApiErrorKind.EXISTS, False),
        (404, JSON, words("RESOURCE_DOES_NOT_EXIST"), ApiErrorKind.ABSENT, False),
        (404, JSON, words("NOT_FOUND"), ApiErrorKind.ABSENT, False),
        (404, JSON, words("ENDPOINT_NOT_FOUND"), ApiErrorKind.NOT_THE_API, False),
        (401, JSON, words("UNAUTHENTICATED"), ApiErrorKind.UNAUTHENTICATED, False),
        (401, JSON, words("CUSTOMER_UNAUTHORIZED"), ApiErrorKind.UNAUTHENTICATED, False),
        (403, JSON, words("PERMISSION_DENIED"), ApiErrorKind.ACCESS_DENIED, False),
        (409, JSON, words("ABORTED"), ApiErrorKind.INTERNAL, True),
        (409, JSON, words("RESOURCE_CONFLICT"), ApiErrorKind.INTERNAL, True),
        (409, JSON, words("ALREADY_EXISTS"), ApiErrorKind.EXISTS, False),
        (429, JSON, words("REQUEST_LIMIT_EXCEEDED"), ApiErrorKind.THROTTLED, False),
        (429, JSON, words("RESOURCE_EXHAUSTED"), ApiErrorKind.THROTTLED, False),
        (499, JSON, words("CANCELLED"), ApiErrorKind.UNAVAILABLE, True),
        (504, JSON, words("DEADLINE_EXCEEDED"), ApiErrorKind.TIMEOUT, True),
        # MLflow's web server, its login and its host check
        (401, HTML, "You are not authenticated.", ApiErrorKind.UNAUTHENTICATED, False),
        (403, HTML, "Permission denied", ApiErrorKind.ACCESS_DENIED, False),
        (403, TEXT, HOST, ApiErrorKind.HOST_REFUSED, False),
        (403, TEXT, "Cross-origin request blocked", ApiErrorKind.HOST_REFUSED, False),
        (404, HTML, PAGE, ApiErrorKind.NOT_THE_API, False),
        (405, HTML, PAGE, ApiErrorKind.NOT_THE_API, False),
        (500, HTML, WERKZEUG, ApiErrorKind.INTERNAL, True),
        (500, TEXT, "Internal Server Error", ApiErrorKind.INTERNAL, True),
        # a managed server, and what AWS says before it
        (404, TEXT, "Tracking server could not be found", ApiErrorKind.UNAVAILABLE, False),
        (
            404,
            JSON,
            '{"message": "Tracking server could not be found"}',
            ApiErrorKind.UNAVAILABLE,
            False,
        ),
        (
            403,
            JSON,
            '{"message": "User: arn:aws:sts::1:x is not authorized to perform: sagemaker:Call"}',
            ApiErrorKind.UNAUTHENTICATED,
            False,
        ),
        # something else
        (200, HTML, PAGE, ApiErrorKind.NOT_THE_API, True),
        (200, JSON, "[]", ApiErrorKind.NOT_THE_API, True),
        (200, JSON, '{"run": ', ApiErrorKind.NOT_THE_API, True),
        (200, HTML, '{"run": {}}', ApiErrorKind.NOT_THE_API, True),
        (204, "", "", ApiErrorKind.NOT_THE_API, True),
        (302, HTML, "", ApiErrorKind.NOT_THE_API, False),
        (307, HTML, "", ApiErrorKind.NOT_THE_API, False),
        (400, HTML, PAGE, ApiErrorKind.NOT_THE_API, False),
        (400, JSON, '{"message": "bad"}', ApiErrorKind.NOT_THE_API, False),
        (400, JSON, words("no code of this API"), ApiErrorKind.NOT_THE_API, False),
        (400, JSON, words(5), ApiErrorKind.NOT_THE_API, False),
        (400, JSON, words(["BAD_REQUEST"]), ApiErrorKind.NOT_THE_API, False),
        (404, JSON, words("RESOURCE_ALREADY_EXISTS"), ApiErrorKind.NOT_THE_API, False),
        (403, HTML, "<p>Permission denied</p>", ApiErrorKind.UNAUTHENTICATED, False),
        (403, JSON, words("INVALID_PARAMETER_VALUE"), ApiErrorKind.UNAUTHENTICATED, False),
        (407, HTML, PAGE, ApiErrorKind.UNAUTHENTICATED, False),
        (408, HTML, PAGE, ApiErrorKind.TIMEOUT, True),
        (413, HTML, PAGE, ApiErrorKind.INTERNAL, False),
        (429, HTML, PAGE, ApiErrorKind.THROTTLED, False),
        (500, HTML, NGINX, ApiErrorKind.UNAVAILABLE, True),
        (500, JSON, words("RESOURCE_DOES_NOT_EXIST"), ApiErrorKind.UNAVAILABLE, True),
        (502, HTML, PAGE, ApiErrorKind.UNAVAILABLE, True),
        (503, HTML, PAGE, ApiErrorKind.UNAVAILABLE, True),
        (504, HTML, PAGE, ApiErrorKind.UNAVAILABLE, True),
    ],
)
def test_answers(
    status: int, content_type: str, body: str, kind: ApiErrorKind, *, unknown: bool
) -> None:
    error = error_of(status, content_type, body)

    assert (error.kind, error.outcome_unknown, error.status) == (kind, unknown, status)
    assert error.detail.startswith("runs/create: ")
    assert not error.unforeseen
    own = content_type == JSON and "which is not" not in error.detail
    if own and "instead of MLflow's API" not in error.detail:
        assert error.code == json.loads(body)["error_code"]
        assert f"{status} {error.code}: " in error.detail
    else:
        assert error.code is None
        assert URL in error.detail


@pytest.mark.parametrize(
    ("code", "unknown"),
    [("9h9h", False), ("gkpj", False), ("f405", False), ("rvf5", True), ("2j85", True)],
    ids=["DataError", "IntegrityError", "ProgrammingError", "InterfaceError", "InternalError"],
)
def test_only_a_refused_statement_is_surely_rolled_back(code: str, *, unknown: bool) -> None:
    error = error_of(400, JSON, words("BAD_REQUEST", f"(x.Error) no\n{LINK}{code})"))

    assert (error.kind, error.outcome_unknown) == (ApiErrorKind.DATABASE_REFUSED, unknown)


def test_what_is_of_the_server() -> None:
    assert {kind for kind in ApiErrorKind if not kind.is_of_the_server} == {
        ApiErrorKind.ABSENT,
        ApiErrorKind.EXISTS,
        ApiErrorKind.INACTIVE,
        ApiErrorKind.INVALID,
        ApiErrorKind.DATABASE_REFUSED,
        ApiErrorKind.ACCESS_DENIED,
        ApiErrorKind.INTERNAL,
    }


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        (URL, "mlflow.example.com,mlflow.example.com:5000"),
        ("https://ml.example.com/x/runs/create", "ml.example.com,ml.example.com:443"),
        ("http://mlflow/{x}/runs/create", "mlflow,mlflow:80"),
        ("http://[2001:db8::1]:5000/runs/create", "[2001:db8::1],[2001:db8::1]:5000"),
    ],
)
def test_a_refused_host_names_the_option(url: str, hosts: str) -> None:
    assert f"start MLflow with --allowed-hosts {hosts}" in error_of(403, TEXT, HOST, url).detail


def test_what_aws_does_not_allow_is_quoted_in_full() -> None:
    denied = (
        "User: arn:aws:sts::123456789012:assumed-role/sync/i-0123456789abcdef is not authorized to "
        "perform: sagemaker-mlflow:CreateRun on resource: the server"
    )
    error = error_of(403, JSON, json.dumps({"Message": denied}))

    assert denied in error.detail


SECRET = "hunter2"


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        (
            (
                "(psycopg2.errors.StringDataRightTruncation) value too long for type character "
                f"varying(250)\n\n[SQL: INSERT INTO tags (key, value) VALUES (%(key)s, '{SECRET}')]"
                f"\n[parameters: {{'value': '{SECRET}'}}]\n{LINK}9h9h)"
            ),
            (
                "(psycopg2.errors.StringDataRightTruncation) value too long for type character "
                "varying(250) …"
            ),
        ),
        (
            (
                "(sqlite3.IntegrityError) UNIQUE constraint failed: experiments.name\n[SQL: INSERT "
                f"{SECRET}]"
            ),
            "(sqlite3.IntegrityError) UNIQUE constraint failed: experiments.name …",
        ),
        (
            (
                "(psycopg.errors.UniqueViolation) duplicate key value violates constraint "
                f'"t"\nDETAIL:  Key (key)=({SECRET}) already exists.'
            ),
            ('(psycopg.errors.UniqueViolation) duplicate key value violates constraint "t" …'),
        ),
        (
            f"(pymysql.err.IntegrityError) (1062, \"Duplicate entry '{SECRET}' for key 'P'\")",
            '(pymysql.err.IntegrityError) (1062, " …',
        ),
        (
            (
                "Changing param values is not allowed. Param with key='a' was already logged with "
                f"value='{SECRET}' for run ID='r'. Attempted logging new value '{SECRET}'."
            ),
            "Changing param values is not allowed. Param with key='a' was already logged with …",
        ),
        (
            (
                "Changing param values is not allowed. Params were already logged='[{'key': 'a', "
                f"'old_value': '1', 'new_value': '{SECRET}'}}]' for run ID='r'."
            ),
            "Changing param values is not allowed. Params were already …",
        ),
        (
            (
                f"Invalid value \"{SECRET}\" for parameter 'tags[0].key' supplied: Names may only "
                "contain alphanumerics."
            ),
            (
                "Invalid value … for parameter 'tags[0].key' supplied: Names may only contain "
                "alphanumerics."
            ),
        ),
        (
            f'Invalid value {{"a":"{SECRET} for parameter \'b"}} for parameter \'c\' supplied.',
            "Invalid value … for parameter 'c' supplied.",
        ),
        (f"Invalid value: '{SECRET}' for x", "Invalid …"),
        (
            "'Param key' exceeds the maximum length of 250 characters",
            "'Param key' exceeds the maximum length of 250 characters",
        ),
        (
            "'value' exceeds the maximum length of 500 characters",
            "'value' exceeds the maximum length of 500 characters",
        ),
        (
            "Missing value for required parameter 'run_id'.",
            "Missing value for required parameter 'run_id'.",
        ),
        (f"[SQL: {SECRET}]", "…"),
    ],
)
def test_no_value_of_a_message_is_quoted(message: str, kept: str) -> None:
    assert without_values(message) == kept
    error = error_of(400, JSON, words("BAD_REQUEST", message))
    assert SECRET not in error.detail
    assert "\n" not in error.detail


@pytest.mark.parametrize("message", [None, 5, ["a"], {"a": 1}, ""])
def test_an_odd_message_is_borne(message: Any) -> None:
    body = json.dumps({"error_code": "INTERNAL_ERROR", "message": message})

    assert "500 INTERNAL_ERROR: " in error_of(500, JSON, body).detail


def test_a_long_message_is_shortened() -> None:
    assert len(error_of(400, JSON, words("INVALID_PARAMETER_VALUE", "x" * 9999)).detail) < 400


def test_a_good_answer_is_its_object() -> None:
    assert judged(Answer(200, JSON, b'{"a": 1}'), Request("runs/get", URL, 0)) == {"a": 1}
