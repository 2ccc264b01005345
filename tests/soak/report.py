"""The results of the soak, as text and as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.soak.feed import Books
    from tests.soak.processes import Usage
    from tests.soak.soak_scene import SoakScene
    from tests.soak.stories import Story
    from tests.soak.verdict import Log, Verdict
    from tests.support.tcp_fault_proxy import FaultProxy

WARM_UP_MINUTES = 0.5
"""Of a process, before which what it uses says nothing."""
SHOWN = 40


def say(words: str) -> None:
    """Prints at once, without buffering."""
    print(words, flush=True)


@dataclass
class Report:
    """The results of one run."""

    seed: int
    minutes: float
    folder: str
    sections: list[dict[str, Any]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    def add(self, scene: tuple[dict[str, Any], Sequence[str]]) -> None:
        self.sections.append(scene[0])
        self.violations += scene[1]

    def add_story(self, story: Story) -> None:
        self.sections.append(
            {"name": story.name, **story.figures, "usage": first_and_last(story.samples)}
        )
        self.violations += story.violations

    def figures(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "minutes": self.minutes,
            "sections": self.sections,
            "violations": self.violations,
        }

    def lines(self) -> Iterator[str]:
        yield f"soak: {self.minutes:g} minutes, seed {self.seed}"
        for section in self.sections:
            yield f"{section['name']}:"
            for name, value in section.items():
                if name != "name":
                    yield f"  {name}: {_plain(value)}"
        if not self.violations:
            yield "nothing is wrong"
            return
        yield f"{len(self.violations)} violations; logs and state are in {self.folder}"
        yield from (f"  {words}" for words in self.violations[:SHOWN])
        if len(self.violations) > SHOWN:
            yield f"  and {len(self.violations) - SHOWN} more"


def arena_report(
    scene: SoakScene,
    proxy: FaultProxy,
    books: Books,
    verdict: Verdict,
    log: Log,
    calm_from_minute: float,
) -> tuple[dict[str, Any], Sequence[str]]:
    """The figures of a scene, and its violations."""
    figures = {
        "name": scene.name,
        "jobs": verdict.jobs,
        "messages": books.messages,
        "untagged jobs": len(books.untagged),
        "poison messages": len(books.poison),
        "lost": len(verdict.lost),
        "twice": len(verdict.twice),
        "incomplete": len(verdict.incomplete),
        "unwanted runs": len(verdict.unwanted),
        "dead letters that are wrong": len(verdict.dead_letters),
        "dead letters sent twice": verdict.dead_letters_twice,
        "done to it": dict(sorted(scene.happened.counts.items())),
        "connections, answers and pieces hit by the proxy": {
            fault.value: count for fault, count in sorted(proxy.struck.items())
        },
        "highest receive count": log.highest_receive_count,
        "outcomes": dict(sorted(log.outcomes.items())),
        "duplicates healed": log.healed,
        "errors logged": dict(log.errors.most_common(10)),
        "usage in the stretch without faults": first_and_last(
            [each for each in scene.samples if each.minute >= calm_from_minute]
        ),
    }
    found = [
        *scene.happened.violations,
        *(f"{scene.name}: {each}" for each in [*verdict.violations, *log.violations]),
    ]
    return figures, found


def first_and_last(samples: Sequence[Usage]) -> dict[str, Any]:
    """The resources a process used after its warm-up, at the end, and at most."""
    warm = [each for each in samples if each.minute >= samples[0].minute + WARM_UP_MINUTES] or list(
        samples
    )
    if not warm:
        return {}
    return {
        "first": warm[0].plain(),
        "last": warm[-1].plain(),
        "highest": {
            "rss_mib": max(each.rss_mib for each in warm),
            "descriptors": max(each.descriptors for each in warm),
            "sockets": max(each.sockets for each in warm),
            "threads": max(each.threads for each in warm),
        },
    }


def _plain(value: object) -> str:
    if isinstance(value, dict):
        mapping: Mapping[str, object] = value
        return ", ".join(
            f"{name} {_plain(each) if not isinstance(each, dict) else '(' + _plain(each) + ')'}"
            for name, each in mapping.items()
        )
    if isinstance(value, list):
        return " to ".join(_plain(each) for each in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
