"""The whole target against a managed MLflow: the daemon's own credentials, TLS, and a server that
recomputes each signature from what it received.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from daemon.demo.mlflow.model import MlflowModel
from daemon.errors import EdgeFault
from daemon.reasons import Edge, Reason
from daemon.targets.registry import TARGET_KINDS
from daemon.training_job.training_run import Metric
from daemon.wiring import open_configured_target, target_context
from tests.support.certificates import Authority, serving_as
from tests.support.modeldb_v2_scripted import serving
from tests.support.settings_factory import settings
from tests.support.sigv4 import objection
from tests.support.target_jobs import MemoryJournal, job

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from daemon.config.settings import Settings

SERVER = "arn:aws:sagemaker:eu-west-1:123456789012:mlflow-tracking-server/Team-A"
APP = "arn:aws:sagemaker:us-east-1:123456789012:mlflow-app/app-ABCDEFGH1234"
HEADERS = {SERVER: "x-mlflow-sm-tracking-server-arn", APP: "x-sm-mlflow-app-arn"}
SERVICES = {SERVER: "sagemaker-mlflow", APP: "sagemaker"}
REGIONS = {SERVER: "eu-west-1", APP: "us-east-1"}
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


class ManagedMlflow:
    """An MLflow behind AWS's authentication.

    Args:
        arn: its name.
    """

    def __init__(self, arn: str) -> None:
        ids = itertools.count(1)
        self.model = MlflowModel(
            now_ms=lambda: int(time.time() * 1000), new_id=lambda: f"{next(ids):032x}"
        )
        self.arn = arn
        self.secrets = {"AKIDFIRST": SECRET}
        self.objections: list[str] = []
        self.echoes = False
        """It answers with the headers of the request."""
        self.seen: list[str] = []
        """Headers that it has echoed."""

    async def serve(self, request: web.Request) -> web.Response:
        if self.echoes:
            self.seen += request.headers.values()
            return web.Response(status=403, text=json.dumps(dict(request.headers)))
        body = await request.read()
        why = objection(
            request.method,
            request.raw_path,
            [(name.decode(), value.decode()) for name, value in request.raw_headers],
            body,
            secrets=self.secrets,
            region=REGIONS[self.arn],
            service=SERVICES[self.arn],
        )
        if request.headers.get(HEADERS[self.arn]) != self.arn:
            why = why or "no ARN"
        self.objections.append(why)
        if why:
            words = {"message": "The security token included in the request is invalid."}
            return web.json_response(words, status=403)
        path, _, query = request.raw_path.partition("?")
        headers = {"content-type": request.headers.get("Content-Type", ""), "host": "localhost"}
        reply = self.model.answer(request.method, path, query, headers, body)
        return web.Response(
            status=reply.status, body=reply.body, headers={"Content-Type": reply.content_type}
        )


class Scene:
    """A managed server behind a VPC endpoint, and the daemon's configuration."""

    def __init__(self, server: ManagedMlflow, configured: Settings, credentials: Path) -> None:
        self.server = server
        self.settings = configured
        self._credentials = credentials

    def write(self, key: str) -> None:
        self._credentials.write_text(
            f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {SECRET}\n"
            "aws_session_token = to/ken+of==a=session\n"
        )

    @contextlib.asynccontextmanager
    async def target(self) -> AsyncIterator[Any]:
        target = open_configured_target(self.settings)
        try:
            yield target
        finally:
            await target.aclose()


@contextlib.asynccontextmanager
async def managed(
    arn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    server, authority = ManagedMlflow(arn), Authority(tmp_path, "authority")
    credentials = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    async with serving(server.serve, ssl=serving_as(authority.issue("server"))) as url:
        target = {
            "kind": "mlflow",
            "tracking_uri": url.removesuffix("/v1"),
            "auth": {"kind": "sigv4", "resource_arn": arn},
            "ca_file": str(authority.file),
            "settle_seconds": 1,
        }
        yield Scene(server, settings(tmp_path / "checkpoint.db", target=target), credentials)


@pytest.mark.parametrize("arn", [SERVER, APP])
async def test_a_job_is_synced_and_found(
    arn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = job(project_name="Größe/A & B+C 100% 'x' 🙂", metrics=(Metric("é:auc", 0.5),))
    async with managed(arn, tmp_path, monkeypatch) as scene, scene.target() as target:
        scene.write("AKIDFIRST")
        await target.probe()
        first = await target.sync(run, MemoryJournal())
        again = await target.sync(run, MemoryJournal(look_up_first=True))
        found = await target.find(run.mark)
        assert (first.created, again.created) == (True, False)
        assert found is not None
        assert found.ids["run_id"] == first.ids["run_id"]
        assert len(scene.server.model.runs()) == 1
        assert {*scene.server.objections} == {""}
        facts = await TARGET_KINDS["mlflow"].server_facts(
            scene.settings.target, target_context(scene.settings)
        )
        assert facts.version == "MLflow 3.17.2"


async def test_credentials_may_come_late_and_be_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with managed(SERVER, tmp_path, monkeypatch) as scene, scene.target() as target:
        with pytest.raises(EdgeFault) as caught:
            await target.probe()
        assert (caught.value.edge, caught.value.reason) == (Edge.TARGET, Reason.CREDENTIALS)
        assert "no AWS credentials" in caught.value.detail
        assert scene.server.objections == []

        scene.write("AKIDFIRST")
        await target.probe()

        scene.server.secrets = {"AKIDSECOND": SECRET}
        scene.write("AKIDSECOND")
        with pytest.raises(EdgeFault) as caught:
            await target.probe()
        assert caught.value.reason is Reason.CREDENTIALS
        await target.probe()
        assert scene.server.objections[-1] == ""
        assert "unknown key AKIDFIRST" in scene.server.objections


async def test_no_error_quotes_the_signature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with managed(SERVER, tmp_path, monkeypatch) as scene, scene.target() as target:
        scene.server.echoes = True
        scene.write("AKIDFIRST")
        with pytest.raises(EdgeFault) as caught:
            await target.probe()
    assert SERVER in scene.server.seen
    words = [
        word
        for value in scene.server.seen
        for word in value.replace(",", " ").split()
        if len(word) > 30
    ]
    # the configured name of the server is no secret
    secrets = {*words, SECRET} - {SERVER}
    assert not [word for word in secrets if word in str(caught.value)]
