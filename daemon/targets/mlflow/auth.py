"""How requests to MLflow are authenticated.

A user, a password and a token are headers that never change. A token file and AWS Signature
Version 4 are asked before each request.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote

from botocore.auth import SigV4Auth as BotocoreSigner
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

from daemon.errors import EdgeFault
from daemon.reasons import Edge, Reason
from daemon.targets.http.auth import constant_headers
from daemon.targets.mlflow.settings import WORKSPACE_HEADER, SigV4Auth, TokenFileAuth

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from yarl import URL

    from daemon.targets.http.session import RequestSigner
    from daemon.targets.mlflow.managed import ManagedServer
    from daemon.targets.mlflow.settings import MlflowSettings
    from daemon.targets.ports import CredentialsSource

LONGEST_TOKEN_BYTES = 7168
"""As of configured headers: servers refuse a request with more than about 8 kB of them."""


def fixed_headers(settings: MlflowSettings) -> dict[str, str]:
    """The configured headers that are the same in every request."""
    headers = {name: value.get_secret_value() for name, value in settings.headers.items()}
    if settings.workspace is not None:
        headers[WORKSPACE_HEADER] = settings.workspace
    if isinstance(settings.auth, TokenFileAuth | SigV4Auth):
        return headers
    return headers | constant_headers(settings.auth)


def request_signer(
    settings: MlflowSettings, credentials: CredentialsSource | None
) -> RequestSigner | None:
    """What makes the headers of each request; None: nothing does.

    Args:
        settings: the section ``target``.
        credentials: the daemon's own AWS credentials; None: there are none, and a managed server
            cannot be used.
    """
    if isinstance(settings.auth, TokenFileAuth):
        return TokenFileSigner(settings.auth.token_file)
    if settings.managed is not None:
        return SigV4Signer(settings.managed, credentials)
    return None


class TokenFileSigner:
    """A bearer token that is read before each request, because Kubernetes replaces it by a new one
    long before it expires.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    async def headers(self, method: str, url: URL, body: bytes) -> Mapping[str, str]:
        """The header with the token that is in the file now.

        Raises:
            EdgeFault: there is none. Names the file and quotes nothing of it.
        """
        del method, url, body
        # in a thread, because the file may be on a disk that hangs
        return {"Authorization": f"Bearer {await asyncio.to_thread(self._token)}"}

    def refused(self) -> None:
        """Does nothing: the file is read before each request."""

    def _token(self) -> str:
        try:
            with self._path.open("rb") as file:
                content = file.read(LONGEST_TOKEN_BYTES + 1)
        except OSError as error:
            raise self._fault(f"cannot be read ({error.strerror})") from error
        if len(content) > LONGEST_TOKEN_BYTES:
            raise self._fault(f"has more than {LONGEST_TOKEN_BYTES} bytes")
        token = content.strip()
        if not token:
            raise self._fault("is empty")
        if any(not 0x21 <= byte <= 0x7E for byte in token):  # noqa: PLR2004 - visible ASCII
            raise self._fault(
                "must contain a token only: visible ASCII characters without spaces, in one line"
            )
        return token.decode("ascii")

    def _fault(self, words: str) -> EdgeFault:
        return EdgeFault(
            Edge.TARGET,
            Reason.CREDENTIALS,
            f"target.auth.token_file: the file {self._path} {words}",
        )


class SigV4Signer:
    """AWS Signature Version 4, as AWS's plug-in sagemaker-mlflow signs."""

    def __init__(self, server: ManagedServer, credentials: CredentialsSource | None) -> None:
        self._server = server
        self._credentials = credentials

    async def headers(self, method: str, url: URL, body: bytes) -> Mapping[str, str]:
        """The headers with the signature.

        Raises:
            EdgeFault: there are no AWS credentials.
        """
        if self._credentials is None:
            raise EdgeFault(
                Edge.TARGET,
                Reason.CREDENTIALS,
                "no AWS credentials to sign requests to SageMaker-managed MLflow with",
                curable=False,
            )
        found = await self._credentials()
        credentials = ReadOnlyCredentials(found.access_key, found.secret_key, found.token)
        request = AWSRequest(
            method,
            str(url.with_query(None)) + _query(parse_qsl(url.raw_query_string, True)),
            data=body,
            headers={
                self._server.arn_header: self._server.arn,
                "X-Amz-Content-SHA256": hashlib.sha256(body).hexdigest(),
            },
        )
        signer = BotocoreSigner(credentials, self._server.service, self._server.region)
        signer.add_auth(request)
        return dict(request.headers.items())

    def refused(self) -> None:
        """Looks for newer credentials before the next request."""
        if self._credentials is not None:
            self._credentials.refused()


def _query(parameters: Iterable[tuple[str, str]]) -> str:
    """A query with everything escaped that AWS's canonical form escapes; spaces as ``%20``."""
    pairs = [f"{quote(name, '-_.~')}={quote(value, '-_.~')}" for name, value in parameters]
    return f"?{'&'.join(pairs)}" if pairs else ""
