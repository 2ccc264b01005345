"""The faults that a history can contain, by name. Each begins, lasts for a time and ends;
`World.calm` ends all of them for good.

`OUTAGES` are faults of the whole target, which must not use up a receive of any message. `CHAOS`
has all that histories meet by chance, `SCRIPTED` those that make sense in histories of a kind of
their own (`tests.simulation.kinds`).
"""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from tests.simulation import accounts, backfill, network, redrive
from tests.simulation.by_hand import people_and_operators
from tests.simulation.mlflow_people import doubles_appear, people_edit
from tests.simulation.mlflow_server import LONGEST_LAG
from tests.simulation.sagemaker import LIST_RATE

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Coroutine, Iterable
    from pathlib import Path
    from typing import Any

    from tests.simulation.world import Replica, World

    Action = Callable[[World, random.Random], Coroutine[Any, Any, None]]

_RESTART_SECONDS = (0.1, 45.0)
_DAY = 86_400.0


async def _restart(world: World, chance: random.Random, replica: Replica) -> None:
    await replica.end_in_time()
    await asyncio.sleep(chance.uniform(*_RESTART_SECONDS))
    world.start_replica(world.new_name())


async def kill(world: World, chance: random.Random) -> None:
    """A replica is killed; another starts some time later."""
    if world.living:
        replica = chance.choice(world.living)
        replica.crash()
        await asyncio.sleep(chance.uniform(*_RESTART_SECONDS))
        world.start_replica(world.new_name())


async def sigterm(world: World, chance: random.Random) -> None:
    """A replica is stopped, perhaps killed while it stops, and another begins some time after its
    end.
    """
    if awake := [replica for replica in world.living if not replica.process.is_paused]:
        replica = chance.choice(awake)
        replica.stop()
        if chance.random() < 0.2:
            await asyncio.sleep(chance.uniform(0, 3))
            replica.crash()
            await asyncio.sleep(chance.uniform(*_RESTART_SECONDS))
            world.start_replica(world.new_name())
        else:
            await _restart(world, chance, replica)


async def cancel(world: World, chance: random.Random) -> None:
    """A replica's task is cancelled, once."""
    if running := [
        replica
        for replica in world.living
        if not replica.stopping and not replica.process.is_paused
    ]:
        replica = chance.choice(running)
        replica.cancel()
        await _restart(world, chance, replica)


async def target_down(world: World, chance: random.Random) -> None:
    """The target restarts, or is down for minutes."""
    seconds = chance.choice([chance.uniform(0.1, 5), chance.uniform(5, 300)])
    if world.target == "modeldb-v1":
        world.v1.restart(seconds)
    else:
        world.http.restart(seconds)
    await asyncio.sleep(seconds)


async def target_database_down(world: World, chance: random.Random) -> None:
    """The target answers that its database is down."""
    seconds = chance.uniform(1, 200)
    world.record(f"the target's database is down for {seconds:.1f} s")
    if world.target == "modeldb-v1" and world.v1.metadata_store and chance.random() < 0.6:
        world.v1.mongo_down = True
        await asyncio.sleep(seconds)
        world.v1.mongo_down = False
    elif world.target == "modeldb-v1":
        world.v1.storage_busy = True
        await asyncio.sleep(seconds)
        world.v1.storage_busy = False
    else:
        world.http.lose_database(on=True)
        await asyncio.sleep(seconds)
        world.http.lose_database(on=False)


async def target_frozen(world: World, chance: random.Random) -> None:
    """The target accepts everything and answers nothing for a while; what it has is carried out
    afterwards.
    """
    if world.target == "modeldb-v1":
        world.v1.freeze(chance.uniform(1, 60))
    else:
        # longer than the settle time, nothing that was sent may still be carried out
        seconds = chance.uniform(1, 0.6 * world.settings.target.settle_seconds)
        world.record(f"the target is frozen for {seconds:.1f} s")
        world.http.freeze(on=True)
        await asyncio.sleep(seconds)
        world.http.freeze(on=False)


async def target_weather(world: World, chance: random.Random) -> None:
    """Single calls of the target fail, in every possible way."""
    seconds = chance.uniform(5, 120)
    if world.target == "modeldb-v1":
        world.v1.chance_of_slow_write = chance.choice([0.0, 0.02, 0.1])
        end = world.loop.time() + seconds
        while world.loop.time() < end and not world.is_calm:
            await asyncio.sleep(chance.uniform(0.05, 10))
            chance.choice(
                [world.v1.lose_next_answer, world.v1.reset_connections, world.v1.die_in_next_write]
            )()
        world.v1.chance_of_slow_write = 0.0
    else:
        world.http.chances = _weather(chance, world.http.fates, 0.5)
        world.record(f"the target's weather for {seconds:.1f} s: {_shown(world.http.chances)}")
        await asyncio.sleep(seconds)
        world.http.chances = {}


async def lost_create(world: World, chance: random.Random) -> None:
    """The next creates of runs have an unknown outcome."""
    for _ in range(chance.randint(1, 3)):
        if world.target == "modeldb-v1":
            world.v1.lose_next_answer(
                chance.choice(
                    ["storeExperimentRunEvent", "storeFitEvent", "storeMetricEvent", None]
                )
            )
        else:
            world.http.fate_of_next(*chance.choice(world.http.lost_creates))


async def aws_weather(world: World, chance: random.Random) -> None:
    """Single requests to AWS and their answers are lost or late."""
    seconds = chance.uniform(5, 120)
    world.network.chances = _weather(chance, network.FATES, 0.4)
    world.record(f"AWS's network for {seconds:.1f} s: {_shown(world.network.chances)}")
    await asyncio.sleep(seconds)
    world.network.chances = {}


async def queue_habits(world: World, chance: random.Random) -> None:
    """What SQS may do but seldom does: deliver again what is hidden or deleted, fail entries,
    acknowledge late.
    """
    chances = world.queue.chances
    for name in (
        "delivered_in_flight",
        "fewer_than_asked",
        "deleted_comes_back",
        "entry_fails",
        "entry_fails_after",
        "acknowledged_late",
    ):
        setattr(chances, name, chance.choice([0.0, 0.1, 0.3]))
    world.record(f"SQS: {chances}")
    await asyncio.sleep(chance.uniform(20, 200))
    world.queue_behaves()


async def queue_down(world: World, chance: random.Random) -> None:
    """SQS is unreachable or refuses the credentials."""
    faults, seconds = world.sqs.faults, chance.uniform(1, 100)
    expired = chance.random() < 0.3
    world.record(
        f"SQS {'refuses the credentials' if expired else 'cannot be reached'} for {seconds:.1f} s"
    )
    faults.down, faults.credentials_expired = not expired, expired
    await asyncio.sleep(seconds)
    faults.down = faults.credentials_expired = False


async def sagemaker_down(world: World, chance: random.Random) -> None:
    """SageMaker throttles, fails, is unreachable or refuses the credentials."""
    faults, seconds = world.sagemaker.faults, chance.uniform(1, 100)
    what = chance.choice(["throttled", "failing", "down", "credentials_expired"])
    world.record(f"SageMaker: {what} for {seconds:.1f} s")
    setattr(faults, what, chance.uniform(0.3, 1) if what in {"throttled", "failing"} else True)
    await asyncio.sleep(seconds)
    world.sagemaker.faults.end()


async def disk_full(world: World, chance: random.Random) -> None:
    """Writes to the checkpoint fail."""
    seconds = chance.uniform(0.5, 90)
    world.record(f"the disk is full for {seconds:.1f} s")
    world.disk_full = True
    await asyncio.sleep(seconds)
    world.disk_full = False


async def disk_lies(world: World, chance: random.Random) -> None:
    """Commits report a failure although they are durable."""
    world.disk_liar = chance.uniform(0.05, 0.4)
    await asyncio.sleep(chance.uniform(1, 40))
    world.disk_liar = 0.0


async def disk_slow(world: World, chance: random.Random) -> None:
    """The checkpoint takes seconds for each call."""
    world.disk_seconds = chance.uniform(0.5, 8)
    world.record(f"the disk takes up to {world.disk_seconds:.1f} s")
    await asyncio.sleep(chance.uniform(5, 60))
    world.disk_seconds = 0.005


async def clock_jump(world: World, chance: random.Random) -> None:
    """The wall clock is changed."""
    seconds = chance.choice([-3600, -120, -20, 20, 90, 120, 3600]) * chance.random()
    world.record(f"the clock jumps by {seconds:.1f} s")
    world.loop.wall_offset += seconds


async def checkpoint_deleted(world: World, chance: random.Random) -> None:
    """Deletes the checkpoint; each replica is stopped some time later and replaced."""
    world.record("the checkpoint is deleted")
    for file in list(world.checkpoint.parent.iterdir()):
        file.unlink()
    for replica in world.living:
        await asyncio.sleep(chance.uniform(0, 20))
        if not replica.process.dead and not replica.task.done():
            replica.stop()
    await asyncio.sleep(chance.uniform(30, 60))
    if not world.living:
        world.start_replica(world.new_name())


async def writer_ends_without_mongo(world: World, chance: random.Random) -> None:
    """MongoDB is away, so calls of the writer wait in ModelDB V1 for half a minute; meanwhile the
    writer ends, and another one takes over.
    """
    world.v1.mongo_goes(noticed=chance.random() < 0.8)
    fits = world.v1.calls["storeFitEvent"]
    for _ in range(200):
        if world.v1.calls["storeFitEvent"] > fits:
            break
        await asyncio.sleep(0.1)
    await asyncio.sleep(chance.uniform(0.02, 20))
    writer = world.writer
    if writer is not None:
        if chance.random() < 0.5:
            writer.crash()
        else:
            writer.stop()
        await asyncio.wait([writer.gone], timeout=60)
    await asyncio.sleep(chance.uniform(10, 90))
    world.v1.mongo_down = False
    world.start_replica(world.new_name())


async def writer_killed_while_stalled(world: World, chance: random.Random) -> None:
    """What the writer sends is stuck in the network; it is killed, another one takes over, and what
    was sent arrives as late as its last call may take.
    """
    writer = world.writer
    if writer is None:
        return
    begun = world.loop.time()
    seconds = chance.uniform(15, 28)
    world.v1.stall(writer.process, seconds)
    await asyncio.sleep(chance.uniform(1, 4))
    writer.crash()
    await asyncio.sleep(seconds + begun - world.loop.time() + chance.uniform(0, 30))
    world.start_replica(world.new_name())


async def a_day_later(world: World, chance: random.Random) -> None:
    """The checkpoint is lost with a deployment, and a day passes, or the clock was days behind when
    the new one was made.
    """
    count = max(1, len(world.living))
    await _stop_replicas(world)
    world.record("the checkpoint is lost")
    for file in list(world.checkpoint.parent.iterdir()):
        file.unlink()
    behind = chance.uniform(2, 30) * _DAY if chance.random() < 0.3 else 0.0
    world.loop.wall_offset -= behind
    world.start_replica(world.new_name())
    await asyncio.sleep(5)
    await _stop_replicas(world)
    world.loop.wall_offset += behind + chance.uniform(1.01, 3) * _DAY
    world.record("a day has passed")
    for _ in range(count):
        world.start_replica(world.new_name())


async def backup_made(world: World, _chance: random.Random) -> None:
    """Somebody copies the checkpoint."""
    with (
        closing(sqlite3.connect(world.checkpoint)) as source,
        closing(sqlite3.connect(_backup_of(world))) as copy,
    ):
        source.backup(copy)


async def backup_put_back(world: World, _chance: random.Random) -> None:
    """The checkpoint is replaced with the copy, which lacks what was synced since."""
    count = max(1, len(world.living))
    await _stop_replicas(world)
    world.record("the checkpoint is replaced with an older copy")
    for file in list(world.checkpoint.parent.iterdir()):
        if file != _backup_of(world):
            file.unlink()
    _backup_of(world).rename(world.checkpoint)
    for _ in range(count):
        world.start_replica(world.new_name())


def _backup_of(world: World) -> Path:
    return world.checkpoint.with_name("backup.db")


async def other_place(world: World, chance: random.Random) -> None:
    """The daemons are configured for another target, and keep their checkpoint."""
    await _serve_place(world, chance, 1)


async def first_place(world: World, chance: random.Random) -> None:
    """They are configured for the first one again."""
    await _serve_place(world, chance, 0)


async def _serve_place(world: World, chance: random.Random, number: int) -> None:
    count = max(1, len(world.living))
    await _stop_replicas(world, chance.choice(["stop", "crash"]))
    world.serving = world.places[number]
    for _ in range(count):
        world.start_replica(world.new_name())


async def disk_hangs(world: World, chance: random.Random) -> None:
    """A call of the checkpoint does not return for minutes, while jobs are being written."""
    await _wait_for_claims(world)
    seconds = chance.uniform(60, 400)
    world.record(f"the disk hangs for {seconds:.1f} s")
    world.loop.disk_free_at = world.loop.time() + seconds
    await asyncio.sleep(seconds)


async def target_slow(world: World, _chance: random.Random) -> None:
    """The target takes seconds for what it is asked first."""
    if world.target == "modeldb-v1":
        world.v1.freeze(8)
    else:
        world.http.freeze(on=True)
        await asyncio.sleep(8)
        world.http.freeze(on=False)


async def queue_silent(world: World, chance: random.Random) -> None:
    """SQS does not answer what is said about messages, while jobs are held."""
    await _wait_for_claims(world)
    seconds = chance.uniform(60, 240)
    world.record(f"SQS is silent for {seconds:.1f} s")
    world.network.silent = frozenset({"ChangeMessageVisibilityBatch", "DeleteMessageBatch"})
    await asyncio.sleep(seconds)
    world.network.silent = frozenset()


async def target_away(world: World, chance: random.Random) -> None:
    """The target is away until shortly after SQS is back."""
    seconds = chance.uniform(100, 280)
    if world.target == "modeldb-v1":
        world.v1.restart(seconds)
    else:
        world.http.restart(seconds)
    await asyncio.sleep(seconds)


async def single_queue_fault(world: World, _chance: random.Random) -> None:
    """One receive is answered with an error."""
    world.sqs.faults.fail_next["ReceiveMessage"] = 1


async def short_queue_fault(world: World, _chance: random.Random) -> None:
    """Two receives in a row are answered with an error."""
    world.sqs.faults.fail_next["ReceiveMessage"] = 2


async def sagemaker_throttles(world: World, chance: random.Random) -> None:
    """Most calls of SageMaker are throttled, for minutes."""
    seconds = chance.uniform(60, 300)
    world.record(f"SageMaker throttles for {seconds:.1f} s")
    world.sagemaker.faults.throttled = chance.uniform(0.7, 0.95)
    await asyncio.sleep(seconds)
    world.sagemaker.faults.throttled = 0.0


async def target_unsteady(world: World, chance: random.Random) -> None:
    """Many calls of the target fail for minutes, for reasons that say nothing about a job."""
    seconds = chance.uniform(60, 240)
    world.record(f"the target is unsteady for {seconds:.1f} s")
    if world.target == "modeldb-v1":
        end = world.loop.time() + seconds
        while world.loop.time() < end and not world.is_calm:
            await asyncio.sleep(chance.uniform(0.5, 12))
            chance.choice([world.v1.lose_next_answer, world.v1.reset_connections])()
    else:
        fates = world.http.unsteady
        chosen = chance.sample(fates, chance.randint(1, len(fates)))
        total = chance.uniform(0.2, 0.7)
        world.http.chances = {fate: total / len(chosen) for fate in chosen}
        await asyncio.sleep(seconds)
        world.http.chances = {}


async def reads_lag(world: World, chance: random.Random) -> None:
    """MLflow reads from a replica of its database that is behind."""
    settle_seconds = world.settings.target.settle_seconds
    world.mlflow.lag(chance.uniform(0.02, LONGEST_LAG) * settle_seconds)


async def dead_letters_unknown(world: World, chance: random.Random) -> None:
    """Nobody may look up the URL of the dead-letter queue."""
    seconds = chance.uniform(20, 120)
    world.record(f"GetQueueUrl is denied for {seconds:.1f} s")
    world.sqs.faults.denied.add("GetQueueUrl")
    await asyncio.sleep(seconds)
    world.sqs.faults.denied.discard("GetQueueUrl")


async def dead_letters_fail(world: World, chance: random.Random) -> None:
    """The dead-letter queue takes nothing."""
    seconds = chance.uniform(5, 60)
    world.record(f"SendMessage is denied for {seconds:.1f} s")
    world.sqs.faults.denied.add("SendMessage")
    await asyncio.sleep(seconds)
    world.sqs.faults.denied.discard("SendMessage")


async def lists_fail(world: World, chance: random.Random) -> None:
    """Somebody else uses up the rate of ListTrainingJobs, or it is not allowed, or it fails."""
    seconds = chance.uniform(20, 300)
    what = chance.choice(["throttled", "denied", "failing"])
    world.record(f"ListTrainingJobs: {what} for {seconds:.1f} s")
    match what:
        case "throttled":
            world.sagemaker.list_rate = 0.05
        case "denied":
            world.sagemaker.faults.denied.add("ListTrainingJobs")
        case "failing":
            world.sagemaker.short_pages = 0.8
            world.sagemaker.faults.fail_next["ListTrainingJobs"] = chance.randint(1, 3)
    await asyncio.sleep(seconds)
    world.sagemaker.list_rate = LIST_RATE
    world.sagemaker.faults.denied.discard("ListTrainingJobs")
    world.sagemaker.short_pages = 0.0


async def sends_fail(world: World, chance: random.Random) -> None:
    """Nobody may send to the queue."""
    seconds = chance.uniform(60, 600)
    world.record(f"SendMessageBatch is denied for {seconds:.1f} s")
    world.sqs.faults.denied.add("SendMessageBatch")
    await asyncio.sleep(seconds)
    world.sqs.faults.denied.discard("SendMessageBatch")


async def _wait_for_claims(world: World) -> None:
    """Until a job is being worked on, for at most half a minute."""
    for _ in range(300):
        for replica in world.living:
            ledger = () if replica.daemon is None else replica.daemon._in_flight
            if any(delivery.job.claim is not None for delivery in ledger):
                return
        await asyncio.sleep(0.1)


async def _stop_replicas(world: World, how: str = "stop") -> None:
    """All of them; returns when none is left."""
    living = world.living
    for replica in living:
        if how == "stop":
            replica.stop()
        else:
            replica.crash()
    if living:
        await asyncio.wait([world.loop.spawn(replica.end_in_time()) for replica in living])


OUTAGES: dict[str, Action] = {
    "target_down": target_down,
    "target_database_down": target_database_down,
    "target_frozen": target_frozen,
}
CHAOS: dict[str, Action] = {
    "kill": kill,
    "sigterm": sigterm,
    "cancel": cancel,
    "lost_create": lost_create,
    "target_weather": target_weather,
    "aws_weather": aws_weather,
    "queue_habits": queue_habits,
    "queue_down": queue_down,
    "sagemaker_down": sagemaker_down,
    "disk_full": disk_full,
    "disk_lies": disk_lies,
    "disk_slow": disk_slow,
    "clock_jump": clock_jump,
    "checkpoint_deleted": checkpoint_deleted,
    **OUTAGES,
}
SCRIPTED: dict[str, Action] = {
    "writer_ends_without_mongo": writer_ends_without_mongo,
    "writer_killed_while_stalled": writer_killed_while_stalled,
    "a_day_later": a_day_later,
    "backup_made": backup_made,
    "backup_put_back": backup_put_back,
    "other_place": other_place,
    "first_place": first_place,
    "disk_hangs": disk_hangs,
    "target_slow": target_slow,
    "target_away": target_away,
    "queue_silent": queue_silent,
    "single_queue_fault": single_queue_fault,
    "short_queue_fault": short_queue_fault,
    "sagemaker_throttles": sagemaker_throttles,
    "people_and_operators": people_and_operators,
    "people_edit": people_edit,
    "doubles_appear": doubles_appear,
    "reads_lag": reads_lag,
    "target_unsteady": target_unsteady,
    "dead_letters_unknown": dead_letters_unknown,
    "dead_letters_fail": dead_letters_fail,
    "operator_redrives": redrive.operator_redrives,
    "lists_fail": lists_fail,
    "sends_fail": sends_fail,
    "backfill": backfill.act,
    "account_denied": accounts.account_denied,
    "account_allowed": accounts.account_allowed,
}


def _weather(chance: random.Random, fates: Iterable[str], most: float) -> dict[str, float]:
    """Some of the fates, with at most so much of a chance in all."""
    chosen = [fate for fate in fates if chance.random() < 0.5]
    total = chance.uniform(0.05, most)
    return {fate: total / len(chosen) for fate in chosen}


def _shown(chances: dict[str, float]) -> str:
    return ", ".join(f"{fate} {chance:.2f}" for fate, chance in chances.items()) or "fair"
