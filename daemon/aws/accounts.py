"""How other accounts are reached, as plain data. Imports no AWS library."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Role:
    """A role that is assumed for the jobs of an account."""

    account: str
    arn: str
    external_id: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class AccountAccess:
    """An account whose jobs are synced beside the daemon's own."""

    account: str
    role: Role | None
    """None: the daemon's own account and credentials."""
    regions: tuple[str, ...] = ()
    """(): the daemon's own."""
