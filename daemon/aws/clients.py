"""The clients of SQS, SageMaker, SageMaker Metrics and STS: one session, one set of credentials
(`daemon.aws.credentials`), one client per service for the life of the process.

Polling has its own client, because a long poll occupies a connection and acknowledgements must
never wait for one. It does not retry: a retried receive can hide messages that were handed out to
the first attempt. The listing of jobs has its own, too, without retries: its caller keeps the pace.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError, UnknownRegionError
from botocore.parsers import ResponseParserError

from daemon.aws.certificate_authorities import read_trusted_authorities
from daemon.aws.credential_faults import configuration_fault
from daemon.aws.credential_log import quiet_credential_loggers
from daemon.aws.credential_sources import aws_files
from daemon.aws.credentials import LateCredentials, LateSession
from daemon.aws.errors import (
    CREDENTIAL_ERRORS,
    CredentialsError,
    credentials_are_refused,
    edge_fault,
    said,
    unobserved,
)
from daemon.aws.member_clients import LateClient, MemberClients
from daemon.aws.roles import RoleCredentials
from daemon.aws.service_models import lean_loader
from daemon.aws.shared_tls import SharedTlsSession
from daemon.aws.timestamps import utc_timestamp
from daemon.aws.user_agent import USER_AGENT
from daemon.errors import DaemonError, SetupFault
from daemon.reasons import Edge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from botocore.loaders import Loader
    from types_aiobotocore_sagemaker import SageMakerClient
    from types_aiobotocore_sqs import SQSClient
    from types_aiobotocore_sts import STSClient

    from daemon.aws.accounts import AccountAccess
    from daemon.aws.errors import Observe
    from daemon.aws.metric_series import MetricsClient

_QUEUE_HOST = re.compile(
    r"(?P<name>sqs\.|sqs-fips\.)?(?P<region>[a-z]{2}(?:-[a-z]+)+-\d+)\.(?:queue\.)?amazonaws\.com(?:\.cn)?"
)
"""``sqs.eu-west-1.amazonaws.com``, the older ``eu-west-1.queue.amazonaws.com`` and variants."""

_CONNECT_SECONDS = 3
_READ_SECONDS = 15
_STS_READ_SECONDS = 5
_POLL_MARGIN_SECONDS = 10
"""How much longer than WaitTimeSeconds the response to a long poll may take: a poll that is given
up too early hides messages."""
_ATTEMPTS = 3
_QUEUE_CONNECTIONS = 10


@dataclass(frozen=True, slots=True)
class Endpoints:
    """URLs in place of AWS's; None: botocore's resolution, with ``AWS_ENDPOINT_URL_<SERVICE>``."""

    sqs: str | None = None
    sagemaker: str | None = None
    sts: str | None = None
    sagemaker_metrics: str | None = None


@dataclass(frozen=True, slots=True)
class QueueAddress:
    """Region and endpoint, as far as the URL of a queue reveals them."""

    region: str | None
    """None if the host does not contain it: a VPC endpoint, another SQS implementation."""
    endpoint: str | None
    """Scheme and host; None: the region's public endpoint."""

    @classmethod
    def of(cls, url: str) -> QueueAddress:
        """Parses the URL of a queue."""
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        host = _QUEUE_HOST.fullmatch(parts.hostname or "")
        if host is None:
            return cls(None, origin)
        return cls(host["region"], origin if host["name"] == "sqs-fips." else None)


@dataclass(frozen=True, slots=True)
class AwsClients:
    """The open clients. They belong to one event loop."""

    region: str
    partition: str
    """``aws``, ``aws-cn``, ``aws-us-gov``, …"""
    sqs_polling: SQSClient
    """Only for ReceiveMessage: no retries, and a timeout that covers the long poll."""
    sqs: SQSClient
    sagemaker: SageMakerClient
    sagemaker_listing: SageMakerClient
    """Only for ListTrainingJobs: no retries."""
    sagemaker_metrics: MetricsClient | None
    """Only when metric series are asked for."""
    sts: Callable[[], AbstractAsyncContextManager[STSClient]]
    """Opens an STS client for one call."""
    members: Sequence[MemberClients] = ()
    """Of the other accounts and regions."""


@asynccontextmanager
async def open_clients(
    *,
    queue_url: str,
    region: str | None = None,
    endpoints: Endpoints = Endpoints(),
    pollers: int = 1,
    wait_seconds: int = 20,
    job_connections: int = 16,
    metric_series: bool = False,
    accounts: Sequence[AccountAccess] = (),
    observe: Observe = unobserved,
) -> AsyncIterator[AwsClients]:
    """Opens the clients and closes them at the end of the block. Finish running polls first.

    Args:
        queue_url: ``queue.url``; its host is the SQS endpoint, unless `endpoints` has one.
        region: ``aws.region``; None: AWS_REGION, else AWS_DEFAULT_REGION or the AWS profile's, else
            the region in the queue's URL.
        endpoints: endpoint URLs that replace AWS's own.
        pollers: concurrent long polls.
        wait_seconds: wait time of a long poll.
        job_connections: concurrent SageMaker calls; further calls wait for a connection.
        metric_series: whether to open the client that reads them.
        accounts: others, whose clients are opened at their first call.
        observe: called after each AssumeRole.

    Raises:
        SetupFault: no region, a region other than the queue's, or a value that botocore rejects.
        EdgeFault: an AWS file cannot be used now; the caller tries again.
    """
    quiet_credential_loggers()
    credentials = LateCredentials(
        lambda: credential_session(session.get_component("data_loader"), at)
    )
    session = _session(credentials)
    address = QueueAddress.of(queue_url)
    sqs_endpoint = endpoints.sqs or address.endpoint
    sts = _config(read_timeout=_STS_READ_SECONDS, attempts=2)
    polling = _config(
        read_timeout=wait_seconds + _POLL_MARGIN_SECONDS, attempts=1, connections=pollers + 1
    )
    async with AsyncExitStack() as stack:
        try:
            session.register_component(
                "data_loader", lean_loader(session.get_config_variable("data_path"))
            )
            at = configured_region(session, region, address, elsewhere=endpoints.sqs is not None)
            await asyncio.to_thread(read_trusted_authorities, session)

            async def client(service: str, endpoint: str | None, config: AioConfig) -> Any:  # noqa: ANN401 - made at run time
                return await stack.enter_async_context(
                    session.create_client(
                        service, region_name=at, endpoint_url=endpoint, config=config
                    )
                )

            # the largest model first, so that the memory freed after parsing it is reused
            sagemaker = await client(
                "sagemaker", endpoints.sagemaker, _config(connections=job_connections)
            )
            open_sts = partial(
                session.create_client,
                "sts",
                region_name=at,
                endpoint_url=endpoints.sts,
                config=sts,
            )
            clients = AwsClients(
                region=at,
                partition=_partition(session, at),
                sqs_polling=await client("sqs", sqs_endpoint, polling),
                sqs=await client("sqs", sqs_endpoint, _config(connections=_QUEUE_CONNECTIONS)),
                sagemaker=sagemaker,
                sagemaker_listing=await client(
                    "sagemaker", endpoints.sagemaker, _config(attempts=1)
                ),
                sagemaker_metrics=await client(
                    "sagemaker-metrics", endpoints.sagemaker_metrics, _config(connections=4)
                )
                if metric_series
                else None,
                sts=open_sts,
                members=[
                    member
                    for account in accounts
                    for member in _members(
                        account,
                        session,
                        credentials
                        if account.role is None
                        else RoleCredentials(account.role, open_sts, observe),
                        at,
                        endpoints,
                        job_connections,
                        stack,
                        metric_series=metric_series,
                    )
                ],
            )
        except DaemonError:
            raise
        except Exception as error:
            raise start_fault(error, session) from error
        yield clients


def _session(credentials: LateCredentials) -> LateSession:
    session = LateSession(credentials)
    session.get_component("response_parser_factory").set_parser_defaults(
        timestamp_parser=utc_timestamp
    )
    for service in ("sagemaker", "sagemaker-metrics", "sqs"):
        session.register(f"before-parse.{service}", refuse_non_json)
    session.register("after-call", partial(look_again, credentials))
    return session


def _members(
    account: AccountAccess,
    own: LateSession,
    credentials: LateCredentials,
    own_region: str,
    endpoints: Endpoints,
    connections: int,
    stack: AsyncExitStack,
    *,
    metric_series: bool,
) -> list[MemberClients]:
    """The clients of an account, one set for each of its regions, which the stack closes.

    Endpoints are those of one region, so they serve for the daemon's own region only.
    """
    session = _session(credentials)
    session.register_component("data_loader", own.get_component("data_loader"))
    members = []
    for region in account.regions or (own_region,):
        ours = endpoints if region == own_region else Endpoints()

        def late(
            service: str, endpoint: str | None, config: AioConfig, region: str = region
        ) -> Any:  # noqa: ANN401 - stands for clients that are made at run time
            client = LateClient(
                partial(
                    session.create_client,
                    service,
                    region_name=region,
                    endpoint_url=endpoint,
                    config=config,
                )
            )
            stack.push_async_callback(client.aclose)
            return client

        members.append(
            MemberClients(
                account.account,
                region,
                _partition(own, region),
                late("sagemaker", ours.sagemaker, _config(connections=connections)),
                late("sagemaker", ours.sagemaker, _config(attempts=1)),
                late("sagemaker-metrics", ours.sagemaker_metrics, _config(connections=4))
                if metric_series
                else None,
            )
        )
    return members


def start_fault(error: Exception, session: AioSession) -> DaemonError:
    """Why AWS cannot be used as configured: an `EdgeFault` of the queue for what may be corrected
    in a file while it is waited for, a `SetupFault` for what botocore rejects.
    """
    if (fault := configuration_fault(error, session)) is not None:
        return edge_fault(fault, Edge.QUEUE) if fault.curable else SetupFault(str(fault))
    if isinstance(error, CREDENTIAL_ERRORS):
        return edge_fault(error, Edge.QUEUE)
    if isinstance(error, BotoCoreError | ValueError):
        return SetupFault(f"the AWS configuration cannot be used: {said(error)}")
    files = " and ".join(str(file.path) for file in aws_files())
    return edge_fault(
        CredentialsError(
            f"the AWS configuration cannot be read ({type(error).__name__}): check {files}"
        ),
        Edge.QUEUE,
    )


def credential_session(loader: Loader, region: str) -> AioSession:
    """A session that has read no file yet, for one search for credentials.

    Args:
        loader: of botocore's data files.
        region: of the services that give credentials, such as STS.
    """
    session = AioSession()
    session.register_component("data_loader", loader)
    session.set_config_variable("region", region)
    # of the services that give credentials
    session.set_default_client_config(_config(read_timeout=_STS_READ_SECONDS, attempts=2))
    return session


def look_again(credentials: LateCredentials, parsed: dict[str, Any], **_event: object) -> None:
    """Called after each response: AWS refuses credentials that have been replaced."""
    if credentials_are_refused(parsed):
        credentials.refused()


def _config(
    *, read_timeout: float = _READ_SECONDS, attempts: int = _ATTEMPTS, connections: int = 1
) -> AioConfig:
    """Sets every option explicitly, because botocore's defaults change between releases."""
    return AioConfig(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=read_timeout,
        max_pool_connections=connections,
        retries={"mode": "standard", "total_max_attempts": attempts},
        user_agent=USER_AGENT,
        # reads the models from disk in a thread, before the first call instead of during it
        warm_up_loader_caches=True,
        http_session_cls=SharedTlsSession,
    )


def configured_region(
    session: AioSession, configured: str | None, queue: QueueAddress, *, elsewhere: bool
) -> str:
    """The region of this process.

    Args:
        session: reads the AWS profile.
        configured: ``aws.region``.
        queue: names the region where nothing else does.
        elsewhere: the queue is asked at another endpoint than its URL's.

    Raises:
        SetupFault: there is none, or it is not the queue's.
    """
    # botocore reads only AWS_DEFAULT_REGION; other SDKs, ECS and EKS use AWS_REGION
    region = (
        configured
        or os.environ.get("AWS_REGION")
        or session.get_config_variable("region")
        or queue.region
    )
    if not region:
        raise SetupFault("no AWS region: set aws.region or AWS_REGION")
    if queue.region not in {None, region} and not elsewhere:
        source = "aws.region" if configured else "the environment or the AWS profile"
        raise SetupFault(
            f"queue.url is in region {queue.region}, but {source} says {region}: the queue and the "
            "training jobs must be in one region; set aws.region or correct queue.url"
        )
    return str(region)


def _partition(session: AioSession, region: str) -> str:
    try:
        return str(session.get_partition_for_region(region))
    except UnknownRegionError:
        return "aws"


def refuse_non_json(response_dict: dict[str, Any], **_event: object) -> None:
    """Keeps botocore from reading a web page as an empty response.

    Its JSON parser returns ``{}`` for any text, so a proxy's page with status 200 looks like a
    queue without messages.

    Raises:
        ResponseParserError: the response is not from an AWS JSON API.
    """
    status = response_dict["status_code"]
    failed = status >= 500  # noqa: PLR2004 - HTTP: the service, or a gateway that answers for it
    if _is_of_a_json_api(response_dict["body"], as_error=failed):
        return
    if failed:  # only the status matters
        response_dict["body"] = b""
        return
    kind = response_dict["headers"].get("content-type", "no content type")
    raise ResponseParserError(f"HTTP {status} with {kind}, not JSON")


def _is_of_a_json_api(body: bytes, *, as_error: bool) -> bool:
    """Whether botocore's parser can read a body.

    Args:
        as_error: also its code must be a text.
    """
    if body.lstrip()[:1] != b"{":
        return False
    if not as_error:
        return True
    try:
        content: dict[str, Any] = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return all(isinstance(content.get(name) or "", str) for name in ("__type", "code", "Code"))
