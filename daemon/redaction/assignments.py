"""Secrets that a text gives to a key: `password=…`, `"api_key": "…"`, `--token …`, `pwd: …`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from daemon.redaction.keys import hides, looks_random, may_hide
from daemon.redaction.shapes import Kind, is_marker, starts_with_placeholder

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHORTEST = 4
"""In running text, shorter values are words and numbers of it."""
_LONGEST_KEY = 100
_DECISIVE = 200
"""So much of a value decides whether it is secret. With more, a text of many keys and no blank
would be read once for each of them."""

_GIVEN = re.compile(
    r"""(?:
      (?<![\w-])--?(?P<flag>[A-Za-z][\w.-]*+)(?:[ \t]++|[=:]|["'],[ \t]*+(?=["']))
    | \(["'](?P<pair>[^\W\d][\w.-]*+)["'],[ ]?(?=["'])
    | ["'](?P<attribute>[^\W\d][\w.-]*+)["'][ ]value=(?=["'])
    | <(?P<empty>[A-Za-z_][\w.-]*+)[ ]value=(?=["'])
    | \b(?:[Nn]ame|[Kk]ey)["']?[ ]?[:=][ ]?["']?(?P<entry>[^\W\d][\w.-]*+)["']?
      (?:,[ ]?|[ ]|[ \t]*+\n[ \t]*+)["']?[Vv]alue["']?[ ]?[:=][ \t]*+
    | <(?P<element>[A-Za-z_][\w.:-]*+)>(?=[^<>\s])
    | (?<![\w.-])(?<!//)(?<!\d{12}:)(?P<key>[^\W\d][\w.-]*+)(?:\\*+["'])?\]?+
      [ \t]*+(?:=>|->|:=|%3D|[=:])[ \t]*+(?!//)
    )""",
    re.VERBOSE,
)
"""A key and what stands between it and its value. It begins where a word begins and is read once,
so that the search is linear. The part of an ARN behind the account, and a user in a URL, are no
keys."""

_MAY_GIVE = re.compile(r"[=>(]|:(?!//)|%3D|(?<![\w-])-")
"""What every way to give a value needs; few texts have it."""

_OPENING = re.compile(
    r"(?:[bfru]{1,2}(?=[\"']))?(?P<escapes>\\*)(?P<quote>[\"'])(?:(?P=quote){1,2}(?=[^\s,;:}\])\"']))?"
)
_BARE = re.compile(
    r"(?:[^\s\"'<>,;&|`\\]|\\(?![nrt\"'])\S?|[,;&|](?![ \t]*+[\w.-]{1,64}[ \t]?[=:]))++"
)
_NOT_OF_THE_VALUE = ",;)}]."
_SCHEME = re.compile(r"(?:bearer|basic|token|digest|apikey)[ \t]++", re.IGNORECASE)
_BEFORE = re.compile(r"(?:\b[A-Za-z]+[ ])?\b[A-Za-z]+[ ]\Z")
_LAST_OF_SEVERAL = {"key", "token", "string", "id", "phrase", "code", "header", "word"}
_GIVEN_BY = {"given", "provided", "specified"}
"""`incorrect API key provided: …`"""
_COMPLAINTS = {
    "unexpected",
    "invalid",
    "unknown",
    "expected",
    "illegal",
    "bad",
    "next",
    "unrecognized",
}
_CLOSING = {"[": "]", "{": "}", "(": ")"}
_CALL = re.compile(r"[(\[{]")
_BLOCK = re.compile(r"[|>][-+0-9]{0,2}[ \t]*+\n(?P<lines>(?:[ \t]++[^\n]*+(?:\n|\Z))++)")
"""A block of lines in YAML."""
_WHOLE_LINE = re.compile(r"(?:cookie|authorization)\Z", re.IGNORECASE)
"""Headers whose values have several parts."""
_LINE = re.compile(r"[^\r\n\"']*[^\s\"']")
_SAID = re.compile(
    r"(?<![\w.-])(?P<key>[\w.-]*(?:passw(?:or)?d|passphrase|pwd|secret|token|key))"
    r"[ \t|]{1,4}(?:(?:is|was)[ \t])?[\"'`]?(?P<value>[^\s\"'`=\[]{6,200})",
    re.IGNORECASE,
)
_MAY_SAY = re.compile(r"(?:passw|passphrase|pwd|secret|token|key)", re.IGNORECASE)
_CHOSEN = re.compile("passw(?:or)?d|passphrase|pwd", re.IGNORECASE)
"""What people choose, which need not look random."""
_COMMAND = re.compile(
    r"\b(?:(?:sshpass|docker[ ]login|podman[ ]login|mysql|mysqldump|redis-cli|mongosh?)\b"
    r"[^\n;|&]{0,100}?[ ]-[pa][ ]?(?=[^\s-])|(?:wandb|hf[ ]auth|huggingface-cli)[ ]login[ ](?!-))"
    r"[\"']?(?P<value>[^\s\"';|&]{4,200})"
)
"""Commands whose short options, or only words, are passwords."""
_LOGIN_FLAGS = {"user", "proxy-user", "u"}
_LOGIN = re.compile(r"[^\s:/]+:(?![0-9]+\Z)[^\s:/]\S*")


def assigned(text: str, patterns: tuple[str, ...]) -> Iterator[tuple[int, int, Kind]]:
    """Start, end and kind of every value that the text gives to a secret key."""
    if _MAY_GIVE.search(text) is not None:
        yield from _given(text, patterns)
    if " " in text or "\t" in text or "|" in text:
        yield from _said(text, patterns)


def _given(text: str, patterns: tuple[str, ...]) -> Iterator[tuple[int, int, Kind]]:
    done = 0
    for found in _GIVEN.finditer(text):
        if found.start() < done:
            continue
        key, is_login = _key(text, found), found["flag"] in _LOGIN_FLAGS
        if not (is_login or may_hide(key, patterns)):
            continue
        start, end = _value(text, found, min(len(text), found.end() + _DECISIVE))
        value = text[start:end]
        if (
            end - start >= _SHORTEST
            and not is_marker(value)
            and not starts_with_placeholder(text, start)
            and ((is_login and _LOGIN.fullmatch(value) is not None) or hides(key, value, patterns))
        ):
            start, done = _value(text, found, len(text))
            yield start, done, Kind.KEY


def _said(text: str, patterns: tuple[str, ...]) -> Iterator[tuple[int, int, Kind]]:
    """What a sentence or a command gives to a key without a sign between them. Ordinary words stay:
    `the token is invalid`.
    """
    for found in _SAID.finditer(text):
        key, value = found["key"], found["value"].rstrip(".,;:)")
        mixed = any(map(str.isdigit, value)) and any(map(str.isalpha, value))
        chosen = _CHOSEN.search(key) is not None
        if may_hide(key, patterns) and (mixed if chosen else looks_random(value)):
            yield found.start("value"), found.start("value") + len(value), Kind.KEY
    for found in _COMMAND.finditer(text):
        if not is_marker(found["value"]) and not starts_with_placeholder(
            text, found.start("value")
        ):
            yield (*found.span("value"), Kind.KEY)


def _key(text: str, found: re.Match[str]) -> str:
    """The key, with the words before it where it is the last of several: `secret access key: …`."""
    key = found[found.lastgroup or "key"]
    if found["key"] is not None and key.lower() in _LAST_OF_SEVERAL | _GIVEN_BY:
        before = _BEFORE.search(text, max(0, found.start() - 40), found.start())
        if before is not None:
            words = before[0].split()
            if words[-1].lower() in _COMPLAINTS:
                return "complaint"
            return " ".join([*words, *({key} - _GIVEN_BY)])
    return key[-_LONGEST_KEY:]


def _value(  # noqa: C901, PLR0911 - a rule for each way to write a value
    text: str, found: re.Match[str], limit: int
) -> tuple[int, int]:
    """Start and end of the value, which is not read beyond a limit."""
    start = found.end()
    opening = _OPENING.match(text, start)
    if opening is not None:
        start = opening.end()
        return start, _closing(text, start, opening, limit)
    if found["flag"] is not None:
        if text.startswith("-", start) and text[found.end() - 1 : found.end()] not in {"=", ":"}:
            return start, start  # the next flag
        bare = _BARE.match(text, start, limit)
        return start, bare.end() if bare is not None else start
    if found["element"] is not None:
        end = text.find("<", start, limit)
        return start, end if end >= 0 and text.startswith("</", end) else start
    if (closing := _CLOSING.get(text[start : start + 1])) is not None:
        end = text.find(closing, start, limit)
        return start, end + 1 if end >= 0 else limit
    block = _BLOCK.match(text, start, limit)
    if block is not None:
        return block.span("lines")
    if _is_a_line(text, found) or _WHOLE_LINE.search(found["key"] or "") is not None:
        line = _LINE.match(text, start, limit)
        return start, line.end() if line is not None else start
    scheme = _SCHEME.match(text, start)
    bare = _BARE.match(text, scheme.end() if scheme is not None else start, limit)
    if bare is None:
        return start, start
    end = bare.end()
    if text[end : end + 1] in {"'", '"'} and (call := _CALL.search(text, start, end)) is not None:
        closing_at = text.find(_CLOSING[call[0]], end, limit)
        return start, closing_at + 1 if closing_at >= 0 else limit
    while end > start and text[end - 1] in _NOT_OF_THE_VALUE:
        end -= 1
    return start, end


def _closing(text: str, start: int, opening: re.Match[str], limit: int) -> int:
    """Where the closing quote stands, which is escaped as the opening one is; the end of the text
    where it is cut off.
    """
    quote, escapes = opening["quote"], opening["escapes"]
    at = start
    while (at := text.find(quote, at, limit)) >= 0:
        slashes = at
        while slashes > start and text[slashes - 1] == "\\":
            slashes -= 1
        if at - slashes <= len(escapes):
            return at - (at - slashes)
        at += 1
    return limit


def _is_a_line(text: str, found: re.Match[str]) -> bool:
    """Whether the key begins a line of YAML or of an ini file, whose value may have spaces."""
    if found["key"] is None or not text.startswith((": ", " = "), found.end("key")):
        return False
    before = text[max(0, found.start() - 40) : found.start()]
    _, line_end, indent = before.rpartition("\n")
    first = len(before) == found.start() and "\n" in text
    return (bool(line_end) or first) and not indent.strip(" \t-")
