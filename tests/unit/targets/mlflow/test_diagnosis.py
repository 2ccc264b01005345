"""What `check` says of a configured MLflow, by what is at its address."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from botocore.credentials import ReadOnlyCredentials

from daemon.targets.kind import ServerFacts, TargetContext
from daemon.targets.mlflow.settings import MlflowSettings
from daemon.targets.registry import TARGET_KINDS
from tests.support.certificates import Authority, serving_as
from tests.support.mlflow_stand_in import MlflowStandIn
from tests.support.modeldb_v2_scripted import json_answer, serving
from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn
from tests.support.scripted_addresses import ModelDBV1, listening, port_of, saying
from tests.unit.targets.mlflow.test_managed import APP, SERVER

if TYPE_CHECKING:
    from pathlib import Path

KIND = TARGET_KINDS["mlflow"]
LOGIN = {"kind": "basic", "username": "ml", "password": "a-long-password"}
MISSING = {"error_code": "INVALID_PARAMETER_VALUE", "message": "Missing value for required param"}
CALLS: dict[str, tuple[int, dict[str, str]]] = {
    "experiments/get-by-name": (400, MISSING),
    "model-versions/search": (200, {}),
}


def mlflow(uri: str, **keys: Any) -> MlflowSettings:
    return MlflowSettings.model_validate({"kind": "mlflow", "tracking_uri": uri, **keys})


async def diagnosis(settings: MlflowSettings) -> tuple[str, ...]:
    return await KIND.diagnosis(settings)


def root(url: str) -> str:
    return url.removesuffix("/v1")


class Scripted:
    """A server with parts of MLflow's paths.

    Args:
        prefix: before all of its paths.
        version: what it says of itself; None: the page does not exist.
        wants_login: it answers 401, as MLflow with basic authentication does, but to /health.
        refuses_host: it answers 403 to everything but /version and /health.
        date: of its answers; None: now.
    """

    def __init__(
        self,
        *,
        prefix: str = "",
        version: str | None = "3.17.2",
        wants_login: bool = False,
        refuses_host: bool = False,
        date: float | None = None,
    ) -> None:
        self._prefix = prefix
        self._version = version
        self._wants_login = wants_login
        self._refuses_host = refuses_host
        self._date = date
        self.asked: list[tuple[str, dict[str, str]]] = []

    async def serve(self, request: web.Request) -> web.Response:
        self.asked.append((request.path, dict(request.headers)))
        response = self._answer(request.path, request.headers.get("Authorization"))
        response.headers["Date"] = formatdate(self._date, usegmt=True)
        return response

    def _answer(self, path: str, login: str | None) -> web.Response:
        if path == f"{self._prefix}/health":
            return web.Response(text="OK")
        if self._wants_login and login is None:
            realm = {"WWW-Authenticate": 'Basic realm="mlflow"'}
            return web.Response(status=401, text="You are not authenticated.", headers=realm)
        if path == f"{self._prefix}/version" and self._version is not None:
            return web.Response(text=self._version, content_type="text/html")
        if self._refuses_host:
            words = "Invalid Host header - possible DNS rebinding attack detected"
            return web.Response(status=403, text=words)
        call = path.removeprefix(f"{self._prefix}/api/2.0/mlflow/")
        if call in CALLS:
            return json_answer(*CALLS[call])
        return web.Response(status=404, text="<!doctype html>", content_type="text/html")


# --- advice ---------------------------------------------------------------------------------------


def test_no_advice_on_a_plain_server() -> None:
    assert KIND.advice(mlflow("http://mlflow:5000")) == ()
    assert KIND.advice(mlflow(SERVER)) == ()


def test_an_app_copies_model_versions_unless_none_are_registered() -> None:
    (advice,) = KIND.advice(mlflow(APP))
    assert "copies every registered model version into SageMaker's Model Registry" in advice
    assert "set target.register_models: false" in advice
    assert KIND.advice(mlflow(APP, register_models=False)) == ()


def test_basic_authentication_costs_the_server_time() -> None:
    (advice,) = KIND.advice(mlflow("http://mlflow:5000", auth=LOGIN))
    assert "set auth_cache_ttl_seconds = 60" in advice


# --- a server that works --------------------------------------------------------------------------


async def facts(settings: MlflowSettings, **context: Any) -> ServerFacts:
    return await KIND.server_facts(settings, TargetContext(**context))


async def test_the_version_and_the_clock() -> None:
    async with serving(Scripted(date=time.time() + 90).serve) as url:
        found = await facts(mlflow(root(url)))
    assert (found.version, found.notes) == ("MLflow 3.17.2", ())
    assert found.clock_ahead_seconds == pytest.approx(90, abs=5)


@pytest.mark.parametrize("version", ["2.15.1", "2.2.0", "1.30.1"])
async def test_a_version_that_is_too_old(version: str) -> None:
    async with serving(Scripted(version=version).serve) as url:
        found = await facts(mlflow(root(url)))
    assert found.notes == (
        f"MLflow {version} is older than 2.16, the oldest supported version: update it",
    )


@pytest.mark.parametrize("version", ["2.16.0", "2.22.5", "3.0.0rc1", "3.17.2.dev0"])
async def test_a_version_that_is_new_enough(version: str) -> None:
    async with serving(Scripted(version=version, prefix="/ml").serve) as url:
        found = await facts(mlflow(f"{root(url)}/ml"))
    assert (found.version, found.notes) == (f"MLflow {version}", ())


async def test_a_version_behind_a_login() -> None:
    server = Scripted(wants_login=True)
    async with serving(server.serve) as url:
        with_login = await facts(mlflow(root(url), auth=LOGIN, workspace="team"))
        without = await facts(mlflow(root(url)))
    assert (with_login.version, without.version) == ("MLflow 3.17.2", "")
    assert server.asked[0][1]["X-MLFLOW-WORKSPACE"] == "team"


@pytest.mark.parametrize("version", [None, "<html>", "three", "3.17.2 " * 20])
async def test_no_version_is_made_up(version: str | None) -> None:
    async with serving(Scripted(version=version).serve) as url:
        assert (await facts(mlflow(root(url)))).version == ""


async def test_the_facts_of_a_server_behind_a_signature(tmp_path: Path) -> None:
    class Source:
        async def __call__(self) -> Any:
            return ReadOnlyCredentials("AKIDEXAMPLE", "secret", "token")

        def refused(self) -> None:
            pytest.fail("nobody refuses them")

    server, authority = Scripted(), Authority(tmp_path, "authority")
    async with serving(server.serve, ssl=serving_as(authority.issue("server"))) as url:
        settings = mlflow(
            root(url),
            auth={"kind": "sigv4", "resource_arn": SERVER},
            ca_file=str(authority.file),
        )
        found = await facts(settings, aws_credentials=Source())
        without = await facts(settings)
    assert (found.version, without) == ("MLflow 3.17.2", ServerFacts())
    ((path, headers),) = server.asked
    assert path == "/version"
    assert headers["x-mlflow-sm-tracking-server-arn"] == SERVER
    assert headers["Authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")


async def test_nothing_is_known_of_a_server_that_is_not_there() -> None:
    assert await facts(mlflow("http://127.0.0.1:9")) == ServerFacts()
    assert await facts(mlflow("http://a..b")) == ServerFacts()


# --- a server that does not work ------------------------------------------------------------------


async def test_the_server_is_there_with_a_fault_of_its_own() -> None:
    async with serving(Scripted().serve) as url:
        assert await diagnosis(mlflow(root(url))) == ()
    async with MlflowStandIn() as server:
        server.faults.database_down = True
        assert await diagnosis(mlflow(server.url)) == ()


@pytest.mark.parametrize("configured", ["/wrong", "/mlflow", "/mlflow/wrong"])
async def test_the_server_is_there_without_the_prefix(configured: str) -> None:
    async with serving(Scripted().serve) as url:
        (advice,) = await diagnosis(mlflow(root(url) + configured))
    assert advice == f"MLflow answers at {root(url)}: set target.tracking_uri: {root(url)}"


async def test_the_server_is_there_with_a_prefix() -> None:
    async with serving(Scripted(prefix="/mlflow").serve) as url:
        (advice,) = await diagnosis(mlflow(root(url)))
    assert advice.endswith(f": set target.tracking_uri: {root(url)}/mlflow")


@pytest.mark.parametrize("fault", [{"wants_login": True}, {"refuses_host": True}])
async def test_the_prefix_is_found_although_the_api_answers_nothing(fault: dict[str, bool]) -> None:
    async with serving(Scripted(**fault).serve) as url:  # type: ignore[arg-type] # of these two
        (advice,) = await diagnosis(mlflow(f"{root(url)}/wrong"))
    assert advice.endswith(f": set target.tracking_uri: {root(url)}")


async def test_a_login_is_missing() -> None:
    async with serving(Scripted(wants_login=True).serve) as url:
        (advice,) = await diagnosis(mlflow(root(url)))
        assert await diagnosis(mlflow(root(url), auth=LOGIN)) == ()
    assert advice == (
        f"the MLflow at 127.0.0.1:{port_of(url)} wants a login: set target.auth.kind: basic, "
        "target.auth.username and target.auth.password"
    )


async def test_the_login_is_not_sent_to_find_out() -> None:
    server = Scripted(wants_login=True)
    async with serving(server.serve) as url:
        await diagnosis(mlflow(f"{root(url)}/wrong", auth=LOGIN, headers={"X-Key": "secret"}))
    assert server.asked
    assert not any({"Authorization", "X-Key"} & {*headers} for _, headers in server.asked)


async def test_a_version_that_is_too_old_may_be_the_cause() -> None:
    async with serving(Scripted(version="2.9.2").serve) as url:
        (advice,) = await diagnosis(mlflow(root(url)))
    assert "2.9.2 is older than 2.16" in advice


@pytest.mark.parametrize(
    ("status", "content", "absent"),
    [
        (404, {"error_code": "ENDPOINT_NOT_FOUND", "message": "x"}, True),
        (405, {}, True),
        (501, {"error_code": "NOT_IMPLEMENTED", "message": "x"}, True),
        (400, {"error_code": "FEATURE_DISABLED", "message": "x"}, True),
        (
            400,
            {"message": "Model registry functionality is unavailable; got unsupported URI './x'"},
            True,
        ),
        (200, {}, False),
        (503, {"error_code": "TEMPORARILY_UNAVAILABLE", "message": "x"}, False),
        (401, {}, False),
    ],
)
async def test_a_server_without_a_model_registry(
    status: int,
    content: dict[str, str],
    absent: bool,  # noqa: FBT001 - a column of the table
) -> None:
    scripted, asked = Scripted(), []

    async def serve(request: web.Request) -> web.Response:
        if request.path.endswith("/model-versions/search"):
            asked.append(request.headers.get("Authorization"))
            return json_answer(status, content)
        return await scripted.serve(request)

    async with serving(serve) as url:
        notes = await diagnosis(mlflow(root(url), auth=LOGIN))
        assert await diagnosis(mlflow(root(url), register_models=False)) == ()
    words = "this MLflow has no model registry: set target.register_models: false"
    assert notes == ((words,) if absent else ())
    assert asked == ["Basic bWw6YS1sb25nLXBhc3N3b3Jk"]


async def test_https_where_it_should_be_http() -> None:
    async with serving(Scripted().serve) as url:
        (advice,) = await diagnosis(mlflow(root(url).replace("http:", "https:")))
    assert advice.endswith(f": set target.tracking_uri: {root(url)}")


async def test_http_where_it_should_be_https(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    async with serving(Scripted().serve, ssl=serving_as(authority.issue("server"))) as url:
        (advice,) = await diagnosis(mlflow(root(url).replace("https:", "http:")))
    assert advice == f"MLflow answers at {root(url)}: set target.tracking_uri: {root(url)}"


async def test_a_modeldb_is_there() -> None:
    async with ModelDbV2StandIn() as server:
        (advice,) = await diagnosis(mlflow(root(server.url)))
    assert advice == (
        f"the REST API of ModelDB V2 answers at 127.0.0.1:{server.port}: set target.kind: "
        f"modeldb-v2, target.url: {server.url}, without target.tracking_uri"
    )
    async with listening(ModelDBV1().serve) as port:
        (advice,) = await diagnosis(mlflow(f"http://127.0.0.1:{port}"))
    assert advice == (
        f"a ModelDB V1 server answers at 127.0.0.1:{port}: set target.kind: modeldb-v1, "
        f"target.host: 127.0.0.1, target.port: {port}, without target.tracking_uri"
    )


async def test_another_web_server_is_there() -> None:
    async def pages(_request: web.Request) -> web.Response:
        return web.Response(text="<html>", content_type="text/html")

    async with serving(pages) as url:
        (advice,) = await diagnosis(mlflow(root(url)))
    assert advice.startswith(
        f"an HTTP server that is not MLflow answers at 127.0.0.1:{port_of(url)}"
    )


async def test_a_proxy_in_front_says_nothing_of_what_is_behind_it() -> None:
    async def gateway(_request: web.Request) -> web.Response:
        return web.Response(status=502, text="Bad Gateway")

    async with serving(gateway) as url:
        assert await diagnosis(mlflow(root(url))) == ()


async def test_no_web_server_is_there() -> None:
    async with listening(saying(b"220 mail ESMTP\r\n")) as port:
        (advice,) = await diagnosis(mlflow(f"http://127.0.0.1:{port}"))
    assert "speaks neither" in advice


@pytest.mark.parametrize(
    ("arn", "action"), [(SERVER, "sagemaker-mlflow:*"), (APP, "sagemaker:CallMlflowAppApi")]
)
async def test_a_managed_server_needs_a_permission(arn: str, action: str) -> None:
    (advice,) = await diagnosis(mlflow(arn))
    assert advice.startswith(f"the daemon's role needs the permission {action} on {arn}, and ")


# --- an MLflow at the address of a ModelDB --------------------------------------------------------


async def test_an_mlflow_is_where_a_modeldb_v2_should_be() -> None:
    kind = TARGET_KINDS["modeldb-v2"]
    async with serving(Scripted().serve) as url:
        (advice,) = await kind.diagnosis(kind.settings.model_validate({"url": url}))
    assert advice == (
        f"an MLflow answers at 127.0.0.1:{port_of(url)}: set target.kind: mlflow, "
        f"target.tracking_uri: {root(url)}, without target.url"
    )


async def test_an_mlflow_is_where_a_modeldb_v1_should_be() -> None:
    kind = TARGET_KINDS["modeldb-v1"]
    async with serving(Scripted().serve) as url:
        given = {"kind": "modeldb-v1", "host": "127.0.0.1", "port": port_of(url)}
        (advice,) = await kind.diagnosis(kind.settings.model_validate(given))
    assert advice == (
        f"an MLflow answers at 127.0.0.1:{port_of(url)}: set target.kind: mlflow, "
        f"target.tracking_uri: {root(url)}, without target.host"
    )
