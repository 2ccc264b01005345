"""What a person should know about the configured target beside whether it works: another server at
its address, and other writers.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from daemon.targets.which_server import V2_PATHS, Server, ServerKind, which_server

if TYPE_CHECKING:
    from daemon.config.settings import ModelDbV1Settings, ModelDbV2Settings, TargetSettings

_OTHER_WRITERS = (
    "switch off every other program that writes to this server, such as the rule of AWS's sample "
    "amazon-sagemaker-modeldb-sync: two "
    "writers mix up each other's rows"
)
_MODELDB = frozenset({ServerKind.MODELDB_V1, ServerKind.MODELDB_V2})
_FROM_IN_FRONT = frozenset({401, 403, 407, 429, *range(500, 600)})
"""Statuses by which something in front speaks of the server behind it."""


def advice_where_it_works(target: TargetSettings) -> tuple[str, ...]:
    """Advice on a target that answers as it should."""
    if target.kind != "modeldb-v1":
        return ()
    lease = (
        f"the right to write is the writer lease {target.writer_id} in the checkpoint: every "
        f"process that writes to this server must "
        "use the same checkpoint and the same target.server_id"
    )
    return (_OTHER_WRITERS, lease)


async def advice_where_it_fails(target: TargetSettings) -> tuple[str, ...]:
    """Advice on a target that does not: what to change when another server than the configured one
    is at its address.

    Takes up to 5 seconds, or 10 with TLS.
    """
    address = _Address.of(target)
    there = await _ask(address, target)
    if address.encrypted and there.kind not in _MODELDB:
        plain = _Address(address.host, address.port, encrypted=False, path=address.path)
        there_plain = await _ask(plain, target)
        if there_plain.kind in _MODELDB:
            address, there = plain, there_plain
    if there.kind is ServerKind.OTHER:
        return (f"what answers at {address} speaks neither the Thrift of ModelDB V1 nor HTTP",)
    return (
        _advice_on_v1(target, address, there)
        if target.kind == "modeldb-v1"
        else _advice_on_v2(target, address, there)
    )


@dataclass(frozen=True, slots=True)
class _Address:
    host: str
    port: int
    encrypted: bool
    path: str
    """Of the REST API of ModelDB V2, where that is configured."""

    @classmethod
    def of(cls, target: TargetSettings) -> _Address:
        if target.kind == "modeldb-v1":
            return cls(target.host, target.port, target.tls, V2_PATHS[0])
        url = urlsplit(target.url)
        encrypted = url.scheme == "https"
        return cls(url.hostname or "", url.port or (443 if encrypted else 80), encrypted, url.path)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


async def _ask(address: _Address, target: TargetSettings) -> Server:
    tls = ssl.create_default_context(cafile=target.ca_file) if address.encrypted else None
    return await which_server(
        address.host,
        address.port,
        tls=tls,
        v2_paths=tuple(dict.fromkeys((address.path, *V2_PATHS))),
    )


def _advice_on_v1(target: ModelDbV1Settings, address: _Address, there: Server) -> tuple[str, ...]:
    match there.kind:
        case ServerKind.MODELDB_V1 if target.tls != address.encrypted:
            return (f"a ModelDB V1 server answers at {address} without TLS: set target.tls: false",)
        case ServerKind.MODELDB_V2:
            return (
                (
                    f"the REST API of ModelDB V2 answers at {address}: set target.kind: "
                    f"modeldb-v2, "
                    f"target.url: {there.url}"
                ),
            )
        case ServerKind.HTTP if there.status in _FROM_IN_FRONT:
            what = (
                f"an HTTP server answers at {address} with status {there.status}, perhaps in "
                f"front of a "
                f"ModelDB V2"
            )
            return (
                (
                    f"{what}: for that, set target.kind: modeldb-v2, target.url and, where it "
                    f"wants a "
                    f"login, target.auth"
                ),
            )
        case ServerKind.HTTP:
            wanted = (
                "target.port must be that of ModelDB V1's Thrift interface, usually 6543, not "
                "that of its "
                "web pages"
            )
            return (f"an HTTP server that is not ModelDB answers at {address}: {wanted}",)
        case ServerKind.SILENT:
            return (
                (
                    f"{address} takes connections and stays silent, as a ModelDB V1 does that has "
                    f"100 "
                    f"connections already"
                ),
            )
        case _:
            return ()


def _advice_on_v2(target: ModelDbV2Settings, address: _Address, there: Server) -> tuple[str, ...]:
    match there.kind:
        case ServerKind.MODELDB_V1:
            tls = ", target.tls: true" if address.encrypted else ""
            where = f"target.host: {address.host}, target.port: {address.port}{tls}"
            return (
                (
                    f"a ModelDB V1 server answers at {address}: set target.kind: modeldb-v1, "
                    f"{where}, "
                    f"without target.url"
                ),
            )
        case ServerKind.MODELDB_V2 if (there.path, address) != (address.path, _Address.of(target)):
            return (
                f"the REST API of ModelDB V2 answers at {address}: set target.url: {there.url}",
            )
        case ServerKind.HTTP if there.status not in _FROM_IN_FRONT:
            return (
                (
                    f"an HTTP server that is not ModelDB answers at {address}: target.url must be "
                    f"that of ModelDB's REST API"
                ),
            )
        case _:  # what the finding itself says is all there is to say
            return ()
