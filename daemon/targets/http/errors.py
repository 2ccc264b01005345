"""What the errors of the HTTP targets have in common."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol, Self

from daemon.text import one_line


class ErrorKind(Protocol):
    """A `StrEnum` of the kinds of failure that a target knows. Its words are metric labels."""

    @property
    def value(self) -> str: ...

    @property
    def is_of_the_server(self) -> bool:
        """Whether every call would fail this way now."""


class CallError(Exception):
    """A call that did not succeed. Each target has a subclass with kinds and codes of its own.

    Attributes:
        kind: what is wrong.
        operation: the call's name, for example ``createExperimentRun``.
        status: HTTP status; None without an answer.
        outcome_unknown: the write may have been processed, or may still be.
        unforeseen: an answer of a kind that may be the only one, unlike another server's; waiting
            may help.
        detail: one line for people, without secrets.
    """

    kind: ErrorKind

    def __init__(
        self,
        kind: ErrorKind,
        operation: str,
        detail: str,
        *,
        status: int | None = None,
        outcome_unknown: bool = False,
        unforeseen: bool = False,
    ) -> None:
        # quoted headers hold lone surrogates for bytes that are not UTF-8
        detail = one_line(detail)
        super().__init__(f"{operation}: {detail}")
        self.kind = kind
        self.operation = operation
        self.status = status
        self.outcome_unknown = outcome_unknown
        self.unforeseen = unforeseen
        self.detail = f"{operation}: {detail}"

    def of_unsent(self, operation: str) -> Self:
        """The error of a call that was not sent because this one failed meanwhile."""
        return type(self)(self.kind, operation, f"not sent, because meanwhile {self.detail}")


class ExchangeFailure(StrEnum):
    """Why a request got no answer."""

    CONNECTION = "connection"
    TIMEOUT = "timeout"
    CREDENTIALS = "credentials"  # none to sign the request with; it was not sent
    NOT_HTTP = "not_http"  # what answers does not speak HTTP 1
    UNFORESEEN = "unforeseen"


class ExchangeFailed(Exception):
    """A request that got no answer; each client makes its own `CallError` of it.

    Attributes:
        failure: why.
        detail: one line for people, without secrets.
        outcome_unknown: the request may have been processed, or may still be.
    """

    def __init__(self, failure: ExchangeFailure, detail: str, *, outcome_unknown: bool) -> None:
        super().__init__(f"{failure}: {detail}")
        self.failure = failure
        self.detail = detail
        self.outcome_unknown = outcome_unknown
