"""Ways to log in that all HTTP targets know: sections of the configuration, and their headers."""

from __future__ import annotations

import base64
from typing import Annotated, Literal

from pydantic import Field

from daemon.config.types import SecretText, SecretWord, Section, matching


class NoAuth(Section):
    """No authentication."""

    kind: Literal["none"] = Field(
        "none", description="none: no authentication; open-source ModelDB has none."
    )


class BasicAuth(Section):
    """HTTP basic authentication."""

    kind: Literal["basic"] = Field(description="basic: HTTP basic authentication.")
    username: Annotated[
        str,
        matching(
            r"[^:\x00-\x1f\x7f]+", "must not be empty and not contain a colon or control characters"
        ),
    ] = Field(description="User name, without a colon.")
    password: SecretText = Field(description="Password. Secret.")


class BearerAuth(Section):
    """A bearer token."""

    kind: Literal["bearer"] = Field(description="bearer: a token in the Authorization header.")
    token: SecretWord = Field(description="Token, without the word Bearer. Secret.")


def constant_headers(auth: NoAuth | BasicAuth | BearerAuth) -> dict[str, str]:
    """The request headers of a way to log in."""
    match auth:
        case NoAuth():
            return {}
        case BasicAuth():
            return {"Authorization": f"Basic {basic_login(auth)}"}
        case BearerAuth():
            return {"Authorization": f"Bearer {auth.token.get_secret_value()}"}


def basic_login(auth: BasicAuth) -> str:
    """User and password as they travel: a secret."""
    pair = f"{auth.username}:{auth.password.get_secret_value()}"
    return base64.b64encode(pair.encode()).decode()
