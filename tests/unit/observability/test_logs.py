"""What comes out of the logs, line by line."""

from __future__ import annotations

import asyncio
import enum
import io
import json
import logging
import sys
import warnings
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from pydantic import SecretStr

from daemon.observability import logs
from daemon.observability.logs import configure_logging, register_secret
from daemon.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = 'correct horse/"battery" ü'


def pipes() -> list[logging.Handler]:
    return [handler for handler in logging.getLogger().handlers if isinstance(handler, logs._Pipe)]


@pytest.fixture(autouse=True)
def logging_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    root = logging.getLogger()
    level = root.level
    monkeypatch.setattr(logs, "_secrets", logs._Secrets())
    yield
    for handler in pipes():
        root.removeHandler(handler)
    root.setLevel(level)
    for name in logs._QUIET:
        logging.getLogger(name).setLevel(logging.NOTSET)
    logging.captureWarnings(capture=False)
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """Every line as one JSON object, strictly."""

    def refuse(constant: str) -> object:
        raise AssertionError(f"{constant} is no JSON")

    text = stream.getvalue()
    assert text.isascii()
    assert not text or text.endswith("\n")
    return [json.loads(line, parse_constant=refuse) for line in text.split("\n")[:-1]]


def line(stream: io.StringIO) -> dict[str, Any]:
    found = lines(stream)
    assert len(found) == 1
    return found[0]


class TestJson:
    @pytest.fixture(autouse=True)
    def configured(self, stream: io.StringIO) -> None:
        configure_logging("info", "json", stream)

    def test_a_line_is_an_object_with_its_head_first(self, stream: io.StringIO) -> None:
        structlog.get_logger("daemon.pipeline.flow").info(
            "job outcome", job="a", seconds=0.25, receive_count=1
        )
        found = line(stream)
        assert list(found)[:4] == ["timestamp", "level", "event", "logger"]
        moment = datetime.fromisoformat(found.pop("timestamp"))
        assert moment.utcoffset() == UTC.utcoffset(None)
        assert abs((datetime.now(UTC) - moment).total_seconds()) < 60
        assert found == {
            "level": "info",
            "event": "job outcome",
            "logger": "daemon.pipeline.flow",
            "job": "a",
            "seconds": 0.25,
            "receive_count": 1,
        }

    def test_what_callers_bind_is_in_every_line_also_of_libraries(
        self, stream: io.StringIO
    ) -> None:
        with structlog.contextvars.bound_contextvars(message_id="m-1", job="j-1"):
            structlog.get_logger().info("ours")
            logging.getLogger("botocore.endpoint").warning("theirs %s", 1)
        structlog.get_logger().info("after")
        ours, theirs, after = lines(stream)
        assert (
            (ours["message_id"], ours["job"])
            == (theirs["message_id"], theirs["job"])
            == ("m-1", "j-1")
        )
        assert (theirs["event"], theirs["logger"], theirs["level"]) == (
            "theirs 1",
            "botocore.endpoint",
            "warning",
        )
        assert "message_id" not in after

    @pytest.mark.parametrize(
        "text",
        [
            "a\nb",
            "a\r\nb",
            "\x00\x1b[31m",
            "half \ud800 pair",
            "\u2028\u2029\x85",
            'quotes " and \\',
            "ümlaut 🙂",
            "\x7f\u202e",
        ],
    )
    def test_no_text_breaks_a_line(self, stream: io.StringIO, text: str) -> None:
        structlog.get_logger().info(text, field=text, **{text: text})
        logging.getLogger("other").warning(text)
        for found in lines(stream):
            json.dumps(found, ensure_ascii=False).encode()  # nothing in it that is no text
            assert found["event"] == text.replace("\ud800", "\\ud800")

    def test_values_that_json_does_not_know(self, stream: io.StringIO) -> None:
        class Colour(enum.Enum):
            RED = 1

        nested: list[object] = []
        nested.append(nested)
        structlog.get_logger().info(
            "values",
            path=Path("/x"),
            moment=datetime(2025, 1, 2, tzinfo=UTC),
            nan=float("nan"),
            minus=float("-inf"),
            pair=(1, {2}),
            raw=b"\xff",
            reason=Reason.CREATED,
            colour=Colour.RED,
            error=ValueError("why"),
            keys={1: 2, (3, 4): None},
            counts=Counter(a=1),
            hidden=SecretStr("hunter22"),
            nested=nested,
        )
        found = line(stream)
        assert found["path"] == "/x"
        assert found["moment"] == "2025-01-02 00:00:00+00:00"
        assert (found["nan"], found["minus"]) == ("nan", "-inf")
        assert found["pair"] == [1, [2]]
        assert found["raw"] == "b'\\xff'"
        assert (found["reason"], found["colour"]) == ("created", "Colour.RED")
        assert found["error"] == "why"
        assert found["keys"] == {"1": 2, "(3, 4)": None}
        assert found["counts"] == {"a": 1}
        assert found["hidden"] == "**********"

    def test_an_exception_is_text_in_one_field(self, stream: io.StringIO) -> None:
        def fail() -> None:
            local_value = "not for the log"
            raise RuntimeError(f"broken {len(local_value)}")

        try:
            fail()
        except RuntimeError:
            structlog.get_logger().exception("ours")
            logging.getLogger("theirs").exception("theirs")
        for found in lines(stream):
            assert found["level"] == "error"
            assert "Traceback (most recent call last)" in found["exception"]
            assert found["exception"].endswith("RuntimeError: broken 15")
            assert "exc_info" not in found

    def test_a_record_that_cannot_be_rendered_still_is_a_line(
        self, stream: io.StringIO, capsys: pytest.CaptureFixture[str]
    ) -> None:
        class Hostile:
            def __str__(self) -> str:
                raise RuntimeError("no")

        structlog.get_logger("ours").warning("event", value=Hostile())
        too_many = logging.makeLogRecord(
            {
                "name": "theirs",
                "levelno": 40,
                "levelname": "ERROR",
                "msg": "one %s",
                "args": (1, 2),
                "pathname": __file__,
            }
        )
        pipes()[0].handle(too_many)  # pytest's own handlers could not bear it
        ours, theirs = lines(stream)
        assert (ours["level"], ours["logger"]) == ("warning", "ours")
        assert ours["event"].startswith(
            f"log line could not be rendered: RuntimeError at {__file__}:"
        )
        assert (theirs["level"], theirs["logger"]) == ("error", "theirs")
        assert theirs["event"].startswith(
            f"log line could not be rendered: TypeError at {__file__}:"
        )
        assert capsys.readouterr() == ("", "")

    def test_warnings_and_loose_tasks_come_through_the_same_pipe(self, stream: io.StringIO) -> None:
        logging.captureWarnings(capture=False)
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            configure_logging("info", "json", stream)
            warnings.warn("old", DeprecationWarning, stacklevel=1)
            logging.captureWarnings(capture=False)
        loop = asyncio.new_event_loop()
        loop.call_exception_handler(
            {"message": "Task exception was never retrieved", "exception": ValueError("lost")}
        )
        loop.close()
        warning, task = lines(stream)
        assert (warning["logger"], warning["level"]) == ("py.warnings", "warning")
        assert "DeprecationWarning: old" in warning["event"]
        assert (task["logger"], task["level"]) == ("asyncio", "error")
        assert task["exception"].endswith("ValueError: lost")

    def test_again_replaces_and_does_not_double(self, stream: io.StringIO) -> None:
        again = io.StringIO()
        configure_logging("error", "json", again)
        structlog.get_logger().warning("below")
        structlog.get_logger().error("ours")
        logging.getLogger("theirs").error("theirs")
        assert [found["event"] for found in lines(again)] == ["ours", "theirs"]
        assert stream.getvalue() == ""

    def test_handlers_of_others_stay(self) -> None:
        other = logging.NullHandler()
        logging.getLogger().addHandler(other)
        configure_logging("info", "json", io.StringIO())
        assert other in logging.getLogger().handlers
        assert len(pipes()) == 1
        logging.getLogger().removeHandler(other)


class TestSecrets:
    @pytest.mark.parametrize("kind", ["json", "console"])
    def test_never_in_a_line(self, stream: io.StringIO, kind: Any) -> None:
        configure_logging("info", kind, stream)
        register_secret(SECRET)
        register_secret("correct horse")  # part of another: the longer one is masked as a whole

        class Client:
            def __str__(self) -> str:
                return f"<client with {SECRET}>"

        log = structlog.get_logger()
        event = f"event {SECRET}"
        log.info(
            event, value=SECRET, nested={"a": [SECRET, {SECRET: 1}]}, client=Client(), **{SECRET: 1}
        )
        log.info(
            "quoted",
            url="http://h?key=correct%20horse%2F%22battery%22%20%C3%BC",
            body=json.dumps({"k": SECRET}),
            repr=repr(SECRET),
        )
        logging.getLogger("botocore").warning("theirs %s %r", SECRET, SECRET)
        log.error("failed", exc_info=ValueError(SECRET))
        text = stream.getvalue()
        assert "horse" not in text
        assert "battery" not in text
        assert text.count("**********") >= 12

    def test_short_ones_would_mask_ordinary_words(self, stream: io.StringIO) -> None:
        configure_logging("info", "json", stream)
        register_secret("event")
        register_secret("")
        structlog.get_logger().info("an event")
        assert line(stream)["event"] == "an event"

    def test_special_characters_are_taken_as_they_are(self, stream: io.StringIO) -> None:
        configure_logging("info", "json", stream)
        register_secret("a.b*c(d")
        structlog.get_logger().info("axb*c(d a.b*c(d")
        assert line(stream)["event"] == "axb*c(d **********"


class TestLevels:
    @pytest.mark.parametrize(
        ("level", "ours", "requests", "aws"),
        [
            (
                "debug",
                ["debug", "info", "warning", "error"],
                ["info", "warning", "error"],
                ["info", "warning", "error"],
            ),
            ("info", ["info", "warning", "error"], ["warning", "error"], ["warning", "error"]),
            ("warning", ["warning", "error"], ["warning", "error"], ["warning", "error"]),
            ("error", ["error"], ["error"], ["error"]),
        ],
    )
    def test_libraries_are_quiet_and_botocore_never_at_debug(
        self, stream: io.StringIO, level: str, ours: list[str], requests: list[str], aws: list[str]
    ) -> None:
        configure_logging(level, "json", stream)
        names = {
            "daemon.pipeline.flow": ours,
            "aiohttp.access": requests,
            "botocore.auth": aws,
            "aiobotocore.regions": aws,
        }
        for name in names:
            for each in ("debug", "info", "warning", "error"):
                getattr(logging.getLogger(name), each)("x")
                getattr(structlog.get_logger(name), each)("x")
        found = [(entry["logger"], entry["level"]) for entry in lines(stream)]
        assert found == [
            (name, each) for name, levels in names.items() for each in levels for _ in range(2)
        ]


class TestConsole:
    def test_a_console_line(self, stream: io.StringIO) -> None:
        configure_logging("info", "console", stream)
        structlog.get_logger("daemon.pipeline.flow").info("job outcome", job="a", seconds=1)
        text = stream.getvalue()
        assert text.count("\n") == 1
        assert "job outcome" in text
        assert "job=a" in text
        assert "seconds=1" in text
        assert "\x1b" not in text  # not a terminal: no colours

    def test_a_terminal_gets_no_commands_from_others(self, stream: io.StringIO) -> None:
        configure_logging("info", "console", stream)
        hostile = "a\x1b]0;owned\x07\r\nb\u202ec\x9b\ud800"
        structlog.get_logger().info(
            hostile, value=hostile, nested=[{hostile: hostile}], **{hostile: 1}
        )
        text = stream.getvalue()
        assert text.count("\n") == 1
        assert text.rstrip("\n").isprintable()
        assert "\\x1b]0;owned\\x07\\r\\nb\\u202ec\\x9b\\ud800" in text

    def test_a_traceback_keeps_its_lines_and_shows_no_locals(self, stream: io.StringIO) -> None:
        configure_logging("info", "console", stream)

        def fail() -> None:
            hidden = "not for the log"
            raise RuntimeError(f"broken \x1b[31m {len(hidden)}")

        try:
            fail()
        except RuntimeError:
            structlog.get_logger().exception("failed")
        text = stream.getvalue()
        assert "\nTraceback (most recent call last):\n  File " in text
        assert text.endswith("RuntimeError: broken \\x1b[31m 15\n")
        assert "not for the log" not in text.replace('hidden = "not for the log"', "")

    @pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
    def test_colours_on_a_terminal(
        self,
        stream: io.StringIO,
        monkeypatch: pytest.MonkeyPatch,
        no_color: str,
        coloured: bool,  # noqa: FBT001 - the case
    ) -> None:
        monkeypatch.setenv("NO_COLOR", no_color)
        monkeypatch.setattr(stream, "isatty", lambda: True)
        configure_logging("info", "console", stream)
        structlog.get_logger().info("x")
        assert ("\x1b[" in stream.getvalue()) is coloured


def test_standard_error_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    structlog.get_logger().info("here")
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err)["event"] == "here"
    assert sys.stderr is not None
