"""What moto 5.2.5 gets wrong when requests overlap, mended in the running process."""

from __future__ import annotations

from moto.sqs.models import Queue


def make_deletes_atomic() -> None:
    """Puts DeleteMessage under the queue's own lock, as sending already is.

    moto's server answers in threads, and a delete replaces the queue's list by a copy: of two
    deletes at once one is undone, and a message sent in that moment is gone for good.
    """
    delete = Queue.delete_message
    if getattr(delete, "is_atomic", False):
        return

    def delete_message(self: Queue, receipt_handle: str) -> None:
        with self._messages_lock:  # the lock that it takes when it sends
            delete(self, receipt_handle)

    delete_message.is_atomic = True  # type: ignore[attr-defined] # a mark on our own function
    Queue.delete_message = delete_message  # type: ignore[method-assign] # a repair
