"""Sends the exchanges recorded from a real ModelDB V1 server (tests/data/modeldb_v1) to any server,
and compares the answers.

The same replayer runs against the stand-in of the demo and against the real server. The recording
is cut into stories, each of which needs a server with an empty database. What the recording's
author did beside the recorded calls is done again: runs for the fits of their own (gaps in the
sequence ids show them), and the steps behind the server's back, for which a `Hands` is needed.

An answer is compared as a whole, texts included, except for times, MongoDB's own ids and the order
of map entries.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sqlite3
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from daemon.targets.modeldb_v1.codec import INTERFACE, decode_call, decode_reply, encode_call, plain
from tests.support.modeldb_v1_exchanges import load

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from tests.support.modeldb_v1_exchanges import Exchange

ANSWER_SECONDS = 60.0
"""The longest answer of the real server is that of a MongoDB which is gone, after 30 s."""

CHANCE = "what clients saw while three connections wrote at once is chance"

ANNOTATED = "annotations"
_LENGTH = struct.Struct("!i")
_STORY = ("project_experiment", "run", "fit", "metric", "read", "metadata", "trouble")
"""The files that were recorded one after the other on one server, once for each of the prefixes."""
_OBJECT_ID = re.compile(r'"\$oid" : "[0-9a-f]{24}"')
_DRIVER = re.compile(r"(JSONParseException|ClassCastException): .*", re.DOTALL)
"""What MongoDB's driver says of a text that is no document: only the class is compared."""
_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{1,3}")
_EXPERIMENT = 1
"""In which the unrecorded runs were made."""


@dataclass(frozen=True, slots=True)
class Story:
    """Exchanges that need one server with an empty database."""

    name: str
    metadata_store: bool
    """Whether that server is to have a MongoDB."""
    exchanges: Sequence[Exchange]

    @property
    def needs_hands(self) -> bool:
        return any(exchange.file == "trouble" for exchange in self.exchanges)


@dataclass(frozen=True, slots=True)
class Difference:
    label: str
    recorded: object
    live: object


@dataclass(frozen=True, slots=True)
class Replay:
    """What became of a story."""

    differences: list[Difference] = field(default_factory=list)
    replayed: list[Exchange] = field(default_factory=list)
    identical: list[Exchange] = field(default_factory=list)
    """Those with an answer that is the recorded one byte for byte, or none as recorded."""


class Hands(Protocol):
    """What happened behind the server's back, for trouble.jsonl. Each returns when it is so."""

    async def insert_project(self, name: str, author: str) -> None:
        """A second row with the name and the author of the first."""

    async def delete_event(self, event_id: int) -> None:
        """The row in the table Event."""

    async def lock_database(self) -> None: ...

    async def unlock_database(self) -> None: ...


class DatabaseHands:
    """`Hands` for a real server.

    Args:
        path: of its SQLite file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock: sqlite3.Connection | None = None

    async def insert_project(self, name: str, author: str) -> None:
        self._execute(
            "INSERT INTO Project (name, author, description, created) VALUES (?, ?, '', 0)",
            name,
            author,
        )

    async def delete_event(self, event_id: int) -> None:
        self._execute("DELETE FROM Event WHERE id = ?", event_id)

    async def lock_database(self) -> None:
        self._lock = self._connect()
        self._lock.execute("BEGIN EXCLUSIVE")

    async def unlock_database(self) -> None:
        assert self._lock is not None
        self._lock.close()

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=10, isolation_level=None)

    def _execute(self, statement: str, *values: object) -> None:
        with contextlib.closing(self._connect()) as database:
            database.execute(statement, values)


def stories() -> list[Story]:
    """All that can be replayed; race.jsonl cannot (`CHANCE`)."""
    exchanges = load()

    def of(file: str, start: str) -> list[Exchange]:
        return [
            exchange
            for exchange in exchanges
            if exchange.file == file and exchange.name.startswith(start)
        ]

    without_mongo = of("light_api", "sample-without-mongo-")
    return [
        Story(
            "light_api",
            True,
            [exchange for exchange in of("light_api", "") if exchange not in without_mongo],
        ),
        Story("light_api without MongoDB", False, without_mongo),
        Story("wire", True, of("wire", "")),
        Story("a", True, [exchange for file in _STORY for exchange in of(file, "a-")]),
        Story("b", True, [exchange for file in _STORY for exchange in of(file, "b-")]),
        Story("no_mongo a", False, of("no_mongo", "a-")),
        Story("no_mongo b", False, of("no_mongo", "b-")),
    ]


async def replay(
    host: str, port: int, exchanges: Iterable[Exchange], hands: Hands | None = None
) -> list[Difference]:
    """Replays exchanges of one story, in their order, against a server with an empty database.

    Args:
        host: of the server.
        port: of the server.
        exchanges: of one story.
        hands: needed for trouble.jsonl.

    Returns:
        One item for each answer that is not as recorded.
    """
    return (await replay_counted(host, port, exchanges, hands)).differences


async def replay_counted(
    host: str, port: int, exchanges: Iterable[Exchange], hands: Hands | None = None
) -> Replay:
    """As `replay`, with what passed and how closely."""
    replayer = _Replayer(host, port, hands)
    try:
        for exchange in exchanges:
            await replayer.step(exchange)
    finally:
        await replayer.close()
    return replayer.result


class _Replayer:
    def __init__(self, host: str, port: int, hands: Hands | None) -> None:
        self.result = Replay()
        self._host = host
        self._port = port
        self._hands = hands
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._last_run = 0

    async def close(self) -> None:
        if self._streams is not None:
            _, writer = self._streams
            self._streams = None
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def step(self, exchange: Exchange) -> None:
        if exchange.file == "wire":
            await self.close()
        await self._prepare(exchange)
        frame = await self._send(exchange.request_frame)
        recorded, live = _comparable(exchange.response_frame), _comparable(frame)
        self.result.replayed.append(exchange)
        if frame == exchange.response_frame:
            self.result.identical.append(exchange)
        if recorded != live:
            self.result.differences.append(Difference(exchange.label, recorded, live))
        if frame is not None and exchange.method == "storeExperimentRunEvent":
            self._note_run(frame)

    def _note_run(self, frame: bytes) -> None:
        run = decode_reply(frame).result
        if run is not None:
            self._last_run = max(self._last_run, run.experimentRunId)

    async def _prepare(self, exchange: Exchange) -> None:
        """What was done before this exchange and is not recorded."""
        if exchange.method == "storeFitEvent" and exchange.request:
            fit = exchange.request["fe"]
            if fit["experimentRunId"] == self._last_run + 1:
                suffix = exchange.name.partition("-")[2].partition("-")[2]
                await self._create_run(f"md-{suffix}")
        if exchange.file != "trouble":
            return
        if self._hands is None:
            raise ValueError("trouble.jsonl needs hands")
        match exchange.name.partition("-")[2]:
            case "twin-project" if exchange.request:
                project = exchange.request["pr"]["project"]
                await self._hands.insert_project(project["name"], project["author"])
            case "half-fit-resend":
                fit = decode_call(exchange.request_frame).arguments["fe"]
                fit.model.id = -1
                frame = await self._send(encode_call("storeFitEvent", {"fe": fit}, 0))
                assert frame is not None
                await self._hands.delete_event(decode_reply(frame).result.eventId)
            case "busy-read":
                await self._hands.lock_database()
            case "busy-over":
                await self._hands.unlock_database()

    async def _create_run(self, description: str) -> None:
        run = INTERFACE.ExperimentRun(-1, _EXPERIMENT, description)
        frame = await self._send(
            encode_call("storeExperimentRunEvent", {"er": INTERFACE.ExperimentRunEvent(run)}, 0)
        )
        assert frame is not None
        self._note_run(frame)

    async def _send(self, frame: bytes) -> bytes | None:
        """The answer's frame; None: the server closed the connection."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        writer.write(_LENGTH.pack(len(frame)) + frame)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
                return await reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            await self.close()
            return None


def _comparable(frame: bytes | None) -> object:
    """An answer as data, without what differs from run to run."""
    if frame is None:
        return "closed"
    reply = _reply(frame)
    return _without_chance(reply)


def _reply(frame: bytes) -> object:
    length = _LENGTH.unpack_from(frame, 4)[0]
    if frame[8 : 8 + length] == b"testConnexion_":
        return frame.hex()  # the codec knows no answers of methods that do not exist
    reply = decode_reply(frame)
    if reply.exception is None:
        return (reply.method, reply.sequence_id, plain(reply.result))
    number = getattr(reply.exception, "number", None)
    return (
        reply.method,
        reply.sequence_id,
        type(reply.exception).__name__,
        number,
        reply.exception.message,
    )


def _without_chance(value: Any) -> Any:
    match value:
        case str():
            known = _OBJECT_ID.sub('"$oid" : "<id>"', _DRIVER.sub(r"\1", value))
            return _TIME.sub("<time>", known)
        case tuple() | list():
            return [_without_chance(item) for item in value]
        case dict():
            # nothing that is replayed annotates a model
            return {key: _without_chance(item) for key, item in value.items() if key != ANNOTATED}
        case _:
            return value
