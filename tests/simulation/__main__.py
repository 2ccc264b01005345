"""Runs the simulation: `make simulate SEEDS=20000`, or one of its verbs.

    python -m tests.simulation histories --seeds 20000   long histories, with each target
    python -m tests.simulation histories --kind standby  those of one kind
    python -m tests.simulation histories --targets mlflow
    python -m tests.simulation histories --checkpoint dynamodb
                                                        those of several hosts
    python -m tests.simulation crash-points             every point and way to end a short history
    python -m tests.simulation mutations                breaks each rule on purpose and counts the
                                                        histories until that is found
    python -m tests.simulation replay modeldb-v2 4711   one history again, with its log
    python -m tests.simulation replay modeldb-v1 --trouble "storeFitEvent answer lost" --step 205
                                                        one crash point again (--end: kill, …)

Exit status 1: something was wrong; the command that replays it is printed with it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

from tests.simulation import crash_points
from tests.simulation.kinds import HOSTS, KINDS
from tests.simulation.mutations import MUTATIONS, found_after
from tests.simulation.work import TARGETS, Work, do, replay_command, result_of_work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

SHOWN = 20
_MIXES = {crash_points.SQLITE: "", crash_points.DYNAMODB: HOSTS}
"""The kind that stands for the mix of a checkpoint's histories."""


def _histories(options: argparse.Namespace) -> Iterator[Work]:
    kind = options.kind or _MIXES[options.checkpoint]
    for seed in range(options.first, options.first + options.seeds):
        for target in options.targets:
            if not kind or target in KINDS[kind].targets:
                yield ("history", target, str(seed), kind)


def _crash_points(options: argparse.Namespace) -> Iterator[Work]:
    for target in options.targets:
        for trouble in crash_points.TROUBLES[target]:
            steps = crash_points.steps_of(target, trouble, options.checkpoint)
            print(f"{target}{', ' if trouble else ''}{trouble}: {steps} points", flush=True)
            of_hosts = options.checkpoint == crash_points.DYNAMODB
            for end in crash_points.ENDS_OF_HOSTS if of_hosts else crash_points.ENDS:
                for step in range(1, steps + 1, options.every):
                    yield ("crash", target, trouble, end, str(step), options.checkpoint)


def _run_all(options: argparse.Namespace, works: Iterable[Work]) -> int:
    # before there is a pool, whose threads go by the clock that a simulation sets
    everything = list(works)
    begun = time.perf_counter()
    count = wrong = 0
    virtual, steps, suffered = 0.0, 0, Counter[str]()
    # Each worker is thrown away now and then: what crashed histories leave behind is not worth
    # chasing.
    with multiprocessing.get_context("spawn").Pool(options.jobs, maxtasksperchild=20) as pool:
        for work, wrongs, seconds, points, bad in pool.imap_unordered(do, everything, chunksize=25):
            count, virtual, steps = count + 1, virtual + seconds, steps + points
            suffered.update(bad)
            if wrongs:
                wrong += 1
                if wrong <= SHOWN:
                    print(f"{replay_command(work)}\n    " + "\n    ".join(wrongs[:5]), flush=True)
            if count % 1000 == 0:
                print(
                    f"{count} histories, {wrong} wrong, {time.perf_counter() - begun:.0f} s",
                    flush=True,
                )
    print(
        f"{count} histories in {time.perf_counter() - begun:.0f} s with {options.jobs} processes: "
        f"{virtual / 3600:.0f} hours of the daemon's life, {steps} steps; {wrong} wrong"
    )
    print("suffered: " + ", ".join(f"{what} {times}" for what, times in suffered.most_common(30)))
    return 1 if wrong else 0


def _mutations(options: argparse.Namespace) -> int:
    survived = 0
    for mutation in MUTATIONS:
        begun = time.perf_counter()
        found = found_after(mutation, options.most)
        survived += found is None
        what = (
            f"found after {found[0]} histories ({found[1][:110]})"
            if found
            else f"NOT FOUND in {options.most} histories"
        )
        print(
            f"without the rule that {mutation.rule}: {what}; {time.perf_counter() - begun:.1f} s",
            flush=True,
        )
    return 1 if survived else 0


def _replay(options: argparse.Namespace) -> int:
    if options.seed is not None:
        kind = options.kind or _MIXES[options.checkpoint]
        work: Work = ("history", options.target, str(options.seed), kind)
    else:
        work = (
            *("crash", options.target, options.trouble),
            *(options.end, str(options.step), options.checkpoint),
        )
    result = result_of_work(work)
    print("\n".join(result.lines))
    print(f"\n{len(result.wrongs)} wrong" + "".join(f"\n    {wrong}" for wrong in result.wrongs))
    return 1 if result.wrongs else 0


def _add_kind(parser: argparse.ArgumentParser) -> None:
    about = "; ".join(f"{name}: {kind.about}" for name, kind in KINDS.items())
    parser.add_argument(
        "--kind", choices=KINDS, default="", help=f"only this one of the default mix ({about})"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation", description="Deterministic simulation of the daemon."
    )
    verbs = parser.add_subparsers(required=True)

    def verb(
        name: str, does: Callable[[argparse.Namespace], int], about: str
    ) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=about)
        made.set_defaults(does=does)
        return made

    def of_a_checkpoint(made: argparse.ArgumentParser) -> None:
        made.add_argument(
            "--checkpoint", choices=crash_points.CHECKPOINTS, default=crash_points.SQLITE
        )

    def of_many(made: argparse.ArgumentParser) -> None:
        of_a_checkpoint(made)
        made.add_argument("--targets", nargs="+", choices=TARGETS, default=TARGETS)
        made.add_argument(
            "--jobs",
            type=int,
            default=os.cpu_count() or 1,
            help="processes (default: one per core)",
        )

    histories = verb(
        "histories", lambda options: _run_all(options, _histories(options)), "long histories"
    )
    histories.add_argument("--seeds", type=int, default=1000)
    histories.add_argument("--first", type=int, default=0, help="the first seed")
    _add_kind(histories)
    of_many(histories)
    crashes = verb(
        "crash-points",
        lambda options: _run_all(options, _crash_points(options)),
        "every point of the short histories",
    )
    crashes.add_argument("--every", type=int, default=1, help="only every so-manyth point")
    of_many(crashes)
    mutations = verb("mutations", _mutations, "breaks rules on purpose")
    mutations.add_argument(
        "--most", type=int, default=2000, help="histories until a rule counts as not found"
    )
    replay = verb("replay", _replay, "one history, step by step")
    replay.add_argument("target", choices=TARGETS)
    replay.add_argument("seed", type=int, nargs="?")
    _add_kind(replay)
    of_a_checkpoint(replay)
    replay.add_argument("--trouble", default="")
    replay.add_argument("--end", choices=crash_points.ENDS_OF_HOSTS, default="kill")
    replay.add_argument("--step", type=int, default=1)
    options = parser.parse_args(arguments)
    return int(options.does(options))


if __name__ == "__main__":
    sys.exit(main())
