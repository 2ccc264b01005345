"""The fields that structlog adds to every line of a task: the message and the job it works on.

A task inherits them from the one that starts it, and what concerns a whole edge happens to be
noticed by the task of one message. Neither may name a job that has nothing to do with the line.
"""

from __future__ import annotations

import contextvars
from contextlib import contextmanager
from typing import TYPE_CHECKING

from structlog.contextvars import bind_contextvars, clear_contextvars, get_contextvars

if TYPE_CHECKING:
    from collections.abc import Iterator


def context_about_no_job() -> contextvars.Context:
    """For a task that outlives the message during which it is started."""
    context = contextvars.copy_context()
    context.run(clear_contextvars)
    return context


@contextmanager
def about_no_job() -> Iterator[None]:
    """Lines that are logged in the block are about no job."""
    fields = get_contextvars()
    clear_contextvars()
    try:
        yield
    finally:
        bind_contextvars(**fields)
