"""The state in one glance: what the daemon does, since when, what is wrong and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.advice import ACCOUNT_ENTRY, RUNBOOK_ENTRY, advice
from daemon.observability.page.frame import looks, shown_state
from daemon.observability.page.markup import NOTHING, Html, element, join
from daemon.observability.page.words import (
    ago,
    clock_time,
    duration,
    edge_name,
    number,
    spoken,
    when,
)

if TYPE_CHECKING:
    from daemon.observability.status import EdgeStatus, Status

_LEADS = {
    "ready": "Messages are received, and finished training jobs are recorded in {system}.",
    "paused": "Nothing new is received. The queue keeps the messages and none is lost; the daemon "
    "goes on by itself when the dependency works again.",
    "standing by": "Another process writes to this ModelDB V1. This one takes over when it ends.",
    "stopping": "What is in work is finished; everything else goes back to the queue.",
    "not ready": "Somebody has to act. The queue keeps the messages; none is lost.",
    "starting": "The dependencies are being asked for the first time.",
}


def state_panel(status: Status) -> Html:
    """The section at the top of the page."""
    state = shown_state(status)
    name, class_, _ = looks(state)
    about = "" if state == "starting" else _about(status)
    return element(
        "section",
        element(
            "div",
            element("h1", f"{name}{about}"),
            element(
                "p",
                element("span", "Since ", class_="quiet"),
                when(status.since, status.now),
                element("span", f" ({clock_time(status.since, status.now)})", class_="quiet"),
            ),
            role="status",
        ),
        element("p", _LEADS.get(state, "").format(system=status.target.system), class_="lead"),
        _faults(status),
        element("ul", *(_chip(edge, status) for edge in status.edges), class_="edges"),
        class_=f"card state {class_}",
        id="state",
        data_live=True,
        data_key="state",
        aria_label="State",
    )


def _about(status: Status) -> str:
    broken = [each for each in status.broken if each.reason]
    if broken:
        names = " and ".join(_name(each, status) for each in broken)
        why = f" ({spoken(broken[0].reason)})" if len(broken) == 1 else ""
        return f": {names}{why}"
    return ": dead letters cannot be sent" if status.dead_letter_fault else ""


def _faults(status: Status) -> Html:
    found = [_edge_fault(each, status) for each in status.broken if each.reason]
    if status.standing_by:
        found.append(_fault("Standing by", why=status.standing_by, do="Nothing to do."))
    if status.dead_letter_fault:
        found.append(
            _fault(
                "Dead letters cannot be sent",
                why=status.dead_letter_fault,
                do="Check the dead-letter queue and the permission to send to it.",
                entry="ModelDBSyncDeadLettersUnknown",
            )
        )
    found += [
        _fault(
            "A loop of the daemon hangs",
            why=each,
            do="Restart the daemon; nothing is lost by it.",
            entry="ModelDBSyncPollStalled",
        )
        for each in status.hanging
    ]
    return element("div", *found, class_="faults") if found else NOTHING


def _edge_fault(edge: EdgeStatus, status: Status) -> Html:
    known = advice(edge.reason)
    name = _name(edge, status)
    return _fault(
        f"{name}: {spoken(edge.reason)}, since {clock_time(edge.since, status.now)}",
        why="" if known is None else known.means,
        said=edge.detail,
        do="" if known is None else known.do,
        entry=ACCOUNT_ENTRY if edge.where else RUNBOOK_ENTRY[edge.edge],
    )


def _fault(title: str, *, why: str, do: str, said: str = "", entry: str = "") -> Html:
    rows = (("Why", why), ("It says", said), ("What to do", do))
    facts = [join(element("dt", name), element("dd", words)) for name, words in rows if words]
    if entry:
        in_runbook = join("docs/runbook.md, ", element("code", entry))
        facts.append(join(element("dt", "More"), element("dd", in_runbook)))
    return element("div", element("h2", title), element("dl", *facts), class_="fault")


def _name(edge: EdgeStatus, status: Status) -> str:
    name = edge_name(edge.edge, status.target)
    account, _, region = edge.where.partition("/")
    return f"{name} of account {account} in {region}" if account else name


def _chip(edge: EdgeStatus, status: Status) -> Html:
    name = _name(edge, status)
    if edge.works:
        words = f"✓ {name} works"
        return element("li", words, class_="good", title=f"for {duration(status.now - edge.since)}")
    if not edge.reason:
        return element("li", f"… {name}: not asked yet")
    return element("li", f"✕ {name}: {spoken(edge.reason)}", class_="bad")


def tiles(status: Status) -> Html:
    """The numbers below the state."""
    return element(
        "section",
        element("h2", "Numbers", class_="hidden", id="numbers-title"),
        element(
            "div",
            _waiting(status),
            _held(status),
            _dead_letters(status),
            _synced(status),
            _recorded(status),
            _reconcile(status),
            class_="tiles",
        ),
        id="numbers",
        data_live=True,
        data_key="numbers",
        aria_labelledby="numbers-title",
    )


def _tile(name: str, value: str, more: str, *, bad: bool = False) -> Html:
    return element(
        "dl",
        element("dt", name),
        element("dd", value, class_="value bad" if bad else "value"),
        element("dd", more, class_="more"),
        class_="tile",
    )


def _waiting(status: Status) -> Html:
    queue = status.queue
    if queue is None:
        return _tile("Waiting in the queue", "—", "the queue has not told yet")
    more = (
        f"{number(queue.in_flight)} in flight, {number(queue.delayed)} delayed; "
        f"asked {ago(queue.asked_at, status.now)}"
    )
    return _tile("Waiting in the queue", number(queue.visible), more)


def _held(status: Status) -> Html:
    oldest = status.oldest_message_seconds
    more = "nothing is in work" if oldest is None else f"oldest sent {duration(oldest)} ago"
    return _tile("In work here", number(status.held_here), more)


def _dead_letters(status: Status) -> Html:
    count = None if status.queue is None else status.queue.dead_letters
    if count is None:
        return _tile("Dead letters", "—", "no queue for them, or it does not tell")
    more = "see them with the verb dead-letters" if count else "none"
    return _tile("Dead letters", number(count), more, bad=count > 0)


def _synced(status: Status) -> Html:
    synced = sum(each.outcomes.get("synced", 0) for each in status.minutes)
    rejected = sum(each.outcomes.get("rejected", 0) for each in status.minutes)
    return _tile("Synced, last hour", number(synced), f"{number(rejected)} rejected")


def _recorded(status: Status) -> Html:
    if not status.rows:
        return _tile("Jobs recorded", "—", "not counted yet")
    shown = {state: count for state, count in status.rows.items() if count}
    more = ", ".join(f"{number(count)} {state}" for state, count in shown.items())
    return _tile("Jobs recorded", number(sum(status.rows.values())), more or "none yet")


def _reconcile(status: Status) -> Html:
    reconcile = status.reconcile
    if reconcile is None:
        return NOTHING
    name = "Lost events found"
    if reconcile.fault:
        return _tile(name, "—", f"reconcile fails: {reconcile.fault}", bad=True)
    last = "no pass yet"
    if reconcile.ended_at is not None:
        last = f"last pass {ago(reconcile.ended_at, status.now)}"
    return _tile(name, number(reconcile.enqueued), f"since the start; {last}")
