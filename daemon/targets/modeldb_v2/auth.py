"""The login of ``target.auth`` as request headers."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from daemon.targets.http.auth import BasicAuth, BearerAuth, NoAuth, constant_headers
from daemon.targets.modeldb_v2.settings import VertaAuth

if TYPE_CHECKING:
    from daemon.targets.modeldb_v2.settings import Auth


def auth_headers(auth: Auth) -> dict[str, str]:
    """The request headers of a way to log in."""
    match auth:
        case NoAuth() | BasicAuth() | BearerAuth():
            return constant_headers(auth)
        case VertaAuth():
            # Twice, as the official client does, because NGINX drops headers with underscores.
            key = auth.developer_key.get_secret_value()
            headers = {
                "Grpc-Metadata-source": "PythonClient",
                "Grpc-Metadata-email": auth.email,
                "Grpc-Metadata-developer_key": key,
                "Grpc-Metadata-developer-key": key,
            }
            if auth.organization_id is not None:
                headers["Grpc-Metadata-organization-id"] = auth.organization_id
            return headers
        case _:
            assert_never(auth)
