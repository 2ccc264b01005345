"""Plays `mlflow_script.STEPS`, and keeps what real MLflow servers answered (tests/data/mlflow).

    python -m tests.support.mlflow_exchanges record 3.17.2-sqlite http://127.0.0.1:15500

records the answers of a server without data into ``tests/data/mlflow/3.17.2-sqlite.jsonl``
(3.17.2-basic-auth: one whose administrator has the password in `LOGINS`; 3.17.2-database-down: one
whose database was stopped). Tests play the same scripts against the stand-in's model and against
real servers, and compare status, content type and JSON. What cannot be the same is replaced: ids,
the server's clock, random names; of a message with SQL in it only the words before the database's
are kept.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import re
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.json_lines import read_json_lines
from tests.support.mlflow_script import DATABASE_DOWN_STEPS, LOGIN_STEPS, LOGINS, STEPS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tests.support.mlflow_script import Step

FOLDER = Path(__file__).parents[1] / "data" / "mlflow"

_TIMES = {
    "creation_time",
    "last_update_time",
    "creation_timestamp",
    "last_updated_timestamp",
}
_SAVED = re.compile(r"<([\w-]+)>")
_ID = re.compile(r"[0-9a-f]{32}")
_RANDOM_NAME = re.compile(r"[a-z]+-[a-z]+-\d{1,4}")
_DATABASE = re.compile(
    r"\(raised as a result of Query-invoked autoflush[^)]*\)\n|\((sqlite3|psycopg2)\..*", re.DOTALL
)
_SET = re.compile(r"\{'[^{}]*'\}?")
_REPEATED = re.compile(r"(.)\1{99,}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, with what cannot be the same replaced.

    Attributes:
        body: JSON, or text.
    """

    status: int
    content_type: str
    body: Any


@dataclass(slots=True)
class Player:
    """Plays the steps of a script, in order.

    Args:
        send: sends method, path, query, headers and body, and returns status, content type and
            body.
    """

    send: Callable[[str, str, str, Mapping[str, str], bytes], tuple[int, str, bytes]]
    _saved: dict[str, str] = field(default_factory=dict)

    def play(self, step: Step) -> Answer:
        """Sends a step and returns its normalised answer."""
        status, content_type, body = self.send(
            step.method,
            step.path,
            self._filled(step.query),
            step.headers,
            # Lone surrogates are sent as JSON's escapes, which are ASCII.
            self._filled(step.body).encode(),
        )
        if not content_type.startswith("application/json"):
            return Answer(status, content_type, body.decode())
        parsed = json.loads(body)
        if step.saves:
            self._save(step.saves, parsed)
        return Answer(status, content_type, self._normalized("", parsed))

    def _filled(self, text: str) -> str:
        return _SAVED.sub(
            lambda match: self._saved.get(match[1], "0" if match[1] in _NAMES else match[0]), text
        )

    def _save(self, name: str, body: Mapping[str, Any]) -> None:
        found = body.get("experiment_id") or body.get("run", {}).get("info", {}).get("run_id")
        if found:
            self._saved[name] = found

    def _normalized(self, name: str, value: Any) -> Any:
        if isinstance(value, dict):
            if value.get("key") == "mlflow.runName":
                return value | {"value": self._normalized("run_name", value["value"])}
            return {key: self._normalized(key, item) for key, item in sorted(value.items())}
        if isinstance(value, list):
            items = [self._normalized("", item) for item in value]
            if items and "key" in items[0]:
                items.sort(key=lambda item: (item["key"], str(item)))
            elif items and "dataset" in items[0]:
                items.sort(key=str)
            return items
        if name in _TIMES:
            return "<time>"
        return self._normalized_text(name, value) if isinstance(value, str) else value

    def _normalized_text(self, name: str, text: str) -> str:
        if name == "message":
            text = _DATABASE.sub("", text)
            text = _SET.sub(lambda match: _sorted_set(match[0]), text)
            text = re.sub(r"(?<=id=)\d+|(?<=experiment )\d+", self._experiment, text)
        if name == "experiment_id":
            return self._experiment_named(text)
        if name in {"artifact_uri", "artifact_location"}:
            text = re.sub(r"(?<=:/)\d+", self._experiment, text)
        if name == "run_name" and _RANDOM_NAME.fullmatch(text):
            return "<random name>"
        text = _ID.sub(self._run, text)
        return _REPEATED.sub(lambda match: f"<{len(match[0])} times {match[1]}>", text)

    def _experiment(self, match: re.Match[str]) -> str:
        return self._experiment_named(match[0])

    def _experiment_named(self, number: str) -> str:
        for name, saved in self._saved.items():
            if saved == number:
                return f"<{name}>"
        return number

    def _run(self, match: re.Match[str]) -> str:
        for name, saved in self._saved.items():
            if saved == match[0]:
                return f"<{name}>"
        return match[0] if match[0] == "0" * 32 else "<id>"


_NAMES = {step.saves for step in (*STEPS, *LOGIN_STEPS)}


def _sorted_set(text: str) -> str:
    return "{" + ", ".join(sorted(re.findall(r"'[^']*'", text))) + "}"


def play(send: Any, steps: Iterable[Step] = STEPS) -> dict[str, Answer]:
    """The answers to a script, by the names of its steps."""
    player = Player(send)
    return {step.name: player.play(step) for step in steps}


def recorded(name: str) -> dict[str, Answer]:
    """What a real server answered, by the names of the steps."""
    return {
        row["step"]: Answer(row["status"], row["content_type"], row["body"])
        for row in read_json_lines(FOLDER / f"{name}.jsonl")
    }


def http_send(url: str) -> Any:
    """Sends to a server, with a connection for each request."""
    parts = urllib.parse.urlsplit(url)

    def send(
        method: str, path: str, query: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, str, bytes]:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=120)
        try:
            target = parts.path + path + ("?" + urllib.parse.quote(query, "=&%+") if query else "")
            connection.request(method, target, body or None, dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.headers["Content-Type"] or "", answer.read()
        finally:
            connection.close()

    return send


def make_users(url: str) -> None:
    """The users of `LOGINS` besides the administrator."""
    admin = base64.b64encode(f"admin:{LOGINS['admin']}".encode()).decode()
    headers = {"Content-Type": "application/json", "Authorization": f"Basic {admin}"}
    for user in ("ann", "bob"):
        body = json.dumps({"username": user, "password": LOGINS[user]}).encode()
        status, _, answer = http_send(url)(
            "POST", "/api/2.0/mlflow/users/create", "", headers, body
        )
        assert status == 200, answer


SCRIPTS = {
    "3.17.2-sqlite": STEPS,
    "3.17.2-postgresql": STEPS,
    "2.22.5-sqlite": STEPS,
    "3.17.2-basic-auth": LOGIN_STEPS,
    "3.17.2-database-down": DATABASE_DOWN_STEPS,
}
"""What each file has the answers to."""


def _record(name: str, url: str) -> None:
    steps = SCRIPTS[name]
    if steps is LOGIN_STEPS:
        make_users(url)
    answers = play(http_send(url), steps)
    rows = []
    for step in steps:
        answer = answers[step.name]
        row = {
            "step": step.name,
            "status": answer.status,
            "content_type": answer.content_type,
            "body": answer.body,
        }
        rows.append(json.dumps(row, ensure_ascii=False) + "\n")
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{name}.jsonl").write_text("".join(rows))
    print(f"{len(rows)} answers of {url} in {FOLDER / name}.jsonl")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.mlflow_exchanges")
    parser.add_argument("verb", choices=["record"])
    parser.add_argument("name", choices=SCRIPTS, help="of the file in tests/data/mlflow")
    parser.add_argument("url", help="of a server without data")
    options = parser.parse_args(arguments)
    _record(options.name, options.url)


if __name__ == "__main__":
    main()
