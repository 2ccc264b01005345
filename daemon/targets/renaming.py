"""Notes on names that a target could not take as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.text import shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def quoted(text: str) -> str:
    return repr(shortened(text, 100))


def note_renamed(what: str, keys: Mapping[str, str], notes: list[str]) -> None:
    """A note for each name whose key is another."""
    notes.extend(
        f"{what} {quoted(name)} written as {key}" for name, key in keys.items() if key != name
    )


def note_hashed(
    what: str, keys: Mapping[str, str], clean: Callable[[str], str], notes: list[str]
) -> None:
    """A note for each name whose key is not just the cleaned name."""
    note_renamed(what, {name: key for name, key in keys.items() if key != clean(name)}, notes)
