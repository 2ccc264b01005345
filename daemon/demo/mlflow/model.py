"""A model of MLflow's tracking server, pure and synchronous: requests in, answers out.

    model = MlflowModel(now_ms=clock, new_id=ids)
    reply = model.answer("POST", "/api/2.0/mlflow/runs/create", "", headers, body)

It imitates MLflow 3.17.2 and 2.22.5 with SQLite or PostgreSQL for the calls that this project
makes; every other path is 404. Status, content type and JSON are those of the real servers
(tests/data/mlflow). Differences:

* The messages of database errors have their first words only.
* Attribute filters know the common attributes; `order_by` is ignored.
* Prompts, logged models and workspaces are unknown.
"""

from __future__ import annotations

import base64
import fnmatch
import urllib.parse
from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal

from daemon.demo.mlflow import checks
from daemon.demo.mlflow.calls import ADMIN, Call, Database
from daemon.demo.mlflow.experiment_calls import EXPERIMENT_CALLS
from daemon.demo.mlflow.names import Columns
from daemon.demo.mlflow.parsing import load_json, normalized, parse
from daemon.demo.mlflow.registry_calls import REGISTRY_CALLS
from daemon.demo.mlflow.replies import (
    HTML_TYPE,
    JSON_TYPE,
    Crash,
    MissingEntity,
    Reply,
    ServerError,
    invalid,
    json_reply,
    page,
    text,
)
from daemon.demo.mlflow.run_calls import RUN_CALLS
from daemon.demo.mlflow.store import Experiment, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from daemon.demo.mlflow.parsing import Json

CALLS: Mapping[str, Call] = {**EXPERIMENT_CALLS, **RUN_CALLS, **REGISTRY_CALLS}
_APIS = ("/api/2.0/mlflow/", "/ajax-api/2.0/mlflow/")
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]", "0.0.0.0")  # noqa: S104 - nothing is bound
_PRIVATE_HOSTS = ("192.168.*", "10.*", *(f"172.{n}.*" for n in range(16, 32)), "fc00:*", "fd00:*")
_PUBLIC_READS = ("experiments/get", "experiments/get-by-name", "registered-models/get")
_WITHOUT_LOGIN = ("/health", "/api/3.0/mlflow/server-info")
_WRITING = ("POST", "PUT", "DELETE", "PATCH")
_SERVER_INFO = (
    b'{"store_type":"SqlStore","workspaces_enabled":false,"trace_archival_enabled":false,'
    b'"multipart_uploads_enabled":false,"multipart_downloads_enabled":false,'
    b'"presigned_upload_run_id_supported":true,"presigned_upload_model_id_supported":true,'
    b'"features_enabled":{"gateway":true}}'
)
_PLEASE_LOG_IN = (
    "You are not authenticated. Please see "
    "https://www.mlflow.org/docs/latest/auth/index.html#authenticating-to-mlflow on how to "
    "authenticate."
)


class _Denied(Exception):
    """The user may not change this experiment or model."""


class MlflowModel:
    """The server.

    Args:
        version: "3.17.2" or "2.22.5".
        database: whose limits apply.
        now_ms: the server's clock, in ms since 1970.
        new_id: makes the ids of runs.
        allowed_hosts: values of the header Host that 3.x takes besides local and private
            addresses; the comparison is exact and the port counts. With "*" it takes every one.
        static_prefix: of all paths, such as "/ml".
        logins: names and passwords of basic auth; None: nobody has to log in. Each user may change
            what he or she made, "admin" all.
        replica_lag_ms: how far reads are behind writes; 0: not at all.

    Attributes:
        database_down: calls that use the database get 503.
        stopped_parses: a line for each request whose parse stopped at a value of a wrong type:
            something was lost without an error.
    """

    def __init__(
        self,
        *,
        version: str = "3.17.2",
        database: Literal["sqlite", "postgresql"] = "sqlite",
        now_ms: Callable[[], int],
        new_id: Callable[[], str],
        allowed_hosts: Sequence[str] = (),
        static_prefix: str = "",
        logins: Mapping[str, str] | None = None,
        replica_lag_ms: int = 0,
    ) -> None:
        self.version = version
        self.stopped_parses: list[str] = []
        self._modern = not version.startswith("2.")
        self._now_ms = now_ms
        self._allowed_hosts = tuple(allowed_hosts)
        self._prefix = static_prefix
        self._logins = logins
        self._lag_ms = 0
        self._database = Database(
            self._modern, Columns(postgresql=database == "postgresql"), now_ms, new_id
        )
        self._database.check_owner = self._check_owner
        now = now_ms()
        self.store.add_experiment(
            Experiment(0, "Default", "mlflow-artifacts:/0", now, now, {}, owner=ADMIN)
        )
        self._copies: deque[tuple[int, Store]] = deque()
        self.replica_lag_ms = replica_lag_ms

    @property
    def replica_lag_ms(self) -> int:
        """How far reads are behind writes; 0: not at all."""
        return self._lag_ms

    @replica_lag_ms.setter
    def replica_lag_ms(self, milliseconds: int) -> None:
        if not milliseconds:
            self._copies.clear()
            self._database.replica = None
        elif self._database.replica is None:
            self._database.replica = self.store.copy()
        self._lag_ms = milliseconds

    @property
    def store(self) -> Store:
        """What is in the database."""
        return self._database.writes

    @property
    def database_down(self) -> bool:
        return self._database.down

    @database_down.setter
    def database_down(self, down: bool) -> None:
        self._database.down = down

    def operation(self, path: str) -> str:
        """The call that a path stands for, such as ``runs/create``; "" for none."""
        for api in _APIS:
            if path.startswith(self._prefix + api):
                name = path.removeprefix(self._prefix + api)
                return name if name in CALLS else ""
        return ""

    def answer(
        self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes
    ) -> Reply:
        """What the server does with a request, and answers.

        Args:
            method: in capitals.
            path: without the query.
            query: as it came, without "?"; "" for none.
            headers: by any spelling of their names.
            body: as it came.
        """
        known = {name.lower(): value for name, value in headers.items()}
        refusal = self._refusal(method, path, known)
        if refusal is not None:
            return refusal
        name = self.operation(path)
        if not name:
            return self._answer_other(method, path)
        call = CALLS[name]
        if method not in call.methods:
            return page(405, {"Allow": ", ".join((*call.methods, "OPTIONS"))})
        self._catch_up()
        reply = self._answer_call(name, call, method, query, known, body)
        if self._lag_ms and reply.status == HTTPStatus.OK:
            self._copies.append((self._now_ms(), self.store.copy()))
        return reply

    def experiments(self) -> list[dict[str, Any]]:
        """All, as ``experiments/get`` shows them, deleted ones too, but for the default one."""
        return [
            experiment.printed(with_workspace=self._modern)
            for experiment in self.store.experiments.values()
            if experiment.id
        ]

    def runs(self) -> list[dict[str, Any]]:
        """All in the order of their creation, deleted ones too.

        Returns:
            Each as ``runs/get`` shows it, with these members besides: `tags` and `params` as
            mappings, `metrics` the latest points by key, `points` every value of every metric.
        """
        return [
            {
                **self.store.printed_run(run, outputs=self._modern),
                "tags": dict(run.tags),
                "params": dict(run.params),
                "metrics": {key: point.printed() for key, point in run.latest.items()},
                "points": [point.printed() for point in run.points],
            }
            for run in self.store.runs.values()
        ]

    def registered_models(self) -> list[dict[str, Any]]:
        return [model.printed() for model in self.store.models.values()]

    def model_versions(self) -> list[dict[str, Any]]:
        """All that are not deleted, as ``model-versions/search`` shows them, oldest first."""
        return [
            version.printed()
            for versions in self.store.versions.values()
            for version in versions
            if not version.deleted
        ]

    def _refusal(self, method: str, path: str, headers: Mapping[str, str]) -> Reply | None:
        """The answer of what stands before the API: host check, origin check, login."""
        is_health = path in {self._prefix + "/health", self._prefix + "/version"}
        if self._modern:
            if not is_health and not self._allows_host(headers.get("host", "localhost")):
                problem = "Invalid Host header - possible DNS rebinding attack detected"
                return text(403, problem)
            origin = headers.get("origin", "")
            if origin and method in _WRITING and not _is_local(origin) and self._is_api(path):
                return text(403, "Cross-origin request blocked")
        if self._logins is None or path.removeprefix(self._prefix) in _WITHOUT_LOGIN:
            return None
        user = _user(headers.get("authorization", ""), self._logins)
        if user is None:
            challenge = {"WWW-Authenticate": 'Basic realm="mlflow"'}
            return Reply(401, HTML_TYPE, _PLEASE_LOG_IN.encode(), challenge)
        self._database.user = user
        return None

    @property
    def _restricted(self) -> bool:
        """Whether who calls may not do everything: what is unknown is forbidden, too."""
        return self._logins is not None and self._database.user != ADMIN

    def _is_api(self, path: str) -> bool:
        return path.startswith((self._prefix + "/api/", self._prefix + "/ajax-api/"))

    def _allows_host(self, host: str) -> bool:
        if "*" in self._allowed_hosts:
            return True
        if self._allowed_hosts:
            return any(
                fnmatch.fnmatchcase(host, allowed) if "*" in allowed else host == allowed
                for allowed in self._allowed_hosts
            )
        return any(host == local or host.startswith(local + ":") for local in _LOCAL_HOSTS) or any(
            fnmatch.fnmatchcase(host, pattern) for pattern in _PRIVATE_HOSTS
        )

    def _check_owner(self, owner: str) -> None:
        if self._logins is not None and self._database.user not in {owner, ADMIN}:
            raise _Denied

    def _answer_other(self, method: str, path: str) -> Reply:
        answers = {
            "/health": text(200, "OK", "text/plain; charset=utf-8" if self._modern else HTML_TYPE),
            "/version": text(200, self.version, HTML_TYPE),
        }
        if self._modern:
            answers["/api/3.0/mlflow/server-info"] = Reply(200, JSON_TYPE, _SERVER_INFO)
        path = path.removeprefix(self._prefix) if path.startswith(self._prefix) else ""
        if path not in answers:
            return text(403, "Permission denied", HTML_TYPE) if self._restricted else page(404)
        return answers[path] if method in {"GET", "HEAD"} else page(405, {"Allow": "GET"})

    def _answer_call(
        self,
        name: str,
        call: Call,
        method: str,
        query: str,
        headers: Mapping[str, str],
        body: bytes,
    ) -> Reply:
        try:
            given = self._given(call, method, query, headers, body)
            return json_reply(self._perform(name, call, given))
        except MissingEntity as error:
            if self._restricted and name not in _PUBLIC_READS:
                return text(403, "Permission denied", HTML_TYPE)
            return error.reply(names_class=self._modern)
        except ServerError as error:
            return error.reply(names_class=self._modern)
        except Crash:
            return page(500)
        except _Denied:
            return text(403, "Permission denied", HTML_TYPE)

    def _catch_up(self) -> None:
        """Lets the replica catch up with what is old enough."""
        while self._copies and self._copies[0][0] <= self._now_ms() - self._lag_ms:
            self._database.replica = self._copies.popleft()[1]

    def _perform(self, name: str, call: Call, given: Json) -> dict[str, Any]:
        if not self._modern:
            _stringify_experiment_ids(given)
        message, problem = parse(given, call.fields)
        if problem:
            self.stopped_parses.append(f"{name}: {problem}")
        checks.run_checks(given, call.checks, stopped=bool(problem))
        return call.perform(self._database, message)

    def _given(
        self, call: Call, method: str, query: str, headers: Mapping[str, str], body: bytes
    ) -> Json:
        """The body, or the query as an object."""
        arguments = urllib.parse.parse_qs(query, keep_blank_values=True)
        if method in {"GET", "HEAD"} and arguments:
            return {
                name: arguments[name] if kind.repeated else arguments[name][0]
                for name, kind in call.fields.by_name.items()
                if name in arguments
            }
        if method in {"POST", "PUT"}:
            kind = headers.get("content-type")
            if kind is None:
                raise invalid("Bad Request. Content-Type header is missing.")
            if kind.split(";")[0] != JSON_TYPE:
                raise invalid("Bad Request. Content-Type must be one of ['application/json'].")
        value = load_json(body)
        if call.batch and not isinstance(value, dict | list | str):
            # Its length is asked for first.
            raise Crash
        given = normalized(value)
        if self._modern:
            _refuse_double_names(call, given)
        return given


def _refuse_double_names(call: Call, given: Json) -> None:
    if not isinstance(given, dict):
        return
    for json_name, name in call.fields.by_json_name.items():
        if json_name != name and json_name in given and name in given:
            raise invalid(
                f"Request specifies both '{name}' and '{json_name}'; provide only one of them."
            )


def _stringify_experiment_ids(value: Json) -> None:
    """2.x takes numbers for the ids of experiments, at any depth."""
    items = value.items() if isinstance(value, dict) else ()
    for name, item in items:
        if name == "experiment_id" and isinstance(item, int):
            value[name] = str(item)
        elif name == "experiment_ids" and isinstance(item, list | str):
            value[name] = [str(each) if isinstance(each, int) else each for each in item]
        else:
            _stringify_experiment_ids(item)
    if isinstance(value, list):
        for item in value:
            _stringify_experiment_ids(item)


def _is_local(origin: str) -> bool:
    return urllib.parse.urlsplit(origin).hostname in {"localhost", "127.0.0.1", "::1"}


def _user(header: str, logins: Mapping[str, str]) -> str | None:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, _, password = base64.b64decode(encoded).decode().partition(":")
    except ValueError:
        return None
    return name if logins.get(name) == password and name in logins else None
