"""What `check` says of a ModelDB V2 that does not work: another server at its address."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from daemon.targets.server_detection import (
    FROM_IN_FRONT,
    Address,
    Server,
    ServerKind,
    server_at,
    speaks_neither,
)

if TYPE_CHECKING:
    from daemon.targets.modeldb_v2.settings import ModelDbV2Settings


async def diagnosis(target: ModelDbV2Settings) -> tuple[str, ...]:
    """What to change when another server than the configured one is at the address."""
    url = urlsplit(target.url)
    encrypted = url.scheme == "https"
    port = url.port or (443 if encrypted else 80)
    configured = Address(url.hostname or "", port, encrypted, url.path)
    address, there = await server_at(configured, target.ca_file)
    text = _on(configured, address, there)
    return (text,) if text else ()


def _on(configured: Address, address: Address, there: Server) -> str:
    match there.kind:
        case ServerKind.OTHER:
            return speaks_neither(address)
        case ServerKind.MODELDB_V1:
            tls = ", target.tls: true" if address.encrypted else ""
            return (
                f"a ModelDB V1 server answers at {address}: set target.kind: modeldb-v1, "
                f"target.host: {address.host}, target.port: {address.port}{tls}, without target.url"
            )
        case ServerKind.MODELDB_V2 if (there.path, address) != (configured.path, configured):
            return f"the REST API of ModelDB V2 answers at {address}: set target.url: {there.url}"
        case ServerKind.HTTP if there.status not in FROM_IN_FRONT:
            return (
                f"an HTTP server that is not ModelDB answers at {address}: target.url must be that "
                "of ModelDB's REST API"
            )
        case _:  # the finding itself says all there is to say
            return ""
