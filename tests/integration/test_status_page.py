"""The status page and its JSON form, over real sockets."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import jsonschema  # type: ignore[import-untyped] # publishes no types
import pytest

from daemon.clock import wall
from daemon.observability import site as site_module
from daemon.observability.metrics import Metrics
from daemon.observability.page.frame import CONTENT_SECURITY_POLICY
from daemon.wiring import ConfiguredParts
from tests.support.page_scenes import (
    SCENES,
    FixedSource,
    Scene,
    arn_of,
    health,
    make_checkpoint,
    of_each_kind,
    scene_served,
    served,
)
from tests.support.settings_factory import settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROWS = of_each_kind(130, newest=wall() - 5, seconds=30)
ARN = ROWS[0].job_arn
PATHS = ("/", f"/jobs/{ARN}", "/api/status", "/api/jobs")
SCHEMA = json.loads(
    (Path(__file__).parents[2] / "docs/api.schema.json").read_text(encoding="utf-8")
)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    scene = replace(SCENES["busy"](wall()), records=ROWS)
    async with (
        scene_served(scene, tmp_path) as server,
        aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session,
    ):
        yield session


async def got(client: aiohttp.ClientSession, path: str, status: int = 200) -> str:
    async with client.get(path) as response:
        assert response.status == status, await response.text()
        return await response.text()


@cache
def validator(definition: str) -> Any:  # the library publishes no types
    schema = {"$ref": f"#/$defs/{definition}", "$defs": SCHEMA["$defs"]}
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def conforms(answer: str, to: str) -> None:
    validator(to).validate(json.loads(answer))


class TestHeaders:
    async def test_every_answer_is_locked_down(self, client: aiohttp.ClientSession) -> None:
        assert "default-src 'none'" in CONTENT_SECURITY_POLICY
        assert "frame-ancestors 'none'" in CONTENT_SECURITY_POLICY
        assert "unsafe" not in CONTENT_SECURITY_POLICY
        for path in (*PATHS, "/jobs/x", f"/api/jobs/{ARN}"):
            async with client.get(path) as response:
                headers = response.headers
            assert headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY, path
            assert headers["X-Frame-Options"] == "DENY"
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Referrer-Policy"] == "no-referrer"
            assert headers["Cache-Control"] == "no-store"
            assert "camera=()" in headers["Permissions-Policy"]
            assert headers["Server"] == "sagemaker-modeldb-sync"
            assert headers["Content-Type"] in {
                "text/html; charset=utf-8",
                "application/json; charset=utf-8",
            }

    async def test_nothing_can_be_changed(self, client: aiohttp.ClientSession) -> None:
        for path in PATHS:
            for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
                async with client.request(method, path) as response:
                    assert response.status == 405, (method, path)
                    assert response.headers["Allow"] == "GET, HEAD"

    async def test_head_has_no_body(self, client: aiohttp.ClientSession) -> None:
        async with client.head("/") as response:
            assert response.status == 200
            assert await response.read() == b""

    async def test_nothing_is_fetched_from_elsewhere(self, client: aiohttp.ClientSession) -> None:
        page = await got(client, "/")
        for word in ("src=", "@import", "url(", "srcset", '<link rel="style', "<iframe"):
            assert word not in page


class TestSwitchedOff:
    @pytest.mark.parametrize("on", [True, False])
    async def test_the_setting(self, tmp_path: Path, *, on: bool) -> None:
        make_checkpoint(tmp_path / "c.db", ROWS)
        http = {"host": "127.0.0.1", "port": 0, "status_page": on}
        server = await ConfiguredParts(settings(tmp_path / "c.db", http=http)).http(
            metrics=Metrics(version="1", target="modeldb-v2"),
            healthz=health,
            readyz=health,
            status=FixedSource(SCENES["idle"](wall()).status),
        )
        async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:
            for path in PATHS:
                await got(session, path, status=200 if on else 404)
            await got(session, "/healthz")
        await server.aclose()


class TestOverview:
    async def test_it_lists_the_newest_and_leads_on(self, client: aiohttp.ClientSession) -> None:
        page = await got(client, "/")
        assert "<h1>Running</h1>" in page
        assert ROWS[0].job_name in page
        assert ROWS[49].job_name in page
        assert ROWS[50].job_name not in page
        older = page.partition(">Older jobs<")[0].rpartition('href="')[2].partition('"')[0]
        following = await got(client, f"/{older.replace('&amp;', '&')}")
        assert ROWS[50].job_name in following
        assert ROWS[49].job_name not in following

    async def test_a_search(self, client: aiohttp.ClientSession) -> None:
        page = await got(client, "/?job=00003&project=&outcome=rejected")
        assert "recs-two-tower-2025-11-28-00003" in page
        assert "churn-xgb-2025-11-28-00000" not in page
        assert 'value="00003"' in page
        assert "No job matches." in await got(client, "/?job=nothing-like-it")

    @pytest.mark.parametrize(
        ("query", "said"),
        [
            ("outcome=lost", "outcome must be one of"),
            ("reason=%3Cscript%3E", "reason must be a reason"),
            ("before=x", "before must be taken"),
            ("before=" + "9" * 400 + "-1", "before must be taken"),
            ("limit=201", "limit must be a number"),
            ("limit=%D9%A1", "limit must be a number"),
            ("limit=-1", "limit must be a number"),
            ("job=" + "x" * 201, "job may have at most 200 characters"),
            ("project=" + "x" * 201, "project may have at most 200 characters"),
        ],
    )
    async def test_a_bad_query_is_said(
        self, client: aiohttp.ClientSession, query: str, said: str
    ) -> None:
        assert said in await got(client, f"/?{query}")
        answer = await got(client, f"/api/jobs?{query}", status=400)
        assert json.loads(answer)["error"].startswith(said)

    async def test_a_hostile_query_stays_text(self, client: aiohttp.ClientSession) -> None:
        page = await got(client, "/?job=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")
        assert "<script>alert" not in page
        assert "&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;" in page

    @pytest.mark.parametrize(("asked", "used"), [("30", 30), ("0", 5), ("99999", 3600)])
    async def test_reloads_without_a_script_are_asked_for(
        self, client: aiohttp.ClientSession, asked: str, used: int
    ) -> None:
        assert f'http-equiv="refresh" content="{used}"' in await got(client, f"/?refresh={asked}")
        assert 'http-equiv="refresh"' not in await got(client, "/")
        assert 'http-equiv="refresh"' not in await got(client, "/?refresh=1;url=x")


class TestJob:
    @pytest.mark.parametrize("path", [f"/jobs/{ARN}", f"/jobs/{ARN.replace('/', '%2F')}"])
    async def test_its_page(self, client: aiohttp.ClientSession, path: str) -> None:
        page = await got(client, path)
        assert f"<h1>{ROWS[0].job_name}</h1>" in page
        assert "Run in ModelDB" in page
        assert "console.aws.amazon.com/cloudwatch" in page

    async def test_an_unknown_one(self, client: aiohttp.ClientSession) -> None:
        page = await got(client, f"/jobs/{arn_of('never')}", status=404)
        assert "The checkpoint has nothing of this job" in page
        answer = await got(client, f"/api/jobs/{arn_of('never')}", status=404)
        conforms(answer, "error")

    async def test_too_long_a_name(self, client: aiohttp.ClientSession) -> None:
        page = await got(client, "/jobs/" + "x" * 900)
        assert "may have at most 200 characters" in page
        await got(client, "/api/jobs/" + "x" * 900, status=400)


class TestApi:
    @pytest.mark.parametrize("name", SCENES)
    async def test_answers_are_as_documented(self, name: str, tmp_path: Path) -> None:
        scene: Scene = SCENES[name](wall())
        async with (
            scene_served(scene, tmp_path) as server,
            aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session,
        ):
            conforms(await got(session, "/api/status"), "status")
            if scene.broken_checkpoint:
                conforms(await got(session, "/api/jobs", status=503), "error")
                conforms(await got(session, f"/api/jobs/{ARN}", status=503), "error")
                return
            conforms(await got(session, "/api/jobs?limit=25"), "jobs")
            for row in {row.state: row for row in scene.records}.values():
                conforms(await got(session, f"/api/jobs/{row.job_arn}"), "job")

    async def test_pages_of_jobs(self, client: aiohttp.ClientSession) -> None:
        path, names = "/api/jobs?limit=60", []
        while path:
            answer = json.loads(await got(client, path))
            names += [each["name"] for each in answer["jobs"]]
            path = answer["next"]
        assert names == [row.job_name for row in ROWS]

    def test_the_schema_is_strict(self) -> None:
        """A member that nobody documented, and one that is missing, are found."""
        error = {"error": "words"}
        conforms(json.dumps(error), "error")
        for wrong in ({}, {"error": 1}, {**error, "more": 1}):
            with pytest.raises(jsonschema.ValidationError):
                conforms(json.dumps(wrong), "error")


class TestLoad:
    async def test_many_tabs_cost_as_much_as_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(site_module, "KEPT_SECONDS", 60.0)
        path = tmp_path / "c.db"
        make_checkpoint(path, ROWS)

        class Counting(FixedSource):
            asked = 0

            def status(self, before: object) -> object:  # type: ignore[override]
                self.asked += 1
                return self.now

        source = Counting(SCENES["busy"](wall()).status)
        async with (
            served(source, path) as server,
            aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session,
        ):
            pages = await asyncio.gather(*(got(session, "/") for _ in range(10)))
            assert len(set(pages)) == 1
            assert source.asked == 1
            await got(session, "/?job=x")
            assert source.asked == 2

    async def test_more_requests_than_can_wait_are_told_so(
        self, client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(site_module, "MOST_WAITING", 0)
        conforms(await got(client, "/api/status", status=503), "error")


class TestTrouble:
    async def test_an_unreadable_checkpoint_is_said_and_the_state_is_shown(
        self, tmp_path: Path
    ) -> None:
        scene = SCENES["unreadable"](wall())
        async with (
            scene_served(scene, tmp_path) as server,
            aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session,
        ):
            page = await got(session, "/")
            assert "Not ready: Checkpoint (storage)" in page
            assert "cannot be read for the page" in page
            assert "cannot be read for the page" in await got(session, f"/jobs/{ARN}")
