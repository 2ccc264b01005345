"""The behaviours of every SQS server, one per function, tested through the daemon's own adapter
where it has the call.

Times are as short as a real server allows, because two of the three places wait in real time.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from daemon.aws.ports import Failed, OutgoingMessage, Sent
from daemon.aws.queue import SqsQueue
from daemon.errors import EdgeFault, JobRefused
from daemon.reasons import Reason
from tests.simulation.sqs_places import MAX_RECEIVES, VISIBILITY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.simulation.sqs_places import Place

BEHAVIOURS: list[Callable[[Place], Awaitable[None]]] = []


def behaviour(check: Callable[[Place], Awaitable[None]]) -> Callable[[Place], Awaitable[None]]:
    BEHAVIOURS.append(check)
    return check


@behaviour
async def a_receive_hides(place: Place) -> None:
    await place.send("hello é")

    message = await place.receive_one()

    assert (message.body, message.receive_count, message.attributes) == ("hello é", 1, {})
    assert await place.receive() == []


@behaviour
async def a_hidden_message_is_visible_when_its_time_is_up(place: Place) -> None:
    await place.send("a")
    first = await place.receive_one(visibility=1)

    await asyncio.sleep(0.5)
    assert await place.receive() == []
    await asyncio.sleep(0.7)
    second = await place.receive_one()

    assert (second.message_id, second.body, second.receive_count) == (first.message_id, "a", 2)
    assert second.receipt_handle != first.receipt_handle
    assert second.sent_at == first.sent_at is not None


@behaviour
async def zero_makes_it_visible_at_once(place: Place) -> None:
    await place.send("a")
    for count in range(1, MAX_RECEIVES + 1):
        message = await place.receive_one()
        assert message.receive_count == count
        assert await place.queue.hide([(message.receipt_handle, 0)]) == [None]


@behaviour
async def a_time_can_be_lengthened_for_this_receive_alone(place: Place) -> None:
    await place.send("a")
    message = await place.receive_one(visibility=1)

    assert await place.queue.hide([(message.receipt_handle, 2)]) == [None]

    await asyncio.sleep(1.3)
    assert await place.receive() == []
    await asyncio.sleep(1)
    await place.receive_one(visibility=1)
    await asyncio.sleep(1.2)  # the lengthening is forgotten
    await place.receive_one()


@behaviour
async def a_time_can_be_shortened(place: Place) -> None:
    await place.send("a")
    message = await place.receive_one(visibility=60)

    assert await place.queue.hide([(message.receipt_handle, 1)]) == [None]

    assert await place.receive() == []
    await asyncio.sleep(1.2)
    await place.receive_one()


@behaviour
async def a_last_handle_after_its_time(place: Place) -> None:
    await place.send("a")
    message = await place.receive_one(visibility=1)
    await asyncio.sleep(1.2)

    (failed,) = await place.queue.hide([(message.receipt_handle, 30)])

    if place.habits.hides_after_expiry:
        assert failed is None
        assert await place.receive() == []
    else:
        assert failed is not None
        assert (failed.code, failed.stale) == ("MessageNotInflight", True)
        assert (await place.receive_one()).receive_count == 2


@behaviour
async def a_last_handle_deletes_after_its_time(place: Place) -> None:
    await place.send("a")
    message = await place.receive_one(visibility=1)
    await asyncio.sleep(1.2)

    assert await place.queue.delete([message.receipt_handle]) == [None]

    assert await place.receive() == []


@behaviour
async def an_old_handle_hides_or_not(place: Place) -> None:
    await place.send("a")
    old = await place.receive_one(visibility=0)
    new = await place.receive_one(visibility=60)

    (failed,) = await place.queue.hide([(old.receipt_handle, 30)])

    assert failed is None or failed.stale
    if place.habits.old_handle_hides is not None:
        assert (failed is None) == place.habits.old_handle_hides
    assert await place.receive() == []
    assert await place.queue.hide([(new.receipt_handle, 0)]) == [None]


@behaviour
async def an_old_handle_deletes_or_not(place: Place) -> None:
    await place.send("a")
    old = await place.receive_one(visibility=0)
    await place.receive_one(visibility=1)

    (failed,) = await place.queue.delete([old.receipt_handle])

    succeeds, deletes = place.habits.old_handle_delete
    assert (failed is None) == succeeds
    assert failed is None or failed.stale
    await asyncio.sleep(1.2)
    left = await place.receive()
    if deletes is not None:
        assert (left == []) == deletes


@behaviour
async def what_is_deleted_can_be_deleted_again_but_not_hidden(place: Place) -> None:
    await place.send("a")
    message = await place.receive_one(visibility=1)

    assert await place.queue.delete([message.receipt_handle]) == [None]
    (again,) = await place.queue.delete([message.receipt_handle])
    assert (again is None) == place.habits.deletes_again
    assert again is None or again.stale
    (failed,) = await place.queue.hide([(message.receipt_handle, 30)])

    assert failed is not None
    assert failed.stale
    await asyncio.sleep(1.2)
    assert await place.receive() == []


@behaviour
async def a_batch_fails_by_entry(place: Place) -> None:
    await place.send("a", "b")
    a, b = await place.receive_one(), await place.receive_one()

    hidden = await place.queue.hide([("no handle", 30), (a.receipt_handle, 0)])
    deleted = await place.queue.delete(["no handle", b.receipt_handle])

    for failed, worked in (hidden, deleted):
        assert failed is not None
        assert (failed.code, failed.stale) == ("ReceiptHandleIsInvalid", True)
        assert worked is None
    assert (await place.receive_one()).body == a.body
    assert await place.receive() == []


@behaviour
async def a_batch_has_one_to_ten_entries_with_ids_of_their_own(place: Place) -> None:
    for ids, error in zip(([], range(11), (1, 1)), place.habits.bad_batches, strict=True):
        entries = [{"Id": str(each), "ReceiptHandle": "no handle"} for each in ids]
        expected = contextlib.nullcontext() if error is None else pytest.raises(ClientError)
        with expected as caught:
            await place.client.delete_message_batch(QueueUrl=place.url, Entries=entries)
        assert caught is None or type(caught.value).__name__ == error


@behaviour
async def twelve_hours_in_all(place: Place) -> None:
    await place.send("a")
    message = await place.receive_one(visibility=43_000)
    await asyncio.sleep(0.01)

    (too_long,) = await place.queue.hide([(message.receipt_handle, 43_200)])
    assert await place.queue.hide([(message.receipt_handle, 43_190)]) == [None]

    assert (too_long is not None) == place.habits.limits_visibility
    if too_long is not None:
        assert (too_long.code, too_long.stale) == ("InvalidParameterValue", True)


@behaviour
async def the_receive_after_the_last_redrives(place: Place) -> None:
    await place.send("a")
    received = [await place.receive_one(visibility=0) for _ in range(MAX_RECEIVES)]

    assert await place.receive() == []
    (dead,) = await place.dead_letters.receive(limit=10, wait_seconds=2, visibility_seconds=0)
    again = (
        await place.client.receive_message(
            QueueUrl=place.dead_letter_url, VisibilityTimeout=0, MessageSystemAttributeNames=["All"]
        )
    )["Messages"][0]

    first = received[0]
    assert (dead.message_id, dead.body, dead.sent_at) == (first.message_id, "a", first.sent_at)
    assert dead.receive_count == MAX_RECEIVES + 1  # it goes on
    assert again["Attributes"]["ApproximateReceiveCount"] == str(MAX_RECEIVES + 2)
    assert ("DeadLetterQueueSourceArn" in again["Attributes"]) == place.habits.tells_source
    # the handle from before has nothing to say there
    (hidden,) = await place.queue.hide([(received[-1].receipt_handle, 30)])
    (deleted,) = await place.queue.delete([received[-1].receipt_handle])
    assert hidden is not None
    assert hidden.stale
    assert deleted is None or deleted.stale
    assert (
        len(await place.dead_letters.receive(limit=10, wait_seconds=2, visibility_seconds=0)) == 1
    )


@behaviour
async def a_dead_letter_of_ours_keeps_its_attributes(place: Place) -> None:
    await place.queue.send_dead_letter(
        place.dead_letter_url, "body", {"reason": "tags_incomplete", "detail": "missing: é"}
    )

    (message,) = await place.dead_letters.receive(limit=10, wait_seconds=2, visibility_seconds=0)

    assert (message.body, message.receive_count) == ("body", 1)
    assert message.attributes == {"reason": "tags_incomplete", "detail": "missing: é"}


@behaviour
async def a_batch_is_sent_with_attributes(place: Place) -> None:
    entries = [OutgoingMessage(body, {"origin": "backfill"}) for body in "ab"]

    sent = await place.queue.send(entries)

    received = [await place.receive_one(), await place.receive_one()]
    assert {(each.body, each.message_id) for each in received} == {
        (entry.body, answer.message_id)
        for entry, answer in zip(entries, sent, strict=True)
        if isinstance(answer, Sent)
    }
    assert [each.attributes for each in received] == [{"origin": "backfill"}] * 2


@behaviour
async def what_is_too_large_keeps_no_other_message_from_being_sent(place: Place) -> None:
    bodies = ["a", "x" * 1_100_000, "y" * 600_000, "z" * 600_000]

    sent = await place.queue.send([OutgoingMessage(body) for body in bodies])

    assert [isinstance(answer, Sent) for answer in sent] == [True, False, True, True]
    assert isinstance(sent[1], Failed)
    assert sent[1].refused
    received = [await place.receive_one() for _ in range(3)]
    assert sorted(len(each.body) for each in received) == [1, 600_000, 600_000]


@behaviour
async def attributes_come_only_when_asked_for(place: Place) -> None:
    attribute = {"DataType": "String", "StringValue": "x"}
    await place.client.send_message(
        QueueUrl=place.url,
        MessageBody="a",
        MessageAttributes={"reason": attribute, "other": attribute},
    )

    async def receive(**asked: Any) -> dict[str, Any]:
        answer = await place.client.receive_message(
            QueueUrl=place.url, VisibilityTimeout=0, **asked
        )
        message: dict[str, Any] = answer["Messages"][0]
        return message

    plain = await receive()
    assert set(plain) >= {"MessageId", "ReceiptHandle", "MD5OfBody", "Body"}
    assert not {"Attributes", "MessageAttributes"} & set(plain)
    one = await receive(
        MessageSystemAttributeNames=["ApproximateReceiveCount"],
        MessageAttributeNames=["reason", "detail"],
    )
    assert one["Attributes"] == {"ApproximateReceiveCount": "2"}
    assert one["MessageAttributes"] == {"reason": attribute}


@behaviour
async def an_empty_receive(place: Place) -> None:
    answer = await place.client.receive_message(QueueUrl=place.url, WaitTimeSeconds=0)

    del answer["ResponseMetadata"]
    assert answer == place.habits.empty_answer


@behaviour
async def a_receive_brings_no_more_than_asked(place: Place) -> None:
    await place.send(*"abcde")

    first = await place.receive(limit=2, wait=1)
    assert 1 <= len(first) <= 2
    bodies = [message.body for message in first]
    while more := await place.receive(limit=10, wait=1):
        bodies += [message.body for message in more]

    assert sorted(bodies) == list("abcde")


@behaviour
async def a_long_poll_wakes_when_a_message_is_sent(place: Place) -> None:
    loop = asyncio.get_running_loop()
    polling = asyncio.ensure_future(place.receive(wait=2))
    await asyncio.sleep(0.3)
    assert not polling.done()

    sent = loop.time()
    await place.send("a")
    (message,) = await polling

    assert message.body == "a"
    assert loop.time() - sent < 1


@behaviour
async def a_long_poll_wakes_when_a_hidden_message_becomes_visible(place: Place) -> None:
    loop = asyncio.get_running_loop()
    await place.send("a", "b")
    hidden = await place.receive_one(visibility=1)
    other = await place.receive_one(visibility=60)
    began = loop.time()

    (message,) = await place.receive(wait=2)
    assert message.message_id == hidden.message_id
    assert 0.7 < loop.time() - began < 1.7

    polling = asyncio.ensure_future(place.receive(wait=2))
    await asyncio.sleep(0.2)
    await place.queue.hide([(other.receipt_handle, 0)])
    assert [each.message_id for each in await polling] == [other.message_id]
    assert loop.time() - began < 2.5


@behaviour
async def a_long_poll_without_a_message_lasts_as_long_as_asked(place: Place) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()

    assert await place.receive(wait=1) == []

    assert 0.95 < loop.time() - began < 1.6


@behaviour
async def an_abandoned_long_poll_swallows_a_message(place: Place) -> None:
    polling = asyncio.ensure_future(place.receive(wait=2, visibility=1))
    await asyncio.sleep(0.3)
    polling.cancel()
    await asyncio.gather(polling, return_exceptions=True)

    await place.send("a")
    await asyncio.sleep(0.3)
    assert await place.receive() == []

    await asyncio.sleep(1.2)
    assert (await place.receive_one()).receive_count == 2


@behaviour
async def a_delayed_message_waits(place: Place) -> None:
    await place.client.send_message(QueueUrl=place.url, MessageBody="a", DelaySeconds=1)

    state = await place.queue.state()
    assert (state.visible, state.in_flight, state.delayed) == (0, 0, 1)
    assert await place.receive() == []
    (message,) = await place.receive(wait=2)
    assert message.receive_count == 1


@behaviour
async def the_state_counts(place: Place) -> None:
    await place.send("a", "b", "c")
    await place.receive_one()
    await place.queue.send_dead_letter(place.dead_letter_url, "x", {})

    state = await place.queue.state()

    assert (state.visible, state.in_flight, state.delayed) == (2, 1, 0)
    assert (state.visibility_seconds, state.max_receive_count) == (VISIBILITY_SECONDS, MAX_RECEIVES)
    assert (state.dead_letter_url, state.dead_letter_messages) == (place.dead_letter_url, 1)


@behaviour
async def where_the_receive_does_not_say_the_queue_does(place: Place) -> None:
    await place.send("a")
    received = await place.client.receive_message(QueueUrl=place.url)

    assert await place.receive() == []
    entry = {
        "Id": "0",
        "ReceiptHandle": received["Messages"][0]["ReceiptHandle"],
        "VisibilityTimeout": 0,
    }
    answer = await place.client.change_message_visibility_batch(QueueUrl=place.url, Entries=[entry])
    assert answer["Successful"] == [{"Id": "0"}]
    assert not answer.get("Failed")


@behaviour
async def a_queue_is_found_by_its_name(place: Place) -> None:
    name = place.url.rpartition("/")[2]

    assert (await place.client.get_queue_url(QueueName=name))["QueueUrl"] == place.url
    with pytest.raises(ClientError) as caught:
        await place.client.get_queue_url(QueueName=f"{name}-not")

    assert type(caught.value).__name__ == "QueueDoesNotExist"
    assert caught.value.response["Error"]["Code"] == place.habits.no_queue_code


@behaviour
async def a_queue_that_does_not_exist(place: Place) -> None:
    url = f"{place.url}-not"
    queue = SqsQueue(place.polling, place.client, url)
    receive = queue.receive(limit=1, wait_seconds=0, visibility_seconds=0)
    for call in (
        receive,
        queue.delete(["h"]),
        queue.hide([("h", 0)]),
        queue.state(),
        queue.send_dead_letter(url, "x", {}),
    ):
        with pytest.raises(EdgeFault) as caught:
            await call
        assert caught.value.reason is Reason.NOT_FOUND


@behaviour
async def a_parameter_out_of_range_is_refused(place: Place) -> None:
    await place.send("a")
    message = await place.receive_one()

    (failed,) = await place.queue.hide([(message.receipt_handle, 43_201)])
    assert (failed is not None) == place.habits.limits_visibility
    if failed is not None:
        assert failed.code == "InvalidParameterValue"


@behaviour
async def a_message_that_sqs_does_not_take(place: Place) -> None:
    messages: dict[str, tuple[str, dict[str, str]]] = {
        "as long as may be": ("x" * 1_048_576, {}),
        "body over the limit": ("x" * 1_048_577, {}),
        "attributes over the limit": ("x" * 1_048_500, {"reason": "y" * 100}),
        "control character": ("\x01", {}),
        "empty body": ("", {}),
        "empty attribute": ("x", {"reason": ""}),
    }
    refused = set()
    for kind, (body, attributes) in messages.items():
        try:
            await place.queue.send_dead_letter(place.dead_letter_url, body, attributes)
        except JobRefused:
            refused.add(kind)

    assert refused == {"body over the limit"} | place.habits.refused_messages
