"""What the demo prints: a story with a live line on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

from daemon.errors import DaemonError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from daemon.demo.results import Landing

WIDTH_OF_A_LOG = 140
"""Where there is no terminal that has a width."""
INDENT = 9
NAME_WIDTH = 18
OUTCOME_STYLES = {"synced": "green", "skipped": "dim", "rejected": "yellow"}


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Ends the demo in order; rich would end the process in the middle of it."""
        try:
            super().on_broken_pipe()
        except SystemExit as end:
            raise DaemonError("nobody reads standard output any more") from end


class Screen:
    """Prints to standard output. Every method raises `DaemonError` when that is closed."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        console = _Console(highlight=False)
        self._console = (
            console if console.is_terminal else _Console(highlight=False, width=WIDTH_OF_A_LOG)
        )
        self._progress: Progress | None = None

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._begun

    def title(self, text: str) -> None:
        self._print(Text(f"\n{text}", style="bold"))

    def step(self, text: str) -> None:
        """One thing that has happened, with its time."""
        self._print(Text().append(f"{self.seconds:5.1f} s  ", style="dim").append(text))

    def detail(self, head: str, text: str = "") -> None:
        """Something below a step."""
        line = Text(" " * INDENT)
        self._print(
            line.append(f"{head:<{NAME_WIDTH}}  ", style="cyan").append(text)
            if text
            else line.append(head)
        )

    def failure(self, text: str) -> None:
        self._print(Text(text, style="bold red"))

    @contextmanager
    def counting(self, total: int, what: str) -> Iterator[None]:
        """Keeps a live line at the bottom of a terminal while the block runs.

        Args:
            total: how many runs are to come.
            what: what is counted.
        """
        columns = (
            SpinnerColumn(),
            TextColumn(what),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("| {task.description}"),
        )
        quiet = not self._console.is_terminal
        with Progress(*columns, console=self._console, transient=True, disable=quiet) as progress:
            progress.add_task("", total=total)
            self._progress = progress
            try:
                yield
            finally:
                self._progress = None

    def count(self, runs: int, words: str) -> None:
        """Renews the live line."""
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], completed=runs, description=words)

    def table(self, rows: Sequence[Landing], where: str) -> None:
        """All rows.

        Args:
            where: the heading of the last column.
        """
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="underline")
        table.add_column("job", overflow="fold")
        table.add_column("events", justify="right", no_wrap=True)
        table.add_column("outcome", no_wrap=True)
        table.add_column("reason", overflow="fold")
        table.add_column(where, overflow="fold")
        for row in rows:
            style = OUTCOME_STYLES.get(row.outcome.split(maxsplit=1)[0], "red")
            table.add_row(
                Text(row.job),
                str(row.events),
                Text(row.outcome, style=style),
                Text(row.reason),
                Text(row.where),
            )
        self._console.print(table)
        self._console.print()

    def pairs(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Names and values, one a line."""
        width = max(len(name) for name, _ in pairs)
        for name, value in pairs:
            self._print(Text(f"  {name:<{width}}  ").append(value, style="bold"))

    def commands(self, commands: Sequence[tuple[str, str]]) -> None:
        """Commands to be pasted, each with what it is for as a comment of the shell."""
        width = max(len(command) for command, _ in commands)
        for command, what in commands:
            line = Text("  ").append(f"{command:<{width}}", style="bold")
            self._print(line.append(f"  # {what}", style="dim"))

    def _print(self, text: Text) -> None:
        # soft_wrap: URLs and paths stay in one piece, to be copied
        self._console.print(text, soft_wrap=True)
