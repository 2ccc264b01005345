"""Known secrets in a text that quotes them, in whatever form, whole or cut off."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from daemon.redaction.forms import secret_forms
from daemon.redaction.shapes import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_SHORTEST = 4
"""Shorter values are not searched for in other texts: `1` is everywhere."""
_SHORTEST_LINE = 12
_MARKS_OF_A_CUT = ("...", "…", "[truncated]", "(truncated)", "<truncated>")
_FRAMING = " \t\r\n\"'`"


def quoted(text: str, secrets: Iterable[str], *, cut: bool) -> Iterator[tuple[int, int, Kind]]:
    """Start, end and kind of every place that quotes a secret, of several lines also one of them.

    Args:
        text: the text.
        secrets: those that it may quote.
        cut: whether the beginning of a secret at the end of the text counts, too: SageMaker cuts a
            failure reason after 1,024 characters.
    """
    ends = _ends(text) if cut else set()
    for part in {part for secret in secrets for part in _parts(secret)}:
        for form in _forms(part):
            at = text.find(form)
            while at >= 0:
                yield at, at + len(form), Kind.QUOTED
                at = text.find(form, at + len(form))
            for end in ends:
                start = _beginning_at_the_end(text, end, form)
                if start is not None:
                    yield start, end, Kind.QUOTED


@lru_cache(maxsize=64)  # as many as a job has; a form may be thousands of characters long
def _forms(secret: str) -> frozenset[str]:
    return frozenset(form for form in secret_forms(secret) if len(form) >= _SHORTEST)


def _parts(secret: str) -> Iterator[str]:
    if len(secret) >= _SHORTEST:
        yield secret
    bare = secret.strip()
    if len(bare) >= _SHORTEST and bare != secret:
        yield bare
    if "\n" in bare:
        yield from (
            line.strip()
            for line in bare.split("\n")
            if len(line.strip()) >= _SHORTEST_LINE and not line.startswith("-----")
        )


def _ends(text: str) -> set[int]:
    """Where the text ends, and where it was cut if a mark says so."""
    ends = {len(text)}
    bare = text.rstrip(_FRAMING)
    for mark in _MARKS_OF_A_CUT:
        if bare.endswith(mark):
            cut = bare.removesuffix(mark)
            ends |= {len(cut), len(cut.rstrip(_FRAMING))}
    return ends


def _beginning_at_the_end(text: str, end: int, form: str) -> int | None:
    """Where the longest beginning of the form starts that the text ends with."""
    start = max(0, end - len(form) + 1)
    first = form[:_SHORTEST]
    while (start := text.find(first, start, end)) >= 0:
        if form.startswith(text[start:end]):
            return start
        start += 1
    return None
