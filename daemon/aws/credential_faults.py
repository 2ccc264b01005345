"""What keeps AWS credentials from coming, in one sentence that names the file, program or endpoint.

Texts of a provider's errors may quote its output, so they are never repeated: only what is known to
be harmless is (numbers, names of files, AWS's error codes).
"""

from __future__ import annotations

import os
import re
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from botocore import exceptions as botocore_errors
from botocore.exceptions import ClientError

from daemon.aws.credential_sources import aws_files, metadata_words, profile_name
from daemon.aws.errors import STS, CredentialsError, advice, error_code, reason_of, said
from daemon.reasons import Reason
from daemon.text import one_line

if TYPE_CHECKING:
    from aiobotocore.session import AioSession

    from daemon.aws.credential_sources import CredentialSource

_STATUS = re.compile(r"non 200 response (\d{3})")
_TEXTS = (
    ("Unable to parse JSON", "its answer is not JSON"),
    ("Received error when attempting to retrieve", "it cannot be reached"),
    ("still expired", "they are expired"),
    ("not a legal header value", "the token has more than one line"),
)
"""Parts of botocore's texts, and what they mean."""
_HOST = re.compile(r"Unsupported host '[^']{0,200}'")
_PASSES = {Reason.THROTTLED, Reason.UNAVAILABLE, Reason.UNREACHABLE}
_LOST_LOGIN = (
    botocore_errors.SSOTokenLoadError,
    botocore_errors.UnauthorizedSSOTokenError,
    botocore_errors.TokenRetrievalError,
    botocore_errors.NoAuthTokenError,
)


class ProgramError(Exception):
    """A ``credential_process`` failed. The text does not quote it."""


def nothing_found(session: AioSession) -> CredentialsError:
    """No provider has credentials."""
    name = profile_name(session)
    files = ", ".join(f"{file} {file.state(name)}" for file in aws_files())
    return CredentialsError(
        f"no AWS credentials: AWS_ACCESS_KEY_ID is not set, {files}, no container endpoint is "
        f"set, {metadata_words(session)}"
    )


def credentials_fault(
    error: Exception,
    source: CredentialSource | None,
    *,
    session: AioSession | None = None,
    seconds: float = 0,
) -> CredentialsError:
    """Whatever an attempt to get credentials ended in.

    Args:
        error: any exception.
        source: where they were to come from; None: not known.
        session: that looked for them, to tell which files there are.
        seconds: the time limit, if it was exceeded.
    """
    if isinstance(error, CredentialsError):
        return error
    of_configuration = configuration_fault(error, session)
    if of_configuration is not None:
        return of_configuration
    reason = _reason(error)
    place = "" if source is None else f" from {source.place}"
    why = (
        f"no answer within {seconds:.0f} s"
        if isinstance(error, TimeoutError) and seconds
        else _cause(error, place)
    )
    remedy = "" if source is None or reason in _PASSES else f"; {source.remedy}"
    return CredentialsError(
        one_line(f"no AWS credentials{place}: {why}{remedy}")[:600],
        reason,
        curable=not _is_of_the_environment(error, source),
    )


def cause_of(error: Exception) -> str:
    """What an attempt to get credentials ended in, in words."""
    return str(error) if isinstance(error, CredentialsError) else _cause(error, "")


def configuration_fault(
    error: Exception, session: AioSession | None = None
) -> CredentialsError | None:
    """An error about the AWS files themselves; None for any other error."""
    if isinstance(error, botocore_errors.ConfigParseError):
        path = error.kwargs.get("path")
        return CredentialsError(
            one_line(f"the AWS file {path} cannot be parsed{_line(error)}: correct the file")[:600]
        )
    if isinstance(error, botocore_errors.ProfileNotFound):
        return _unknown_profile(error, session)
    return None


def _unknown_profile(
    error: botocore_errors.ProfileNotFound, session: AioSession | None
) -> CredentialsError:
    """A profile may come with a file that is not there yet, but hardly with one that is."""
    name = one_line(str(error.kwargs.get("profile")))[:100]
    files = () if session is None else aws_files()
    there = [file for file in files if file.has_profiles()]
    # one that is named is expected; of those in their usual places either may come
    awaited = [
        file
        for file in files
        if file not in there and not file.is_switched_off and (file.named or not there)
    ]
    words = ", ".join(
        f"{file} {'does not have it' if file in there else file.state(name)}" for file in files
    )
    return CredentialsError(
        f"the AWS profile {name} is not known: {words}; correct AWS_PROFILE or the files",
        curable=bool(awaited),
    )


def _line(error: botocore_errors.ConfigParseError) -> str:
    cause = error.kwargs.get("error")
    found = getattr(cause, "errors", None) or [(getattr(cause, "lineno", None), "")]
    return f" at line {found[0][0]}" if isinstance(found[0][0], int) else ""


def _is_of_the_environment(error: Exception, source: CredentialSource | None) -> bool:
    """Whether only another environment of the process can help. Files, programs and endpoints can
    change while it runs.
    """
    if source is None:
        return False
    if source.method == "env":
        return isinstance(error, botocore_errors.PartialCredentialsError | ValueError)
    return (
        source.method == "assume-role-with-web-identity"
        and isinstance(error, botocore_errors.InvalidConfigError)
        and bool(os.environ.get("AWS_WEB_IDENTITY_TOKEN_FILE"))
    )


def _reason(error: Exception) -> Reason:
    reason = reason_of(error)
    return reason if reason in _PASSES and reason is not None else Reason.CREDENTIALS


def _refusal(error: ClientError) -> str:
    """A service that gives credentials has answered with an error."""
    reason = reason_of(error)
    operation = one_line(error.operation_name)
    code = error_code(error)
    if code.isdecimal() or code == type(error).__name__:  # the answer has none
        code = f"HTTP {error.response.get('ResponseMetadata', {}).get('HTTPStatusCode')}"
    if reason in {Reason.THROTTLED, Reason.UNAVAILABLE}:
        return f"{operation} fails ({code}), the daemon backs off and retries"
    if reason in {Reason.ACCESS_DENIED, Reason.CREDENTIALS} and "AccessDenied" in code:
        return f"{operation} is refused: {advice(error, STS)}"
    return f"{operation} is refused ({code})"


def _cause(error: Exception, place: str) -> str:
    """An error in words; of an unknown one only its type."""
    if isinstance(error, ClientError):
        return _refusal(error)
    words = _of_library(error) or (_of_system(error, place) if isinstance(error, OSError) else None)
    return words or _of_text(str(error)) or f"what it gives cannot be used ({type(error).__name__})"


def _of_library(error: Exception) -> str | None:
    """The library's errors whose members or texts quote nothing."""
    match error:
        case ProgramError():
            return str(error)
        case botocore_errors.PartialCredentialsError():
            return f"{error.kwargs.get('cred_var')} is missing"
        case botocore_errors.InvalidConfigError() | botocore_errors.UnknownCredentialError():
            return said(error)
        case botocore_errors.ConnectionError() | botocore_errors.HTTPClientError():
            url = urlsplit(str(error.kwargs.get("endpoint_url") or ""))
            endpoint = f"{url.scheme}://{url.netloc.rpartition('@')[2]}" if url.netloc else "it"
            return f"{endpoint} cannot be reached ({type(error).__name__})"
        case botocore_errors.ParamValidationError():
            return "it is empty or no token"
    return "there is none or it has expired" if isinstance(error, _LOST_LOGIN) else None


def _of_system(error: OSError, place: str) -> str:
    name = "" if error.filename is None else str(error.filename)
    words = error.strerror or type(error).__name__
    return f"{words} ({name})" if name and name not in place else words


def _of_text(text: str) -> str | None:
    """What a text says that is recognized; the rest of it is not repeated."""
    if (status := _STATUS.search(text)) is not None:
        return f"it answers HTTP {_phrase(int(status[1]))}"
    if (host := _HOST.search(text)) is not None:
        return f"{host[0]}: botocore asks only loopback, ECS and EKS addresses over HTTP"
    return next((words for part, words in _TEXTS if part in text), None)


def _phrase(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
