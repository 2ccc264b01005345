"""A fix of moto 5.2.5, applied in the running process: overlapping DeleteMessage calls."""

from __future__ import annotations

from moto.sqs.models import Queue


def make_deletes_atomic() -> None:
    """Makes DeleteMessage take the queue's lock, as SendMessage does.

    moto's server is threaded, and a delete replaces the queue's list with a copy: without the lock,
    one of two concurrent deletes is undone, and a message sent meanwhile is lost.
    """
    delete = Queue.delete_message
    if getattr(delete, "is_atomic", False):
        return

    def delete_message(self: Queue, receipt_handle: str) -> None:
        with self._messages_lock:  # the lock that it takes when it sends
            delete(self, receipt_handle)

    delete_message.is_atomic = True  # type: ignore[attr-defined] # a mark on our own function
    Queue.delete_message = delete_message  # type: ignore[method-assign] # a repair
