"""What the participants are put through."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from benchmarks.bench.drain import drain
from benchmarks.bench.quiet import cold_start, idle
from benchmarks.bench.steady import steady
from benchmarks.bench.targets import REAL_SERVERS
from benchmarks.bench.trouble import Outage, stopped_under_load, twice, with_poison
from benchmarks.bench.turns import in_turn, side_by_side
from benchmarks.bench.verdicts import DAEMON

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.bench.contestants import Contestant
    from benchmarks.bench.targets import Target
    from benchmarks.bench.turns import Figures
    from benchmarks.bench.world import World

SAMPLE = "sample"


@dataclass(frozen=True)
class Sizes:
    """How much is done.

    Attributes:
        rounds: of each scenario whose figure is a speed.
        jobs: of a drain where the target is the limit.
        fast_jobs: of a drain where the target answers at once.
        sample_jobs: of any drain by the sample's steps, which are slow.
        latency_seconds: of a request to ModelDB, where the target is the limit.
        rate: of the steady events, in 1/s.
        steady_seconds: how long they come.
        real_jobs: of a drain into a real server.
        trouble_jobs: where the account is what counts.
        outage_seconds: how long the target is down.
        idle_seconds: how long nothing is done.
    """

    rounds: int = 5
    jobs: int = 1000
    fast_jobs: int = 10_000
    sample_jobs: int = 50
    latency_seconds: float = 0.02
    rate: float = 50
    steady_seconds: float = 6
    trouble_jobs: int = 200
    real_jobs: int = 100
    outage_seconds: float = 60
    idle_seconds: float = 60

    @classmethod
    def quick(cls) -> Sizes:
        """To see that everything works; the figures say little."""
        return cls(
            rounds=1,
            jobs=100,
            fast_jobs=100,
            sample_jobs=10,
            steady_seconds=2,
            trouble_jobs=50,
            real_jobs=10,
            outage_seconds=10,
            idle_seconds=5,
        )

    def replaced(self, **given: int | None) -> Sizes:
        """With those that are given."""
        return replace(self, **{name: value for name, value in given.items() if value is not None})


class Scenario(Protocol):
    """One of them."""

    @property
    def key(self) -> str:
        """In the results."""
        ...

    async def run(self, world: World, contestants: Sequence[Contestant], sizes: Sizes) -> Figures:
        """All rounds of all who take part."""
        ...


class Drain:
    """A full queue; the target is the limit."""

    key = "drain"

    async def run(self, world: World, contestants: Sequence[Contestant], sizes: Sizes) -> Figures:
        """See `Scenario`."""
        await world.ask("latency", seconds=sizes.latency_seconds)

        async def one(contestant: Contestant) -> dict[str, Any]:
            jobs = sizes.sample_jobs if contestant.key == SAMPLE else sizes.jobs
            return asdict(await drain(world, contestant, jobs))

        return await in_turn(self.key, contestants, sizes.rounds, one)


class DrainOnePoller:
    """The same with one long poll at a time, the default of the daemon and of sqs-consumer. The
    bare loop keeps its six, and taskiq has never more than one.
    """

    key = "drain-one-poller"

    async def run(self, world: World, contestants: Sequence[Contestant], sizes: Sizes) -> Figures:
        """See `Scenario`."""
        await world.ask("latency", seconds=sizes.latency_seconds)

        async def one(contestant: Contestant) -> dict[str, Any]:
            return asdict(await drain(world, contestant, sizes.jobs, pollers=1))

        return await in_turn(self.key, without_sample(contestants), sizes.rounds, one)


class DrainFastTarget:
    """A full and deep queue; the participant is the limit."""

    key = "drain-fast-target"

    async def run(self, world: World, contestants: Sequence[Contestant], sizes: Sizes) -> Figures:
        """See `Scenario`."""
        await world.ask("latency", seconds=0)

        async def one(contestant: Contestant) -> dict[str, Any]:
            jobs = sizes.sample_jobs if contestant.key == SAMPLE else sizes.fast_jobs
            return asdict(await drain(world, contestant, jobs))

        return await in_turn(self.key, contestants, 1, one)


class DrainAtStart:
    """The queue is full before the start: the daemon looks every job up first."""

    key = "drain-at-start"

    async def run(self, world: World, contestants: Sequence[Contestant], sizes: Sizes) -> Figures:
        """See `Scenario`."""
        await world.ask("latency", seconds=sizes.latency_seconds)

        async def one(contestant: Contestant) -> dict[str, Any]:
            return asdict(await drain(world, contestant, sizes.jobs, at_start=True))

        return await in_turn(self.key, without_sample(contestants), 1, one)


class SteadyEvents:
    """A rate that all but the sample's steps can follow."""

    key = "steady"

    async def run(self, world: World, contestants: Sequence[Contestant], sizes: Sizes) -> Figures:
        """See `Scenario`."""
        await world.ask("latency", seconds=sizes.latency_seconds)

        async def one(contestant: Contestant) -> dict[str, Any]:
            return asdict(await steady(world, contestant, sizes.rate, sizes.steady_seconds))

        return await in_turn(self.key, without_sample(contestants), sizes.rounds, one)


class Twice:
    """Every event comes twice."""

    key = "twice"

    async def run(self, world: World, contestants: Sequence[Contestant], sizes: Sizes) -> Figures:
        """See `Scenario`."""
        await world.ask("latency", seconds=sizes.latency_seconds)

        async def one(contestant: Contestant) -> dict[str, Any]:
            return asdict(await twice(world, contestant, sizes.trouble_jobs))

        return await side_by_side(self.key, contestants, one)


class Poison:
    """One message in a hundred cannot be read."""

    key = "poison"

    async def run(self, world: World, contestants: Sequence[Contestant], sizes: Sizes) -> Figures:
        """See `Scenario`."""
        await world.ask("latency", seconds=sizes.latency_seconds)

        async def one(contestant: Contestant) -> dict[str, Any]:
            return asdict(await with_poison(world, contestant, sizes.trouble_jobs))

        return await side_by_side(self.key, contestants, one)


class Stopped:
    """SIGTERM under load. The sample's Lambdas get none."""

    key = "sigterm"

    async def run(self, world: World, contestants: Sequence[Contestant], sizes: Sizes) -> Figures:
        """See `Scenario`."""
        await world.ask("latency", seconds=sizes.latency_seconds)

        async def one(contestant: Contestant) -> dict[str, Any]:
            return asdict(await stopped_under_load(world, contestant, sizes.trouble_jobs))

        return await side_by_side(self.key, without_sample(contestants), one)


class TargetDown:
    """The target is away for a while."""

    key = "outage"

    async def run(self, world: World, contestants: Sequence[Contestant], sizes: Sizes) -> Figures:
        """See `Scenario`."""
        await world.ask("latency", seconds=sizes.latency_seconds)
        outage = Outage(world, sizes.outage_seconds, 2, len(contestants))

        async def one(contestant: Contestant) -> dict[str, Any]:
            return asdict(await outage.live_through(contestant))

        happening = asyncio.create_task(outage.happen())
        figures = await side_by_side(self.key, contestants, one)
        await happening
        return figures


class ColdStarts:
    """From nothing to the first run. How a Lambda of the sample starts cannot be measured here."""

    key = "cold-start"

    async def run(self, world: World, contestants: Sequence[Contestant], sizes: Sizes) -> Figures:
        """See `Scenario`."""
        await world.ask("latency", seconds=sizes.latency_seconds)

        async def one(contestant: Contestant) -> dict[str, Any]:
            return asdict(await cold_start(world, contestant))

        return await in_turn(self.key, without_sample(contestants), sizes.rounds, one)


class IdleHour:
    """Nothing to do. Of the sample, nothing runs then."""

    key = "idle"

    async def run(self, world: World, contestants: Sequence[Contestant], sizes: Sizes) -> Figures:
        """See `Scenario`."""

        async def one(contestant: Contestant) -> dict[str, Any]:
            return asdict(await idle(world, contestant, sizes.idle_seconds))

        return await side_by_side(self.key, without_sample(contestants), one)


class RealServers:
    """A full queue and a real server, for each whose variable is set."""

    key = "real"

    async def run(
        self, world: World, contestants: Sequence[Contestant], sizes: Sizes
    ) -> dict[str, Figures]:
        """All rounds, by the key of the server."""
        found: dict[str, Figures] = {}
        for server in REAL_SERVERS:
            if server.available:
                async with server.open(world) as target:
                    found[server.key] = await self._drains(
                        server.key, world, target, contestants, sizes
                    )
        return found

    @staticmethod
    async def _drains(
        key: str,
        world: World,
        target: Target,
        contestants: Sequence[Contestant],
        sizes: Sizes,
    ) -> Figures:
        async def one(contestant: Contestant) -> dict[str, Any]:
            return asdict(await drain(world, contestant, sizes.real_jobs, target))

        able = [each for each in contestants if target.kind == each.kind or each.key == DAEMON]
        return await in_turn(key, able, sizes.rounds, one)


def without_sample(contestants: Sequence[Contestant]) -> list[Contestant]:
    """The others."""
    return [contestant for contestant in contestants if contestant.key != SAMPLE]


SCENARIOS: tuple[Scenario, ...] = (
    Drain(),
    DrainOnePoller(),
    SteadyEvents(),
    DrainFastTarget(),
    DrainAtStart(),
    Twice(),
    Poison(),
    Stopped(),
    TargetDown(),
    ColdStarts(),
    IdleHour(),
)
