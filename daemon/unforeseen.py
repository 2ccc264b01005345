"""Errors that no adapter foresees: an odd answer, or a bug that it brought to light.

They are the fault of the edge that was called. The traceback is logged once for each place and
type, without the error's text, which may quote what was sent or received.
"""

from __future__ import annotations

import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from daemon.errors import DaemonError, EdgeFault
from daemon.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.reasons import Edge

log = structlog.get_logger(__name__)

_MOST_KINDS = 100
"""Logged in the life of a process."""
_FRAMES = 12
"""A recursion error has a thousand."""

_logged: set[tuple[str, str, str]] = set()


def log_once(edge: Edge | str, call: str, error: Exception) -> None:
    """Logs where an unforeseen error comes from, unless the same has been logged before.

    Args:
        edge: or the service that was called.
        call: what was called.
        error: its type and traceback are logged.
    """
    frames = traceback.format_tb(error.__traceback__, limit=-_FRAMES)
    kind = (str(edge), type(error).__name__, frames[-1] if frames else "")
    if kind in _logged or len(_logged) >= _MOST_KINDS:
        return
    _logged.add(kind)
    log.error(
        "unforeseen error in a call",
        edge=edge,
        call=call,
        error=type(error).__name__,
        traceback="".join(frames),
    )


@contextmanager
def blamed_on(edge: Edge, call: str) -> Iterator[None]:
    """Turns an unforeseen error in the block into the edge's fault; those of this program pass.

    Args:
        edge: that is called in the block.
        call: how messages name the call.

    Raises:
        EdgeFault: ``not_the_api``.
    """
    try:
        yield
    except DaemonError:
        raise
    except Exception as error:
        raise unforeseen(edge, call, error) from error


def unforeseen(edge: Edge, call: str, error: Exception) -> EdgeFault:
    """The fault for an unforeseen error; see `blamed_on`."""
    log_once(edge, call, error)
    return EdgeFault(
        edge,
        Reason.NOT_THE_API,
        f"{call} ended in an unforeseen error ({type(error).__name__}); the log has its traceback",
    )
