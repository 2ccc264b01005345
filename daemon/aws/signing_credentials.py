"""The daemon's own AWS credentials, for a target behind AWS Signature Version 4."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from aiobotocore.session import AioSession

from daemon.aws.clients import (
    QueueAddress,
    configured_region,
    credential_session,
    start_fault,
)
from daemon.aws.credential_log import quiet_credential_loggers
from daemon.aws.credentials import LateCredentials
from daemon.aws.errors import CredentialsError
from daemon.aws.service_models import lean_loader
from daemon.errors import EdgeFault, SetupFault
from daemon.reasons import Edge, Reason

if TYPE_CHECKING:
    from daemon.targets.ports import AwsCredentials


class SigningCredentials:
    """A `daemon.targets.ports.CredentialsSource`: the usual AWS credential chain, as for the queue.

    Reads nothing before it is first asked.

    Args:
        queue_url: ``queue.url``, which names the region where nothing else does.
        region: ``aws.region``.
        sqs_elsewhere: whether ``aws.sqs_endpoint_url`` is set.
    """

    def __init__(self, *, queue_url: str, region: str | None, sqs_elsewhere: bool) -> None:
        self._queue = QueueAddress.of(queue_url)
        self._region = region
        self._sqs_elsewhere = sqs_elsewhere
        self._credentials = LateCredentials(self._new_session)

    async def __call__(self) -> AwsCredentials:
        """The credentials for one request, refreshed if they are about to expire.

        Raises:
            EdgeFault: of `Edge.TARGET`: there are none now.
        """
        try:
            found = await self._credentials.get_frozen_credentials()
        except CredentialsError as error:
            raise EdgeFault(Edge.TARGET, error.reason, str(error), curable=error.curable) from error
        # the stubs allow for credentials without keys, which no provider gives
        return cast("AwsCredentials", found)

    def refused(self) -> None:
        """Notes that the server refuses these credentials: a file may hold newer ones by now."""
        self._credentials.refused()

    def _new_session(self) -> AioSession:
        quiet_credential_loggers()
        session = AioSession()
        try:
            session.register_component(
                "data_loader", lean_loader(session.get_config_variable("data_path"))
            )
            at = configured_region(
                session, self._region, self._queue, elsewhere=self._sqs_elsewhere
            )
            return credential_session(session.get_component("data_loader"), at)
        except Exception as error:
            raise _credentials_error(error, session) from error


def _credentials_error(error: Exception, session: AioSession) -> CredentialsError:
    """What keeps the AWS files from being read, as the error of a search for credentials."""
    fault = error if isinstance(error, SetupFault) else start_fault(error, session)
    if isinstance(fault, EdgeFault):
        return CredentialsError(fault.detail, fault.reason, curable=fault.curable)
    return CredentialsError(str(fault), Reason.CREDENTIALS, curable=False)
