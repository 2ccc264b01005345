"""What `check` says of a queue's attributes."""

from __future__ import annotations

import pytest

from daemon.aws.ports import QueueState
from daemon.aws.queue_setup import QueueSetup
from daemon.operations.finding import Verdict
from daemon.operations.queue_advice import (
    DEAD_LETTERS,
    QUEUE,
    encryption_findings,
    receives_findings,
    redrive_allow_findings,
    retention_findings,
    visibility_findings,
)

DAY = 86_400
ARN = "arn:aws:sqs:eu-west-1:123456789012:modeldb-sync"


def setup(
    days: float | None = 7,
    key: str | None = None,
    permission: str | None = None,
    sources: tuple[str, ...] = (),
) -> QueueSetup:
    kept = None if days is None else int(days * DAY)
    return QueueSetup(kept, key, permission, sources, None)


def state(arn: str = ARN) -> QueueState:
    return QueueState(0, 0, 0, 120, 10, "url", 0, arn=arn)


@pytest.mark.parametrize(
    ("own", "configured", "write", "verdict", "words"),
    [
        (120, None, 60, Verdict.OK, "the visibility timeout is 120 s"),
        (60, None, 60, Verdict.OK, "60 s"),
        (30, 120, 60, Verdict.OK, "120 s"),
        (120, 40, 60, Verdict.WARNING, "shorter than target.timeout_seconds + target.settle_"),
        (29, None, 20, Verdict.WARNING, "one renewal that SQS answers late"),
    ],
)
def test_visibility(
    own: int, configured: int | None, write: float, verdict: Verdict, words: str
) -> None:
    [finding] = visibility_findings(own, configured, write)
    assert finding.verdict is verdict
    assert words in finding.text
    assert ("to 120" in finding.text) == (verdict is Verdict.WARNING)


def test_receives() -> None:
    assert list(receives_findings(None)) == []
    assert [each.verdict for each in receives_findings(3)] == [Verdict.OK]
    [low] = receives_findings(2)
    assert low.verdict is Verdict.WARNING
    assert "every receive counts" in low.text


@pytest.mark.parametrize(
    ("queue", "letters", "verdicts"),
    [
        (7, 14, [Verdict.OK, Verdict.OK]),
        (4, None, [Verdict.OK]),
        (3.9, 14, [Verdict.WARNING, Verdict.OK]),
        (14, 14, [Verdict.OK, Verdict.WARNING]),
        (None, 4, [Verdict.OK]),
        (None, None, []),
    ],
)
def test_retention(queue: float | None, letters: float | None, verdicts: list[Verdict]) -> None:
    findings = list(retention_findings(setup(queue), setup(letters)))
    assert [each.verdict for each in findings] == verdicts
    assert all("set Messag" in each.text for each in findings if each.verdict is Verdict.WARNING)


@pytest.mark.parametrize(
    ("permission", "sources", "refused"),
    [
        (None, (), False),
        ("allowAll", (), False),
        ("byQueue", (ARN,), False),
        ("byQueue", (f"{ARN}-2",), True),
        ("denyAll", (), True),
    ],
)
def test_the_redrive_allow_policy(
    permission: str | None, sources: tuple[str, ...], *, refused: bool
) -> None:
    found = list(redrive_allow_findings(state(), setup(14, None, permission, sources)))
    assert [each.verdict for each in found] == ([Verdict.FAILED] if refused else [])


def test_encryption() -> None:
    assert list(encryption_findings(QUEUE, setup())) == []
    [own] = encryption_findings(QUEUE, setup(key="alias/aws/sqs"))
    assert (own.verdict, "EventBridge cannot send" in own.text) == (Verdict.WARNING, True)
    [letters] = encryption_findings(DEAD_LETTERS, setup(key="alias/aws/sqs"))
    assert (letters.verdict, "kms:Decrypt" in letters.text) == (Verdict.NOTE, True)
