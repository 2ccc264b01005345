"""What all pages have in common: head, header and footer, style and script."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from daemon.observability.page.markup import (
    NOTHING,
    Html,
    code_of_page,
    document,
    element,
    join,
    link,
    stream,
)
from daemon.observability.page.words import duration, iso

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from daemon.observability.status import Status

REFRESH_SECONDS = (5, 3600)
"""Bounds of ``?refresh=``."""

_FOLDER = Path(__file__).parent
_STYLE = (_FOLDER / "style.css").read_text(encoding="utf-8")
_SCRIPT = (_FOLDER / "page.js").read_text(encoding="utf-8")


def _hash(code: str) -> str:
    digest = hashlib.sha256(code.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        f"style-src {_hash(_STYLE)}",
        f"script-src {_hash(_SCRIPT)}",
        "connect-src 'self'",  # the script fetches the page itself
        "img-src data:",  # the icon
        "form-action 'self'",  # the search
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)

_LOOKS = {
    "ready": ("Running", "good", "#2f9e63"),
    "paused": ("Paused", "wait", "#d98a1f"),
    "standing by": ("Standing by", "plain", "#6b7788"),
    "stopping": ("Stopping", "wait", "#d98a1f"),
    "not ready": ("Not ready", "bad", "#d24b45"),
    "vanished": ("Vanished", "bad", "#d24b45"),
    "starting": ("Starting", "plain", "#6b7788"),
}


def looks(state: str) -> tuple[str, str, str]:
    """The name of a state for people, its class, and its colour."""
    return _LOOKS.get(state, (state, "plain", "#6b7788"))


def page(
    title: str, status: Status, *main: str | Iterable[Html], refresh: int | None = None
) -> Iterator[Html]:
    """A whole page, piece by piece.

    Args:
        title: of the page, after the state.
        status: for header and footer.
        main: its content.
        refresh: reload every so many seconds without a script; None: the script updates it.
    """
    name, _, colour = looks(shown_state(status))
    return document(
        "en",
        element(
            "head",
            element("meta", charset="utf-8"),
            element("meta", name_="viewport", content="width=device-width, initial-scale=1"),
            NOTHING
            if refresh is None
            else element("meta", http_equiv="refresh", content=str(refresh)),
            element("title", f"{name} · {title}"),
            element("link", rel="icon", href=_icon(colour)),
            code_of_page("style", _STYLE),
        ),
        stream(
            "body",
            element("a", "Skip to the content", class_="skip", href="#content"),
            element("p", class_="silent", id="silent", role="alert", hidden=True),
            _header(status),
            stream("main", *main, class_="wide", id="content", tabindex="-1"),
            _footer(status),
            code_of_page("script", _SCRIPT),
        ),
    )


def shown_state(status: Status) -> str:
    """The state for people: before the first answers it is ``starting``."""
    unproven = [each for each in status.broken if not each.reason]
    started = not unproven or len(unproven) < len(status.broken)
    return status.state if started or status.state == "stopping" else "starting"


def _header(status: Status) -> Html:
    return element(
        "header",
        element(
            "div",
            link("/", f"SageMaker → {status.target.system} sync", class_="brand"),
            element("span", str(status.target), class_="quiet small"),
            class_="wide",
        ),
        class_="top",
    )


def _footer(status: Status) -> Html:
    up = duration(status.now - status.started_at)
    return element(
        "footer",
        element(
            "div",
            element(
                "span",
                element("span", f"As of {iso(status.now)}", id="updated"),
                " ",
                element("button", "Pause updates", id="pause", type="button", hidden=True),
                element(
                    "noscript",
                    link("?refresh=30", "Reload every 30 s"),
                ),
            ),
            element(
                "span",
                join(
                    f"Version {status.version}, up {up} · as JSON: ",
                    link("/api/status", "status"),
                    ", ",
                    link("/api/jobs", "jobs"),
                    " · ",
                    link("/metrics", "metrics"),
                ),
                id="about",
                data_live=True,
            ),
            class_="wide",
        ),
    )


def _icon(colour: str) -> str:
    drawing = element(
        "svg",
        element("circle", cx="8", cy="8", r="7", fill=colour),
        xmlns="http://www.w3.org/2000/svg",
        viewBox="0 0 16 16",
    )
    return f"data:image/svg+xml,{quote(drawing)}"
