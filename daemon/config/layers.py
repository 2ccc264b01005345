"""Layers of configuration values, later ones over earlier ones, and one line for each problem.

Knows no single setting; the keys are an argument.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from annotated_types import Ge, Le

from daemon.config.keys import alternatives
from daemon.text import shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic_core import ErrorDetails

    from daemon.config.keys import KeyIndex, KeyPath


@dataclass(frozen=True, slots=True)
class _Given:
    value: Any
    source: str


class Layers:
    """Values by key, where later layers override earlier ones, and one line for each problem."""

    def __init__(self, index: KeyIndex) -> None:
        self.index = index
        self.problems: list[str] = []
        self._given: dict[KeyPath, _Given] = {}

    def put(self, path: KeyPath, value: Any, source: str) -> None:  # noqa: ANN401 - any value; validated later
        self._given[path] = _Given(value, source)

    def put_text(self, path: KeyPath, text: str, source: str) -> None:
        """Puts a textual value (variable, secret file). Lists are JSON or comma-separated."""
        key = ".".join(path)
        if not text and self.index.may_be_unset(key):
            return  # templates render an unset value as an empty variable
        if self.index.holds(key, tuple) and text:
            self._put_list(path, text, source)
        elif self.index.holds(key, Mapping):
            self._put_mapping(path, text, source)
        else:
            self.put(path, text, source)

    def _put_list(self, path: KeyPath, text: str, source: str) -> None:
        if not text.lstrip().startswith("["):
            self.put(path, [item.strip() for item in text.split(",")], source)
            return
        try:
            self.put(path, json.loads(text), source)
        except (ValueError, RecursionError):
            self.problem(
                ".".join(path), "must be a JSON list, or values separated by commas", source
            )

    def _put_mapping(self, path: KeyPath, text: str, source: str) -> None:
        try:
            entries = json.loads(text)
        except (ValueError, RecursionError):
            entries = None
        if not isinstance(entries, dict):
            self.problem(".".join(path), 'must be a JSON object, {"name": "value"}', source)
            return
        for name, value in entries.items():
            self.put((*path, name.lower()), value, source)

    def problem(self, key: str, text: str, source: str = "", *, shown: str = "") -> None:
        """Adds a line.

        Args:
            key: the key, dotted.
            text: what is wrong and what is allowed; continues "key = value:".
            source: where the value came from.
            shown: the value, if it may be shown.
        """
        line = (
            key
            + (f" = {shown}" if shown else "")
            + f": {text}"
            + (f" ({source})" if source else "")
        )
        self.problems.append(" ".join(line.split()))

    def has(self, path: KeyPath) -> bool:
        return path in self._given

    def value_at(self, path: KeyPath) -> object:
        return self._given[path].value if path in self._given else None

    def source_of(self, path: KeyPath) -> str:
        """Where a value, or the first value of a section, came from."""
        return next(
            (given.source for known, given in self._given.items() if known[: len(path)] == path), ""
        )

    def tree(self) -> dict[str, Any]:
        """All values as nested mappings; every section is present."""
        root: dict[str, Any] = {
            section: {} for section in self.index.sections if self.index.is_section(section)
        }
        for path, given in self._given.items():
            at = root
            for name in path[:-1]:
                at = at.setdefault(name, {})
            at[path[-1]] = given.value
        return root

    def explain(self, error: ErrorDetails) -> None:
        """Adds the line for one of pydantic's errors.

        An error of type ``refused`` has its own text, and ``ctx["key"]`` may name a key within the
        validated section.
        """
        path, context = self._path_of(error["loc"]), error.get("ctx", {})
        key = ".".join(path)
        if (entry := self._entry_key(path)) is not None:
            self._explain_entry(error, entry, path)
            return
        match error["type"]:
            case "missing":
                self.problem(
                    key,
                    f"is required; set it in the file or as variable {self.index.variable(key)}",
                )
            case "union_tag_not_found":
                key = f"{key}.{self.index.discriminator(key)}"
                self.problem(
                    key,
                    f"is required, one of {', '.join(self.index.words(key, error['loc']))}",
                    self.source_of(path),
                )
            case "union_tag_invalid":
                path = (*path, str(self.index.discriminator(key)))
                key = ".".join(path)
                allowed = f"must be one of {', '.join(self.index.words(key, error['loc']))}"
                self.problem(
                    key, allowed, self.source_of(path), shown=self._shown(key, self.value_at(path))
                )
            case "extra_forbidden":
                # unknown keys are reported earlier: this one belongs to another kind
                kind = f"{'.'.join(path[:-1])}.{self.index.discriminator('.'.join(path[:-1]))}"
                self.problem(key, f"does not go with this {kind}", self.source_of(path))
            case "refused" if context.get("key"):
                path = (*path, str(context["key"]))
                key = ".".join(path)
                self.problem(
                    key,
                    error["msg"],
                    self.source_of(path),
                    shown=self._shown(key, self.value_at(path)),
                )
            case _ if self.index.holds(".".join(path[:-1]), tuple):
                key = ".".join(path[:-1])
                shown = self._shown(key, error["input"])
                self.problem(
                    f"{key}[{path[-1]}]",
                    self._allowed(key, error),
                    self.source_of(path[:-1]),
                    shown=shown,
                )
            case _:
                shown = self._shown(key, self.value_at(path))
                self.problem(key, self._allowed(key, error), self.source_of(path), shown=shown)

    def _entry_key(self, path: KeyPath) -> str | None:
        """How messages name a key within an entry of a list of sections, ``accounts[0].id``; None
        for any other path.
        """
        if len(path) < _DEPTH_OF_ENTRY_KEYS or path[0] not in self.index.fields:
            return None
        return f"{path[0]}[{path[1]}].{'.'.join(path[2:])}"

    def _explain_entry(self, error: ErrorDetails, key: str, path: KeyPath) -> None:
        value = error["input"]
        shown = repr(value) if isinstance(value, str) else ""
        match error["type"]:
            case "missing":
                text, shown = "is required", ""
            case "extra_forbidden":
                text, shown = "is an unknown key of an entry", ""
            case _:
                text = self._allowed(key, error)
        self.problem(key, text, self.source_of(path[:1]), shown=shortened(shown, _SHOWN_CHARACTERS))

    def _path_of(self, location: Sequence[int | str]) -> KeyPath:
        """The path of an error, without the kind that pydantic inserts in sections with several."""
        path: list[str] = []
        behind_kinds = False
        for part in location:
            if not behind_kinds:
                path.append(str(part))
            behind_kinds = not behind_kinds and self.index.discriminator(".".join(path)) is not None
        return tuple(path)

    def _shown(self, key: str, value: object) -> str:
        """A bad value for display; empty for secrets, whole sections and addresses."""
        if (
            key not in self.index.fields
            or self.index.is_secret(key)
            or not isinstance(value, str | int | float | Path)
        ):
            return ""
        if key.endswith(("url", "uri", "host")) and re.search(r"[@?#]", str(value)):
            return ""
        if key.endswith("username") and ":" in str(value):  # user:password, as in curl
            return ""
        text = repr(value) if isinstance(value, str) else str(value)
        return shortened(text, _SHOWN_CHARACTERS)

    def _allowed(self, key: str, error: ErrorDetails) -> str:
        """What is allowed, continuing "key = value:"."""
        if error["type"] == "refused":
            return error["msg"]
        field = self.index.field(key, error["loc"])
        bounds = {type(item): item for item in field.metadata} if field else {}
        if field and Ge in bounds and Le in bounds:
            number = "a whole number" if int in alternatives(field.annotation) else "a number"
            return f"must be {number} from {bounds[Ge].ge} to {bounds[Le].le}"
        return _ALLOWED.get(error["type"]) or re.sub(r"^\w+ should ", "must ", error["msg"])


_ALLOWED = {
    "string_type": "must be text (in YAML: put it in quotes)",
    "tuple_type": "must be a list",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
}
"""Texts for types of error whose text from pydantic is unclear."""

_SHOWN_CHARACTERS = 100
_DEPTH_OF_ENTRY_KEYS = 3
"""Name of the list, number of the entry, key."""
