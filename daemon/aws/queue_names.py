"""The names of queues in their URLs and ARNs. Pure; imports no AWS library.

One queue has many URLs: of the public, the older, the FIPS and the dual-stack endpoint, of each VPC
endpoint, through any proxy. SQS routes a request by the account and the name in the queue's URL;
its host is only where the client connects to, and that is one endpoint for all queues.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

_REGION = re.compile(r"(?!vpce-)[a-z]{2,4}(?:-[a-z]+)+-\d+")
_OLDEST_HOST = "queue.amazonaws.com"
"""Of us-east-1, from before the other regions."""
_ARN_PARTS = 6


@dataclass(frozen=True, slots=True)
class QueueName:
    """What identifies a queue."""

    account: str
    name: str
    region: str | None
    """None if the URL does not tell it."""

    @classmethod
    def of_url(cls, url: str) -> QueueName:
        """Of a queue's URL: ``…/account/name``."""
        parts = urlsplit(url)
        *before, account, name = ["", *parts.path.rstrip("/").split("/")]
        host = (parts.hostname or "").rstrip(".")
        # LocalStack also has the region in the path: /queue/eu-west-1/account/name
        labels = [*host.split("."), *before[-1:]]
        region = next((label for label in labels if _REGION.fullmatch(label)), None)
        return cls(account, name, "us-east-1" if host == _OLDEST_HOST else region)

    @classmethod
    def of_arn(cls, arn: str) -> QueueName | None:
        """Of ``arn:aws:sqs:region:account:name``; None if this is not one."""
        parts = arn.split(":")
        if len(parts) != _ARN_PARTS or parts[2] != "sqs" or not all(parts[4:]):
            return None
        return cls(parts[4], parts[5], parts[3])


def may_be_one_queue(url: str, other: str) -> bool:
    """Whether two URLs name one queue: the same account and name, and not known to be of two
    regions.
    """
    first, second = QueueName.of_url(url), QueueName.of_url(other)
    return (first.account, first.name) == (second.account, second.name) and (
        first.region == second.region or None in {first.region, second.region}
    )


def url_beside(url: str, queue: QueueName) -> str:
    """The URL of another queue at the same endpoint.

    Args:
        url: of a queue whose endpoint and kind of path are known to work.
        queue: the other one.
    """
    return f"{url.rstrip('/').rsplit('/', 2)[0]}/{queue.account}/{queue.name}"
