"""Roles of other accounts: their credentials, through AssumeRole with the daemon's own."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING, Any

from aiobotocore.credentials import AioRefreshableCredentials

from daemon.aws.credential_sources import CredentialSource
from daemon.aws.credentials import Found, LateCredentials
from daemon.aws.errors import (
    AWS_ERRORS,
    STS,
    CredentialsError,
    OddAnswerError,
    advice,
    error_code,
    observed,
    reason_of,
    said,
)
from daemon.reasons import Reason
from daemon.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from types_aiobotocore_sts import STSClient

    from daemon.aws.accounts import Role
    from daemon.aws.errors import Observe

SESSION_SECONDS = 3600
"""The most that AWS allows for a role that is assumed with the credentials of a role."""
_PROGRAM = "sagemaker-modeldb-sync"
_SESSION_NAME_CHARACTERS = 64
_PASSES = {Reason.THROTTLED, Reason.UNAVAILABLE, Reason.UNREACHABLE}


def session_name(host: str | None = None) -> str:
    """What CloudTrail of the role's account shows of this process: the program and its host."""
    name = re.sub(r"[^\w+=,.@-]", "-", host or socket.gethostname(), flags=re.ASCII)
    return f"{_PROGRAM}@{name}"[:_SESSION_NAME_CHARACTERS]


class RoleCredentials(LateCredentials):
    """The credentials of a role, assumed when they are first needed.

    They are renewed between 15 and 10 minutes before they end, while the old ones still serve;
    whoever needs them at the same time waits for one AssumeRole, and shares its failure.

    Args:
        role: to be assumed.
        sts: opens an STS client with the daemon's own credentials.
        observe: called after each AssumeRole.
    """

    def __init__(
        self,
        role: Role,
        sts: Callable[[], AbstractAsyncContextManager[STSClient]],
        observe: Observe,
    ) -> None:
        super().__init__(_no_session)
        self._role = role
        self._sts = sts
        self._observe = observe
        self._source = CredentialSource(
            "assume-role", f"role {role.arn}", "check the role and its trust policy"
        )

    async def _find(self) -> Found:
        credentials = AioRefreshableCredentials.create_from_metadata(
            metadata=await self._assume(), refresh_using=self._assume, method="assume-role"
        )
        return Found(credentials, self._source)

    async def _assume(self) -> dict[str, str]:
        """The role's credentials, as botocore's classes take them.

        Raises:
            CredentialsError: they are not to be had now.
        """
        request: dict[str, Any] = {
            "RoleArn": self._role.arn,
            "RoleSessionName": session_name(),
            "DurationSeconds": SESSION_SECONDS,
        }
        if self._role.external_id is not None:
            request["ExternalId"] = self._role.external_id
        try:
            with observed(self._observe, STS, "AssumeRole"):
                async with self._sts() as sts:
                    return _metadata(await sts.assume_role(**request))
        except CredentialsError:
            raise  # the daemon's own
        except AWS_ERRORS as error:
            raise _fault(error, self._role) from error


def _metadata(answer: Any) -> dict[str, str]:  # noqa: ANN401 - as botocore parses it
    given = answer["Credentials"]
    expires = given["Expiration"]
    texts = [given[name] for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")]
    if not all(isinstance(each, str) and each for each in texts):
        raise OddAnswerError("AssumeRole: the answer has no credentials")
    key, secret, token = texts
    return {
        "access_key": key,
        "secret_key": secret,
        "token": token,
        "expiry_time": expires.isoformat(),
    }


def _fault(error: Exception, role: Role) -> CredentialsError:
    """What AssumeRole ended in. A refusal is that of the role alone."""
    reason = reason_of(error) or Reason.ACCESS_DENIED
    if reason in _PASSES:
        return CredentialsError(
            one_line(f"role {role.arn} cannot be assumed now: {advice(error, STS)}")[:600], reason
        )
    if reason is Reason.CREDENTIALS and "AccessDenied" in error_code(error):
        reason = Reason.ACCESS_DENIED
    return CredentialsError(
        one_line(
            f"role {role.arn} cannot be assumed ({error_code(error)}: {said(error)}): check that "
            "it exists, that its trust policy allows the daemon's role with this external_id, and "
            "that the daemon's role may sts:AssumeRole it"
        )[:600],
        reason,
    )


def _no_session() -> Any:  # noqa: ANN401 - never called
    raise AssertionError("a role needs no search for credentials")
