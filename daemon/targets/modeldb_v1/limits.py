"""What ModelDB V1 and the MongoDB behind it can keep: numbers, keys and sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from daemon.text import shortened

if TYPE_CHECKING:
    from collections.abc import Mapping

Key = TypeVar("Key")

DOCUMENT_BYTES = 8_000_000
"""Of a model's metadata. MongoDB takes 16 MB; they travel in one frame with the hyperparameters."""
HYPERPARAMETER_BYTES = 4_000_000
"""Of all hyperparameters of a model as they travel. The server takes frames of 16,384,000 bytes;
SageMaker allows a quarter of this."""
HYPERPARAMETER_FRAMING = 64
"""Bytes of one hyperparameter beside its name and its text, rounded up: bounds, type, lengths,
field numbers."""
VALUE_CHARACTERS = 2000
"""Of a key-value that this program adds to a data frame."""

FLOAT32_OVERFLOW = float(2**128 - 2**103)
"""From here on (either sign) a number rounds to infinity as a 32-bit float."""
FLOAT32_UNDERFLOW = 2.0**-150
"""Up to here (either sign) it rounds to zero."""

_RESERVED_KEYS = frozenset({"_id", "MODELDB_model_id"})
"""The server's own words in the metadata."""


def metadata_key(key: str) -> str:
    """A key as the metadata store takes it: without dots and NUL, not beginning with a dollar sign,
    none of the server's own.

    Percent-encoded, so that it can be read back and no two keys become one: ``%``, ``.``, NUL, a
    leading ``$`` (without which there is no extended JSON such as ``{"$oid": …}`` either), and the
    first letter of the reserved words.
    """
    escaped = key.replace("%", "%25").replace(".", "%2E").replace("\0", "%00")
    if escaped.startswith("$") or escaped in _RESERVED_KEYS:
        return f"%{ord(escaped[0]):02X}{escaped[1:]}"
    return escaped


def too_much(sizes: Mapping[Key, int], budget: int) -> list[Key]:
    """The largest ones without which the sum is within the budget; none where it is."""
    excess = sum(sizes.values()) - budget
    left_out = []
    for key in sorted(sizes, key=lambda each: -sizes[each]):
        if excess <= 0:
            break
        left_out.append(key)
        excess -= sizes[key]
    return left_out


def shown(text: str) -> str:
    """A name as notes quote it."""
    return repr(shortened(text, 100))
