"""The client of DynamoDB and its errors. DynamoDB has a session of its own, because the checkpoint
is opened without the queue; the credentials come from the same chain (`daemon.aws.credentials`).
"""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from aiobotocore.config import AioConfig

from daemon.aws.certificate_authorities import read_trusted_authorities
from daemon.aws.clients import credential_session, look_again, refuse_non_json
from daemon.aws.credential_faults import configuration_fault
from daemon.aws.credential_log import quiet_credential_loggers
from daemon.aws.credentials import LateCredentials, LateSession
from daemon.aws.errors import (
    CREDENTIAL_ERRORS,
    DYNAMODB,
    CredentialsError,
    OddAnswerError,
    advice,
    error_code,
    reason_of,
    said,
)
from daemon.aws.service_models import lean_loader
from daemon.aws.user_agent import USER_AGENT
from daemon.errors import DaemonError, EdgeFault, SetupFault
from daemon.reasons import Edge, Reason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from aiobotocore.session import AioSession

CONNECT_SECONDS, READ_SECONDS = 2, 3
"""Of one attempt. DynamoDB answers within milliseconds."""
ATTEMPTS = 3
"""Of one call: the only retries. botocore waits up to 1 and 2 seconds between them."""
CONNECTIONS = 32
"""Further calls wait for one of these."""


class DynamoDbClient(Protocol):
    """The operations of the client ``dynamodb`` that are used here."""

    async def get_item(self, **request: Any) -> Mapping[str, Any]: ...  # noqa: ANN401 - botocore's
    async def put_item(self, **request: Any) -> Mapping[str, Any]: ...  # noqa: ANN401 - the same
    async def delete_item(self, **request: Any) -> Mapping[str, Any]: ...  # noqa: ANN401 - the same
    async def query(self, **request: Any) -> Mapping[str, Any]: ...  # noqa: ANN401 - the same
    async def describe_table(self, **request: Any) -> Mapping[str, Any]: ...  # noqa: ANN401 - the same
    async def create_table(self, **request: Any) -> Mapping[str, Any]: ...  # noqa: ANN401 - the same
    async def describe_time_to_live(self, **request: Any) -> Mapping[str, Any]: ...  # noqa: ANN401 - the same
    async def update_time_to_live(self, **request: Any) -> Mapping[str, Any]: ...  # noqa: ANN401 - the same
    async def describe_continuous_backups(self, **request: Any) -> Mapping[str, Any]: ...  # noqa: ANN401 - the same
    async def update_continuous_backups(self, **request: Any) -> Mapping[str, Any]: ...  # noqa: ANN401 - the same


@dataclass(frozen=True, slots=True)
class DynamoDbPlace:
    """Where a table is: members of the section ``checkpoint``."""

    table: str
    region: str | None = None
    """None: AWS_REGION, AWS_DEFAULT_REGION or the AWS profile's."""
    endpoint_url: str | None = None
    """None: the region's public endpoint."""

    def __str__(self) -> str:
        return f"DynamoDB table {self.table}"


@asynccontextmanager
async def open_dynamodb(place: DynamoDbPlace) -> AsyncIterator[DynamoDbClient]:
    """Opens a client and closes it at the end of the block. Calls nothing.

    Raises:
        SetupFault: no region, or a value that botocore rejects.
        EdgeFault: an AWS file cannot be used now; the caller tries again.
    """
    quiet_credential_loggers()
    credentials = LateCredentials(
        lambda: credential_session(session.get_component("data_loader"), region)
    )
    session = LateSession(credentials)
    session.register("before-parse.dynamodb", refuse_non_json)
    session.register("after-call", partial(look_again, credentials))
    try:
        session.register_component(
            "data_loader", lean_loader(session.get_config_variable("data_path"))
        )
        region = _region(place, session)
        await asyncio.to_thread(read_trusted_authorities, session)
        opening = session.create_client(
            "dynamodb", region_name=region, endpoint_url=place.endpoint_url, config=_config()
        )
        client = await opening.__aenter__()
    except DaemonError:
        raise
    except Exception as error:
        raise _start_fault(error, session) from error
    try:
        yield client
    finally:
        await opening.__aexit__(None, None, None)


def _region(place: DynamoDbPlace, session: AioSession) -> str:
    # botocore reads only AWS_DEFAULT_REGION; other SDKs, ECS and EKS use AWS_REGION
    found = place.region or os.environ.get("AWS_REGION") or session.get_config_variable("region")
    if not found:
        raise SetupFault("no AWS region: set checkpoint.region, aws.region or AWS_REGION")
    return str(found)


def _config() -> AioConfig:
    return AioConfig(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        max_pool_connections=CONNECTIONS,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        user_agent=USER_AGENT,
        warm_up_loader_caches=True,
        # private endpoints are named after the region, not after an account
        account_id_endpoint_mode="disabled",
    )


def _start_fault(error: Exception, session: AioSession) -> DaemonError:
    """Why no client can be made: as `daemon.aws.clients.start_fault`, for the checkpoint."""
    found = configuration_fault(error, session)
    if found is not None and not found.curable:
        return SetupFault(str(found))
    if found is not None or isinstance(error, (*CREDENTIAL_ERRORS, OSError)):
        return checkpoint_fault(found or error)
    return SetupFault(f"the AWS configuration cannot be used for the checkpoint: {said(error)}")


def checkpoint_fault(error: Exception, place: DynamoDbPlace | None = None) -> EdgeFault:
    """An error of DynamoDB as the fault of the checkpoint, with what to do.

    Args:
        error: one of `daemon.aws.errors.AWS_ERRORS`.
        place: of the table that was asked.
    """
    if isinstance(error, CredentialsError):
        return EdgeFault(Edge.CHECKPOINT, error.reason, str(error), curable=error.curable)
    where = "" if place is None else f"{place}: "
    code = error_code(error).removesuffix("Exception")
    if code in {"ResourceNotFound", "TableNotFound"}:
        return EdgeFault(
            Edge.CHECKPOINT,
            Reason.NOT_FOUND,
            f"{where}there is none in this account and region: make it with `checkpoint "
            "create-table`, or correct checkpoint.table and checkpoint.region",
            curable=False,
        )
    if code in {"ResourceInUse", "TableInUse"}:
        text = f"{where}it is being made or changed: the daemon waits"
        return EdgeFault(Edge.CHECKPOINT, Reason.UNAVAILABLE, text)
    if code in {"TransactionConflict", "ReplicatedWriteConflict"}:
        text = f"{where}another program changes the same item ({code}): the daemon tries again"
        return EdgeFault(Edge.CHECKPOINT, Reason.UNAVAILABLE, text)
    if code in {"Validation", "ItemCollectionSizeLimitExceeded"}:
        return EdgeFault(
            Edge.CHECKPOINT,
            Reason.STORAGE,
            f"{where}it refuses an item ({said(error)}): `check` says whether its keys are right",
            may_be_the_jobs=True,
        )
    reason = reason_of(error)
    text = advice(error, DYNAMODB)
    if reason is Reason.THROTTLED:
        text += "; with provisioned capacity, raise it or switch the table to on-demand"
    # an answer that nobody foresees may be the only one of its kind, unlike a web page
    curable = reason is not Reason.NOT_THE_API or isinstance(error, OddAnswerError)
    return EdgeFault(Edge.CHECKPOINT, reason or Reason.STORAGE, f"{where}{text}", curable=curable)
