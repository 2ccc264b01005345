"""The names of processes in a checkpoint: who has a claim, a lease or a request."""

from __future__ import annotations

import re
import socket
import uuid

LONGEST_HOST = 48
"""Characters of a host's name in an owner. The name of a pod or of an EC2 host fits."""


def new_owner() -> str:
    """A name for this process that no other process has or had, and that tells its host: the first
    part of the host's name (in Kubernetes, the pod's), a hyphen and 12 hexadecimal digits.
    """
    host = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname().partition(".")[0])
    return f"{host[:LONGEST_HOST] or 'host'}-{uuid.uuid4().hex[:12]}"


def host_of(owner: str) -> str:
    """The host in the name of a process; "" if there is none, as in names of version 1."""
    host, hyphen, digits = owner.rpartition("-")
    return host if hyphen and re.fullmatch(r"[0-9a-f]{12}", digits) else ""
