"""How a queue and its dead-letter queue are set up, for `check`. The daemon itself needs none of
it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daemon.aws.errors import edge_call, unobserved
from daemon.http_date import clock_ahead
from daemon.reasons import Edge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from types_aiobotocore_sqs import SQSClient
    from types_aiobotocore_sqs.literals import QueueAttributeFilterType

_ATTRIBUTES: tuple[QueueAttributeFilterType, ...] = ("All",)
"""By name, some of them are refused by queues that are not SQS's."""


@dataclass(frozen=True, slots=True)
class QueueSetup:
    """Attributes of a queue, each None where the service does not tell it."""

    retention_seconds: int | None
    kms_key: str | None
    """Of SSE-KMS; None also for SSE-SQS."""
    redrive_permission: str | None
    """``allowAll``, ``denyAll`` or ``byQueue``: whose dead-letter queue it may be."""
    redrive_sources: tuple[str, ...]
    """The ARNs of ``byQueue``."""
    clock_ahead_seconds: float | None
    """How far the service's clock is ahead of this machine's, to about a second."""


class QueueSetupReader:
    """Reads the attributes of a queue.

    Args:
        client: of SQS.
        url: of the queue.
    """

    def __init__(self, client: SQSClient, url: str) -> None:
        self._client = client
        self._url = url

    async def read(self) -> QueueSetup:
        """Asks for the attributes.

        Raises:
            EdgeFault: the queue does not answer.
        """
        with edge_call(unobserved, Edge.QUEUE, "GetQueueAttributes"):
            answer = await self._client.get_queue_attributes(
                QueueUrl=self._url, AttributeNames=_ATTRIBUTES
            )
        attributes: Mapping[Any, Any] = answer.get("Attributes") or {}
        policy = _object(attributes.get("RedriveAllowPolicy"))
        sources = policy.get("sourceQueueArns")
        headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        return QueueSetup(
            retention_seconds=_number(attributes.get("MessageRetentionPeriod")),
            kms_key=_text(attributes.get("KmsMasterKeyId")),
            redrive_permission=_text(policy.get("redrivePermission")),
            redrive_sources=tuple(map(str, sources)) if isinstance(sources, list) else (),
            clock_ahead_seconds=clock_ahead(headers.get("date")),
        )


def _object(value: object) -> Mapping[str, Any]:
    try:
        parsed = json.loads(value) if isinstance(value, str) else None
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: object) -> int | None:
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None  # noqa: PLR2004 - digits of SQS's largest numbers
