"""The login of ``target.auth`` as request headers."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, assert_never

from daemon.targets.modeldb_v2.settings import BasicAuth, BearerAuth, NoAuth, VertaAuth

if TYPE_CHECKING:
    from daemon.targets.modeldb_v2.settings import Auth


def auth_headers(auth: Auth) -> dict[str, str]:
    """The request headers of a way to log in."""
    match auth:
        case NoAuth():
            return {}
        case BasicAuth():
            pair = f"{auth.username}:{auth.password.get_secret_value()}"
            return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
        case BearerAuth():
            return {"Authorization": f"Bearer {auth.token.get_secret_value()}"}
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
