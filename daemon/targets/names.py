"""Names and keys that fit a target: within its lengths and its alphabet, and still distinct."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_DIGEST_CHARACTERS = 12


def digest(text: str, characters: int = _DIGEST_CHARACTERS) -> str:
    """The first hex digits of a text's SHA-256."""
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:characters]


def utf16_units(text: str) -> int:
    """The length as Java counts: two for every character beyond U+FFFF."""
    return len(text) + sum(character > "\uffff" for character in text)


def beginning(text: str, limit: int, measure: Callable[[str], int]) -> str:
    """The longest beginning within the limit, for a measure that grows with every character."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if measure(text[:middle]) <= limit else (low, middle - 1)
    return text[:low]


def shortened_name(name: str, units: int) -> str:
    """A name of at most so many UTF-16 units; one that is longer keeps its beginning and gets a
    hash, so that names stay distinct.
    """
    if utf16_units(name) <= units:
        return name
    mark = f"-{digest(name)}"
    return beginning(name, units - len(mark), utf16_units) + mark


def without_accents(text: str) -> str:
    """Text with letters in their plain form: `é` as `e`, `ﬁ` as `fi`."""
    if text.isascii():
        return text
    parts = unicodedata.normalize("NFKD", text)
    return "".join(character for character in parts if not unicodedata.combining(character))


def _as_it_is(form: str) -> str:
    return form


def distinct_keys(
    keys: Iterable[str],
    clean: Callable[[str], str],
    equal_as: Callable[[str], str] = _as_it_is,
) -> dict[str, str]:
    """Each key with its cleaned form. Forms that several keys share get a hash of the key.

    A key that is already clean keeps its name, so the outcome depends on the set of keys alone, not
    on their order.

    Args:
        keys: without repetitions.
        clean: a key in the target's alphabet; what is clean stays as it is.
        equal_as: the target takes two forms for one if this is the same for both: case, for
            example. Of clean keys that are equal in this way, one in ASCII keeps its name before
            others, and of these the last in the order of code points.
    """
    cleaned = {key: clean(key) for key in keys}
    sharing: defaultdict[str, list[str]] = defaultdict(list)
    for key, form in cleaned.items():
        sharing[equal_as(form)].append(key)
    keepers = {}
    for shared, names in sharing.items():
        clean_names = [key for key in names if cleaned[key] == key]
        if clean_names or len(names) == 1:
            keepers[shared] = max(clean_names or names, key=lambda key: (key.isascii(), key))
    used = set(keepers)
    distinct = {}
    for key, form in cleaned.items():
        if keepers.get(equal_as(form)) == key:
            distinct[key] = form
            continue
        hashed = f"{form}_{digest(key, 8)}"
        while equal_as(hashed) in used:
            hashed = f"{form}_{digest(hashed, 8)}"
        used.add(equal_as(hashed))
        distinct[key] = hashed
    return distinct
