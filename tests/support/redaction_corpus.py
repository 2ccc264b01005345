"""The corpus of `tests/data/redaction`, and a table of what is found in it: ``python -m
tests.support.redaction_corpus``.

Secrets are made up. A middle dot, which is removed when they are read, keeps scanners of
repositories from taking them for real ones.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from daemon.redaction.redactor import Redactor

FILE = Path(__file__).parents[1] / "data" / "redaction" / "corpus.json"
_DOT = "·"


@dataclass(frozen=True, slots=True)
class Entry:
    kind: str
    key: str
    value: str
    hidden: tuple[str, ...]
    """What must not be left; empty: the value must stay as it is."""
    keeps: tuple[str, ...]
    """What must be left beside it."""

    @property
    def shown(self) -> str:
        return Redactor().value(self.key, self.value).text

    @property
    def missed(self) -> bool:
        return any(secret in self.shown for secret in self.hidden)

    @property
    def wrongly_hidden(self) -> bool:
        shown = self.shown
        if not self.hidden:
            return shown != self.value
        return not all(part in shown for part in self.keeps)


def corpus() -> list[Entry]:
    return [
        Entry(
            item["kind"],
            item["key"],
            item["value"].replace(_DOT, ""),
            tuple(secret.replace(_DOT, "") for secret in item["hidden"]),
            tuple(item.get("keeps", ())),
        )
        for item in json.loads(FILE.read_text())
    ]


def table(entries: list[Entry]) -> str:
    """One line for each kind: secrets, found, missed, harmless values, wrongly hidden."""
    kinds: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        kinds[entry.kind].append(entry)
        kinds["all"].append(entry)
    kinds["all"] = kinds.pop("all")
    lines = ["kind        secrets  found  missed  harmless  wrongly hidden"]
    for kind, some in kinds.items():
        secrets = [entry for entry in some if entry.hidden]
        missed = sum(entry.missed for entry in secrets)
        lines.append(
            f"{kind:<12}{len(secrets):>7}{len(secrets) - missed:>7}{missed:>8}"
            f"{len(some) - len(secrets):>10}{sum(entry.wrongly_hidden for entry in some):>16}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    entries = corpus()
    sys.stdout.write(table(entries) + "\n")
    for entry in entries:
        if entry.missed or entry.wrongly_hidden:
            what = "missed" if entry.missed else "wrongly hidden"
            sys.stdout.write(f"{what}: {entry.key}: {entry.value!r} -> {entry.shown!r}\n")
