"""Limits of ModelDB 2.0.8.1: lengths, alphabets and sizes, all seen on the real server.

Text over a limit fails the whole run with `500 {"code":2}`, the same error as right after an outage
of the database, so nothing over a limit may ever be sent.
"""

from __future__ import annotations

import json
import re

from daemon.targets.names import beginning, digest, utf16_units, without_accents

NAME_UNITS = 250
"""UTF-16 units of a name: the server allows 256, its column 255 characters; with a margin."""
TAG_UNITS = 40
VALUE_BYTES = 2000
"""UTF-8 bytes of a hyperparameter's text."""
STORED_VALUE_BYTES = 2600
"""Bytes of the same as stored (JSON in which `<`, `>`, `&`, `=`, `'` are escaped, too), in an index
whose rows hold 2704 bytes."""
KEY_CHARACTERS = 300
"""Length of a cleaned key: SageMaker's 256 and our longest prefix; the index holds 2.6 kB."""
BODY_BYTES = 3_500_000
"""Bytes of a request as JSON. The server takes 4 MiB of protobuf, which is never longer."""

_SIX_BYTES_STORED = frozenset("<>&='\u2028\u2029")
"""Stored as escapes of six bytes by Gson, the server's JSON library."""
_NOT_IN_KEY = re.compile(r"[^A-Za-z0-9_/-]")
_UNDERSCORES = re.compile(r"__+")
_NOT_IN_ATTRIBUTE_KEY = re.compile(r"[^A-Za-z0-9_]")


def shortened_tag(tag: str) -> str:
    """A tag of at most 40 UTF-16 units, cut where it is longer."""
    return beginning(tag, TAG_UNITS, utf16_units).strip()


def stored_bytes(text: str) -> int:
    """The bytes that a text takes as a stored value."""
    return len(json.dumps(text, ensure_ascii=False).encode()) + sum(
        6 - len(character.encode()) for character in text if character in _SIX_BYTES_STORED
    )


def fits_value(text: str) -> bool:
    """Whether a text can be the value of a hyperparameter."""
    return len(text.encode()) <= VALUE_BYTES and stored_bytes(text) <= STORED_VALUE_BYTES


def shortened_value(text: str) -> str:
    """A text that fits as a value; a longer one keeps its beginning, a note and its hash."""
    if fits_value(text):
        return text
    mark = f"… [shortened, sha256 {digest(text)}]"
    fitting = beginning(text, VALUE_BYTES - len(mark.encode()), lambda part: len(part.encode()))
    return beginning(fitting, STORED_VALUE_BYTES - stored_bytes(mark), stored_bytes) + mark


def run_key(key: str) -> str:
    """A key of a hyperparameter or data set in the alphabet that the official client takes:
    letters, digits, `_`, `-`, `/`.
    """
    return _key(key, _NOT_IN_KEY)


def metric_key(key: str) -> str:
    """The same for a metric, whose `:` becomes `/`: `train:auc` is `train/auc`.

    What stands for other characters is kept short: `metrics/precision (B)` is
    `metrics/precision_B`.
    """
    path = key.replace(":", "/")
    if not _NOT_IN_KEY.search(path):
        return _fitting_key(path, path)
    words = _NOT_IN_KEY.sub("_", without_accents(path)).split("/")
    tidy = "/".join(_UNDERSCORES.sub("_", word).strip("_") or "_" for word in words)
    return _fitting_key(tidy, key)


def attribute_key(key: str) -> str:
    """A key of an attribute: letters, digits, `_`."""
    return _key(key, _NOT_IN_ATTRIBUTE_KEY)


def _key(original: str, not_allowed: re.Pattern[str]) -> str:
    """A key without accents, with `_` for what its alphabet lacks, a dot above all: queries take
    the part after the last dot.
    """
    return _fitting_key(not_allowed.sub("_", without_accents(original)) or "_", original)


def _fitting_key(key: str, original: str) -> str:
    if len(key) <= KEY_CHARACTERS:
        return key
    return f"{key[: KEY_CHARACTERS - 13]}_{digest(original)}"
