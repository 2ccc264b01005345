"""Limits of ModelDB V1 and its MongoDB: numbers, keys and sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from daemon.text import shortened

if TYPE_CHECKING:
    from collections.abc import Mapping

Key = TypeVar("Key")

DOCUMENT_BYTES = 8_000_000
"""Of a model's metadata. MongoDB accepts 16 MB; one frame carries them and the hyperparameters."""
HYPERPARAMETER_BYTES = 4_000_000
"""Of all encoded hyperparameters of a model. The server accepts frames of 16,384,000 bytes;
SageMaker allows a quarter of this."""
HYPERPARAMETER_FRAMING = 64
"""Overhead of one hyperparameter in bytes, rounded up: bounds, type, lengths, field numbers."""
VALUE_CHARACTERS = 2000
"""Longest value of a key-value pair that this program adds to a data frame."""

FLOAT32_OVERFLOW = float(2**128 - 2**103)
"""The smallest magnitude that rounds to infinity as a 32-bit float."""
FLOAT32_UNDERFLOW = 2.0**-150
"""The largest magnitude that rounds to zero."""

_RESERVED_KEYS = frozenset({"_id", "MODELDB_model_id"})
"""Keys that the server uses itself."""


def metadata_key(key: str) -> str:
    """Escapes a key for the metadata store, which accepts no dots, NULs, leading dollar signs and
    keys of the server's own.

    Reversible percent-encoding of ``%``, ``.``, NUL, a leading ``$`` (which also rules out extended
    JSON such as ``{"$oid": …}``) and the first letter of reserved keys.
    """
    escaped = key.replace("%", "%25").replace(".", "%2E").replace("\0", "%00")
    if escaped.startswith("$") or escaped in _RESERVED_KEYS:
        return f"%{ord(escaped[0]):02X}{escaped[1:]}"
    return escaped


def too_much(sizes: Mapping[Key, int], budget: int) -> list[Key]:
    """The largest items to leave out so that the sum of the rest is within the budget."""
    excess = sum(sizes.values()) - budget
    left_out = []
    for key in sorted(sizes, key=lambda each: -sizes[each]):
        if excess <= 0:
            break
        left_out.append(key)
        excess -= sizes[key]
    return left_out


def shown(text: str) -> str:
    """A name, quoted and shortened for notes."""
    return repr(shortened(text, 100))
