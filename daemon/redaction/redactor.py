"""The door that everything passes which leaves the process."""

from __future__ import annotations

import html
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from daemon.redaction.assignments import assigned
from daemon.redaction.keys import SECRET_KEYS, hides, is_unmistakable
from daemon.redaction.known import quoted
from daemon.redaction.shapes import Kind, base64_texts, is_marker, spans

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

REDACTED = "[redacted]"
"""In place of a value whose key makes it a secret."""

_DEEPEST = 64
"""Deeper JSON is treated as text."""
_MAX_DIGITS = 4_300
"""Python refuses to parse an integer with more digits."""
_DEEPEST_ENCODING = 4
"""Base64 within escapes within base64 is followed so far."""
_SHORT, _MOST_HARMLESS = 200, 2000
"""Characters of a text that is remembered, and how many are."""
_ESCAPES = re.compile(
    r"%(?:22|27|3[aAdD]|7[bB])|&(?:quot|#34|#39|#x27|apos|lt|gt|#61|#x3[dD]);|\\u00[0-7][0-9a-fA-F]"
)
_UNICODE = re.compile(r"\\u00([0-7][0-9a-fA-F])")
_NAMES, _VALUES = ("name", "key", "parametername"), ("value", "parametervalue")


def marker(kind: Kind) -> str:
    """What stands in place of a secret."""
    return REDACTED if kind in {Kind.KEY, Kind.QUOTED} else f"[redacted: {kind.value}]"


def without_shapes(text: str) -> str:
    """A text without what has the shape of a secret. For texts of this program's own (logs,
    errors), which explain keys: `target.auth.password: must not be empty` stays.
    """
    if text in _SHAPELESS:
        return text
    found = list(spans(text))
    if found:
        return _replaced(text, found)[0]
    _SHAPELESS.add(text)
    return text


@dataclass(frozen=True, slots=True)
class Result:
    """A text without secrets."""

    text: str
    kinds: Counter[Kind] = field(default_factory=Counter)
    """How many secrets of each kind were replaced."""
    secrets: tuple[str, ...] = ()
    """What was replaced, to be searched for in other texts."""

    @property
    def what(self) -> str:
        """For a note, without any value: `a login, 2 secrets`."""
        words = []
        for kind, count in self.kinds.items():
            if kind in {Kind.KEY, Kind.QUOTED}:
                continue
            words.append(kind.value if count == 1 else f"{kind.value} ({count} times)")
        by_key = self.kinds[Kind.KEY] + self.kinds[Kind.QUOTED]
        if by_key:
            words.append("1 secret" if by_key == 1 else f"{by_key} secrets")
        return ", ".join(words)


class _Harmless:
    """Short texts in which nothing was found: most texts of a job are those of the jobs before it.
    A text with a secret is never kept.
    """

    def __init__(self) -> None:
        self._texts: set[str] = set()

    def __contains__(self, text: str) -> bool:
        return text in self._texts

    def add(self, text: str) -> None:
        if len(text) > _SHORT:
            return
        if len(self._texts) >= _MOST_HARMLESS:
            self._texts.clear()
        self._texts.add(text)


_SHAPELESS = _Harmless()


@lru_cache(maxsize=4)
def _harmless(_patterns: tuple[str, ...]) -> _Harmless:
    return _Harmless()


@dataclass(frozen=True, slots=True)
class Redactor:
    """Replaces secrets.

    Args:
        patterns: those of ``jobs.redact``; none: everything stays as it is.
    """

    patterns: tuple[str, ...] = SECRET_KEYS

    def value(self, key: str, value: str, known: Iterable[str] = ()) -> Result:
        """The value under a key: replaced as a whole if the key says so, else `text`."""
        if is_marker(value):
            return Result(value)
        if hides(key, value, self.patterns):
            return Result(REDACTED, Counter({Kind.KEY: 1}), _bare(value))
        return self.text(value, known)

    def name(self, name: str) -> str:
        """A key, without what has the shape of a secret."""
        return without_shapes(name) if self.patterns else name

    def text(self, text: str, known: Iterable[str] = (), *, cut: bool = False) -> Result:
        """A text with its secrets replaced: known ones, JSON members, `key=value`, shapes.

        A JSON document stays one. One without secrets stays as it is, to the letter.

        Args:
            text: the text.
            known: secrets that it may quote, in any form.
            cut: whether the text may have been cut off within a known secret.
        """
        quotable = tuple(known)
        if quotable:
            return self._text(text, _Known(quotable, cut=cut), 0)
        harmless = _harmless(self.patterns)
        if text in harmless:
            return Result(text)
        result = self._text(text, _NONE_KNOWN, 0)
        if not result.kinds:
            harmless.add(text)
        return result

    def _text(self, text: str, known: _Known, depth: int) -> Result:
        if not self.patterns or not text:
            return Result(text)
        if depth <= _DEEPEST and text.lstrip()[:1] in {"{", "[", '"'}:
            document = self._document(text, known, depth)
            if document is not None:
                return document
        words = list(base64_texts(text))
        found = [
            *quoted(text, known.secrets, cut=known.cut),
            *assigned(text, self.patterns),
            *spans(text, words=words),
        ]
        if depth < _DEEPEST_ENCODING:
            for start, end, inner in words:
                if self._text(inner, _NONE_KNOWN, max(depth, 1) + 1).kinds:
                    found.append((start, end, Kind.ENCODED))
        result = Result(*_replaced_counted(text, found)) if found else Result(text)
        if depth < _DEEPEST_ENCODING and _ESCAPES.search(result.text) is not None:
            return self._unescaped(result, known, depth) or result
        return result

    def _unescaped(self, raw: Result, known: _Known, depth: int) -> Result | None:
        """A text with escapes of URLs or HTML that has further secrets once these are undone: as it
        reads then. None: it has none.
        """
        plain = _UNICODE.sub(lambda found: chr(int(found[1], 16)), raw.text)
        plain = html.unescape(unquote(plain, errors="replace"))
        result = self._text(plain, known, depth + 1)
        if not result.kinds:
            return None
        return Result(result.text, raw.kinds + result.kinds, raw.secrets + result.secrets)

    def _document(self, text: str, known: _Known, depth: int) -> Result | None:
        """A JSON document; None if the text is none."""
        try:
            # objects as pairs: a repeated key must not hide the value of its first occurrence
            value = json.loads(text, parse_int=_whole_number, object_pairs_hook=_Object)
        except (ValueError, RecursionError):
            return None
        seen = _Seen(known)
        try:
            redacted = self._json(value, seen, depth)
            written = json.dumps(redacted, ensure_ascii=text.isascii())
        except RecursionError:
            return None
        return Result(written, seen.kinds, tuple(seen.secrets)) if seen.kinds else Result(text)

    def _json(self, value: Any, seen: _Seen, depth: int, within: str = "") -> Any:  # noqa: ANN401 - any JSON
        if isinstance(value, str):
            return seen.add(self._text(value, seen.known, depth + 1))
        if isinstance(value, _Object):
            named = _named_value(value)
            return {
                self._member_name(key, seen): self._member(
                    _Key(named if named is not None and key.lower() in _VALUES else key, within),
                    item,
                    seen,
                    depth,
                )
                for key, item in value
            }
        if isinstance(value, list):
            return list(self._items(value, seen, depth))
        return value

    def _items(self, items: list[Any], seen: _Seen, depth: int) -> Iterator[Any]:
        """The items of a list, which may be a command line: `["--api-key", "…"]`."""
        flag = ""
        for item in items:
            yield (
                self._member(_Key(flag), item, seen, depth)
                if flag
                else self._json(item, seen, depth)
            )
            flag = item.lstrip("-") if isinstance(item, str) and item.startswith("-") else ""
            flag = "" if "=" in flag or " " in flag else flag

    def _member_name(self, name: str, seen: _Seen) -> str:
        return seen.add(self._shapes(name))

    def _shapes(self, text: str) -> Result:
        return Result(*_replaced_counted(text, spans(text)))

    def _member(self, key: _Key, value: Any, seen: _Seen, depth: int) -> Any:  # noqa: ANN401 - any JSON
        if not (isinstance(value, str) and is_marker(value)) and self._hides(key, value):
            secrets = (part for leaf in _leaves(value) for part in _bare(leaf))
            return seen.add(Result(REDACTED, Counter({Kind.KEY: 1}), tuple(secrets)))
        return self._json(value, seen, depth, key.name)

    def _hides(self, key: _Key, value: Any) -> bool:  # noqa: ANN401 - any JSON
        """Whether a member's name says that it is secret, alone or with the one it is within:
        `{"wandb": {"key": "…"}}`.
        """
        if value is None or isinstance(value, bool) or value == []:
            return False
        if isinstance(value, _Object):  # its members have names of their own
            return is_unmistakable(key.name)
        if isinstance(value, list) and any(isinstance(item, list) for item in value):
            return is_unmistakable(key.name)
        text = value if isinstance(value, str) else json.dumps(value)
        return hides(key.name, text, self.patterns) or (
            bool(key.within) and hides(f"{key.within}.{key.name}", text, self.patterns)
        )


@dataclass(frozen=True, slots=True)
class _Key:
    """The name of a JSON member."""

    name: str
    within: str = ""
    """The name of the member that it is within."""


@dataclass(frozen=True, slots=True)
class _Known:
    """Secrets that a text may quote."""

    secrets: tuple[str, ...]
    cut: bool


_NONE_KNOWN = _Known((), cut=False)


class _Object(list[tuple[str, Any]]):
    """A JSON object as pairs."""


@dataclass(slots=True)
class _Seen:
    """What was replaced so far in a document."""

    known: _Known
    kinds: Counter[Kind] = field(default_factory=Counter)
    secrets: list[str] = field(default_factory=list)

    def add(self, result: Result) -> str:
        self.kinds.update(result.kinds)
        self.secrets += result.secrets
        return result.text


def _named_value(pairs: _Object) -> str | None:
    """The name that an object gives to its value: `{"Name": "API_KEY", "Value": "…"}`."""
    names = [item for key, item in pairs if key.lower() in _NAMES and isinstance(item, str)]
    values = [key for key, _ in pairs if key.lower() in _VALUES]
    return names[0] if len(names) == 1 and values else None


def _leaves(value: Any) -> Iterator[str]:  # noqa: ANN401 - any JSON
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending += [part[1] if isinstance(part, tuple) else part for part in item]
        elif not isinstance(item, bool) and item is not None:
            yield str(item)


def _bare(value: str) -> tuple[str, ...]:
    """A secret as it is, and without the quotes that the SDK puts around it."""
    if len(value) > 1 and value[0] == value[-1] == '"':
        try:
            inner = json.loads(value)
        except (ValueError, RecursionError):
            inner = None
        if isinstance(inner, str):
            return (value, inner)
    return (value,)


def _replaced(text: str, found: Iterable[tuple[int, int, Kind]]) -> tuple[str, bool]:
    replaced, kinds, _ = _replaced_counted(text, found)
    return replaced, bool(kinds)


def _replaced_counted(
    text: str, found: Iterable[tuple[int, int, Kind]]
) -> tuple[str, Counter[Kind], tuple[str, ...]]:
    """The text with each group of overlapping secrets replaced once. The kind is the one that says
    most: a shape's before a key's.
    """
    parts: list[str] = []
    kinds: Counter[Kind] = Counter()
    secrets: list[str] = []
    done = 0
    for start, end, kind in _merged(found):
        parts += [text[done:start], marker(kind)]
        secret = text[start:end]
        secrets.append(secret)
        if kind is Kind.LOGIN:  # the password alone, as the program sees it
            secrets.append(unquote(secret).partition(":")[2])
        kinds[kind] += 1
        done = end
    return "".join([*parts, text[done:]]) if parts else text, kinds, tuple(secrets)


def _merged(found: Iterable[tuple[int, int, Kind]]) -> Iterator[tuple[int, int, Kind]]:
    ordered = sorted(found, key=lambda span: (span[0], -span[1]))
    if not ordered:
        return
    start, end, kind = ordered[0]
    for next_start, next_end, next_kind in ordered[1:]:
        if next_start >= end:
            yield start, end, kind
            start, end, kind = next_start, next_end, next_kind
        else:
            end = max(end, next_end)
            kind = next_kind if kind in {Kind.KEY, Kind.QUOTED} else kind
    yield start, end, kind


def _whole_number(digits: str) -> int | str:
    return int(digits) if len(digits) <= _MAX_DIGITS else digits
