"""The status page in a real browser: headless Chromium."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from daemon.clock import wall
from tests.security.hostile import TEXTS
from tests.support.browser import CHROMIUM, DESKTOP, NO_CHROMIUM, PHONE
from tests.support.page_scenes import (
    SCENES,
    TOLD,
    FixedSource,
    make_checkpoint,
    of_each_kind,
    record,
    scene_served,
    served,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.browser import Tab

pytestmark = [
    pytest.mark.slow,  # a browser
    pytest.mark.skipif(not CHROMIUM, reason=NO_CHROMIUM),
]

SHOWN = [(name, "/") for name in SCENES] + [
    ("busy", f"/jobs/{TOLD}"),
    ("busy", "/jobs/arn:unknown"),
    ("busy", "/?job=nothing-like-it"),
    ("thousand-jobs", "/?outcome=rejected"),
    ("busy", "/?outcome=wrong"),
]
VIOLATIONS = """axe.run().then((result) => result.violations.map((each) =>
    each.id + ": " + each.nodes.map((node) => node.html.slice(0, 150) + node.failureSummary).join()
))"""
NO_OVERFLOW = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"


class TestReading:
    async def test_without_scripts_everything_is_there(self, tab: Tab, tmp_path: Path) -> None:
        async with scene_served(SCENES["modeldb-down"](wall()), tmp_path) as server:
            await tab.look(DESKTOP, scripts=False)
            await tab.open(f"http://127.0.0.1:{server.port}/")
            text = await tab.run("document.body.innerText")
            assert "Paused: ModelDB (unavailable)" in text
            assert "What to do" in text
            assert "churn-xgb-2025-11-28-00000" in text
            assert "Pause updates" not in text  # which only the script can
            link = await tab.run("document.querySelector('noscript a').innerText")
            assert link == "Reload every 30 s"
            searched = await tab.run(
                "(() => { document.querySelector('[name=job]').value = '00003';"
                "document.querySelector('form').submit(); })()"
            )
            assert searched is None
            await tab.until("location.search.includes('00003')")
            await tab.until("document.readyState === 'complete'")
            assert await tab.run("document.querySelectorAll('.jobs tbody tr').length") == 1

    @pytest.mark.parametrize(("name", "path"), SHOWN)
    async def test_it_fits_a_phone_and_keeps_its_own_policy(
        self, tab: Tab, tmp_path: Path, name: str, path: str
    ) -> None:
        async with scene_served(SCENES[name](wall()), tmp_path) as server:
            for size in ((320, 640), PHONE, DESKTOP):
                await tab.look(size)
                await tab.open(f"http://127.0.0.1:{server.port}{path}")
                assert await tab.run(NO_OVERFLOW), size
        # a page that does not exist answers 404, which Chromium reports, too
        assert [each for each in tab.errors if "404" not in each] == []

    async def test_names_of_any_length_and_content_stay_inside_and_text(
        self, tab: Tab, tmp_path: Path
    ) -> None:
        texts = [text[:5000] for text in TEXTS.values() if "\ud800" not in text]
        rows = [
            record(
                number,
                at=wall() - number,
                job_name=text,
                detail=text,
                project=text,
                message_id=text[:300],
                target_ids={"run": text, "run_url": text, "project": text},
            )
            for number, text in enumerate(texts)
        ]
        scene = replace(SCENES["idle"](wall()), records=rows)
        async with scene_served(scene, tmp_path) as server:
            for size in (PHONE, DESKTOP):
                await tab.look(size)
                for path in ("/", *(f"/jobs/{row.job_arn}" for row in rows[:6])):
                    await tab.open(f"http://127.0.0.1:{server.port}{path}")
                    assert await tab.run(NO_OVERFLOW), (size, path)
                    assert await tab.run("document.scripts.length") == 1
                    assert (
                        await tab.run("document.querySelectorAll('[href^=\"javascript\"]').length")
                        == 0
                    )
        assert tab.errors == []

    async def test_the_scheme_is_the_readers(self, tab: Tab, tmp_path: Path) -> None:
        async with scene_served(SCENES["busy"](wall()), tmp_path) as server:
            grounds = []
            for dark in (False, True):
                await tab.look(DESKTOP, dark=dark)
                await tab.open(f"http://127.0.0.1:{server.port}/")
                grounds.append(await tab.run("getComputedStyle(document.body).backgroundColor"))
        assert grounds == ["rgb(244, 246, 248)", "rgb(14, 18, 22)"]


class TestKeyboard:
    async def test_the_order_is_that_of_the_page_and_the_focus_is_visible(
        self, tab: Tab, tmp_path: Path
    ) -> None:
        async with scene_served(SCENES["busy"](wall()), tmp_path) as server:
            await tab.look(DESKTOP)
            await tab.open(f"http://127.0.0.1:{server.port}/")
            await tab.run("document.getElementById('pause').click()")
            await tab.run("document.activeElement.blur()")
            visited: list[dict[str, Any]] = []
            for _ in range(12):
                await tab.press("Tab", 9)
                visited.append(
                    await tab.run(
                        "(() => { const e = document.activeElement, s = getComputedStyle(e);"
                        "return {what: e.textContent.trim().slice(0, 40) || e.name,"
                        "outline: s.outlineStyle + s.outlineWidth,"
                        "top: e.getBoundingClientRect().top + scrollY}; })()"
                    )
                )
        assert [each["what"] for each in visited[:7]] == [
            "Skip to the content",
            "SageMaker → ModelDB sync",
            "The last hour as a table",
            "job",
            "project",
            "any outcomeenqueuedwritingsyncedrejected",
            "Search",
        ]
        assert {each["outline"] for each in visited} == {"solid3px"}
        tops = [each["top"] for each in visited[1:]]
        assert all(later >= earlier - 12 for earlier, later in pairwise(tops))

    async def test_the_first_key_skips_to_the_content(self, tab: Tab, tmp_path: Path) -> None:
        async with scene_served(SCENES["idle"](wall()), tmp_path) as server:
            await tab.look(DESKTOP)
            await tab.open(f"http://127.0.0.1:{server.port}/")
            await tab.press("Tab", 9)
            await tab.press("Enter", 13, text="\r")
            await tab.until("document.activeElement.id === 'content'")


class TestRefresh:
    """The script swaps what has changed, every 5 s; here it is made to look at once."""

    NOW = "document.dispatchEvent(new Event('visibilitychange'))"

    async def test_it_keeps_the_place_the_focus_and_what_is_unfolded(
        self, tab: Tab, tmp_path: Path
    ) -> None:
        path = tmp_path / "c.db"
        rows = of_each_kind(60, newest=wall() - 100, seconds=19)
        make_checkpoint(path, rows)
        source = FixedSource(SCENES["busy"](wall()).status)
        async with served(source, path) as server:
            await tab.look(DESKTOP)
            await tab.open(f"http://127.0.0.1:{server.port}/")
            watched = rows[30].job_arn
            find = f"document.querySelector('a[href=\"/jobs/{watched}\"]')"
            await tab.run("document.querySelector('#hour-table').open = true")
            await tab.run(f"{find}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
            await tab.run(f"{find}.focus({{preventScroll: true}})")
            await tab.run("document.querySelector('#hour-scroll').scrollTop = 60")
            top = await tab.run(f"{find}.getBoundingClientRect().top")
            # five new jobs come in above, and ModelDB fails, which makes the top higher
            make_checkpoint_more(path, of_each_kind(5, newest=wall(), seconds=1))
            source.now = SCENES["modeldb-down"](wall()).status
            await asyncio.sleep(1.1)  # longer than an answer is kept
            await tab.run(self.NOW)
            await tab.until("document.querySelector('h1').textContent.startsWith('Paused')")
            await tab.until("document.title.startsWith('Paused')")
            assert await tab.run("document.querySelector('#hour-table').open") is True
            assert await tab.run("document.querySelector('#hour-scroll').scrollTop") == 60
            assert await tab.run(f"document.activeElement === {find}") is True
            after = await tab.run(f"{find}.getBoundingClientRect().top")
            assert abs(after - top) < 2
        assert tab.errors == []

    @pytest.mark.parametrize(
        "occupied",
        [
            "getSelection().selectAllChildren(document.querySelector('h1'))",
            "document.querySelector('[name=job]').focus()",
            "document.getElementById('pause').click()",
        ],
    )
    async def test_it_waits_while_the_reader_is_at_work(
        self, tab: Tab, tmp_path: Path, occupied: str
    ) -> None:
        path = tmp_path / "c.db"
        make_checkpoint(path, [])
        source = FixedSource(SCENES["idle"](wall()).status)
        async with served(source, path) as server:
            await tab.look(DESKTOP)
            await tab.open(f"http://127.0.0.1:{server.port}/")
            await tab.run(occupied)
            source.now = SCENES["modeldb-down"](wall()).status
            await tab.run(f"{self.NOW}, new Promise((done) => setTimeout(done, 1500))")
            assert await tab.run("document.querySelector('h1').textContent") == "Running"
            await tab.run("getSelection().removeAllRanges(), document.activeElement.blur()")
            if "pause" in occupied:
                await tab.run("document.getElementById('pause').click()")
            await tab.run(self.NOW)
            await tab.until("document.querySelector('h1').textContent.startsWith('Paused')")

    async def test_a_daemon_that_does_not_answer_is_said_and_comes_back(
        self, tab: Tab, tmp_path: Path
    ) -> None:
        path = tmp_path / "c.db"
        make_checkpoint(path, [])
        source = FixedSource(SCENES["idle"](wall()).status)
        await tab.look(DESKTOP)
        async with served(source, path) as server:
            port = server.port
            await tab.open(f"http://127.0.0.1:{port}/")
        await tab.run(self.NOW)
        await tab.until("!document.getElementById('silent').hidden")
        said = await tab.run("document.getElementById('silent').textContent")
        assert said.startswith("The daemon has not answered since")
        assert await tab.run("document.querySelector('h1').textContent") == "Running"
        async with served(source, path, port=port):
            await tab.until(f"({self.NOW}, document.getElementById('silent').hidden)")


def make_checkpoint_more(path: Path, records: Any) -> None:
    """Adds rows to a checkpoint."""
    make_checkpoint(path, [replace(each, job_arn=f"{each.job_arn}-new") for each in records])


class TestAccessibility:
    @pytest.mark.parametrize(("name", "path"), SHOWN)
    async def test_axe_finds_nothing(
        self, tab: Tab, tmp_path: Path, axe: str, name: str, path: str
    ) -> None:
        scene = SCENES[name](wall())
        found = []
        async with scene_served(scene, tmp_path) as server:
            for size in (PHONE, DESKTOP):
                for dark in (False, True):
                    await tab.look(size, dark=dark)
                    await tab.open(f"http://127.0.0.1:{server.port}{path}")
                    await tab.run(
                        "document.querySelectorAll('details').forEach(d => d.open = true)"
                    )
                    await tab.run(f"{axe}; undefined")
                    result = await tab.run(VIOLATIONS)
                    found += [f"{size} dark={dark}: {each}" for each in result]
        assert found == []
