"""SQS, SageMaker, STS, ModelDB V2 and V1 in one process. Prints their addresses as a line of JSON
and runs until it is ended.

`/bench/...` is for the harness: it changes and reads what a client of these services cannot.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

from aiohttp import web

from benchmarks.bench.stand_ins.modeldb import ModelDbV1, ModelDbV2
from benchmarks.bench.stand_ins.sagemaker import SageMaker, caller_identity
from benchmarks.bench.stand_ins.sqs_server import SqsServer

if TYPE_CHECKING:
    from collections.abc import Mapping


class StandIns:
    """All of them."""

    def __init__(self) -> None:
        self.sqs = SqsServer()
        self.sagemaker = SageMaker()
        self.modeldb_v2 = ModelDbV2()
        self.modeldb_v1 = ModelDbV1()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers a request of any AWS service, or of the harness."""
        if request.path.startswith("/bench/"):
            return await self._harness(request)
        service, _, operation = request.headers.get("X-Amz-Target", "").partition(".")
        if service == "AmazonSQS":
            return await self.sqs.handle(operation, request)
        if service == "SageMaker":
            return await self.sagemaker.handle(operation, request)
        return caller_identity()

    async def _harness(self, request: web.BaseRequest) -> web.Response:
        asked: Mapping[str, Any] = json.loads(await request.read() or "{}")
        match request.path.removeprefix("/bench/"):
            case "latency":
                self.modeldb_v2.latency_seconds = self.modeldb_v1.latency_seconds = asked["seconds"]
                answer: object = None
            case "down":
                await self.modeldb_v2.stop()
                await self.modeldb_v1.aclose()
                answer = None
            case "up":
                await self.modeldb_v2.start()
                await self.modeldb_v1.start()
                answer = None
            case "count":
                answer = self._server(asked["kind"]).count(asked["project"])
            case "runs":
                server = self._server(asked["kind"])
                answer = [astuple(run) for run in server.runs(asked["project"])]
            case "requests":
                answer = {
                    "sqs": self.sqs.requests.get(asked["queue_url"], {}),
                    "sagemaker": self.sagemaker.of_project(asked["project"]),
                }
            case _:
                raise web.HTTPNotFound
        return web.Response(body=json.dumps(answer).encode(), content_type="application/json")

    def _server(self, kind: str) -> ModelDbV1 | ModelDbV2:
        return self.modeldb_v1 if kind == "modeldb-v1" else self.modeldb_v2


async def serve() -> None:
    """Serves until SIGTERM or SIGINT."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    here = StandIns()
    runner = web.ServerRunner(web.Server(here.handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    url = here.sqs.url = f"http://{host}:{port}"
    async with here.modeldb_v2, here.modeldb_v1:
        addresses = {
            "aws": url,
            "modeldb_v2": here.modeldb_v2.url,
            "modeldb_v1_port": here.modeldb_v1.port,
        }
        print(json.dumps(addresses), flush=True)
        await stopping.wait()
    await runner.cleanup()


def main() -> None:
    """Takes no arguments."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    asyncio.run(serve())


if __name__ == "__main__":
    main()
