"""Limits of ModelDB 2.0.8.1: lengths, alphabets and sizes, all seen on the real server.

Text over a limit fails the whole run with `500 {"code":2}`, the same error as right after an outage
of the database, so nothing over a limit may ever be sent.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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

_DIGEST_CHARACTERS = 12
_SIX_BYTES_STORED = frozenset("<>&='\u2028\u2029")
"""Stored as escapes of six bytes by Gson, the server's JSON library."""
_NOT_IN_KEY = re.compile(r"[^A-Za-z0-9_/-]")
_UNDERSCORES = re.compile(r"__+")
_NOT_IN_ATTRIBUTE_KEY = re.compile(r"[^A-Za-z0-9_]")


def digest(text: str, characters: int = _DIGEST_CHARACTERS) -> str:
    """The first hex digits of a text's SHA-256."""
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:characters]


def utf16_units(text: str) -> int:
    """The length as Java counts: two for every character beyond U+FFFF."""
    return len(text) + sum(character > "\uffff" for character in text)


def shortened_name(name: str, units: int = NAME_UNITS) -> str:
    """A name of at most so many UTF-16 units; one that is longer keeps its beginning and gets a
    hash, so that names stay distinct.
    """
    if utf16_units(name) <= units:
        return name
    mark = f"-{digest(name)}"
    return _beginning(name, units - len(mark), utf16_units) + mark


def shortened_tag(tag: str) -> str:
    """A tag of at most 40 UTF-16 units, cut where it is longer."""
    return _beginning(tag, TAG_UNITS, utf16_units).strip()


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
    fitting = _beginning(text, VALUE_BYTES - len(mark.encode()), lambda part: len(part.encode()))
    return _beginning(fitting, STORED_VALUE_BYTES - stored_bytes(mark), stored_bytes) + mark


def _beginning(text: str, limit: int, measure: Callable[[str], int]) -> str:
    """The longest beginning within the limit, for a measure that grows with every character."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if measure(text[:middle]) <= limit else (low, middle - 1)
    return text[:low]


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
    words = _NOT_IN_KEY.sub("_", _without_accents(path)).split("/")
    tidy = "/".join(_UNDERSCORES.sub("_", word).strip("_") or "_" for word in words)
    return _fitting_key(tidy, key)


def attribute_key(key: str) -> str:
    """A key of an attribute: letters, digits, `_`."""
    return _key(key, _NOT_IN_ATTRIBUTE_KEY)


def _key(original: str, not_allowed: re.Pattern[str]) -> str:
    """A key without accents, with `_` for what its alphabet lacks, a dot above all: queries take
    the part after the last dot.
    """
    return _fitting_key(not_allowed.sub("_", _without_accents(original)) or "_", original)


def _without_accents(text: str) -> str:
    if text.isascii():
        return text
    parts = unicodedata.normalize("NFKD", text)
    return "".join(character for character in parts if not unicodedata.combining(character))


def _fitting_key(key: str, original: str) -> str:
    if len(key) <= KEY_CHARACTERS:
        return key
    return f"{key[: KEY_CHARACTERS - 13]}_{digest(original)}"


def distinct_keys(keys: Iterable[str], clean: Callable[[str], str]) -> dict[str, str]:
    """Each key with its cleaned form. Forms that several keys share get a hash of the key.

    A key that is already clean keeps its name, so the outcome depends on the set of keys alone, not
    on their order.
    """
    cleaned = {key: clean(key) for key in keys}
    shared = Counter(cleaned.values())
    used = {form for key, form in cleaned.items() if form == key or shared[form] == 1}
    distinct = {}
    for key, form in cleaned.items():
        if form != key and shared[form] > 1:
            hashed = f"{form}_{digest(key, 8)}"
            while hashed in used:
                hashed = f"{form}_{digest(hashed, 8)}"
            used.add(hashed)
            distinct[key] = hashed
        else:
            distinct[key] = form
    return distinct
