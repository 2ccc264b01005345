"""Every service that gives AWS credentials, and the two that are called with them, on one socket.

Each credential it gives is valid for a minute, so botocore renews it before every request.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Self

from aiohttp import web

SECRET = "hidden-from-everybody-0123456789"
TOKEN = "token-of-the-file"
ARN = "arn:aws:sqs:eu-west-1:123456789012:jobs"

_BROKEN = {
    "error": (500, f"<p>{SECRET}</p>".encode(), "text/html"),
    "refuse": (401, b'{"message": "no"}', "application/json"),
    "page": (200, f"<p>{SECRET}</p>".encode(), "text/html"),
    "list": (200, f'["{SECRET}"]'.encode(), "application/json"),
    "empty": (200, b"{}", "application/json"),
    "binary": (200, b"\xff\xfe\x00\x01", "text/plain"),
}
_KEY = re.compile(r"Credential=([^/]+)/")


@dataclass(slots=True)
class CredentialWorld:
    """The stubs.

    Attributes:
        mode: how the sources answer: ok, drop, slow, error, refuse, page, list, empty, binary.
        answers_until_well: after so many answers of another mode it is ok; None: never.
        valid_seconds: how long new credentials are valid.
        url: of all of them.
        asked: how often a source was asked.
    """

    mode: str = "ok"
    valid_seconds: float = 60
    answers_until_well: int | None = None
    url: str = ""
    asked: int = 0
    calls: dict[str, int] = field(default_factory=dict)
    _expired: set[str] = field(default_factory=set)
    _used: set[str] = field(default_factory=set)
    _refuses_next: bool = False
    _issued: int = 0
    _runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_error: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def break_down(self, mode: str, answers: int | None = None) -> None:
        """Changes how the sources answer."""
        self.mode, self.answers_until_well = mode, answers

    def expire(self) -> None:
        """AWS refuses every credential that was used up to now, and that of the next request."""
        self._expired |= self._used
        self._refuses_next = True

    def issue(self) -> dict[str, str]:
        """New credentials, as a ``credential_process`` prints them."""
        self._issued += 1
        until = datetime.now(UTC) + timedelta(seconds=self.valid_seconds)
        return {
            "AccessKeyId": f"ASIAISSUED{self._issued:06d}",
            "SecretAccessKey": SECRET,
            "SessionToken": SECRET,
            "Expiration": f"{until:%Y-%m-%dT%H:%M:%SZ}",
        }

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        target = request.headers.get("X-Amz-Target")
        if target is not None:
            return await self._service(request, target.partition(".")[2])
        self.asked += 1
        mode = self.mode
        if mode != "ok" and self.answers_until_well is not None:
            self.answers_until_well -= 1
            if self.answers_until_well < 0:
                self.mode = mode = "ok"
        if mode == "ok":
            return await self._source(request)
        return await self._broken(request, mode)

    async def _broken(self, request: web.Request, mode: str) -> web.StreamResponse:
        if mode == "slow":
            await asyncio.sleep(30)
        elif mode == "drop":
            assert request.transport is not None
            request.transport.close()
        status, body, kind = _BROKEN.get(mode, (500, b"", "text/plain"))
        return web.Response(status=status, body=body, content_type=kind)

    async def _source(self, request: web.Request) -> web.Response:
        new = self.issue()
        path = request.path
        if path == "/latest/api/token":
            return web.Response(text="metadata-token")
        if path.endswith("/security-credentials/"):
            return web.Response(text="daemon-role")
        if path.endswith("/daemon-role"):
            answer = new | {"Code": "Success", "Token": SECRET}
        elif path == "/creds":
            if request.headers.get("Authorization") != TOKEN:
                return web.Response(status=401, text="{}")
            answer = new | {"Token": SECRET}
        elif path == "/federation/credentials":
            until = datetime.now(UTC) + timedelta(seconds=self.valid_seconds)
            member = {name[0].lower() + name[1:]: value for name, value in new.items()}
            answer = {"roleCredentials": member | {"expiration": round(until.timestamp() * 1000)}}  # type: ignore[dict-item] # numbers, too
        else:
            return await self._sts(request, new)
        return web.Response(text=json.dumps(answer), content_type="application/json")

    async def _sts(self, request: web.Request, new: dict[str, str]) -> web.Response:
        form = {key: str(value) for key, value in (await request.post()).items()}
        if form.get("Action") == "GetCallerIdentity":
            inner = "<Account>123456789012</Account>"
        else:
            if form.get("WebIdentityToken", TOKEN) != TOKEN:
                return web.Response(
                    status=400,
                    text="<ErrorResponse><Error><Code>InvalidIdentityToken</Code>"
                    f"<Message>{form.get('WebIdentityToken')}</Message></Error></ErrorResponse>",
                    content_type="text/xml",
                )
            members = "".join(f"<{name}>{value}</{name}>" for name, value in new.items())
            inner = f"<Credentials>{members}</Credentials>"
        name = form.get("Action")
        return web.Response(
            text=f'<{name}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
            f"<{name}Result>{inner}</{name}Result></{name}Response>",
            content_type="text/xml",
        )

    async def _service(self, request: web.Request, operation: str) -> web.Response:
        key = _KEY.search(request.headers.get("Authorization", ""))
        assert key is not None, "unsigned"
        self._used.add(key[1])
        self.calls[operation] = self.calls.get(operation, 0) + 1
        if key[1] in self._expired or self._refuses_next:
            self._refuses_next = False
            return _json({"__type": "ExpiredTokenException", "message": "expired"}, 400)
        match operation:
            case "GetQueueAttributes":
                names = (
                    "ApproximateNumberOfMessages",
                    "ApproximateNumberOfMessagesNotVisible",
                    "ApproximateNumberOfMessagesDelayed",
                )
                counts = dict.fromkeys(names, "0")
                return _json({"Attributes": counts | {"QueueArn": ARN, "VisibilityTimeout": "30"}})
            case "ReceiveMessage":
                await asyncio.sleep(0.02)
                return _json({})
            case "DescribeTrainingJob":
                return _json(
                    {"__type": "ValidationException", "message": "Requested resource not found."},
                    400,
                )
        return _json({"Successful": [{"Id": "0"}], "Failed": []})


def _json(content: object, status: int = 200) -> web.Response:
    return web.Response(
        status=status, text=json.dumps(content), content_type="application/x-amz-json-1.0"
    )
