"""SQS over HTTP (its JSON protocol), in memory: the simulation's model of the service, with queues
that do not slow down with depth.

`tests/simulation/test_sqs_model.py` checks the model against moto and ElasticMQ, and
`tests/unit/benchmarks/test_sqs_server.py` runs the same behaviours through this server.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import Counter
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web
from botocore.exceptions import ClientError

from benchmarks.bench.stand_ins.sqs_queue import DeepQueue
from tests.simulation.aws_calls import PlainNetwork
from tests.simulation.sqs import SimulatedSqs, SimulatedSqsClient
from tests.simulation.sqs_queue import ACCOUNT

if TYPE_CHECKING:
    from collections.abc import Mapping

_CALLS = frozenset(
    {
        "ChangeMessageVisibilityBatch",
        "DeleteMessageBatch",
        "GetQueueAttributes",
        "GetQueueUrl",
        "ReceiveMessage",
        "SendMessage",
        "SendMessageBatch",
    }
)
_SINGLE = {
    "DeleteMessage": "DeleteMessageBatch",
    "ChangeMessageVisibility": "ChangeMessageVisibilityBatch",
}
_CONTENT_TYPE = "application/x-amz-json-1.0"


class SqsServer:
    """The service at one address.

    Attributes:
        url: the address, as clients reach it; to be set before the first queue is made.
        requests: by queue URL, how many of each operation.
    """

    def __init__(self) -> None:
        self.url = ""
        self._sqs = SimulatedSqs(random.Random(0))  # noqa: S311 - no secret: nothing is left to chance
        self._client = SimulatedSqsClient(
            self._sqs, PlainNetwork(), asyncio.ensure_future, attempts=1, read_seconds=30
        )
        self.requests: dict[str, Counter[str]] = {}

    async def handle(self, operation: str, request: web.BaseRequest) -> web.Response:
        """Answers a request."""
        parameters = json.loads(
            await request.content.read()
        )  # `request.read` refuses more than 1 MiB
        queue = str(parameters.get("QueueUrl", parameters.get("QueueName", "")))
        self.requests.setdefault(queue, Counter())[operation] += 1
        try:
            answer = await self._carry_out(operation, parameters)
        except ClientError as error:
            return _refused(error)
        return web.Response(
            body=json.dumps(answer).encode(), headers={"Content-Type": _CONTENT_TYPE}
        )

    async def _carry_out(self, operation: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        if operation == "CreateQueue":
            return {"QueueUrl": self._create(parameters)}
        if operation in _SINGLE:
            return await self._single(_SINGLE[operation], parameters)
        if operation not in _CALLS:
            raise ClientError(
                {"Error": {"Code": "UnknownOperationException", "Message": operation}}, operation
            )
        call = getattr(self._client, re.sub(r"(?<!^)(?=[A-Z])", "_", operation).lower())
        answer: dict[str, Any] = await call(**parameters)
        del answer["ResponseMetadata"]
        return answer

    def _create(self, parameters: Mapping[str, Any]) -> str:
        name, attributes = parameters["QueueName"], parameters.get("Attributes") or {}
        url = f"{self.url}/{ACCOUNT}/{name}"
        policy = json.loads(attributes.get("RedrivePolicy", "{}"))
        dead = next(
            (
                each
                for each in self._sqs.queues.values()
                if each.arn == policy.get("deadLetterTargetArn")
            ),
            None,
        )
        self._sqs.queues.setdefault(
            url,
            DeepQueue(
                name,
                url,
                visibility_seconds=int(attributes.get("VisibilityTimeout", 30)),
                max_receive_count=int(policy["maxReceiveCount"]) if dead is not None else None,
                dead_letters=dead,
            ),
        )
        return url

    async def _single(self, batch: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        """The call of one message, as a batch of one."""
        entry = {name: value for name, value in parameters.items() if name != "QueueUrl"}
        request = {"QueueUrl": parameters["QueueUrl"], "Entries": [entry | {"Id": "0"}]}
        answer = await (
            self._client.delete_message_batch(**request)
            if batch == "DeleteMessageBatch"
            else self._client.change_message_visibility_batch(**request)
        )
        for failed in answer.get("Failed", ()):
            code, message = failed["Code"], failed["Message"]
            raise ClientError({"Error": {"Code": code, "Message": message}}, batch)
        return {}


def _refused(error: ClientError) -> web.Response:
    known: dict[str, Any] = dict(error.response["Error"])
    code = known["Code"]
    shape = known.get("QueryErrorCode", code.rpartition(".")[2])
    status = error.response.get("ResponseMetadata", {}).get(
        "HTTPStatusCode", HTTPStatus.BAD_REQUEST
    )
    body = {"__type": f"com.amazonaws.sqs#{shape}", "message": known["Message"]}
    headers = {"Content-Type": _CONTENT_TYPE, "x-amzn-query-error": f"{code};Sender"}
    return web.Response(status=status, body=json.dumps(body).encode(), headers=headers)
