"""A fix of moto 5.2.5's DynamoDB, applied in the running process."""

from __future__ import annotations

import threading
from typing import Any

_LOCK = threading.RLock()


def answer_one_at_a_time() -> None:
    """Makes each request of DynamoDB atomic, as it is in DynamoDB.

    moto's server is threaded and compares an item and replaces it without a lock, so that of two
    writes on the same condition both may succeed.
    """
    from moto.dynamodb.responses import DynamoHandler

    handler: Any = DynamoHandler
    call_action = handler.call_action
    if getattr(call_action, "is_atomic", False):
        return

    def atomic(self: object) -> object:
        with _LOCK:
            return call_action(self)

    atomic.is_atomic = True  # type: ignore[attr-defined] # a mark on our own function
    handler.call_action = atomic
