"""The replicas, when there are several."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.observability.page.frame import looks
from daemon.observability.page.markup import NOTHING, Html, element
from daemon.observability.page.words import ago, number, when

if TYPE_CHECKING:
    from daemon.observability.status import Status
    from daemon.operations.fleet import Replica

_HEADS = ("Replica", "State", "In work", "Synced, last hour", "Version", "Started", "Seen")


def fleet_table(status: Status) -> Html:
    """The section of the replicas; nothing while this one is alone."""
    if len(status.replicas) < 2:  # noqa: PLR2004 - one is this replica itself
        return NOTHING
    head = element("tr", *(element("th", each, scope="col") for each in _HEADS))
    rows = [_row(each, status, here=index == 0) for index, each in enumerate(status.replicas)]
    return element(
        "section",
        element("h2", "Replicas", id="replicas-title"),
        element(
            "div",
            element("table", element("thead", head), element("tbody", *rows)),
            class_="scroll",
            role="region",
            aria_labelledby="replicas-title",
            tabindex="0",
        ),
        class_="card",
        id="replicas",
        data_live=True,
        data_key="replicas",
        aria_labelledby="replicas-title",
    )


def _row(replica: Replica, status: Status, *, here: bool) -> Html:
    name, class_, _ = looks(replica.state)
    why = f": {replica.why}" if replica.why else ""
    return element(
        "tr",
        element(
            "td", replica.owner, element("span", " (this one)", class_="quiet") if here else ""
        ),
        element("td", element("span", name, class_=f"badge {class_}"), why),
        element("td", number(replica.in_flight)),
        element("td", number(replica.synced_last_hour)),
        element("td", replica.version),
        element("td", when(replica.started_at, status.now)),
        element("td", "now" if here else ago(replica.seen_at, status.now)),
    )
