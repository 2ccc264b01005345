"""`make bench`: the participants side by side in one run, on the same broker and stand-ins.

make bench ARGS="--quick"
make bench ARGS="--only drain --participants floor,daemon-sqlite --jobs 1000 --rounds 5"
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from benchmarks.bench import tables
from benchmarks.bench.contestants import CONTESTANTS, LOCKS
from benchmarks.bench.environments import HERE, ROOT, PythonEnvironment, home, run
from benchmarks.bench.machine import Cores, description
from benchmarks.bench.scenarios import SCENARIOS, RealServers, Sizes
from benchmarks.bench.shared_checkpoint import AVAILABLE, DaemonOnDynamoDb, dynamodb_at
from benchmarks.bench.targets import REAL_SERVERS
from benchmarks.bench.world import free_port, open_world

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.bench.contestants import Contestant

DOCS = ROOT / "docs"
ALL: tuple[Contestant, ...] = (*CONTESTANTS, *([DaemonOnDynamoDb()] if AVAILABLE else []))
PLOT = PythonEnvironment("plot", LOCKS / "plot.txt")


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(
        prog="make bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ",".join([*(scenario.key for scenario in SCENARIOS), RealServers.key])
    parser.add_argument("--quick", action="store_true", help="few jobs and rounds: 2 to 3 minutes")
    parser.add_argument("--only", help=f"scenarios, with commas: {names}")
    parser.add_argument(
        "--participants",
        help=f"with commas: {','.join(contestant.key for contestant in ALL)}",
    )
    parser.add_argument("--jobs", type=int, help="of drain")
    parser.add_argument("--fast-jobs", type=int, help="of drain-fast-target")
    parser.add_argument("--rounds", type=int, help="of each scenario that has several")
    parser.add_argument("--sqs", help="endpoint of another SQS, for example ElasticMQ")
    parser.add_argument(
        "--publish",
        action="store_true",
        help="write docs/performance.md, .json and .png, as a full run does",
    )
    return parser.parse_args(given)


async def main() -> int:
    """Runs what is asked for, and prints and writes the figures."""
    asked = arguments()
    if (this := asyncio.current_task()) is not None:  # ended, it ends what it has started
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    sizes = Sizes.quick() if asked.quick else Sizes()
    sizes = sizes.replaced(jobs=asked.jobs, fast_jobs=asked.fast_jobs, rounds=asked.rounds)
    contestants = _chosen(ALL, asked.participants)
    cores = Cores.here()
    results: dict[str, Any] = {
        "commit": await _git("rev-parse", "HEAD"),
        "quick": asked.quick,
        "changed": bool(await _git("status", "--porcelain", "--untracked-files=no")),
        "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": description(),
        "pinning": str(cores),
        "sizes": asdict(sizes),
        "participants": {},
        "scenarios": {},
        "notes": [
            f"{server.key.replace('-', ' ', 1)} was left out: {server.variable} is not set"
            for server in REAL_SERVERS
            if not server.available
        ],
    }
    ready = []
    for contestant in contestants:
        try:
            await contestant.environment.make()
        except RuntimeError as error:
            results["notes"].append(f"{contestant.label} was left out: {error}")
            continue
        ready.append(contestant)
        results["participants"][contestant.key] = {
            "label": contestant.label,
            "versions": await contestant.environment.versions(),
        }
    cores.take_rest()
    async with contextlib.AsyncExitStack() as opened:
        world = await opened.enter_async_context(open_world(cores, asked.sqs))
        results["broker"] = world.broker
        if any(isinstance(each, DaemonOnDynamoDb) for each in ready):
            world.dynamodb = await opened.enter_async_context(dynamodb_at(free_port()))
        for scenario in _chosen((*SCENARIOS, RealServers()), asked.only):
            begun = time.monotonic()
            found = await scenario.run(world, ready, sizes)
            results["scenarios"] |= (
                found if isinstance(scenario, RealServers) else {scenario.key: found}
            )
            print(f"{scenario.key}: {time.monotonic() - begun:.0f} s", flush=True)
            (home() / "so-far.json").write_text(json.dumps(results, indent=1))  # if it is ended
    whole = not (asked.quick or asked.only or asked.participants)
    await _write(results, publish=asked.publish or whole)
    return 0


async def _write(results: Mapping[str, Any], *, publish: bool) -> None:
    """Results, plot and tables: in docs, or beside the environments."""
    folder = DOCS if publish else home()
    written = folder / "performance.json"
    written.write_text(json.dumps(results, indent=1) + "\n")
    if publish:
        tables.write(results)
    else:
        (folder / "performance.md").write_text(tables.tables(results) + "\n")
    picture = folder / "images" / "performance.png" if publish else folder / "performance.png"
    await PLOT.make()
    await run(str(PLOT.python), str(HERE / "plot.py"), str(written), str(picture))
    print(f"{tables.tables(results)}\n\nwritten: {written}, {picture}")


def _chosen(known: Sequence[Any], names: str | None) -> list[Any]:
    if names is None:
        return list(known)
    by_key = {each.key: each for each in known}
    if unknown := set(names.split(",")) - set(by_key):
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(by_key)}")
    return [by_key[name] for name in names.split(",")]


async def _git(*words: str) -> str:
    return (await run("git", *words, cwd=ROOT)).strip()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
