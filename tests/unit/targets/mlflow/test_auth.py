"""How requests to MLflow are authenticated, as a server on a socket receives them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from botocore.credentials import ReadOnlyCredentials
from yarl import URL

from daemon.errors import EdgeFault
from daemon.reasons import Edge, Reason
from daemon.targets.http.session import HttpSession
from daemon.targets.mlflow.auth import SigV4Signer, TokenFileSigner, fixed_headers, request_signer
from daemon.targets.mlflow.client import HINTS, MlflowClient
from daemon.targets.mlflow.errors import ApiError, ApiErrorKind
from daemon.targets.mlflow.managed import managed_server
from daemon.targets.mlflow.settings import MlflowSettings
from tests.support.modeldb_v2_scripted import json_answer, serving
from tests.support.sigv4 import objection
from tests.unit.targets.mlflow.test_managed import APP, SERVER

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from aiohttp import web

    from daemon.targets.http.session import RequestSigner

KEY, SECRET, TOKEN = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "a/session+token=="


@dataclass
class Credentials:
    """A source that hands out one set after the other, the next one when one is refused."""

    sets: list[ReadOnlyCredentials] = field(
        default_factory=lambda: [ReadOnlyCredentials(KEY, SECRET, TOKEN)]
    )
    asked: int = 0

    async def __call__(self) -> Any:
        self.asked += 1
        return self.sets[0]

    def refused(self) -> None:
        if len(self.sets) > 1:
            del self.sets[0]


def settings(**given: Any) -> MlflowSettings:
    return MlflowSettings.model_validate(
        {"kind": "mlflow", "tracking_uri": "http://mlflow:5000", **given}
    )


def client(url: str, signer: RequestSigner | None) -> MlflowClient:
    session = HttpSession(HINTS, headers={}, tls=None, timeout_seconds=10, max_concurrency=4)
    return MlflowClient(session, url, signer=signer)


# --- headers that never change --------------------------------------------------------------------


def test_a_login_a_token_and_a_workspace_are_headers() -> None:
    assert fixed_headers(settings()) == {}
    login = {"kind": "basic", "username": "ml", "password": "pass"}
    assert fixed_headers(settings(auth=login)) == {"Authorization": "Basic bWw6cGFzcw=="}
    bearer = settings(
        auth={"kind": "bearer", "token": "t0k3n"}, workspace="team-a", headers={"X-Key": "k"}
    )
    assert fixed_headers(bearer) == {
        "Authorization": "Bearer t0k3n",
        "X-MLFLOW-WORKSPACE": "team-a",
        "X-Key": "k",
    }
    assert request_signer(bearer, Credentials()) is None


# --- a token file ---------------------------------------------------------------------------------


async def token(path: Path) -> str:
    found = settings(auth={"kind": "token_file", "token_file": str(path)})
    assert fixed_headers(found) == {}
    signer = request_signer(found, None)
    assert signer is not None
    headers = await signer.headers("GET", URL("http://mlflow"), b"")
    return headers["Authorization"]


async def test_a_token_file_is_read_before_each_request(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("first\n")
    assert await token(path) == "Bearer first"
    path.write_text("  again \n")  # perhaps of the same size and within the same tick of the clock
    assert await token(path) == "Bearer again"


async def test_the_projected_tokens_of_kubernetes_are_swapped_by_a_link(tmp_path: Path) -> None:
    for name in ("2026_1", "2026_2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "token").write_text(f"token-of-{name}")
    (tmp_path / "..data").symlink_to("2026_1")
    path = tmp_path / "token"
    path.symlink_to("..data/token")
    assert await token(path) == "Bearer token-of-2026_1"
    (tmp_path / "..data_tmp").symlink_to("2026_2")
    os.replace(tmp_path / "..data_tmp", tmp_path / "..data")  # noqa: PTH105 - as the kubelet does
    assert await token(path) == "Bearer token-of-2026_2"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read (No such file or directory)"),
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"s3cr3t\nWord", "must contain a token only"),
        (b"s3cr3t Word", "must contain a token only"),
        (b"s3cr3t\xc3\xa9Word", "must contain a token only"),
        (b"s3cr3t\x00Word", "must contain a token only"),
        (b"s3cr3tWord" * 1000, "has more than 7168 bytes"),
    ],
)
async def test_a_file_without_a_token_is_named_and_not_quoted(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EdgeFault) as caught:
        await token(path)
    fault = caught.value
    assert (fault.edge, fault.reason, fault.curable) == (Edge.TARGET, Reason.CREDENTIALS, True)
    assert f"target.auth.token_file: the file {path} {words}" in fault.detail
    assert "s3cr3t" not in str(fault)


async def test_a_directory_is_no_token_file(tmp_path: Path) -> None:
    with pytest.raises(EdgeFault, match=r"cannot be read \(Is a directory\)"):
        await token(tmp_path)


async def test_a_token_that_cannot_be_read_is_the_calls_error(tmp_path: Path) -> None:
    sent: list[str] = []

    async def serve(request: web.Request) -> web.Response:
        sent.append(request.headers["Authorization"])
        return json_answer(200, {"experiments": []})

    path = tmp_path / "token"
    async with serving(serve) as url:
        asking = client(url, TokenFileSigner(path))
        try:
            with pytest.raises(ApiError, match="No such file") as caught:
                await asking.search_experiments(max_results=1)
            path.write_text("t0k3n")
            await asking.search_experiments(max_results=1)
        finally:
            await asking.aclose()
    assert (caught.value.kind, caught.value.outcome_unknown) == (
        ApiErrorKind.UNAUTHENTICATED,
        False,
    )
    assert sent == ["Bearer t0k3n"]


# --- AWS Signature Version 4 ----------------------------------------------------------------------

HOSTILE = "é ü/+&=?#%20%2B'\"`~*()!$,;:@[]{}|\\^<> \u2028 🙂"


class Managed:
    """A managed server: it recomputes the signature of what it receives."""

    def __init__(self, arn: str, *, secrets: dict[str, str]) -> None:
        self._server = managed_server(arn)
        self._secrets = secrets
        self.objections: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.targets: list[str] = []

    async def serve(self, request: web.Request) -> web.Response:
        headers: Sequence[tuple[str, str]] = [
            (name.decode(), value.decode()) for name, value in request.raw_headers
        ]
        why = objection(
            request.method,
            request.raw_path,
            headers,
            await request.read(),
            secrets=self._secrets,
            region=self._server.region,
            service=self._server.service,
        )
        if request.headers.get(self._server.arn_header) != self._server.arn:
            why = why or "no ARN"
        self.objections.append(why)
        self.headers.append({name.lower(): value for name, value in headers})
        self.targets.append(request.raw_path)
        if why:
            return json_answer(
                403, {"message": "The security token included in the request is invalid"}
            )
        if "get-by-name" in request.path:
            return json_answer(
                200,
                {"experiment": {"experiment_id": "1", "name": "n", "lifecycle_stage": "active"}},
            )
        if "model-versions" in request.path:
            return json_answer(200, {})
        return json_answer(200, {"experiment_id": "1"})


@pytest.mark.parametrize("arn", [SERVER, APP])
async def test_what_is_sent_is_what_was_signed(arn: str) -> None:
    server = Managed(arn, secrets={KEY: SECRET})
    credentials = Credentials()
    async with serving(server.serve) as url:
        asking = client(url, SigV4Signer(managed_server(arn), credentials))
        try:
            await asking.create_experiment(HOSTILE, {"k": HOSTILE})
            await asking.create_experiment("n" * 200_000, {})
            await asking.get_experiment_by_name(HOSTILE)
            await asking.get_experiment_by_name("a b")
            await asking.search_model_versions(f"name = '{HOSTILE}'")
            await asking.search_model_versions("tags.`sagemaker_training_job_arn` = 'arn:aws:x'")
        finally:
            await asking.aclose()
    assert server.objections == [""] * 6
    assert credentials.asked == 6
    assert server.targets[3].endswith("experiment_name=a%20b")
    assert all("connection" not in each["authorization"] for each in server.headers)
    assert {each["x-amz-security-token"] for each in server.headers} == {TOKEN}


async def test_without_a_session_token_none_is_sent() -> None:
    server = Managed(SERVER, secrets={KEY: SECRET})
    credentials = Credentials([ReadOnlyCredentials(KEY, SECRET, None)])
    async with serving(server.serve) as url:
        asking = client(url, SigV4Signer(managed_server(SERVER), credentials))
        try:
            await asking.get_experiment_by_name("churn")
        finally:
            await asking.aclose()
    assert server.objections == [""]
    assert "x-amz-security-token" not in server.headers[0]


async def test_a_changed_request_is_noticed_by_the_test_server() -> None:
    """So that the tests above prove something."""
    signer = SigV4Signer(managed_server(SERVER), Credentials())
    url = URL("https://host/api/2.0/mlflow/x?a=b%20c", encoded=True)
    headers = [*(await signer.headers("POST", url, b"{}")).items(), ("Host", "host")]

    def judged(
        method: str = "POST",
        target: str = "/api/2.0/mlflow/x?a=b%20c",
        body: bytes = b"{}",
        secret: str = SECRET,
        service: str = "sagemaker-mlflow",
    ) -> str:
        return objection(
            method,
            target,
            headers,
            body,
            secrets={KEY: secret},
            region="eu-west-1",
            service=service,
        )

    assert judged() == ""
    assert judged(method="GET") == "another signature"
    assert judged(target="/api/2.0/mlflow/x?a=b%20d") == "another signature"
    assert judged(target="/api/2.0/mlflow/y?a=b%20c") == "another signature"
    assert judged(target="/api/2.0/mlflow/x?a=b+c").startswith("a query that is read")
    assert judged(body=b"[]") == "another body"
    assert judged(secret="other") == "another signature"
    assert judged(service="sagemaker") == "for eu-west-1, sagemaker-mlflow"


async def test_newer_credentials_are_looked_for_when_the_server_refuses_these() -> None:
    server = Managed(SERVER, secrets={"AKIDNEW": SECRET})
    credentials = Credentials(
        [ReadOnlyCredentials(KEY, SECRET, TOKEN), ReadOnlyCredentials("AKIDNEW", SECRET, TOKEN)]
    )
    async with serving(server.serve) as url:
        asking = client(url, SigV4Signer(managed_server(SERVER), credentials))
        try:
            with pytest.raises(ApiError) as caught:
                await asking.get_experiment_by_name("churn")
            await asking.get_experiment_by_name("churn")
        finally:
            await asking.aclose()
    assert caught.value.kind is ApiErrorKind.UNAUTHENTICATED
    assert server.objections == [f"unknown key {KEY}", ""]


async def test_a_permission_that_iam_does_not_give_is_named() -> None:
    words = (
        "User: arn:aws:sts::123456789012:assumed-role/daemon/1 is not authorized to perform: "
        "sagemaker-mlflow:CreateRun"
    )

    async def serve(_request: web.Request) -> web.Response:
        return json_answer(403, {"Message": words})

    async with serving(serve) as url:
        asking = client(url, SigV4Signer(managed_server(SERVER), Credentials()))
        try:
            with pytest.raises(ApiError) as caught:
                await asking.search_experiments(max_results=1)
        finally:
            await asking.aclose()
    assert "the daemon's role needs this permission" in caught.value.detail


async def test_without_credentials_nothing_is_signed() -> None:
    signer = request_signer(settings(tracking_uri=SERVER), None)
    assert signer is not None
    with pytest.raises(EdgeFault, match="no AWS credentials to sign requests") as caught:
        await signer.headers("GET", URL("https://host/"), b"")
    assert (caught.value.reason, caught.value.curable) == (Reason.CREDENTIALS, False)


async def test_no_object_shows_a_secret(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("t0k3n-of-a-file")
    signers: list[RequestSigner] = [
        TokenFileSigner(path),
        SigV4Signer(managed_server(SERVER), Credentials()),
    ]
    for signer in signers:
        await signer.headers("GET", URL("https://host/"), b"")
    shown = repr([(repr(each), vars(each).keys()) for each in signers])
    assert "t0k3n" not in shown
    assert SECRET not in shown
