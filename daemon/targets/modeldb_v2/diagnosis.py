"""What `check` says of a ModelDB V2: its clock and, if it does not work, which server is there
instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from daemon.targets.server_detection import (
    FROM_IN_FRONT,
    Address,
    Server,
    ServerKind,
    is_mlflow,
    server_at,
    speaks_neither,
)

if TYPE_CHECKING:
    from daemon.targets.modeldb_v2.settings import ModelDbV2Settings


async def diagnosis(target: ModelDbV2Settings) -> tuple[str, ...]:
    """What to change when another server than the configured one is at the address."""
    configured = _address(target)
    address, there = await server_at(configured, target.ca_file)
    text = _on(configured, address, there)
    return (text,) if text else ()


async def clock_ahead(target: ModelDbV2Settings) -> float | None:
    """How many seconds the server's clock is ahead of this machine's; None if it is not known."""
    _, there = await server_at(_address(target), target.ca_file)
    return there.clock_ahead_seconds


def _address(target: ModelDbV2Settings) -> Address:
    url = urlsplit(target.url)
    encrypted = url.scheme == "https"
    port = url.port or (443 if encrypted else 80)
    return Address(url.hostname or "", port, encrypted, url.path)


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
        case ServerKind.MLFLOW:
            return f"{is_mlflow(address, there)}, without target.url"
        case ServerKind.HTTP if there.status not in FROM_IN_FRONT:
            return (
                f"an HTTP server that is not ModelDB answers at {address}: target.url must be that "
                "of ModelDB's REST API"
            )
        case _:  # the finding itself says all there is to say
            return ""
