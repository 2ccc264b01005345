"""The metric series of training jobs, through BatchGetMetrics."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from daemon.aws.best_effort import BestEffort, NotToBeHadError
from daemon.aws.errors import SAGEMAKER_METRICS, OddAnswerError, unobserved
from daemon.text import one_line, shortened
from daemon.training_job.field_readers import text, whole
from daemon.training_job.metric_series import bounded, metric_series, series_names
from daemon.training_job.metrics import number

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from daemon.aws.errors import Observe
    from daemon.training_job.metric_series import MetricSeries

JOB_SECONDS = 30.0
"""For all calls of a job, with the wait for those of other jobs."""
JOBS_AT_ONCE = 2
MOST_SERIES = 100
"""Metrics of a job that are asked for; BatchGetMetrics takes so many queries."""
MOST_POINTS = 100_000
"""Of all series of a job, before they are thinned."""

_MAX_NAME = 255
_MAX_PAGES = 50


class MetricsClient(Protocol):
    """The operation of the client ``sagemaker-metrics`` that is used here."""

    async def batch_get_metrics(self, *, MetricQueries: Sequence[Any]) -> Mapping[str, Any]: ...  # noqa: N803 - botocore's


class MetricSeriesReader:
    """Reads series, of a few jobs at once.

    Args:
        client: the client ``sagemaker-metrics``.
        observe: called after each call.
    """

    def __init__(self, client: MetricsClient, observe: Observe = unobserved) -> None:
        self._client = client
        self._calls = BestEffort(SAGEMAKER_METRICS, "BatchGetMetrics", observe)
        self._turn = asyncio.Semaphore(JOBS_AT_ONCE)

    async def probe(self, arn: str) -> str | None:
        """Tests the call with a job that need not exist.

        Returns:
            Why it cannot succeed, a permission above all; None: it can.
        """
        return await self._calls.probe(self._call({"modeldb-sync-probe": None}, arn))

    async def read(
        self, description: Mapping[str, Any]
    ) -> tuple[tuple[MetricSeries, ...], tuple[str, ...]]:
        """The series of a described job. Never raises for what the service does.

        Returns:
            The series that there are, thinned, and notes on what was left out.
        """
        arn = text(description, "TrainingJobArn")
        names = [name for name in series_names(description) if len(name) <= _MAX_NAME]
        if arn is None or not names:
            return (), ()
        reading = _Reading(names[:MOST_SERIES])
        if len(names) > MOST_SERIES:
            reading.notes.append(
                f"metric series of {len(names) - MOST_SERIES} metrics not asked for: a job has at "
                f"most {MOST_SERIES}"
            )
        try:
            async with asyncio.timeout(JOB_SECONDS), self._turn:
                while reading.next and not reading.is_full:
                    reading.take(await self._calls.ask(self._call(reading.next, arn)))
        except TimeoutError:
            reading.notes.append(f"metric series are incomplete: not read within {JOB_SECONDS:g} s")
        except NotToBeHadError as error:
            reading.notes.append(f"metric series not read: {error}")
            reading.failed = True
        return reading.result()

    def _call(
        self, starts: Mapping[str, int | None], arn: str
    ) -> Callable[[], Awaitable[list[Mapping[str, Any]]]]:
        """A call, whose results are in the order of the queries."""
        queries = [
            {
                "MetricName": name,
                "ResourceArn": arn,
                "MetricStat": "Last",
                "Period": "IterationNumber",
                "XAxisType": "IterationNumber",
                **({} if start is None else {"Start": start}),
            }
            for name, start in starts.items()
        ]

        async def call() -> list[Mapping[str, Any]]:
            answer = await self._client.batch_get_metrics(MetricQueries=queries)
            results = answer.get("MetricQueryResults")
            if not isinstance(results, list) or len(results) != len(queries):
                raise OddAnswerError("BatchGetMetrics: not one result for each query")
            return [result if isinstance(result, dict) else {} for result in results]

        return call


class _Reading:
    """The points of one job, page by page."""

    def __init__(self, names: Sequence[str]) -> None:
        self.next: dict[str, int | None] = dict.fromkeys(names)
        """The series that are not complete, with the iteration to go on with."""
        self.notes: list[str] = []
        self.failed = False
        self._points: dict[str, dict[int, float]] = {name: {} for name in names}
        self._refused: dict[str, list[str]] = {}
        self._explained: set[str] = set()
        self._pages = 0

    @property
    def is_full(self) -> bool:
        return self._pages >= _MAX_PAGES or sum(map(len, self._points.values())) >= MOST_POINTS

    def take(self, results: Sequence[Mapping[str, Any]]) -> None:
        """Takes the results of a page, in the order of `next`."""
        self._pages += 1
        going_on: dict[str, int | None] = {}
        for (name, start), result in zip(self.next.items(), results, strict=True):
            points = _points(result)
            self._points[name].update(points)
            match result.get("Status"):
                case "Complete":
                    pass
                case "Truncated":
                    last = max((step for step, _ in points), default=None)
                    if last is None or (start is not None and last < start):
                        self.notes.append(f"metric series {name!r} is cut by the service")
                        self._explained.add(name)
                    else:
                        going_on[name] = last + 1
                case status:
                    said = one_line(text(result, "Message") or str(status or "no status"))
                    self._refused.setdefault(shortened(said, 200), []).append(name)
                    self._explained.add(name)
        self.next = going_on

    def result(self) -> tuple[tuple[MetricSeries, ...], tuple[str, ...]]:
        """The series, thinned, and the notes."""
        found, missing = [], []
        for name, points in self._points.items():
            series, left_out = metric_series(name, points.items())
            if left_out:
                self.notes.append(
                    f"metric series {name!r}: values that are not finite left out: {left_out}"
                )
            if series is not None:
                found.append(series)
            elif not points:
                missing.append(name)
        for said, names in self._refused.items():
            self.notes.append(f"metric series {_listed(names)} not read: {said}")
        silent = [name for name in missing if name not in self._explained | self.next.keys()]
        if silent and not self.failed:
            self.notes.append(f"SageMaker has no series of metric {_listed(silent)}")
        if self.next and self.is_full:
            self.notes.append(f"metric series too long, read in part: {_listed(list(self.next))}")
        return bounded(found), tuple(self.notes)


def _points(result: Mapping[str, Any]) -> list[tuple[int, float]]:
    """The points of a result; those that are no numbers are left out."""
    steps, values = result.get("XAxisValues"), result.get("MetricValues")
    if not isinstance(steps, list) or not isinstance(values, list):
        return []
    pairs = (
        (whole({"step": step}, "step"), number(value))
        for step, value in zip(steps, values, strict=False)
    )
    return [(step, value) for step, value in pairs if step is not None and value is not None]


def _listed(names: Sequence[str]) -> str:
    return shortened(", ".join(map(repr, names)), 300)
