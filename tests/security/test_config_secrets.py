"""Secrets of the configuration: errors do not contain them, and no object shows them."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from daemon.cli import main
from daemon.config.settings import Settings, secret_values, settings_for_log
from daemon.config.sources import ConfigError, load_settings
from daemon.targets.registry import open_target
from tests.security.planted import Planted
from tests.support.settings_factory import QUEUE_URL

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

START = f"""\
queue:
  url: {QUEUE_URL}
target:
  url: http://modeldb:8080/v1
"""
BASIC = "  auth:\n    kind: basic\n    username: ml\n    password: "
V1 = START.replace("url: http://modeldb:8080/v1", "kind: modeldb-v1")
MLFLOW = START.replace(
    "url: http://modeldb:8080/v1", "kind: mlflow\n  tracking_uri: http://ml:5000"
)
ARN = "arn:aws:sagemaker:eu-west-1:123456789012:mlflow-tracking-server/team"


@pytest.fixture
def planted() -> Planted:
    return Planted()


@pytest.mark.parametrize(
    ("yaml", "key"),
    [
        (START + BASIC + '"WORD\\n"', "target.auth.password"),
        (START + BASIC + '""', "target.auth.password"),
        (START + BASIC + "[WORD]", "target.auth.password"),
        (START + BASIC + "{a: WORD}", "target.auth.password"),
        (START + BASIC + '"WORD', "configuration file"),
        (START + BASIC + "*WORD", "configuration file"),
        (START + BASIC + "!WORD", "configuration file"),
        (START + BASIC + "&WORD", "target.auth.password"),
        (START + BASIC + "%WORD", "configuration file"),
        (START + BASIC + "@WORD", "configuration file"),
        (START + BASIC + "WORD: x", "configuration file"),
        (START + BASIC + "x\n    pasword: WORD", "target.auth.pasword"),
        (START + BASIC + "x\n    token: WORD", "target.auth.token"),
        (START + BASIC + "WORD\n    password: WORD", "target.auth.password"),
        (START + "  auth: {kind: basic, username: 'ml:WORD', password: x}", "target.auth.username"),
        (START + "  auth: {kind: none, password: WORD}", "target.auth.password"),
        (START + "  auth: {kind: bearer, token: 'Bearer WORD'}", "target.auth.token"),
        (START + "  auth: {kind: bearer, token: [WORD]}", "target.auth.token"),
        (
            START + "  auth: {kind: verta, email: a@b, developer_key: 'WORD é'}",
            "target.auth.developer_key",
        ),
        (START + "  auth: WORD", "target.auth"),
        (START + "  auth: [WORD]", "target.auth"),
        (START + "  password: WORD", "target.password"),
        (START + '  headers: {X-Key: "WORD\\x01"}', "target.headers"),
        (START + "  headers: {X-Key: [WORD]}", "target.headers"),
        (START + "  headers: {X-Key: {a: WORD}}", "target.headers"),
        (START + "  headers: 'X-Key: WORD'", "target.headers"),
        (START + "  headers: ['X-Key: WORD']", "target.headers"),
        (START + "  headers: {Host: WORD}", "target.headers.host"),
        (START + f"  headers: {{X-Key: {'WORD' * 500}}}", "target.headers"),
        (START + "  ui_url: http://ml:WORD@modeldb:3000", "target.ui_url"),
        (START + "  ui_url: http://modeldb:3000?token=WORD", "target.ui_url"),
        (START + "  ui_url: ['http://ml:WORD@modeldb']", "target.ui_url"),
        (START.replace("//modeldb", "//ml:WORD@modeldb"), "target.url"),
        (START.replace("//modeldb", "//WORD@modeldb"), "target.url"),
        (START.replace("/v1", "/v1#WORD"), "target.url"),
        (START.replace("//sqs", "//ml:WORD@sqs"), "queue.url"),
        (START + "aws: {sqs_endpoint_url: 'http://ml:WORD@sqs'}", "aws.sqs_endpoint_url"),
        (START + "aws: {secret_access_key: WORD}", "aws.secret_access_key"),
        (START + "aws: WORD", "aws"),
        (V1 + "  host: ml:WORD@modeldb", "target.host"),
        (MLFLOW + BASIC + '"WORD\\n"', "target.auth.password"),
        (MLFLOW + "  auth: {kind: bearer, token: 'Bearer WORD'}", "target.auth.token"),
        (MLFLOW + "  auth: {kind: token_file, token: WORD}", "target.auth.token"),
        (MLFLOW + "  auth: {kind: bearer, token: WORD, token_file: /t}", "target.auth.token_file"),
        (MLFLOW + "  auth: {kind: sigv4, secret_key: WORD}", "target.auth.secret_key"),
        (MLFLOW + "  auth: {kind: verta, email: a@b, developer_key: WORD}", "target.auth.kind"),
        (MLFLOW + "  headers: {X-MLFLOW-WORKSPACE: WORD}", "target.headers.x-mlflow-workspace"),
        (MLFLOW.replace("//ml:", "//ml:WORD@ml:"), "target.tracking_uri"),
        (MLFLOW.replace(":5000", ":5000?token=WORD"), "target.tracking_uri"),
        (
            MLFLOW.replace("http://ml:5000", ARN) + "  auth: {kind: bearer, token: WORD}",
            "target.auth.kind",
        ),
        (V1 + "  host: modeldb\n  password: WORD", "target.password"),
        ("WORD", "configuration file"),
        ("- WORD", "configuration file"),
    ],
)
def test_an_error_names_the_key_and_not_the_value(
    yaml: str, key: str, planted: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.replace("WORD", planted.word("the file")))
    assert main(["check", "--offline", "--config", str(path)]) == 2
    said = capsys.readouterr()
    assert key in said.err
    assert planted.leaks({"stderr": said.err, "stdout": said.out}) == []


@pytest.mark.parametrize(
    ("variable", "value", "key"),
    [
        ("TARGET__AUTH__PASSWORD", "WORD\n", "target.auth.password"),
        ("TARGET__AUTH__PASWORD", "WORD", "target.auth.pasword"),
        ("TARGET__AUTH", '{"kind": "basic", "password": "WORD"}', "target.auth"),
        ("TARGET__HEADERS", '{"X-Key": "WORD"', "target.headers"),
        ("TARGET__HEADERS", "X-Key: WORD", "target.headers"),
        ("TARGET__HEADERS", '{"X-Key": {"a": "WORD"}}', "target.headers"),
        # an underscore is allowed; nothing may be said of the value
        ("TARGET__HEADERS__X_KEY", "WORD", "target.headers"),
        ("TARGET__URL", "http://ml:WORD@modeldb/v1", "target.url"),
        ("TARGET__TRACKING_URI", "http://ml:WORD@mlflow", "target.tracking_uri"),
        ("TARGET__AUTH__TOKEN_FILE", "WORD", "target.auth.token_file"),
        ("TARGET__TOKEN", "WORD", "target.token"),
        ("SECRET__WORD", "WORD", "secret"),
    ],
)
def test_neither_does_an_error_of_a_variable(
    variable: str,
    value: str,
    key: str,
    planted: Planted,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(START + BASIC + "x\n  timeout_seconds: many\n")
    monkeypatch.setenv(
        f"MODELDB_SYNC_{variable}", value.replace("WORD", planted.word("the variable"))
    )
    assert main(["check", "--offline", "--config", str(path)]) == 2
    said = capsys.readouterr()
    assert key in said.err or variable == "TARGET__HEADERS__X_KEY"
    assert planted.leaks({"stderr": said.err, "stdout": said.out}) == []


@pytest.mark.parametrize(
    ("name", "content", "key"),
    [
        ("target__auth__password", b"WORD\nWORD", "target.auth.password"),
        ("target__auth__password", b"WORD\xff", "target.auth.password"),
        ("target__auth__token", b"WORD", "target.auth.token"),
        ("target__headers", b"WORD", "target.headers"),
        ("queue__url", b"http://ml:WORD@sqs/123456789012/q", "queue.url"),
    ],
)
def test_neither_does_an_error_of_a_secret_file(
    name: str, content: bytes, key: str, planted: Planted, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content.replace(b"WORD", planted.word("the file").encode()))
    path = tmp_path / "config.yaml"
    path.write_text(START + BASIC + "x\n")
    with pytest.raises(ConfigError) as refused:
        load_settings(path, {}, tmp_path)
    assert key in str(refused.value)
    assert (
        planted.leaks(
            {
                "text": str(refused.value),
                "repr": repr(refused.value),
                "problems": repr(refused.value.problems),
            }
        )
        == []
    )


def auths(planted: Planted) -> dict[str, dict[str, Any]]:
    """Every kind of authentication, with planted secrets."""
    made: dict[str, dict[str, Any]] = {
        "basic": {
            "kind": "basic",
            "username": "ml",
            "password": planted.word("password", odd=True),
        },
        "bearer": {"kind": "bearer", "token": planted.word("token", odd=True)},
        "verta": {
            "kind": "verta",
            "email": "ml@example.org",
            "developer_key": planted.word("developer key", odd=True),
        },
    }
    planted.login("password", "ml")
    return made


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        *(({"url": "http://127.0.0.1:9/v1"}, kind) for kind in ("basic", "bearer", "verta")),
        *(
            ({"kind": "mlflow", "tracking_uri": "http://127.0.0.1:9"}, kind)
            for kind in ("basic", "bearer")
        ),
    ],
)
async def test_no_object_shows_them(
    target: Mapping[str, Any], kind: str, planted: Planted, tmp_path: Path
) -> None:
    headers = {
        "X-Gateway-Key": planted.word("header", odd=True),
        "Cookie": f"session={planted.word('cookie', odd=True)}",
    }
    settings = Settings.model_validate(
        {
            "queue": {"url": QUEUE_URL},
            "target": {**target, "auth": auths(planted)[kind], "headers": headers},
            "checkpoint": {"path": str(tmp_path / "checkpoint.db")},
        }
    )
    assert len(secret_values(settings)) >= 3
    opened = open_target(settings.target)
    try:
        outputs = {
            "repr of the settings": repr(settings),
            "str of the settings": str(settings),
            "repr of the target's settings": repr(settings.target),
            "settings as JSON": settings.model_dump_json(),
            "settings for the log": json.dumps(settings_for_log(settings)),
            "repr of the target": repr(opened),
            "repr of its client": repr(vars(opened)),
        }
    finally:
        await opened.aclose()
    assert planted.leaks(outputs) == []


def test_a_secret_file_is_a_secret(planted: Planted, tmp_path: Path) -> None:
    (tmp_path / "target__auth__password").write_text(planted.word("secret file") + "\n")
    (tmp_path / "target__headers").write_text(
        json.dumps({"X-Key": planted.word("header in a file")})
    )
    path = tmp_path / "config.yaml"
    path.write_text(START + "  auth: {kind: basic, username: ml}\n")
    settings = load_settings(path, dict(os.environ), tmp_path)
    assert {planted.word("secret file"), planted.word("header in a file")} <= set(
        secret_values(settings)
    )
    assert (
        planted.leaks({"repr": repr(settings), "log": json.dumps(settings_for_log(settings))}) == []
    )
