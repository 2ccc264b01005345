"""The file of certificate authorities that botocore trusts, if the environment names one.

botocore reads it at the first request, also of an endpoint without TLS, and its error does not name
it.
"""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING

from daemon.aws.credential_sources import aws_files
from daemon.errors import EdgeFault
from daemon.reasons import Edge, Reason
from daemon.text import one_line

if TYPE_CHECKING:
    from aiobotocore.session import AioSession


def read_trusted_authorities(session: AioSession) -> None:
    """Tries to read the file.

    Raises:
        EdgeFault: it cannot be used; it is to be tried again.
    """
    name, path = _setting(session)
    if not path:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except (OSError, ValueError) as error:
        what = "the AWS clients cannot be opened"
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        raise EdgeFault(
            Edge.QUEUE,
            Reason.UNREACHABLE,
            one_line(
                f"{what}: {name} names {path}, from which no certificate authorities in PEM can be "
                f"read ({why}): put them there or correct {name}"
            )[:600],
        ) from error


def _setting(session: AioSession) -> tuple[str, str | None]:
    """In botocore's order."""
    if path := os.environ.get("AWS_CA_BUNDLE"):
        return "AWS_CA_BUNDLE", path
    if path := session.get_config_variable("ca_bundle"):
        return f"ca_bundle in {aws_files()[1].path}", str(path)
    return "REQUESTS_CA_BUNDLE", os.environ.get("REQUESTS_CA_BUNDLE")
