"""The parts that several verbs build alike, from the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.aws.clients import Endpoints, open_clients

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from daemon.aws.clients import AwsClients
    from daemon.config import Settings


def open_configured_clients(settings: Settings) -> AbstractAsyncContextManager[AwsClients]:
    """The AWS clients as the sections ``aws`` and ``queue`` want them; see `daemon.aws.clients.open_clients`."""
    return open_clients(
        queue_url=settings.queue.url,
        region=settings.aws.region,
        endpoints=Endpoints(
            sqs=settings.aws.sqs_endpoint_url,
            sagemaker=settings.aws.sagemaker_endpoint_url,
            sts=settings.aws.sts_endpoint_url,
        ),
        pollers=settings.queue.pollers,
        wait_seconds=settings.queue.wait_seconds,
    )
