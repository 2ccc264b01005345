"""What the pages say, and that nothing hostile gets through them."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from daemon.advice import ADVICE
from daemon.checkpoint.reading import FoundJobs, JobHistory, JobSearch, Position, WorkingOn
from daemon.observability.page import job_page as job_page_module
from daemon.observability.page import overview as overview_module
from daemon.observability.page.frame import CONTENT_SECURITY_POLICY, REFRESH_SECONDS
from daemon.observability.page.job_table import JobList
from daemon.observability.page.words import ago, clock_time, duration
from daemon.observability.status import EdgeStatus, ReconcileStatus, state_since
from daemon.operations.fleet import Replica
from daemon.reasons import Edge, Reason
from daemon.story import StoryEntry, StoryEvent
from daemon.targets.place import TargetPlace
from tests.security.hostile import TEXTS
from tests.support.page_scenes import NOW, SCENES, TOLD, Scene, record, rejected, story, waiting

KNOWN_TAGS = frozenset(
    re.findall(
        r"\w+",
        """
        html head meta title link style script body a p header div span main section h1 h2 h3 ul ol
        li dl dt dd strong figure figcaption svg rect path desc circle details summary table caption
        thead tbody tr th td time form label input select option button nav noscript footer code
        """,
    )
)


def overview(*arguments: Any, **more: Any) -> str:
    return "".join(overview_module.overview(*arguments, **more))


def job_page(*arguments: Any, **more: Any) -> str:
    return "".join(job_page_module.job_page(*arguments, **more))


class Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.ids: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]


def shown(scene: Scene) -> str:
    found = FoundJobs(scene.records[:50])
    return overview(scene.status, JobList(JobSearch(), found))


def scene(name: str) -> Scene:
    return SCENES[name](NOW)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "idle",
            [
                "<h1>Running</h1>",
                "No job is recorded yet",
                "Nothing in the last hour",
                "since the start; last pass 19 min ago",
            ],
        ),
        (
            "busy",
            ["<h1>Running</h1>", ">148<", "23 in flight, 2 delayed", "3,627", "tags incomplete"],
        ),
        (
            "modeldb-down",
            [
                "<h1>Paused: ModelDB (unavailable)</h1>",
                "22 min ago",
                "(11:38:00 UTC)",
                "The queue keeps the messages and none is lost",
                ADVICE[Reason.UNAVAILABLE].means,
                ADVICE[Reason.UNAVAILABLE].do,
                "500 after 5.0 s, as ModelDB answers without its database",
                "ModelDBSyncTargetUnavailable",
                "✕ ModelDB: unavailable",
                "✓ SageMaker works",
                "oldest sent 22 min ago",
            ],
        ),
        (
            "not-ready",
            [
                "<h1>Not ready: SageMaker (access denied)</h1>",
                "Somebody has to act.",
                "Allow the action that the detail names.",
                "Dead letters cannot be sent",
                "sagemaker:ListTrainingJobs is not allowed",
                "A loop of the daemon hangs",
                "poller 1: hangs: 12 s past its deadline",
            ],
        ),
        ("standing-by", ["<h1>Standing by</h1>", "process 4f2a is the writer", "modeldb-v1 at"]),
        ("starting", ["<h1>Starting</h1>", "not asked yet", "the queue has not told yet"]),
        ("stopping", ["<h1>Stopping</h1>", "What is in work is finished"]),
        ("unreadable", ["<h1>Not ready: Checkpoint (storage)</h1>", "Free disk space"]),
    ],
)
def test_each_state_says_what_it_is_why_and_what_to_do(name: str, said: list[str]) -> None:
    page = shown(scene(name))
    assert [words for words in said if words not in page] == []


@pytest.mark.parametrize("name", SCENES)
def test_pages_are_well_formed(name: str) -> None:
    tags = Tags(shown(scene(name)))
    assert set(tags.tags) <= KNOWN_TAGS
    assert len(tags.ids) == len(set(tags.ids))
    assert not [name for name, _ in tags.attributes if name.startswith("on") or name == "style"]
    assert tags.tags.count("h1") == 1


def test_style_and_script_are_those_of_the_policy() -> None:
    page = shown(scene("busy"))
    for name in ("style", "script"):
        [code] = re.findall(f"<{name}>(.*?)</{name}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in CONTENT_SECURITY_POLICY


@pytest.mark.parametrize("kind", [kind for kind, text in TEXTS.items() if len(text) < 10_000])
def test_hostile_values_in_every_place_stay_text(kind: str) -> None:
    text = TEXTS[kind]
    row = record(
        1,
        at=NOW,
        job_name=text,
        job_arn=text,
        creation_time=text,
        detail=text,
        reason=text,
        project=text,
        target=text,
        place=text,
        message_id=text,
        target_ids={"run": text, "run_url": text, "experiment": text, "run_id": text},
        steps={text: text},
    )
    status = replace(
        scene("not-ready").status,
        edges=[EdgeStatus(Edge.TARGET, works=False, since=NOW, reason=text, detail=text)],
        hanging=[text],
        standing_by=text,
        dead_letter_fault=text,
        version=text,
        reconcile=ReconcileStatus(NOW, 1, text),
        target=TargetPlace(text, text),
        rows={text: 1},
        replicas=[Replica(text, text, NOW, text, text, seen_at=NOW)] * 2,
    )
    wanted = JobSearch(job=text, project=text, reason=text, before=Position(1.5, 2))
    found = FoundJobs([row, rejected(2, at=NOW)], Position(1.5, 2), 5.0)
    told = [StoryEntry(NOW, StoryEvent.OUTCOME, text, text, text)]
    pages = (
        overview(status, JobList(wanted, found, problem=text)),
        job_page(text, JobHistory([row], told, WorkingOn(text, NOW)), status),
        job_page(text, JobHistory(()), status, problem=text),
    )
    for page in pages:
        page.encode()
        tags = Tags(page)
        assert set(tags.tags) <= KNOWN_TAGS
        assert tags.tags.count("script") == 1
        for name, value in tags.attributes:
            if name in {"href", "action"}:
                assert value.startswith(
                    ("/", "?", "#", "https://", "http://", "data:image/svg+xml,")
                )
                assert not value.startswith("//")


def test_a_search_that_ran_out_of_time_says_how_far_it_looked() -> None:
    found = FoundJobs([record(1, at=NOW)], Position(NOW - 7200.5, 12), NOW - 7200.5)
    page = overview(scene("idle").status, JobList(JobSearch(job="x"), found))
    assert "Searched back to 09:59:59 UTC" in page
    assert "Older jobs whose name begins with the text" in page
    assert f'href="?job=x&amp;before={NOW - 7200.5!r}-12">Search further back' in page


def test_jobs_of_several_targets_say_which() -> None:
    rows = [record(1, at=NOW), record(2, at=NOW, target="modeldb-v1", place="other:6543")]
    assert "modeldb-v1 at other:6543" in shown(Scene(scene("idle").status, rows))
    assert "modeldb-v1 at other" not in shown(Scene(scene("idle").status, rows[:1]))


def test_links_to_the_run_only_where_there_is_one() -> None:
    page = shown(Scene(scene("idle").status, [record(1, at=NOW), rejected(2, at=NOW)]))
    assert page.count('aria-label="Run of ') == 1
    assert page.count('aria-label="Job of ') == page.count('aria-label="Logs of ') == 2
    china = record(3, at=NOW, job_arn=TOLD.replace("arn:aws:", "arn:aws-cn:"))
    assert "console.amazonaws.cn" in shown(Scene(scene("idle").status, [china]))


def test_several_replicas_are_shown_and_this_one_is_marked() -> None:
    status = scene("idle").status
    here = Replica("pod-a-000000000001", "0.1.0", NOW - 90, "ready", seen_at=NOW)
    others = [
        Replica(
            "pod-b-000000000002", "0.1.1", NOW, "paused", "target unavailable", 7, 12, NOW - 20
        ),
        Replica("pod-c-000000000003", "0.1.1", NOW, "vanished", seen_at=NOW - 600),
    ]
    shown = JobList(JobSearch(), FoundJobs([], None, None))
    assert "Replicas" not in overview(replace(status, replicas=[here]), shown)
    page = overview(replace(status, replicas=[here, *others]), shown)
    rows = re.findall(r"<tr><td>pod-.*?</tr>", page)
    assert [("(this one)" in row, "Paused" in row, "Vanished" in row) for row in rows] == [
        (True, False, False),
        (False, True, False),
        (False, False, True),
    ]
    assert ": target unavailable" in rows[1]


def test_the_numbers_before_a_restart_are_said_to_be_without_times() -> None:
    status = replace(scene("busy").status, counted_since=NOW - 600)
    page = shown(Scene(status))
    assert "The daemon started at 11:50:00 UTC. What is older comes from the checkpoint" in page
    assert "What is older" not in shown(scene("busy"))


def test_the_chart_has_its_numbers_as_a_table_and_in_words() -> None:
    page = shown(scene("busy"))
    assert "In the last hour 3,627 jobs were synced" in page
    assert page.count('scope="col"') > 6
    assert "<caption" in page


class TestJob:
    def test_its_story_in_order(self) -> None:
        history = JobHistory([record(0, at=NOW)], story(NOW))
        page = job_page(TOLD, history, scene("busy").status)
        told = [
            "Message received",
            "Claimed",
            "Described by SageMaker",
            "Held: a dependency",
            "Outcome",
        ]
        places = [page.index(words) for words in told]
        assert places == sorted(places)
        assert "30.1 s later" in page or "30 s later" in page
        assert page.count("message 3f6b2a10") < 5  # said where it changes

    def test_a_job_that_waits_says_what_for(self) -> None:
        history = JobHistory([waiting(4, at=NOW)], (), WorkingOn("p", NOW + 30))
        page = job_page(TOLD, history, scene("busy").status)
        assert ADVICE[Reason.TARGET_FAULT].do.replace("'", "&#x27;") in page
        assert "A process works on it now." in page
        assert "createExperimentRun: 500" in page

    def test_a_name_used_again_shows_both_jobs(self) -> None:
        rows = [
            record(1, at=NOW, creation_time=f"202{year}-01-01T00:00:00.000Z") for year in (5, 4)
        ]
        page = job_page(TOLD, JobHistory(rows), scene("busy").status)
        assert page.index("2025-01-01") < page.index("2024-01-01")
        assert page.count("<h1>") == 1

    def test_nothing_of_it(self) -> None:
        assert "The verb explain says" in job_page(TOLD, JobHistory(()), scene("busy").status)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0 s"),
        (0.04, "0 s"),
        (0.4, "0.4 s"),
        (3, "3 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (90_000, "1 d 1 h"),
        (86_460, "1 d"),
        (4e9, "46296 d 7 h"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_times() -> None:
    assert ago(NOW + 100, NOW) == "just now"
    assert clock_time(NOW - 60, NOW) == "11:59:00 UTC"
    assert clock_time(NOW - 86_400, NOW) == "2025-11-27 12:00:00 UTC"
    for odd in (-1e300, 1e300, float("inf")):
        clock_time(odd, NOW)


def test_since_when() -> None:
    good = EdgeStatus(Edge.QUEUE, works=True, since=50)
    bad = [
        EdgeStatus(edge, works=False, since=at)
        for edge, at in ((Edge.TARGET, 80), (Edge.SAGEMAKER, 70))
    ]
    assert state_since("paused", [good, *bad], 10) == 70
    assert state_since("ready", [good], 10) == 50
    assert state_since("ready", [good], 60) == 60
    assert state_since("stopping", [good], 10) == 10


def test_bounds_of_a_reload() -> None:
    least, most = REFRESH_SECONDS
    assert f'content="{least}"' in overview(
        scene("idle").status, JobList(JobSearch(), FoundJobs()), refresh=least
    )
    assert most == 3600
