"""The exchanges recorded from a real ModelDB V2 server (tests/data/modeldb_v2), and a replayer that
sends them to any server.

The same replayer runs against the stand-in of the demo and against the real server. Of a recorded
answer it compares the status, the content type and the JSON, exactly, except for what cannot be the
same: ids made by the server are mapped, its clock is only looked at for being one, and what the
proxy says about a back-end that is gone is chance.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import aiohttp
from yarl import URL

from tests.support.json_lines import read_json_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

FOLDER = Path(__file__).parents[1] / "data" / "modeldb_v2"

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CLOCK = {"date_created", "date_updated", "time_created", "time_updated", "time_logged"}
_RACE = re.compile(r"(.+)-[12]")
_RACE_TRIES = 20
_DEADLINE_POLL_SECONDS = 0.05
_DEADLINE_POLLS_PER_CREATE = 20
_DEADLINE_POLLS = 200

_UNRECORDED_HEADERS = {
    "connection/auth-headers": {
        "Authorization": "Bearer x",
        "Grpc-Metadata-source": "PythonClient",
    },
    "connection/auth-header-9kB": {"Authorization": "x" * 9000},
    "connection/grpc-timeout-expired": {"Grpc-Timeout": "1u"},
    "connection/grpc-timeout-bad": {"Grpc-Timeout": "abc"},
    "races/create-with-deadline": {"Grpc-Timeout": "8m"},
}
"""Headers that mattered and stand in the notes only."""

_SHORTENED = {"limits/body-5MB": ("description", 5_000_000)}
"""Texts of one repeated character that the recording shortens to one."""

_UNRECORDED_PROJECTS = ("form", "unrecorded")
"""Two projects were there before the first line of projects.jsonl; one shows in list-sorted, both
count in total_records."""

_WHOLE_SERVER = {
    "connection/get-projects-empty",
    "projects/list-page-1",
    "projects/list-page-2",
    "projects/list-page-past-end",
    "projects/list-sorted",
}
"""What these answer depends on every project of the server."""

_OUTAGES = ("database-down", "database-back", "backend-down", "backend-back")


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    query: Mapping[str, str | list[str]]
    headers: Mapping[str, str]
    body: Any
    """An object or array is sent as JSON, a string as it is, None is no body."""


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: Mapping[str, str]
    body: Any
    """Parsed if it was JSON, else the text."""


@dataclass(frozen=True, slots=True)
class Exchange:
    file: str
    """Without its suffix."""
    name: str
    note: str
    request: Request
    response: Response

    @property
    def label(self) -> str:
        return f"{self.file}/{self.name}"

    @property
    def service(self) -> str:
        """The first part of the path after /v1."""
        return self.request.path.split("/")[2]

    @property
    def operation(self) -> str:
        """The call: the last part of the path."""
        return self.request.path.rstrip("/").rpartition("/")[2]


def load() -> list[Exchange]:
    """All recorded exchanges, in the order in which they happened within each file."""
    return [
        Exchange(
            path.stem,
            line["name"],
            line["note"],
            Request(**line["request"]),
            Response(**line["response"]),
        )
        for path in sorted(FOLDER.glob("*.jsonl"))
        for line in read_json_lines(path)
    ]


class Outages(Protocol):
    """How to take parts of a server down and bring them back, for outages.jsonl. Each returns when
    it is so.
    """

    async def database_down(self) -> None: ...

    async def database_back(self) -> None: ...

    async def backend_down(self) -> None: ...

    async def backend_back(self) -> None: ...


@dataclass(slots=True)
class Replay:
    """What became of the exchanges of one file."""

    passed: list[Exchange] = field(default_factory=list)
    left_out: dict[str, list[Exchange]] = field(default_factory=lambda: defaultdict(list))
    """By the reason."""
    differences: list[str] = field(default_factory=list)
    """One line for each member of an answer that is not as recorded; empty when all is well."""


class Replayer:
    """Sends the exchanges of one file after the other to a server.

    The server needs no reset: what a file creates is deleted after it. It must not have projects
    with the names that the recording creates, and when it has any project at all, the few exchanges
    that depend on all of them are left out.

    Args:
        base_url: as in ``target.url``.
        outages: for outages.jsonl; None: left out.
    """

    def __init__(
        self,
        base_url: str,
        *,
        outages: Outages | None = None,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._outages = outages

    async def replay(self, file: str) -> Replay:
        """Replays one file; `Replay.differences` lists what differs from the recording."""
        exchanges = load()
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
            replay = _FileReplay(self._base_url, session, self._outages)
            await replay.prepare(file, exchanges)
            try:
                for group in _steps(exchange for exchange in exchanges if exchange.file == file):
                    if file == "outages" and self._outages is None:
                        reason = "nothing here can take the server's parts down"
                        replay.result.left_out[reason] += group
                    else:
                        await replay.step(group)
            finally:
                await replay.clean_up()
        return replay.result


def _steps(exchanges: Iterable[Exchange]) -> Iterator[list[Exchange]]:
    """Single exchanges, and those that were sent at the same moment together."""

    def moment(exchange: Exchange) -> str:
        found = _RACE.fullmatch(exchange.name)
        return found[1] if found and exchange.file == "races" else exchange.name

    for _, group in groupby(exchanges, moment):
        yield list(group)


def _without_text(error: Mapping[str, Any]) -> dict[str, Any]:
    return {**error, "error": "", "message": ""}


class _FileReplay:
    """One file's replay: what of its recording stands for what on this server."""

    def __init__(
        self, base_url: str, session: aiohttp.ClientSession, outages: Outages | None
    ) -> None:
        self.result = Replay()
        self._base_url = base_url
        self._session = session
        self._outages = outages
        self._outage = ""
        self._ids: dict[str, str] = {}
        """Recorded id to live id."""
        self._raced: dict[str, set[str]] = {}
        """Recorded id of one that was created twice to the live ids of both."""
        self._projects: list[str] = []
        self._empty = False

    async def prepare(self, file: str, exchanges: list[Exchange]) -> None:
        """What the recording of a file takes for granted."""
        _, _, projects = await self._send(Request("GET", "/v1/project/getProjects", {}, {}, None))
        self._empty = projects == {}
        if file == "projects":
            for name in _UNRECORDED_PROJECTS:
                await self._create_project(name)
        if file == "limits":
            # Its runs went to the project and the experiment of values.jsonl.
            for exchange in exchanges:
                if exchange.file == "values" and exchange.name.startswith("setup-"):
                    self._compare(exchange, *await self._send(self._translate(exchange)))

    async def clean_up(self) -> None:
        for project_id in self._projects:
            await self._send(
                Request("DELETE", "/v1/project/deleteProject", {}, {}, {"id": project_id})
            )

    async def step(self, group: list[Exchange]) -> None:
        first = group[0]
        await self._enter_outage(first)
        if first.label in _WHOLE_SERVER and not self._empty:
            self.result.left_out["the server has other projects"] += group
        elif len(group) > 1:
            self._judge(group, await self._race(group))
        elif first.label == "races/run-after-deadline":
            self._judge(group, self._compare(first, *await self._send_after_deadline(first)))
        else:
            self._judge(group, self._compare(first, *await self._send(self._translate(first))))

    def _judge(self, group: list[Exchange], differences: list[str]) -> None:
        self.result.differences += differences
        if not differences:
            self.result.passed += group

    async def _enter_outage(self, exchange: Exchange) -> None:
        outage = next(
            (
                name
                for name in _OUTAGES
                if exchange.file == "outages" and exchange.name.startswith(name)
            ),
            "",
        )
        if outage != self._outage and self._outages is not None:
            self._outage = outage
            match outage:
                case "database-down":
                    await self._outages.database_down()
                case "database-back":
                    await self._outages.database_back()
                case "backend-down":
                    await self._outages.backend_down()
                case "backend-back":
                    await self._outages.backend_back()

    async def _race(self, pair: list[Exchange]) -> list[str]:
        """Two equal creates at one moment, until both succeed: on the real server that is
        chance.
        """
        for _ in range(_RACE_TRIES):
            answers = await asyncio.gather(
                *(self._send(self._translate(exchange)) for exchange in pair)
            )
            rows = [next(iter(body.values())) for status, _, body in answers if status == 200]
            if len(rows) == len(pair):
                break
            await self._undo(pair[0], rows)
        else:
            return [f"{pair[0].label}: not once in {_RACE_TRIES} tries did both creates succeed"]
        # Which of them is the older is chance as well.
        recorded = [next(iter(exchange.response.body.values())) for exchange in pair]
        recorded.sort(key=lambda row: int(row["date_created"]))
        rows.sort(key=lambda row: int(row["date_created"]))
        differences = []
        for old, new in zip(recorded, rows, strict=True):
            self._raced[old["id"]] = {row["id"] for row in rows}
            differences += self._differences(pair[0].label, old, new)
        return differences

    async def _undo(self, exchange: Exchange, rows: list[dict[str, Any]]) -> None:
        delete = exchange.operation.replace("create", "delete")
        path = f"/v1/{exchange.service}/{delete}"
        for row in rows:
            await self._send(Request("DELETE", path, {}, {}, {"id": row["id"]}))

    async def _send_after_deadline(self, exchange: Exchange) -> tuple[int, str, Any]:
        """A server may go on after a deadline, and that takes its time; on the real one it is
        chance, so the create is sent again.
        """
        for attempt in range(1, _DEADLINE_POLLS + 1):
            await asyncio.sleep(_DEADLINE_POLL_SECONDS)
            answer = await self._send(self._translate(exchange))
            if answer[0] != 404:
                break
            if attempt % _DEADLINE_POLLS_PER_CREATE == 0:
                await self._send(self._translate(self.result.passed[-1]))
        return answer

    async def _create_project(self, name: str) -> None:
        await self._send(Request("POST", "/v1/project/createProject", {}, {}, {"name": name}))

    def _translate(self, exchange: Exchange) -> Request:
        """The request with the ids of this server, and with what the recording leaves out."""
        request = exchange.request
        body = self._with_live_ids(request.body)
        if exchange.label in _SHORTENED:
            member, length = _SHORTENED[exchange.label]
            body[member] *= length
        headers = {**request.headers, **_UNRECORDED_HEADERS.get(exchange.label, {})}
        return Request(
            request.method, request.path, self._with_live_ids(request.query), headers, body
        )

    def _with_live_ids(self, value: Any) -> Any:
        match value:
            case str():
                return _UUID.sub(lambda found: self._ids.get(found[0], found[0]), value)
            case list():
                return [self._with_live_ids(item) for item in value]
            case dict():
                return {key: self._with_live_ids(item) for key, item in value.items()}
            case _:
                return value

    async def _send(self, request: Request) -> tuple[int, str, Any]:
        """Status, content type, and the body: parsed if it is JSON, else the text."""
        query = [
            (name, text)
            for name, texts in request.query.items()
            for text in ([texts] if isinstance(texts, str) else texts)
        ]
        url = URL(self._base_url + request.path.removeprefix("/v1")).with_query(query)
        body = (
            request.body
            if request.body is None or isinstance(request.body, str)
            else json.dumps(request.body)
        )
        data = None if body is None else io.BytesIO(body.encode())
        async with self._session.request(
            request.method, url, data=data, headers=request.headers
        ) as response:
            content_type = response.headers.get("Content-Type", "")
            text = await response.text()
            parsed: Any = json.loads(text) if content_type.startswith("application/json") else text
            if request.path.endswith("/createProject") and response.status == 200:
                self._projects.append(parsed["project"]["id"])
            return response.status, content_type, parsed

    def _compare(self, exchange: Exchange, status: int, content_type: str, body: Any) -> list[str]:
        if self._outage == "database-back" and status == 500 and body == {"code": 2}:
            return []  # how many calls meet a dead connection is chance
        recorded = exchange.response
        if (status, content_type) != (recorded.status, recorded.headers["content-type"]):
            wanted = f"{recorded.status} {recorded.headers['content-type']}"
            found = f"{status} {content_type} {json.dumps(body)[:200]}"
            return [
                f"{exchange.label}: {found}, recorded {wanted} {json.dumps(recorded.body)[:200]}"
            ]
        if status == 503:
            # What the proxy says about a back-end that is gone depends on the moment at which it
            # noticed.
            return self._differences(
                exchange.label, _without_text(recorded.body), _without_text(body)
            )
        return self._differences(exchange.label, recorded.body, body)

    def _differences(self, where: str, recorded: Any, live: Any) -> list[str]:
        match recorded, live:
            case dict(), dict():
                if recorded.keys() != live.keys():
                    return [f"{where}: members {sorted(live)}, recorded {sorted(recorded)}"]
                return [
                    line
                    for name, item in recorded.items()
                    for line in self._member_differences(f"{where}.{name}", name, item, live[name])
                ]
            case list(), list():
                if len(recorded) != len(live):
                    return [f"{where}: {len(live)} elements, recorded {len(recorded)}"]
                return [
                    line
                    for number, (old, new) in enumerate(
                        zip(*self._in_order(recorded, live), strict=True)
                    )
                    for line in self._differences(f"{where}[{number}]", old, new)
                ]
            case str(), str():
                return self._text_differences(where, recorded, live)
            case _:
                same = recorded == live and isinstance(recorded, bool) == isinstance(live, bool)
                return [] if same else [f"{where}: {live!r}, recorded {recorded!r}"]

    def _in_order(self, recorded: list[Any], live: list[Any]) -> tuple[list[Any], list[Any]]:
        """Of two that were created at one moment it is chance which a list shows first, when their
        dates are equal.
        """
        if not all(isinstance(row, dict) and row.get("id") in self._raced for row in recorded):
            return recorded, live
        if live != sorted(live, key=lambda row: int(row["date_created"])):
            return recorded, live
        return sorted(recorded, key=lambda row: self._ids[row["id"]]), sorted(
            live, key=lambda row: str(row["id"])
        )

    def _member_differences(self, where: str, name: str, recorded: Any, live: Any) -> list[str]:
        if name in _CLOCK:
            return (
                []
                if re.fullmatch(r"\d{13}", str(live)) and isinstance(live, str)
                else [f"{where}: {live!r} is no time"]
            )
        if name == "project_by_user" and recorded["id"] in self._raced:
            # Which of two projects of one name is found is chance.
            wanted = self._raced[recorded["id"]]
            lines = (
                []
                if live.get("id") in wanted
                else [f"{where}: {live.get('id')} is none of {sorted(wanted)}"]
            )
            return lines + self._differences(where, {**recorded, "id": ""}, {**live, "id": ""})
        return self._differences(where, recorded, live)

    def _text_differences(self, where: str, recorded: str, live: str) -> list[str]:
        if _UUID.fullmatch(recorded) and _UUID.fullmatch(live) and recorded not in self._ids:
            if live in self._ids.values():
                return [f"{where}: {live} stands for another id already"]
            self._ids[recorded] = live
        wanted = self._with_live_ids(recorded)
        return [] if wanted == live else [f"{where}: {live[:300]!r}, recorded {wanted[:300]!r}"]
