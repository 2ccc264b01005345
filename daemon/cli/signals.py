"""Ctrl-C and SIGTERM in a verb that has something to finish."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def first_signal(stop: Callable[[], object]) -> Iterator[None]:
    """The first SIGINT or SIGTERM calls a function; a second one ends the process at once, which
    must be safe at any point.

    Args:
        stop: called in the running event loop; must not block.
    """
    loop = asyncio.get_running_loop()
    asked = False

    def on_signal(number: int) -> None:
        nonlocal asked
        if asked:
            os._exit(128 + number)
        asked = True
        stop()

    # no other thread can have handlers
    main = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if main else ()
    for number in numbers:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
