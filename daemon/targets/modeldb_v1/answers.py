"""The members of answers that this program relies on. Thrift lets a server leave any out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NEEDED: Mapping[str, Sequence[str]] = {
    "storeProjectEvent": ("projectId",),
    "storeExperimentEvent": ("experimentId",),
    "storeExperimentRunEvent": ("experimentRunId",),
    "storeFitEvent": ("modelId", "dfId"),
    "getExperimentRunDetails": (
        "project.id",
        "experimentRun.id",
        "modelResponses.id",
        "modelResponses.specification",
        "modelResponses.trainingDataFrame.id",
    ),
    "getRunsAndExperimentsInProject": ("experimentRuns.id", "experimentRuns.experimentId"),
    "computeModelAncestry": (
        "modelId",
        "fitEvent.experimentRunId",
        "fitEvent.spec",
        "fitEvent.df.id",
    ),
}
"""By method."""

_LISTS = {"modelResponses": False, "experimentRuns": True}
"""Whether a list may be left out when it is empty."""


def missing_member(method: str, result: Any) -> str | None:  # noqa: ANN401 - a Thrift struct
    """A member that the result lacks.

    Args:
        method: of the call.
        result: None if there was an exception.
    """
    if result is None:
        return None
    return next((path for path in _NEEDED.get(method, ()) if _lacks(result, path)), None)


def _lacks(value: Any, path: str) -> bool:  # noqa: ANN401 - as above
    name, _, rest = path.partition(".")
    member = getattr(value, name)
    if name in _LISTS:
        return (member is None and not _LISTS[name]) or any(
            _lacks(each, rest) for each in member or ()
        )
    return member is None or (rest != "" and _lacks(member, rest))
