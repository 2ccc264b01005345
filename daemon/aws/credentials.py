"""AWS credentials that may come later than the daemon, expire, or be replaced while it runs.

botocore looks for credentials when a client is created, keeps the result for the client's life, and
lets any exception of a provider through. Here they are looked for when a request is signed, by a
new session that reads every file again, until some are found; every failure becomes a
`CredentialsError`. So one client per service serves for the life of the process.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiobotocore.credentials import AioCredentials, AioProcessProvider
from aiobotocore.session import AioSession

from daemon.aws.credential_faults import ProgramError, credentials_fault, nothing_found
from daemon.aws.credential_sources import CredentialSource
from daemon.aws.errors import CredentialsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from botocore.credentials import CredentialResolver, ReadOnlyCredentials

ANSWER_SECONDS = 30.0
"""For all providers together. Exceeds the time limit of each."""
PROGRAM_SECONDS = 20.0
"""For a ``credential_process``, which has no time limit in botocore."""


@dataclass(frozen=True, slots=True)
class Found:
    """Credentials of botocore's, and where they come from."""

    credentials: Any  # botocore's classes of credentials have no common base
    source: CredentialSource


class LateCredentials(AioCredentials):
    """The credentials that every client signs with, looked for when they are needed.

    Args:
        new_session: makes a session that has read no file yet.
    """

    def __init__(self, new_session: Callable[[], AioSession]) -> None:
        super().__init__("", "", method="late")  # signers use get_frozen_credentials only
        self._new_session = new_session
        self._lock = asyncio.Lock()
        self._found: Found | None = None
        self._attempts = 0
        self._error: CredentialsError | None = None
        self._asked: CredentialSource | None = None

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:  # type: ignore[override] # the stubs know botocore's synchronous one
        """The credentials for one request, refreshed if they are about to expire.

        Raises:
            CredentialsError: there are none now.
        """
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                found = self._found or await self._find_once()
                return await self._frozen(found)
        except TimeoutError as error:
            self._found = None
            raise credentials_fault(error, self._asked, seconds=ANSWER_SECONDS) from error

    def refused(self) -> None:
        """Notes that AWS refuses these credentials: a file may hold newer ones by now."""
        self._found = None

    async def _frozen(self, found: Found) -> ReadOnlyCredentials:
        self._asked = found.source
        frozen = found.credentials.get_frozen_credentials
        try:
            credentials: ReadOnlyCredentials = await frozen()
        except Exception as error:
            if self._found is found:
                self._found = None  # its configuration may be another one by now
            raise credentials_fault(error, found.source) from error
        return credentials

    async def _find_once(self) -> Found:
        """Finds credentials; callers that waited for a failed attempt share its error."""
        attempt = self._attempts
        async with self._lock:
            if self._found is not None:
                return self._found
            if self._attempts != attempt and self._error is not None:
                raise self._error.again()
            self._attempts, self._error = self._attempts + 1, None
            try:
                self._found = await self._find()
            except CredentialsError as error:
                self._error = error
                raise
            return self._found

    async def _find(self) -> Found:
        """Raises `CredentialsError`."""
        session = self._new_session()
        try:
            chain = session.get_component("credential_provider")
            _limit_programs(chain, session)
        except Exception as error:
            raise credentials_fault(error, None, session=session) from error
        for provider in chain.providers:
            self._asked = CredentialSource.of(provider.METHOD, session)
            try:
                credentials = await provider.load()
            except Exception as error:
                raise credentials_fault(error, self._asked, session=session) from error
            if credentials is not None:
                return Found(credentials, self._asked)
        raise nothing_found(session)


class LateSession(AioSession):
    """A session whose clients have `LateCredentials`."""

    def __init__(self, credentials: LateCredentials) -> None:
        super().__init__()
        self._late = credentials

    async def get_credentials(self) -> LateCredentials:  # type: ignore[override] # as above
        return self._late


def _limit_programs(chain: CredentialResolver, session: AioSession) -> None:
    """Replaces the providers of ``credential_process`` by those whose program is ended in time."""
    method = AioProcessProvider.METHOD
    profile = session.get_config_variable("profile") or "default"

    def limited(profile_name: str) -> AioProcessProvider:
        return AioProcessProvider(
            profile_name=profile_name,
            load_config=lambda: session.full_config,
            popen=_Program.start,
        )

    chain.insert_after(method, limited(profile))
    chain.remove(method)  # the first one of this name
    # that of a role's source profile
    roles = chain.get_provider("assume-role")
    builder = getattr(roles, "_profile_provider_builder", None)
    if builder is not None:
        builder._create_process_provider = limited  # noqa: SLF001 - it has no public name


class _Program:
    """A running ``credential_process``."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, *command: str, **_pipes: object) -> _Program:
        # it can ask nobody, and its children are to be ended with it
        return cls(
            await asyncio.create_subprocess_exec(
                *command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        )

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    async def communicate(self) -> tuple[bytes, bytes]:
        """What the program has written, once it has ended.

        Raises:
            ProgramError: it failed or did not end in time.
        """
        try:
            async with asyncio.timeout(PROGRAM_SECONDS):
                out, err = await self._process.communicate()
        except TimeoutError:
            raise ProgramError(f"no answer within {PROGRAM_SECONDS:.0f} s") from None
        finally:
            if self._process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
        status = self._process.returncode or 0
        if status:
            words = f"was killed by signal {-status}" if status < 0 else f"ended with {status}"
            raise ProgramError(f"it {words}")
        return out, err
