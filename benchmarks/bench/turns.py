"""Who is when: in turn where speed counts, side by side where only the account does."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from benchmarks.bench.world import StuckError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from benchmarks.bench.contestants import Contestant

    One = Callable[[Contestant], Awaitable[dict[str, Any]]]
    Figures = dict[str, list[dict[str, Any]]]
    """By participant, the figures of each round."""


async def in_turn(
    scenario: str, contestants: Sequence[Contestant], rounds: int, one: One
) -> Figures:
    """In each round, every participant alone: a machine that gets slower meets all of them."""
    figures: Figures = {contestant.key: [] for contestant in contestants}
    for _ in range(rounds):
        for contestant in contestants:
            figures[contestant.key].append(await _tried(scenario, contestant, one))
    return figures


async def side_by_side(scenario: str, contestants: Sequence[Contestant], one: One) -> Figures:
    """One round with all at once, on the one core of the participants."""
    found = await asyncio.gather(*(_tried(scenario, each, one) for each in contestants))
    return {contestant.key: [figure] for contestant, figure in zip(contestants, found, strict=True)}


async def _tried(scenario: str, contestant: Contestant, one: One) -> dict[str, Any]:
    try:
        figure = await one(contestant)
    except StuckError as stuck:
        print(stuck, flush=True)
        figure = {"stuck": str(stuck).partition("\n")[0]}
    print(f"{scenario} {contestant.key}: {json.dumps(figure)}", flush=True)
    return figure
