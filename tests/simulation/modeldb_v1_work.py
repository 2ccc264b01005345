"""A call that the simulated ModelDB V1 carries out."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from daemon.demo.modeldb_v1.writes import STORING

if TYPE_CHECKING:
    from daemon.targets.modeldb_v1.codec import Call
    from tests.simulation.modeldb_v1_session import Session


@dataclass(eq=False, slots=True)
class Work:
    session: Session
    call: Call
    stored: bool = False
    """Its rows are there, as many as there will be."""
    rows: int = 0
    damaged_at: int = 0
    """At which of its rows another writer comes between; 0: never."""
    dies_at: int = 0
    """After which of its rows the server dies; 0: never."""

    def __str__(self) -> str:
        return f"connection {self.session.number} {self.call.method}({_subject(self.call)})"


def writes(call: Call) -> bool:
    """It may store rows. The look-up of a project's default experiment never does."""
    if call.method == "storeExperimentEvent":
        event = call.arguments["er"]
        return event is None or event.experiment is None or not event.experiment.isDefault
    return call.method in STORING


def _subject(call: Call) -> str:
    """What a call is about, for people."""
    arguments = call.arguments
    with contextlib.suppress(AttributeError):  # a struct was not sent
        match call.method:
            case "storeProjectEvent":
                return f"{arguments['pr'].project.name!r}"
            case "storeExperimentEvent":
                return f"project {arguments['er'].experiment.projectId}"
            case "storeExperimentRunEvent":
                return f"{arguments['er'].experimentRun.description!r}"
            case "storeFitEvent":
                return f"run {arguments['fe'].experimentRunId}"
            case "storeMetricEvent":
                return f"run {arguments['me'].experimentRunId}, {arguments['me'].metricType!r}"
    return ", ".join(map(str, arguments.values()))[:80]
