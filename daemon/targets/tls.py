"""TLS to a target."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from daemon.errors import SetupFault

if TYPE_CHECKING:
    from pathlib import Path


def tls_context(
    ca_file: Path | None, cert_file: Path | None = None, key_file: Path | None = None
) -> ssl.SSLContext:
    """The TLS settings of a client.

    Args:
        ca_file: PEM file of the certificate authorities to trust; None: the system's.
        cert_file: PEM file of the client certificate (None: none is sent), its chain and, without
            `key_file`, its key.
        key_file: PEM file of the certificate's key, without a pass phrase.

    Raises:
        SetupFault: a file cannot be read or used; names the key and the file.
    """
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
