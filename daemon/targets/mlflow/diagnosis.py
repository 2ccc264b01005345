"""What `check` says of an MLflow: its version and its clock, what it costs or needs and, if it does
not work, which server is there instead.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from daemon.errors import DaemonError
from daemon.http_date import clock_ahead
from daemon.targets.http.auth import BasicAuth, NoAuth
from daemon.targets.http.session import open_client_session
from daemon.targets.kind import ServerFacts
from daemon.targets.mlflow.auth import fixed_headers, request_signer
from daemon.targets.server_detection import (
    FROM_IN_FRONT,
    Address,
    Server,
    ServerKind,
    server_at,
    speaks_neither,
)
from daemon.targets.tls import tls_context

if TYPE_CHECKING:
    from daemon.targets.kind import TargetContext
    from daemon.targets.mlflow.managed import ManagedServer
    from daemon.targets.mlflow.settings import MlflowSettings
    from daemon.targets.ports import CredentialsSource

OLDEST = (2, 16)
FACTS_SECONDS = 5.0
_OK = 200
_READ_BYTES = 4096
_NO_SUCH_CALL = frozenset({404, 405, 501})
_NO_REGISTRY = ("ENDPOINT_NOT_FOUND", "FEATURE_DISABLED", "registry functionality is unavailable")
_VERSION = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})[0-9A-Za-z.+-]{0,40}")


def advice(target: MlflowSettings) -> tuple[str, ...]:
    """Advice on a server that works."""
    notes = []
    if target.managed is not None and target.managed.is_app and target.register_models:
        notes.append(
            "an MLflow App copies every registered model version into SageMaker's Model Registry, "
            "unless its ModelRegistrationMode is off: set target.register_models: false if that "
            "is not wanted"
        )
    if isinstance(target.auth, BasicAuth):
        notes.append(
            "MLflow's basic authentication takes about 0.4 s of the server's CPU for each request: "
            "set auth_cache_ttl_seconds = 60 in the server's basic_auth.ini"
        )
    return tuple(notes)


async def server_facts(target: MlflowSettings, context: TargetContext) -> ServerFacts:
    """What a server that works says of itself. Takes up to 5 seconds; never raises."""
    told = await _asked(target, URL(f"{target.base_url}/version"), context.aws_credentials)
    if told is None:
        return ServerFacts()
    found = _VERSION.fullmatch(told.text.strip())
    if told.status != _OK or found is None:
        return ServerFacts(clock_ahead_seconds=told.clock_ahead_seconds)
    version = found[0]
    return ServerFacts(
        f"MLflow {version}",
        told.clock_ahead_seconds,
        _notes_on(version, found[1], found[2]),
    )


async def _on_the_registry(target: MlflowSettings) -> str:
    """About the model registry of a self-hosted MLflow, which others that speak its API may lack.
    Only for what is known to be an MLflow: it is sent the login.
    """
    # that of the target's own probe
    query = "filter=name%20%3D%20%27sagemaker-modeldb-sync-probe%27"
    url = URL(f"{target.base_url}/api/2.0/mlflow/model-versions/search?{query}", encoded=True)
    answer = await _asked(target, url, None)
    if answer is None:
        return ""
    absent = answer.status in _NO_SUCH_CALL or any(words in answer.text for words in _NO_REGISTRY)
    if not absent:
        return ""
    return "this MLflow has no model registry: set target.register_models: false"


@dataclass(frozen=True, slots=True)
class _Told:
    status: int
    text: str
    """The beginning."""
    clock_ahead_seconds: float | None


async def _asked(
    target: MlflowSettings, url: URL, credentials: CredentialsSource | None
) -> _Told | None:
    """The answer to a GET with the configured login; None: there is none. Never raises."""
    try:
        async with (
            asyncio.timeout(FACTS_SECONDS),
            open_client_session(
                fixed_headers(target),
                tls_context(target.ca_file, target.client_cert_file, target.client_key_file),
                connect_seconds=FACTS_SECONDS,
            ) as session,
        ):
            signer = request_signer(target, credentials)
            headers = {} if signer is None else await signer.headers("GET", url, b"")
            async with session.get(url, headers=headers, allow_redirects=False) as response:
                text = (await response.content.read(_READ_BYTES)).decode("latin-1")
                return _Told(response.status, text, clock_ahead(response.headers.get("Date")))
    # TimeoutError is an OSError; UnicodeError: a host like a..b
    except (aiohttp.ClientError, OSError, UnicodeError, DaemonError):
        return None


async def diagnosis(target: MlflowSettings) -> tuple[str, ...]:
    """Advice on a server that does not: what to change when another one is at its address."""
    if target.managed is not None:
        return (_permissions(target.managed),)
    configured = _address(target)
    address, there = await server_at(configured, target.ca_file)
    text = _on(target, configured, address, there)
    if not text and there.kind is ServerKind.MLFLOW and target.register_models:
        text = await _on_the_registry(target)
    return (text,) if text else ()


def _permissions(server: ManagedServer) -> str:
    actions = "sagemaker:CallMlflowAppApi" if server.is_app else "sagemaker-mlflow:*"
    what = "the MLflow App" if server.is_app else "the tracking server"
    return (
        f"the daemon's role needs the permission {actions} on {server.arn}, and {what} must exist "
        "and run"
    )


def _notes_on(version: str, major: str, minor: str) -> tuple[str, ...]:
    if (int(major), int(minor)) >= OLDEST:
        return ()
    oldest = ".".join(map(str, OLDEST))
    return (f"MLflow {version} is older than {oldest}, the oldest supported version: update it",)


def _address(target: MlflowSettings) -> Address:
    url = urlsplit(target.base_url)
    encrypted = url.scheme == "https"
    return Address(url.hostname or "", url.port or (443 if encrypted else 80), encrypted, url.path)


def _on(target: MlflowSettings, configured: Address, address: Address, there: Server) -> str:
    match there.kind:
        case ServerKind.OTHER:
            return speaks_neither(address)
        case ServerKind.MODELDB_V1:
            tls = ", target.tls: true" if address.encrypted else ""
            return (
                f"a ModelDB V1 server answers at {address}: set target.kind: modeldb-v1, "
                f"target.host: {address.host}, target.port: {address.port}{tls}, without "
                "target.tracking_uri"
            )
        case ServerKind.MODELDB_V2:
            return (
                f"the REST API of ModelDB V2 answers at {address}: set target.kind: modeldb-v2, "
                f"target.url: {there.url}, without target.tracking_uri"
            )
        case ServerKind.MLFLOW:
            return _on_mlflow(target, configured, address, there)
        case ServerKind.HTTP if there.status not in FROM_IN_FRONT:
            return (
                f"an HTTP server that is not MLflow answers at {address}: target.tracking_uri must "
                "be the address of MLflow's web pages, with the --static-prefix of the server if "
                "it has one"
            )
        case _:  # the finding itself says all there is to say
            return ""


def _on_mlflow(target: MlflowSettings, configured: Address, address: Address, there: Server) -> str:
    if (there.path, address) != (configured.path, configured):
        return f"MLflow answers at {there.url}: set target.tracking_uri: {there.url}"
    if there.wants_login and isinstance(target.auth, NoAuth):
        return (
            f"the MLflow at {address} wants a login: set target.auth.kind: basic, "
            "target.auth.username and target.auth.password"
        )
    if there.version:
        found = _VERSION.fullmatch(there.version)
        return "" if found is None else "".join(_notes_on(there.version, found[1], found[2]))
    return ""
