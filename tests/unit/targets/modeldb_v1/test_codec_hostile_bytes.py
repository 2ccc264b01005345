"""The codec of ModelDB V1 on bytes that lie: in both directions, at every place of a message, and
refused for the right reason.
"""

from __future__ import annotations

import functools
import random
import struct
import time
import tracemalloc
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from daemon.targets.modeldb_v1.codec import (
    MalformedMessageError,
    decode_call,
    decode_reply,
    encode_call,
    encode_reply,
)
from tests.support.modeldb_v1_exchanges import load

if TYPE_CHECKING:
    from collections.abc import Callable

    Decode = Callable[[bytes], object]

LIES = (2**31 - 1, 2**31 - 2, 2**24, 65_536, -1, -2, -(2**31))


@functools.cache
def samples() -> list[tuple[str, Decode, bytes]]:
    """A request and an answer of each method and each outcome: the longest recorded ones that can
    be tried at every place.
    """
    found: dict[object, tuple[str, Decode, bytes]] = {}
    for exchange in sorted(load(), key=lambda each: -len(each.response_frame or b"")):
        if exchange.file == "wire" or exchange.response_frame is None:
            continue
        outcome = exchange.response.get("exception", {}).get("name", "result")
        for part, decode, frame in (
            ("request", decode_call, exchange.request_frame),
            ("answer", decode_reply, exchange.response_frame),
        ):
            if len(frame) <= 2_000:
                found.setdefault(
                    (exchange.method, outcome, part), (f"{exchange.label} {part}", decode, frame)
                )
    return list(found.values())


def outcome_of(decode: Decode, frame: bytes) -> str:
    """What comes of a frame; anything but a message or the error for one that is none fails the
    test.
    """
    try:
        decode(frame)
    except MalformedMessageError as error:
        # one that shows much of the message would fill the log
        return "refused" if len(str(error)) < 1_000 else "refused at length"
    return "read"


def outcomes_of(changed: Callable[[], list[tuple[Decode, bytes]]]) -> Counter[str]:
    """What comes of many frames, none of which may take a second or more than 2 MB."""
    outcomes = Counter[str]()
    frames = changed()
    tracemalloc.start()
    try:
        for decode, frame in frames:
            began = time.process_time()
            outcomes[outcome_of(decode, frame)] += 1
            assert time.process_time() - began < 1
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    return outcomes


def test_there_are_samples_of_requests_and_answers() -> None:
    parts = Counter(label.rpartition(" ")[2] for label, *_ in samples())
    assert parts.keys() == {"request", "answer"}
    assert min(parts.values()) > 20
    assert {outcome_of(decode, frame) for _, decode, frame in samples()} == {"read"}


def test_a_frame_that_is_cut_short_is_refused_wherever_it_is_cut() -> None:
    for label, decode, frame in samples():
        assert {outcome_of(decode, frame[:end]) for end in range(len(frame))} == {"refused"}, label


def test_a_frame_with_more_behind_it_is_refused() -> None:
    for label, decode, frame in samples():
        assert {outcome_of(decode, frame + more) for more in (b"\0", b"\0\0\0\0", frame)} == {
            "refused"
        }, label


def test_a_number_that_lies_is_refused_or_changes_a_value() -> None:
    def lie_everywhere() -> list[tuple[Decode, bytes]]:
        return [
            (decode, frame[:at] + struct.pack("!i", lie) + frame[at + 4 :])
            for _, decode, frame in samples()
            if len(frame) <= 400
            for at in range(len(frame) - 4)
            for lie in LIES
        ]

    outcomes = outcomes_of(lie_everywhere)

    assert outcomes.keys() == {"read", "refused"}
    assert outcomes["refused"] > 10_000


def test_frames_changed_at_random_are_refused_or_read() -> None:
    chance = random.Random(20_261_124)

    def change_at_random() -> list[tuple[Decode, bytes]]:
        return [
            (decode, changed(chance, frame))
            for _, decode, frame in chance.choices(samples(), k=10_000)
        ]

    outcomes = outcomes_of(change_at_random)

    assert outcomes.keys() == {"read", "refused"}
    assert min(outcomes.values()) > 500


def changed(chance: random.Random, frame: bytes) -> bytes:
    """With bytes that are other ones, gone, new or a number that lies."""
    made = bytearray(frame)
    for _ in range(chance.choice([1, 1, 2, 4, 8])):
        at = chance.randrange(len(made) + 1)
        match chance.randrange(5):
            case 0:
                made[at : at + 1] = chance.randbytes(1)
            case 1:
                made[at : at + 1] = bytes(
                    [
                        chance.choice(
                            [0, 1, 2, 3, 4, 6, 8, 10, 11, 12, 13, 14, 15, 16, 127, 128, 255]
                        )
                    ]
                )
            case 2:
                del made[at : at + chance.randrange(1, 9)]
            case 3:
                made[at:at] = chance.randbytes(chance.randrange(1, 9))
            case _:
                made[at : at + 4] = struct.pack("!i", chance.choice([*LIES, 0, 1]))
    return bytes(made)


def answer_with(success: bytes, method: str = "getProjectOverviews", field: int = 15) -> bytes:
    """An answer whose result is these bytes."""
    head = struct.pack("!Ii", 0x8001_0002, len(method)) + method.encode() + struct.pack("!i", 1)
    return head + struct.pack("!bh", field, 0) + success + b"\0"


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        pytest.param(
            b"\x80\x01\0\x02\x7f\xff\xff\xffx\0\0\0\x01\0",
            "a text of 2147483647 bytes",
            id="a long name",
        ),
        pytest.param(
            b"\x80\x01\0\x02\xff\xff\xff\xffx\0\0\0\x01\0",
            "a text of -1 bytes",
            id="a negative name",
        ),
        pytest.param(
            answer_with(b"\xff\xff\xff\xfc", "pathForTransformer", 11),
            "a text of -4 bytes",
            id="a text that goes back",
        ),
        pytest.param(
            answer_with(b"\x0b\0\0\0\1\0\0\0\0"),
            "has items of types [11], not [12]",
            id="other items",
        ),
        pytest.param(
            answer_with(b"\x08\0\0\0\1\0\0\0\0", "getRunsInExperiment"),
            "has items of types [8]",
            id="numbers for structs",
        ),
        pytest.param(
            answer_with(b"\x0c\x7f\xff\xff\xff"),
            "a container of 2147483647 items",
            id="a long list",
        ),
        pytest.param(
            answer_with(b"\x0c\0\0\0\4\0\0"),
            "a container of 4 items",
            id="a list longer than its bytes",
        ),
        pytest.param(
            answer_with(b"\x0c\xff\xff\xff\xff"), "a container of -1 items", id="a negative list"
        ),
        pytest.param(answer_with(b"", field=1), "1 is no type", id="no type"),
        pytest.param(
            encode_reply("testConnection", 1, None),
            "neither a result nor an exception",
            id="no result",
        ),
        pytest.param(
            encode_call("testConnection", {}, 1), "a message of type 1 is no answer", id="a request"
        ),
    ],
)
def test_an_answer_is_refused_for_what_is_wrong_with_it(frame: bytes, reason: str) -> None:
    with pytest.raises(MalformedMessageError) as caught:
        decode_reply(frame)

    assert reason in str(caught.value)


def test_an_answer_is_no_request() -> None:
    with pytest.raises(MalformedMessageError, match="a message of type 2 is no request"):
        decode_call(encode_reply("testConnection", 1, 200))
