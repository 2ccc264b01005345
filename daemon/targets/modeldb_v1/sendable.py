"""Whether the server can accept the calls of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.targets.modeldb_v1 import requests
from daemon.targets.modeldb_v1.codec import encode_call
from daemon.targets.modeldb_v1.connection import LONGEST_FRAME
from daemon.targets.modeldb_v1.errors import CallErrorKind, CallFailed

if TYPE_CHECKING:
    from daemon.targets.modeldb_v1.mapping import MappedJob


def refuse_what_cannot_be_sent(job: MappedJob) -> None:
    """Raises `CallFailed` before the first call if the server cannot accept one of the job's calls,
    so that no job is stored in part.
    """
    calls: list[tuple[str, dict[str, object]]] = [
        ("storeProjectEvent", {"pr": requests.project_event(job)}),
        ("storeExperimentRunEvent", {"er": requests.run_event(1, job)}),
        ("storeFitEvent", {"fe": requests.fit_event(1, job)}),
        *(
            ("storeDataFrame", {"df": requests.data_frame(frame), "experimentRunId": 1})
            for frame in job.data_frames[1:]
        ),
        *(
            ("storeMetricEvent", {"me": requests.metric_event(1, 1, 1, metric)})
            for metric in job.metrics
        ),
    ]
    for method, arguments in calls:
        try:
            size = len(encode_call(method, arguments, 0))
        except ValueError as error:
            raise CallFailed(CallErrorKind.BAD_VALUE, method, str(error), sent=False) from error
        if size > LONGEST_FRAME:
            detail = f"the call takes {size} bytes; ModelDB V1 takes at most {LONGEST_FRAME}"
            raise CallFailed(CallErrorKind.TOO_LARGE, method, detail, sent=False)
