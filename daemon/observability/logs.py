"""Logging: structlog and the standard library through one handler, as JSON or as console lines.

Logs go to standard error. Standard output is for the result of a verb (``history --json | jq``);
container runtimes collect both.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import structlog

from daemon.redaction.forms import secret_forms
from daemon.redaction.redactor import without_shapes

if TYPE_CHECKING:
    from typing import TextIO

    from structlog.typing import EventDict, Processor, WrappedLogger

MASK = "**********"
SHORTEST_SECRET = 6
"""Masking shorter ones would hit parts of ordinary words."""

_DEEPEST = 20
_QUIET = ("aiobotocore", "aiohttp", "asyncio", "boto3", "botocore", "urllib3")
"""Libraries that log every request: limited to WARNING, and to INFO at level debug. At DEBUG,
botocore logs request headers, signatures and bodies, which any reader of the log could use."""
_FIRST = ("timestamp", "level", "event", "logger")


class _Secrets:
    """Texts to be masked."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def add(self, secret: str) -> None:
        if len(secret) < SHORTEST_SECRET:
            return
        self._known |= secret_forms(secret)
        longest_first = sorted(self._known, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def mask(self, text: str) -> str:
        return text if self._pattern is None else self._pattern.sub(MASK, text)


_secrets = _Secrets()


def register_secret(value: str) -> None:
    """Masks a text in every later log line. A last resort: nothing should log secrets in the first
    place.

    Args:
        value: ignored when shorter than `SHORTEST_SECRET`.
    """
    _secrets.add(value)


def configure_logging(
    level: str,
    format: Literal["json", "console"],  # noqa: A002 - the setting's name
    stream: TextIO | None = None,
) -> None:
    """Sets up all logging of the process. May be called repeatedly.

    Args:
        level: debug, info, warning or error.
        format: json (one object per line) or console.
        stream: where to write; None: standard error.
    """
    stream = stream or sys.stderr
    least = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        # also for the console: rich, if installed, would print local variables
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    as_json = format == "json"
    handler = _Pipe(stream)
    handler.setFormatter(
        _Formatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _plain_json if as_json else _plain_console,
                _render_json if as_json else _console_renderer(stream),
            ],
        )
    )
    root = logging.getLogger()
    for other in list(root.handlers):
        if isinstance(other, _Pipe):
            root.removeHandler(other)
    root.addHandler(handler)
    root.setLevel(least)
    for name in _QUIET:
        logging.getLogger(name).setLevel(
            logging.INFO if least <= logging.DEBUG else max(least, logging.WARNING)
        )
    logging.captureWarnings(capture=True)


class _Pipe(logging.StreamHandler["TextIO"]):
    """The only handler; a class of its own, so that `configure_logging` can find it again."""


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """Renders every record: a bad one must neither be lost nor break the format."""

    def format(self, record: logging.LogRecord) -> str:
        try:
            return super().format(record)
        except Exception as error:  # noqa: BLE001 - a foreign object can raise anything in its __repr__
            replacement = logging.makeLogRecord(
                {"name": record.name, "levelno": record.levelno, "levelname": record.levelname}
            )
            replacement.msg = "log line could not be rendered: %s at %s:%s"
            replacement.args = (type(error).__name__, record.pathname, record.lineno)
            return super().format(replacement)


def _console_renderer(stream: TextIO) -> structlog.dev.ConsoleRenderer:
    return structlog.dev.ConsoleRenderer(
        colors=stream.isatty() and not os.environ.get("NO_COLOR"), sort_keys=False
    )


def _render_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    return json.dumps(event)  # ASCII only, so that it does not depend on the stream's encoding


def _plain_json(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Converts all values to JSON types, masks secrets, and puts the fields of `_FIRST` first."""
    ordered = {key: event.pop(key) for key in _FIRST if key in event} | dict(event)
    return {_whole(str(key)): _plain(value) for key, value in ordered.items()}


def _plain_console(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """As `_plain_json`, with control characters escaped: names of jobs are untrusted, and a
    terminal would interpret them.
    """
    return {
        _printable(key): _printable_lines(value)
        if key in {"exception", "stack"}
        else _printable(value)
        for key, value in _plain_json(_logger, _method, event).items()
    }


def _plain(value: object, depth: int = 0) -> Any:  # noqa: ANN401 - JSON data
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return _whole(value)
    if depth < _DEEPEST:
        if isinstance(value, Mapping):
            return {_whole(str(key)): _plain(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [_plain(item, depth + 1) for item in value]
    return _whole(str(value))


def _whole(text: str) -> str:
    """A text with known secrets and whatever looks like one masked, and with lone surrogates
    escaped, which many JSON parsers reject.
    """
    text = without_shapes(_secrets.mask(str(text)))
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def printable(text: str) -> str:
    """A text on one line for a terminal, with unprintable characters escaped."""
    return text if text.isprintable() else "".join(map(_visible, text))


def _printable(value: object) -> Any:  # noqa: ANN401 - JSON data
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    return [_printable(item) for item in value] if isinstance(value, list) else value


def _printable_lines(text: str) -> str:
    return "\n".join(_printable(line.replace("\t", "    ")) for line in text.split("\n"))


def _visible(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()
