"""Calls that a job can do without: short, never a fault, and not made again for a while after one
has failed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

import structlog

from daemon.aws.errors import (
    AWS_ERRORS,
    CallResult,
    advice,
    call_result,
    error_code,
    observed,
    said,
)
from daemon.clock import monotonic

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from daemon.aws.errors import Observe, Service

log = structlog.get_logger(__name__)

CALL_SECONDS = 10.0
FIRST_PAUSE_SECONDS = 30.0
LONGEST_PAUSE_SECONDS = 600.0

_OF_THE_REQUEST = {CallResult.NOT_FOUND, CallResult.REFUSED}
"""Failures that say nothing about the next call."""

Answer = TypeVar("Answer")


class NotToBeHadError(Exception):
    """Why something is not known, for a note.

    Attributes:
        of_the_request: the service answered, and would answer another request.
    """

    def __init__(self, why: str, *, of_the_request: bool = False) -> None:
        super().__init__(why)
        self.of_the_request = of_the_request


class BestEffort:
    """Makes one operation's calls.

    Args:
        service: that is called.
        operation: its name.
        observe: called after each call.
    """

    def __init__(self, service: Service, operation: str, observe: Observe) -> None:
        self._service = service
        self._operation = operation
        self._observe = observe
        self._pause = FIRST_PAUSE_SECONDS
        self._not_before = 0.0
        self._why = ""
        self._denial_logged = False

    async def probe(self, call: Callable[[], Awaitable[object]]) -> str | None:
        """Makes a call about something that need not exist.

        Returns:
            Why calls cannot succeed; None: they can.
        """
        try:
            await self.ask(call)
        except NotToBeHadError as error:
            return None if error.of_the_request else str(error)
        return None

    async def ask(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """Makes a call and reads its answer.

        Raises:
            NotToBeHadError: the call failed, or an earlier one did so recently.
        """
        if monotonic() < self._not_before:
            raise NotToBeHadError(self._why)
        try:
            async with asyncio.timeout(CALL_SECONDS):
                with observed(self._observe, self._service, self._operation):
                    answer = await call()
        except TimeoutError as error:
            self._observe(self._service.prefix, self._operation, CallResult.UNREACHABLE)
            why = f"{self._operation} is not answered within {CALL_SECONDS:g} s"
            self._rest(why)
            raise NotToBeHadError(why) from error
        except AWS_ERRORS as error:
            result = call_result(error)
            why = f"{self._operation}: {self._said(error, result)}"
            if result is CallResult.DENIED:
                self._log_denial(why)
            if result not in _OF_THE_REQUEST:
                self._rest(why)
            of_the_request = result in _OF_THE_REQUEST
            raise NotToBeHadError(why, of_the_request=of_the_request) from error
        self._pause = FIRST_PAUSE_SECONDS
        return answer

    def _said(self, error: Exception, result: CallResult) -> str:
        match result:
            case CallResult.THROTTLED | CallResult.UNAVAILABLE:
                return f"{self._service.name} answers {error_code(error)}"
            case CallResult.NOT_FOUND | CallResult.REFUSED:
                return said(error) or error_code(error)
            case _:
                return advice(error, self._service)

    def _rest(self, why: str) -> None:
        # of several calls under way only the first that fails makes the pause longer
        if monotonic() < self._not_before:
            return
        self._why = why
        self._not_before = monotonic() + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)

    def _log_denial(self, why: str) -> None:
        if self._denial_logged:
            return
        self._denial_logged = True
        log.warning("runs are written without what a permission is missing for", detail=why)
