"""What `check` says of a ModelDB V1: about other writers, and which server is there instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    from daemon.targets.modeldb_v1.settings import ModelDbV1Settings

_OTHER_WRITERS = (
    "switch off every other program that writes to this server, such as the rule of AWS's sample "
    "amazon-sagemaker-modeldb-sync: two writers mix up each other's rows"
)


def advice(target: ModelDbV1Settings) -> tuple[str, ...]:
    """Advice on a server that works."""
    lease = (
        f"the right to write is the writer lease {target.single_writer.server_id} in the "
        "checkpoint: every process that writes to this server must use the same checkpoint and the "
        "same target.server_id"
    )
    return (_OTHER_WRITERS, lease)


async def diagnosis(target: ModelDbV1Settings) -> tuple[str, ...]:
    """Advice on a server that does not: what to change when another one is at its address."""
    address, there = await server_at(Address(target.host, target.port, target.tls), target.ca_file)
    if there.kind is ServerKind.OTHER:
        return (speaks_neither(address),)
    text = _on(target, address, there)
    return (text,) if text else ()


def _on(target: ModelDbV1Settings, address: Address, there: Server) -> str:
    match there.kind:
        case ServerKind.MODELDB_V1 if target.tls != address.encrypted:
            how, tls = ("behind", "true") if address.encrypted else ("without", "false")
            return f"a ModelDB V1 server answers at {address} {how} TLS: set target.tls: {tls}"
        case ServerKind.MODELDB_V2:
            return (
                f"the REST API of ModelDB V2 answers at {address}: set target.kind: modeldb-v2, "
                f"target.url: {there.url}"
            )
        case ServerKind.MLFLOW:
            return f"{is_mlflow(address, there)}, without target.host"
        case ServerKind.HTTP:
            return _on_http(address, there.status)
        case ServerKind.SILENT:
            return (
                f"{address} takes connections and stays silent, as a ModelDB V1 does that has 100 "
                "connections already"
            )
        case _:
            return ""


def _on_http(address: Address, status: int) -> str:
    if status in FROM_IN_FRONT:
        return (
            f"an HTTP server answers at {address} with status {status}, perhaps in front of a "
            "ModelDB V2: for that, set target.kind: modeldb-v2, target.url and, where it wants a "
            "login, target.auth"
        )
    return (
        f"an HTTP server that is not ModelDB answers at {address}: target.port must be that of "
        "ModelDB V1's Thrift interface, usually 6543, not that of its web pages"
    )
