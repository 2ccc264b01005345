"""Annotated types and validators of the settings, and the base class of all sections."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, SecretStr
from pydantic_core import PydanticCustomError

from daemon.training_job.tag_defaults import Template

if TYPE_CHECKING:
    from collections.abc import Iterator


def refused(text: str, *, key: str = "") -> PydanticCustomError:
    """The error that a validator raises.

    Args:
        text: what is allowed; continues "key = value:".
        key: the key within the section, if a whole section is validated.
    """
    return PydanticCustomError("refused", "{text}", {"text": text, "key": key})


def matching(pattern: str, allowed: str) -> AfterValidator:
    """Accepts text that matches the whole pattern; `allowed` says what is accepted."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise refused(allowed)
        return text

    return AfterValidator(check)


def secret_matching(pattern: str, allowed: str) -> AfterValidator:
    """As `matching`, for a secret."""

    def check(secret: SecretStr) -> SecretStr:
        if not re.fullmatch(pattern, secret.get_secret_value()):
            raise refused(allowed)
        return secret

    return AfterValidator(check)


def base_url(text: str) -> str:
    """An http or https URL without a slash at the end. Raises what `refused` makes."""
    wanted = "must be an http:// or https:// URL with a host"
    if not text.isprintable() or " " in text:
        raise refused(f"{wanted}, without spaces and control characters")
    if "@" in text:
        raise refused("must not contain a user or a password: it is shown in logs")
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is not a number, an incomplete IPv6 address
        usable = False
    if not usable:
        raise refused(wanted)
    if "?" in text or "#" in text:
        raise refused("must not have a query (?) or a fragment (#)")
    return text.rstrip("/")


def _queue_url(text: str) -> str:
    url = base_url(text)
    if url.endswith(".fifo"):
        raise refused("must be a standard queue: FIFO queues are not supported")
    if not re.search(r"/\d{12}/[A-Za-z0-9_-]{1,80}$", url):
        raise refused(
            "must be the queue's URL, like "
            "https://sqs.eu-west-1.amazonaws.com/123456789012/modeldb-sync"
        )
    return url


def _host(text: str) -> str:
    """Normalises IPv6 addresses (no brackets, shortest form), because the host also identifies the
    server in the checkpoint.
    """
    bracketed = text.startswith("[") and text.endswith("]")
    host = text[1:-1] if bracketed else text
    try:
        address = str(ipaddress.ip_address(host))
    except ValueError:
        address = ""
    if address and re.fullmatch(r"[!-~]+", address) and (":" in address or not bracketed):
        return address
    if (
        bracketed
        or len(host) > _HOST_CHARACTERS
        or not re.fullmatch(rf"{_HOST_LABEL}(\.{_HOST_LABEL})*\.?", host)
    ):
        raise refused("must be a host name or an IP address, without scheme, port and path")
    return host


def _not_a_boolean(value: object) -> object:
    # YAML reads yes, no, on and off as booleans, which pydantic converts to 1 or 0
    if isinstance(value, bool):
        raise refused("must be a number, not true or false")
    return value


_HOST_CHARACTERS = 253
_HOST_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
"""Includes the underscore, which Docker and Windows use in names."""

_TEXT = r"[^\x00-\x1f\x7f\ud800-\udfff]"
"""One character: not a control character, not a lone surrogate."""


def _existing_file(path: Path) -> Path:
    try:
        found = path.is_file()
    # a directory without permission; a name that no file can have
    except (OSError, ValueError):
        found = False
    if not found:
        raise refused("must be the path of an existing file")
    return path


def _not_a_number(value: object) -> object:
    if isinstance(value, int):
        raise refused(
            "must be 12 digits in quotes: YAML drops leading zeros and may read the number as octal"
        )
    return value


Whole = Annotated[int, BeforeValidator(_not_a_boolean)]
Number = Annotated[float, BeforeValidator(_not_a_boolean)]
ExistingFile = Annotated[Path, AfterValidator(_existing_file)]
BaseUrl = Annotated[str, AfterValidator(base_url)]
QueueUrl = Annotated[str, AfterValidator(_queue_url)]
Region = Annotated[
    str, matching(r"[a-z0-9-]{1,64}", "must be the name of a region, like eu-west-1")
]
TableName = Annotated[
    str,
    matching(r"[A-Za-z0-9_.-]{3,255}", "must be 3 to 255 letters, digits, hyphens, dots or _"),
]
AccountId = Annotated[
    str, matching(r"[0-9]{12}", "must be 12 digits"), BeforeValidator(_not_a_number)
]
RoleArn = Annotated[
    str,
    matching(
        r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[!-~]{1,600}",
        "must be the ARN of a role, like arn:aws:iam::210987654321:role/modeldb-sync-member",
    ),
]
ExternalId = Annotated[
    str,
    matching(
        r"[A-Za-z0-9_+=,.@:/-]{2,1224}",
        "must be 2 to 1224 letters, digits and characters of _+=,.@:/-",
    ),
]


def _template(text: str) -> str:
    try:
        Template.parse(text)
    except ValueError as error:
        raise refused(str(error)) from error
    return text


TagKey = Annotated[
    str, matching(rf"(?=.*\S){_TEXT}{{1,128}}", "must be 1 to 128 characters, not only spaces")
]
TagTemplate = Annotated[str, AfterValidator(_template)]
KeyPattern = Annotated[str, matching(rf"{_TEXT}+", "must not be empty")]
Word = Annotated[
    str, matching(r"[!-~]{1,255}", "must be 1 to 255 visible ASCII characters without spaces")
]
SecretWord = Annotated[
    SecretStr, secret_matching(r"[!-~]+", "must be visible ASCII characters without spaces")
]
SecretText = Annotated[
    SecretStr,
    secret_matching(
        rf"{_TEXT}+", "must not be empty and not contain line breaks or control characters"
    ),
]
Headers = Mapping[str, SecretText]
Host = Annotated[str, AfterValidator(_host)]


class Section(BaseModel):
    """Base class of all sections: frozen, no unknown keys, no values in pydantic's error texts."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def secrets_in(value: object) -> Iterator[SecretStr]:
    """All secrets in a section or mapping, at any depth."""
    if isinstance(value, SecretStr):
        yield value
    elif isinstance(value, Section):
        for _, inner in value:
            yield from secrets_in(inner)
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from secrets_in(inner)
