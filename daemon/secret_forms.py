"""The forms in which a secret can appear in a text."""

from __future__ import annotations

import json
from urllib.parse import quote


def secret_forms(secret: str) -> frozenset[str]:
    """The secret itself, and as it looks in a URL, in JSON and in a Python literal."""
    return frozenset({secret, quote(secret, safe=""), json.dumps(secret)[1:-1], repr(secret)[1:-1]})
