"""What the sections of the HTTP targets have in common."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar

from pydantic import ValidationInfo, field_validator

from daemon.config.types import Headers, refused, secrets_in
from daemon.targets.http.auth import BasicAuth, NoAuth, basic_login
from daemon.targets.settings import TargetSettings

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.config.types import Section

HEADER_BYTES = 7168
"""What configured headers may take together. ModelDB refuses a request with more than 8 kB of
headers (error 500, code 13), gunicorn and many proxies one header of 8 kB, and the client adds its
own."""


class HttpTargetSettings(TargetSettings):
    """A target with a base URL, request headers, a login and TLS files.

    A subclass declares the fields, each in its own place; those of the address and of the login
    stand before those that are checked here.
    """

    address_key: ClassVar[str] = "url"
    """The field of the address."""
    own_headers: ClassVar[frozenset[str]] = frozenset(
        {"connection", "content-length", "content-type", "host", "transfer-encoding"}
    )
    """Headers, in lower case, that must not be configured: the client sets them."""

    if TYPE_CHECKING:  # a field only in each subclass, in its own order
        auth: Section
        headers: Headers
        ca_file: Path | None
        client_cert_file: Path | None
        client_key_file: Path | None

    def derived_secrets(self) -> tuple[str, ...]:
        return (basic_login(self.auth),) if isinstance(self.auth, BasicAuth) else ()

    @field_validator("headers", check_fields=False)
    @classmethod
    def _sendable(cls, value: Headers, info: ValidationInfo) -> Headers:
        auth = info.data.get("auth")
        for name in value:
            low = name.lower()
            if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
                raise refused("must be the name of a header: letters, digits and -", key=name)
            if low in cls.own_headers:
                raise refused("must not be set: the client sets it itself", key=name)
            if low == "authorization" and not isinstance(auth, NoAuth):
                raise refused("must not be set beside target.auth", key=name)
        secrets = [*value.values(), *secrets_in(auth)]
        size = sum(len(f"{name}: ") for name in value) + sum(
            len(secret.get_secret_value().encode()) for secret in secrets
        )
        if size > HEADER_BYTES:
            raise refused(
                f"must take at most {HEADER_BYTES} bytes together with target.auth; they take "
                f"{size}"
            )
        return value

    @field_validator("ca_file", "client_cert_file", check_fields=False)
    @classmethod
    def _only_with_tls(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is not None and info.data.get(cls.address_key, "").startswith("http:"):
            raise refused(f"must not be set unless target.{cls.address_key} begins with https://")
        return value

    @field_validator("client_key_file", check_fields=False)
    @classmethod
    def _only_with_certificate(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is not None and info.data.get("client_cert_file", value) is None:
            raise refused("must not be set without target.client_cert_file")
        return value
