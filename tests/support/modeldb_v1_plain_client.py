"""A minimal ModelDB V1 client, independent of the daemon's, for tests of servers."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from typing import TYPE_CHECKING, Any, Self

from daemon.targets.modeldb_v1.codec import INTERFACE, decode_reply, encode_call, plain

if TYPE_CHECKING:
    from types import TracebackType

    from daemon.targets.modeldb_v1.codec import Reply

ANSWER_SECONDS = 20.0


class PlainClient:
    """One connection.

    Args:
        port: on the loopback interface.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._sequence_id = 0

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    def send_bytes(self, data: bytes) -> None:
        self._writer.write(data)

    def send_frame(self, frame: bytes) -> None:
        self.send_bytes(struct.pack("!i", len(frame)) + frame)

    def send(self, method: str, **arguments: object) -> int:
        """The sequence id of the call."""
        self._sequence_id += 1
        self.send_frame(encode_call(method, arguments, self._sequence_id))
        return self._sequence_id

    async def receive_frame(self) -> bytes | None:
        """None if the server closed the connection, perhaps within a frame."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                (length,) = struct.unpack("!i", await self._reader.readexactly(4))
                return await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def receive(self) -> Reply:
        frame = await self.receive_frame()
        assert frame is not None, "closed"
        return decode_reply(frame)

    async def result(self, method: str, **arguments: object) -> Any:
        """The result as JSON data."""
        self.send(method, **arguments)
        reply = await self.receive()
        assert reply.exception is None, reply.exception
        return plain(reply.result)

    async def error(self, method: str, **arguments: object) -> tuple[str, str]:
        """Class and message of the call's exception."""
        self.send(method, **arguments)
        reply = await self.receive()
        assert reply.exception is not None, reply.result
        return type(reply.exception).__name__, reply.exception.message

    async def is_closed(self) -> bool:
        """Whether the server closes the connection without an answer."""
        return await self.receive_frame() is None

    async def new_run(
        self, name: str = "churn", author: str = "ana", description: str = "x"
    ) -> int:
        """A run in the project's default experiment."""
        project_id = (await self.result("storeProjectEvent", pr=project(name, author)))["projectId"]
        experiment = INTERFACE.Experiment(-1, project_id, "", "", True)
        experiment_id = (
            await self.result("storeExperimentEvent", er=INTERFACE.ExperimentEvent(experiment))
        )["experimentId"]
        run_id: int = (
            await self.result("storeExperimentRunEvent", er=run(experiment_id, description))
        )["experimentRunId"]
        return run_id


def project(name: str | None = "churn", author: str | None = "ana") -> Any:
    return INTERFACE.ProjectEvent(INTERFACE.Project(-1, name, author, ""))


def run(experiment_id: int, description: str = "x") -> Any:
    return INTERFACE.ExperimentRunEvent(INTERFACE.ExperimentRun(-1, experiment_id, description))


def data_frame(number: int = -1, tag: str = "train", **metadata: str) -> Any:
    pairs = [INTERFACE.MetadataKV(key, value, "str") for key, value in metadata.items()]
    return INTERFACE.DataFrame(number, [], -1, tag, f"s3://bucket/{tag}", pairs)


def fit(
    run_id: int,
    model_id: int = -1,
    *,
    metadata: str | None = None,
    frame: Any = None,
    **parameters: str,
) -> Any:
    values = [
        INTERFACE.HyperParameter(name, value, "str", 0.0, 1.0) for name, value in parameters.items()
    ]
    return INTERFACE.FitEvent(
        frame or data_frame(Compression="None"),
        INTERFACE.TransformerSpec(-1, "xgboost", values, "churn-1"),
        INTERFACE.Transformer(model_id, "xgboost", "churn-1", "s3://bucket/model.tar.gz"),
        [],
        [],
        [],
        run_id,
        0,
        metadata,
    )


def metric(
    run_id: int, model_id: int, frame_id: int, name: str = "train:error", value: float = 0.5
) -> Any:
    model = INTERFACE.Transformer(model_id, "", "", "")
    return INTERFACE.MetricEvent(
        INTERFACE.DataFrame(frame_id, [], -1, "", "", []),
        model,
        name,
        value,
        "label_col",
        "prediction_col",
        run_id,
    )
