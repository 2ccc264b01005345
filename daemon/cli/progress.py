"""The progress of a long verb on standard error: a bar on a terminal, a plain line every few
seconds elsewhere.
"""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

from daemon.clock import monotonic
from daemon.observability.logs import printable
from daemon.operations.when import age_text

if TYPE_CHECKING:
    from typing import TextIO

_WIDTH = 24
_REDRAW_SECONDS = 0.1
_LINE_SECONDS = 5.0
_LEAST_FRACTION = 0.001
"""With less done, nobody knows how long the rest takes."""


class ProgressLine:
    """One line of progress.

    Args:
        stream: where it is written; None: standard error.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._bar = self._stream.isatty()
        self._begun = monotonic()
        self._first: float | None = None
        self._shown_at = float("-inf")
        self._drawn = False

    def show(self, words: str, fraction: float | None = None) -> None:
        """Shows how far it is; not more often than people read.

        Args:
            words: what has been done.
            fraction: of the whole, from 0 to 1; None: unknown.
        """
        if self._first is None:
            self._first = fraction
        pause = _REDRAW_SECONDS if self._bar else _LINE_SECONDS
        if monotonic() - self._shown_at < pause:
            return
        self._shown_at = monotonic()
        if not self._bar:
            self._write(f"{words}{self._left(fraction)}\n")
            return
        filled = round((fraction or 0.0) * _WIDTH)
        bar = "" if fraction is None else f"[{'#' * filled:-<{_WIDTH}}] {fraction:4.0%}  "
        columns = shutil.get_terminal_size().columns
        self._write(f"\r\x1b[K{printable(f'{bar}{words}{self._left(fraction)}')[: columns - 1]}")
        self._drawn = True

    def say(self, line: str) -> None:
        """A line that stays."""
        self.clear()
        self._write(f"{printable(line)}\n")

    def clear(self) -> None:
        """Removes the bar, so that something else can be written."""
        if self._drawn:
            self._write("\r\x1b[K")
            self._drawn = False

    def _left(self, fraction: float | None) -> str:
        done = None if fraction is None else fraction - (self._first or 0.0)
        if fraction is None or done is None or done < _LEAST_FRACTION or fraction >= 1:
            return ""
        return f", {age_text((monotonic() - self._begun) * (1 - fraction) / done)} left"

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
