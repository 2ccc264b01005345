"""What the models of SQS and SageMaker share: the path of a call through client and network, and
its errors.

The client is modelled too, because its retries matter: botocore repeats a call whose answer was
lost, so a message can be sent twice. It also gives up after its read timeout, although the service
may still carry out the call.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import botocore.session
from botocore.errorfactory import ClientExceptionsFactory
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    ReadTimeoutError,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Coroutine

T = TypeVar("T")

READ_SECONDS = 15.0
ATTEMPTS = 3
"""As `daemon.aws.clients` sets them, except for long polls."""

_MAX_BACKOFF_SECONDS = 20.0


class Network(Protocol):
    """The path from a client to a service and back."""

    async def call(self, name: str, carry_out: Callable[[], T]) -> T:
        """Lets the service carry out one call; returns or raises what the service does.

        Args:
            name: of the operation, for rules and histories.
            carry_out: what the service does; a lost request never calls it, a late one calls it
                after the caller has gone.

        Raises:
            TimeoutError: nothing came back; the caller's client has waited long enough.
            ConnectionRefusedError: there is nobody at the address.
            ConnectionError: the connection broke, before the service had the request or after.
        """


class PlainNetwork:
    """A network without faults."""

    async def call(self, name: str, carry_out: Callable[[], T]) -> T:
        """See `Network.call`."""
        await asyncio.sleep(0)
        answer = carry_out()
        await asyncio.sleep(0)
        return answer


class Spawn(Protocol):
    """Starts a task that belongs to the service and outlives its caller."""

    def __call__(self, coroutine: Coroutine[Any, Any, T], /) -> asyncio.Task[T]: ...


@dataclass(frozen=True, slots=True)
class Fault:
    """What a service answers in place of doing the work: the code and class come from here, as on
    the wire.
    """

    code: str
    message: str
    http_status: int
    shape: str = ""
    """The modelled error, which gives the exception its class; empty: the code names it."""

    def error(self, operation: str, service: str) -> ClientError:
        """As botocore raises it."""
        kind = exception_classes(service).get(self.shape or self.code, ClientError)
        answer: Any = {
            "Error": {"Message": self.message, "Code": self.code},
            "ResponseMetadata": {
                "HTTPStatusCode": self.http_status,
                "HTTPHeaders": {},
                "RetryAttempts": 0,
            },
        }
        if self.shape:
            answer["Error"]["QueryErrorCode"] = self.shape
        return kind(answer, operation)


class Refusal(Exception):
    """A `Fault` on its way from the service to the client."""

    def __init__(self, code: str, message: str, http_status: int = 400, shape: str = "") -> None:
        super().__init__(f"{code}: {message}")
        self.fault = Fault(code, message, http_status, shape)


@dataclass(slots=True)
class ServiceFaults:
    """The faults of a service at the moment; may be changed at any time.

    Attributes:
        down: nobody listens at its address.
        throttled: chance that a call is throttled.
        failing: chance that a call is answered with 500 or 503, half of them after it was carried
            out.
        credentials_expired: as the service sees them.
        denied: operations that the policy does not allow.
        fail_next: operations whose next calls are answered with 500 or 503, not carried out, and
            how many are.
    """

    down: bool = False
    throttled: float = 0.0
    failing: float = 0.0
    credentials_expired: bool = False
    denied: set[str] = field(default_factory=set)
    fail_next: Counter[str] = field(default_factory=Counter)

    def end(self) -> None:
        """Ends all of them."""
        self.down = self.credentials_expired = False
        self.throttled = self.failing = 0.0
        self.denied.clear()
        self.fail_next.clear()


@dataclass(frozen=True, slots=True)
class FaultAnswers:
    """The error answers of a service for each of `ServiceFaults`."""

    throttled: Fault
    failing: tuple[Fault, ...]
    credentials_expired: Fault
    denied: Callable[[str], Fault]


class AwsCaller:
    """One client of one service, with its retries, read timeout and botocore errors.

    Args:
        service: as botocore names it.
        network: between client and service.
        faults: of the service.
        answers: in the service's words.
        rng: for back-offs and the chances of the faults.
        attempts: total attempts before a transient fault is raised to the caller.
        read_seconds: how long an answer may take.
    """

    def __init__(
        self,
        service: str,
        network: Network,
        faults: ServiceFaults,
        answers: FaultAnswers,
        rng: random.Random,
        *,
        attempts: int = ATTEMPTS,
        read_seconds: float = READ_SECONDS,
    ) -> None:
        self.calls = 0
        self._service = service
        self._network = network
        self._faults = faults
        self._answers = answers
        self._random = rng
        self._attempts = attempts
        self._read_seconds = read_seconds

    async def call(self, operation: str, carry_out: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """One call as the caller sees it, including the retries of the client."""
        return await self.attempts(operation, lambda: self.leg(operation, carry_out))

    async def attempts(
        self, operation: str, attempt: Callable[[], Awaitable[dict[str, Any]]]
    ) -> dict[str, Any]:
        """Retries until an answer comes that must not be retried."""
        for tried in range(1, self._attempts + 1):
            self.calls += 1
            try:
                async with asyncio.timeout(self._read_seconds):
                    answer = await attempt()
            except Refusal as refusal:
                error: Exception = refusal.fault.error(operation, self._service)
                repeat = refusal.fault.http_status >= 500 or "Throttl" in refusal.fault.code
            except OSError as fault:  # TimeoutError is one
                error, repeat = self._connection_error(fault), True
            except BotoCoreError as fault:
                error, repeat = fault, True
            else:
                # as the wire gives it: a caller may change what it got
                return {
                    **answer,
                    "ResponseMetadata": {
                        "HTTPStatusCode": 200,
                        "HTTPHeaders": {},
                        "RetryAttempts": tried - 1,
                    },
                }
            if not repeat or tried == self._attempts:
                raise error
            # botocore's standard mode
            await asyncio.sleep(min(self._random.random() * 2 ** (tried - 1), _MAX_BACKOFF_SECONDS))
        raise AssertionError(f"{operation} ended without an answer")

    async def leg(self, operation: str, carry_out: Callable[[], T]) -> T:
        """One request and its answer, without retries."""
        return await self._network.call(
            operation, functools.partial(self._serve, operation, carry_out)
        )

    def _serve(self, operation: str, carry_out: Callable[[], T]) -> T:
        """The service's door."""
        faults, answers = self._faults, self._answers
        if faults.down:
            raise ConnectionRefusedError(self._service)
        fault: Fault | None = None
        if faults.fail_next[operation] > 0:
            faults.fail_next[operation] -= 1
            fault = self._random.choice(answers.failing)
        elif faults.credentials_expired:
            fault = answers.credentials_expired
        elif operation in faults.denied:
            fault = answers.denied(operation)
        elif faults.throttled and self._random.random() < faults.throttled:
            fault = answers.throttled
        elif faults.failing and self._random.random() < faults.failing:
            fault = self._random.choice(answers.failing)
            if self._random.random() < 0.5:
                with contextlib.suppress(Refusal):
                    carry_out()
        if fault is not None:
            raise Refusal(fault.code, fault.message, fault.http_status, fault.shape)
        return carry_out()

    def _connection_error(self, fault: OSError) -> Exception:
        url = f"https://{self._service}.invalid/"
        match fault:
            case TimeoutError():
                return ReadTimeoutError(endpoint_url=url, error=fault)
            case ConnectionRefusedError():
                return EndpointConnectionError(endpoint_url=url, error=fault)
            case _:
                return ConnectionClosedError(endpoint_url=url, error=fault)


@functools.cache
def exception_classes(service: str) -> dict[str, type[ClientError]]:
    """The classes that botocore makes of a service's modelled errors, by name."""
    model = botocore.session.get_session().get_service_model(service)
    made = ClientExceptionsFactory().create_client_exceptions(model)
    return {shape.name: getattr(made, shape.name) for shape in model.error_shapes}
