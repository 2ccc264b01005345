"""The targets that exist. Adding one: its package, its configuration in `daemon.config.settings`,
its line here.

A kind's package is imported when it is opened, so that nobody pays for the libraries of the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from daemon.targets.ports import NoPermit

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.config.settings import TargetSettings
    from daemon.targets.ports import Target, WritePermit


@dataclass(frozen=True, slots=True)
class SingleWriter:
    """A server that only one process may write to, and the terms of its writer lease."""

    server_id: str
    """Names the lease: the same for all processes that write to this server."""
    call_seconds: float
    """The deadline of a call."""
    settle_seconds: float
    """How long the server may still process calls of the previous writer."""


def single_writer(settings: TargetSettings) -> SingleWriter | None:
    """For a kind that takes a single writer only; None for the others."""
    if settings.kind == "modeldb-v1":
        return SingleWriter(settings.writer_id, settings.timeout_seconds, settings.settle_seconds)
    return None


def open_target(
    settings: TargetSettings,
    observe: Callable[[str, str], None] = lambda _operation, _result: None,
    permit: WritePermit | None = None,
) -> Target:
    """The configured target, not yet connected.

    Args:
        settings: the section ``target``.
        observe: told (operation, result) of each request.
        permit: to write, for a kind that takes one writer only; None: nothing is to be written.

    Raises:
        SetupFault: a file that the settings name cannot be used.
    """
    match settings.kind:
        case "modeldb-v2":
            from daemon.targets.modeldb_v2.target import open_modeldb_v2  # noqa: PLC0415 - see the module's text

            return open_modeldb_v2(settings, observe)
        case "modeldb-v1":
            from daemon.targets.modeldb_v1.target import open_modeldb_v1  # noqa: PLC0415 - as above

            return open_modeldb_v1(settings, observe, permit or NoPermit())
