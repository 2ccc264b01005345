"""What identifies a target: jobs are done per target."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from daemon.targets.addresses import host_and_port

_DEFAULT_PORTS = {"http": 80, "https": 443}
_SYSTEMS = {"modeldb-v2": "ModelDB", "modeldb-v1": "ModelDB", "mlflow": "MLflow"}


def system_name(kind: str) -> str:
    """What people call the system behind a kind of target; its own word, if another package brings
    the kind.
    """
    return _SYSTEMS.get(kind, kind) or "the target"


@dataclass(frozen=True, slots=True)
class TargetPlace:
    """Identifies a target: two with the same kind and place are the same one."""

    kind: str
    """As in ``target.kind``."""
    place: str
    """`daemon.targets.settings.TargetSettings.place`; "" where it is not known."""

    @property
    def system(self) -> str:
        """What people call it: see `system_name`."""
        return system_name(self.kind)

    def __str__(self) -> str:
        return f"{self.kind or 'unknown kind'} at {self.place or 'unknown place'}"


ANY_TARGET = TargetPlace("", "")
"""Of a checkpoint that is opened only to be asked what it has of all targets."""


def normal_address(address: str) -> str:
    """An address in the one spelling that all of the same place share: of a URL scheme, host, port
    and path, without login, query, fragment, default port and slashes at the end. Anything else is
    as it was.
    """
    address = address.strip()
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        return address
    if not host:
        return address
    host = host.removesuffix(".")
    if port is None or port == _DEFAULT_PORTS.get(parts.scheme):
        place = f"[{host}]" if ":" in host else host
    else:
        place = host_and_port(host, port)
    return urlunsplit((parts.scheme, place, parts.path.rstrip("/"), "", ""))
