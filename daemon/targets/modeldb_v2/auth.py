"""Who we are and whom we trust: the headers and the TLS settings of the configuration's section
``target``.
"""

from __future__ import annotations

import base64
import ssl
from typing import TYPE_CHECKING, assert_never

from daemon.errors import SetupFault
from daemon.targets.modeldb_v2.settings import BasicAuth, BearerAuth, NoAuth, VertaAuth

if TYPE_CHECKING:
    from pathlib import Path

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


def ssl_context(
    ca_file: Path | None, cert_file: Path | None, key_file: Path | None
) -> ssl.SSLContext | None:
    """The TLS settings for https URLs; None: the system's authorities and no client certificate.

    Args:
        ca_file: PEM file of the certificate authorities to trust instead of the system's.
        cert_file: PEM file of the client certificate, its chain and, without `key_file`, its key.
        key_file: PEM file of the certificate's key, without a pass phrase.

    Raises:
        SetupFault: a file cannot be read or used; names the key and the file.
    """
    if ca_file is None and cert_file is None:
        return None
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise SetupFault(
            f"target.ca_file: no certificate authorities in PEM can be read from {ca_file}: {error}"
        ) from error
    if cert_file is not None:
        try:
            # Without a password function OpenSSL would ask for the pass phrase on the terminal.
            context.load_cert_chain(cert_file, key_file, password=lambda: "")
        except OSError as error:
            what = f"target.client_cert_file: {cert_file}"
            if key_file is not None:
                what += f", target.client_key_file: {key_file}"
            raise SetupFault(
                f"{what}: no certificate with its key (PEM, without pass phrase) can be read: "
                f"{error}"
            ) from error
    return context
