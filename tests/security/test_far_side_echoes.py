"""A server may echo what was sent to it: the texts of our errors must not contain the echo.

The texts tested are those that appear everywhere: in the log, `/readyz`, the checkpoint, dead
letters and the output of `check`.
"""

from __future__ import annotations

import base64
import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from daemon.aws.clients import Endpoints, open_clients
from daemon.aws.queue import SqsQueue
from daemon.aws.training_jobs import SageMakerTrainingJobs
from daemon.config.settings import Settings
from daemon.errors import DaemonError
from daemon.targets.kind import TargetContext
from daemon.targets.registry import TARGET_KINDS, open_target
from daemon.training_job.identity import Home
from tests.security.planted import Planted
from tests.support.modeldb_v2_scripted import serving
from tests.support.modeldb_v2_target import MemoryJournal, job
from tests.support.settings_factory import QUEUE_URL

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def sent(request: web.Request) -> str:
    """Every header received, as a debugging page would show it, and the password in it."""
    lines = [f"{name}: {value}" for name, value in request.headers.items()]
    kind, _, login = request.headers.get("Authorization", "").partition(" ")
    if kind == "Basic":
        lines.append(f"password for {base64.b64decode(login).decode()} is wrong")
    return "; ".join(sorted(lines, reverse=True))  # x-… and "password" first: texts are cut off


def the_apis_word(status: int, code: int) -> Callable[[web.Request], web.Response]:
    def answer(request: web.Request) -> web.Response:
        return web.json_response(
            {"error": sent(request), "message": sent(request), "code": code}, status=status
        )

    return answer


def page(
    status: int, content_type: str = "text/html", **headers: str
) -> Callable[[web.Request], web.Response]:
    def answer(request: web.Request) -> web.Response:
        given = {name: value.replace("SENT", sent(request)) for name, value in headers.items()}
        return web.Response(
            status=status, text=sent(request), content_type=content_type, headers=given
        )

    return answer


ANSWERS: dict[str, Callable[[web.Request], web.Response]] = {
    "401 the API's word": the_apis_word(401, 16),
    "400 the API's word": the_apis_word(400, 3),
    "500 the API's word": the_apis_word(500, 13),
    "503 the API's word": the_apis_word(503, 14),
    "401 page": page(401),
    "403 text": page(403, "text/plain"),
    "407 page": page(407),
    "413 page": page(413),
    "429 page": page(429),
    "500 page": page(500),
    "502 JSON that is not its word": page(502, "application/json"),
    "200 page": page(200),
    "200 JSON of another API": lambda request: web.json_response({"headers": sent(request)}),
    "404 page": page(404),
    "redirect": page(302, Location="http://login.example.org/?from=SENT"),
    "content type": lambda request: web.Response(
        body=b"x", headers={"Content-Type": f"text/{sent(request)}"}
    ),
    "cut in the middle": lambda request: web.Response(text=" " * 4070 + sent(request)),
}


@pytest.mark.parametrize("kind", ["basic", "bearer", "verta"])
@pytest.mark.parametrize("answer", list(ANSWERS))
async def test_modeldb_repeats_what_it_was_sent(kind: str, answer: str) -> None:
    planted = Planted()
    auth: dict[str, Any] = {
        "basic": {"kind": "basic", "username": "ml", "password": planted.word("password")},
        "bearer": {"kind": "bearer", "token": planted.word("token")},
        "verta": {
            "kind": "verta",
            "email": "ml@example.org",
            "developer_key": planted.word("developer key"),
        },
    }[kind]
    planted.login("password", "ml") if kind == "basic" else None
    headers = {
        "X-Key": planted.word("header", odd=True),
        "Cookie": f"session={planted.word('cookie')}; lang=en",
    }

    async def serve(request: web.Request) -> web.Response:
        return ANSWERS[answer](request)

    async with serving(serve) as url:
        settings = Settings.model_validate(
            {
                "queue": {"url": QUEUE_URL},
                "target": {"url": url, "auth": auth, "headers": headers, "settle_seconds": 1},
            }
        )
        target = open_target(settings.target)
        outputs: dict[str, str] = {}
        try:
            for name, asked in {
                "probe": target.probe(),
                "sync": target.sync(job(), MemoryJournal()),
            }.items():
                with pytest.raises(DaemonError) as caught:
                    await asked
                outputs |= {
                    f"detail of {name}": str(getattr(caught.value, "detail", "")),
                    f"str of {name}": str(caught.value),
                }
        finally:
            await target.aclose()
    assert outputs["detail of probe"]
    assert planted.leaks(outputs) == []


def mlflows_word(code: str, status: int) -> Callable[[web.Request], web.Response]:
    return lambda request: web.json_response(
        {"error_code": code, "message": sent(request)}, status=status
    )


MLFLOW_ANSWERS = {
    name: answer for name, answer in ANSWERS.items() if not name.endswith("the API's word")
} | {
    "401 the API's word": mlflows_word("UNAUTHENTICATED", 401),
    "400 the API's word": mlflows_word("INVALID_PARAMETER_VALUE", 400),
    "400 the database's word": mlflows_word("BAD_REQUEST", 400),
    "500 the API's word": mlflows_word("INTERNAL_ERROR", 500),
    "503 the API's word": mlflows_word("TEMPORARILY_UNAVAILABLE", 503),
}


@pytest.mark.parametrize("kind", ["basic", "token_file"])
@pytest.mark.parametrize("answer", list(MLFLOW_ANSWERS))
async def test_mlflow_repeats_what_it_was_sent(kind: str, answer: str, tmp_path: Path) -> None:
    planted = Planted()
    token_file = tmp_path / "token"
    auth: dict[str, Any] = {"kind": kind}
    if kind == "basic":
        auth |= {"username": "ml", "password": planted.word("password")}
        planted.login("password", "ml")
    else:
        token_file.write_text(planted.word("token"))
        auth |= {"token_file": str(token_file)}
    headers = {
        "X-Key": planted.word("header", odd=True),
        "Cookie": f"session={planted.word('cookie')}; lang=en",
    }

    async def serve(request: web.Request) -> web.Response:
        return MLFLOW_ANSWERS[answer](request)

    async with serving(serve) as url:
        target = {"kind": "mlflow", "tracking_uri": url, "auth": auth, "headers": headers}
        settings = Settings.model_validate(
            {"queue": {"url": QUEUE_URL}, "target": {**target, "settle_seconds": 1}}
        )
        opened = open_target(settings.target)
        outputs: dict[str, str] = {}
        try:
            for name, asked in {
                "probe": opened.probe(),
                "sync": opened.sync(job(), MemoryJournal()),
            }.items():
                with pytest.raises(DaemonError) as caught:
                    await asked
                outputs |= {
                    f"detail of {name}": str(getattr(caught.value, "detail", "")),
                    f"str of {name}": str(caught.value),
                }
        finally:
            await opened.aclose()
        # asks without a login
        notes = () if kind != "basic" else await TARGET_KINDS["mlflow"].diagnosis(settings.target)
        facts = await TARGET_KINDS["mlflow"].server_facts(settings.target, TargetContext())
    outputs |= {"notes": repr(notes), "facts": repr(facts)}
    assert planted.leaks(outputs) == []


def aws_error(status: int, code: str) -> Callable[[web.Request], web.Response]:
    def answer(request: web.Request) -> web.Response:
        body = {
            "__type": code,
            "message": f"The canonical string should have been: {sent(request)}",
        }
        return web.Response(
            status=status,
            body=json.dumps(body).encode(),
            headers={"Content-Type": "application/x-amz-json-1.1"},
        )

    return answer


AWS_ANSWERS: dict[str, Callable[[web.Request], web.Response]] = {
    "wrong signature": aws_error(403, "SignatureDoesNotMatch"),
    "denied": aws_error(400, "AccessDeniedException"),
    "key": aws_error(400, "KmsAccessDeniedException"),
    "refused": aws_error(400, "ValidationException"),
    "unknown code": aws_error(400, "BrandNewException"),
    "unknown operation": aws_error(400, "UnknownOperationException"),
    "no code": aws_error(403, ""),
    "web page": page(200),
    "web page of an error": page(403),
    "redirect": page(302, Location="http://login.example.org/?from=SENT"),
}


@pytest.mark.parametrize("answer", list(AWS_ANSWERS))
async def test_aws_repeats_what_it_was_sent(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = Planted()
    key_id = f"ASIA{planted.word('access key').upper()[:16]}"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", planted.word("secret key"))
    monkeypatch.setenv("AWS_SESSION_TOKEN", planted.word("session token"))

    async def serve(request: web.Request) -> web.Response:
        return AWS_ANSWERS[answer](request)

    outputs: dict[str, str] = {}
    async with serving(serve) as url, AsyncExitStack() as stack:
        base = url.removesuffix("/v1")
        opening = open_clients(
            queue_url=f"{base}/123456789012/q",
            region="eu-west-1",
            endpoints=Endpoints(sagemaker=base, sqs=base),
        )
        clients = await stack.enter_async_context(opening)
        jobs = SageMakerTrainingJobs(clients.sagemaker, Home("123456789012", "eu-west-1", "aws"))
        queue = SqsQueue(clients.sqs_polling, clients.sqs, f"{base}/123456789012/q")
        for name, ask in {
            "describe": lambda: jobs.describe("j"),
            "probe": jobs.probe,
            "queue": queue.state,
        }.items():
            try:
                await ask()
            except DaemonError as error:
                outputs |= {
                    f"detail of {name}": str(getattr(error, "detail", "")),
                    f"str of {name}": str(error),
                }
        outputs["repr of the clients"] = repr(clients)
    assert outputs
    assert planted.leaks(outputs) == []
    assert not any(key_id in output for output in outputs.values())
