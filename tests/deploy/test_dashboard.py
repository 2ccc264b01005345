"""The shipped Grafana dashboard: it fits Grafana's schema, uses existing names, and each of its
queries has a result.
"""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from functools import cache
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.deploy.exported import OF_THE_SCRAPE, exported_families, exported_samples
from tests.deploy.grafana_schema import refusals
from tests.deploy.prometheus import MONITORING, alert_rules
from tests.deploy.vocabulary import Expression, unknown_words
from tests.deploy.watched_daemon import watched_daemon
from tests.support.daemon_process import Job, jobs_named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

GRAFANA = MONITORING / "grafana"
FILE = GRAFANA / "dashboards" / "modeldb-sync.json"

NOT_SHOWN = {
    "process_virtual_memory_bytes": "says nothing that resident memory does not say better",
    "python_info": "the version of Python is the image's",
}


@cache
def text() -> str:
    return FILE.read_text()


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(text())
    return loaded


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries() -> Iterator[tuple[str, str]]:
    """The place of each query, and its PromQL with the variables of Grafana replaced."""
    found = [
        (f"{panel['title']} {target['refId']}", target["expr"])
        for panel in panels()
        for target in panel["targets"]
    ]
    found += [
        (f"annotation {each['name']}", each["expr"]) for each in dashboard()["annotations"]["list"]
    ]
    for where, query in found:
        for variable, value in {
            "$__rate_interval": "1m",
            "$__range": "1m",
            "$job": ".+",
            "$instance": ".+",
        }.items():
            query = query.replace(variable, value)  # noqa: PLW2901 - step by step
        yield where, query


def test_the_published_schema_accepts_it() -> None:
    assert refusals(dashboard()) == []


@pytest.mark.parametrize(
    ("place", "member", "value"),
    [
        ([], "graphTooltip", 7),
        (["links", 0], "targetBlank", "yes"),
        (["templating", "list", 0], "type", "source"),
        (["panels", 1], "type", "some-plugin-panel"),
        (["panels", 1], "titel", "Daemon"),
        (["panels", 1, "gridPos"], "w", "3"),
        (["panels", 1, "options"], "graphMode", "lines"),
        (["panels", 1, "targets", 0], "legend", "{{instance}}"),
        (["panels", 1, "datasource"], "type", "promethius"),
        (["panels", 1, "fieldConfig", "defaults"], "units", "s"),
        (["panels", 1, "fieldConfig", "defaults", "thresholds", "steps", 0], "value", "red"),
        (["panels", 12, "fieldConfig", "defaults", "custom"], "drawStyle", "dots"),
    ],
)
def test_the_check_refuses_what_grafana_does_not_know(
    place: list[str | int], member: str, value: object
) -> None:
    broken: Any = copy.deepcopy(dashboard())
    part = broken
    for step in place:
        part = part[step]
    part[member] = value
    assert len(refusals(broken)) == 1


def test_panels_do_not_overlap_and_can_be_told_apart() -> None:
    everything = dashboard()["panels"]
    assert max(Counter(panel["id"] for panel in everything).values()) == 1
    assert max(Counter(panel["title"] for panel in everything).values()) == 1
    cells = [
        {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        for at in (panel["gridPos"] for panel in everything)
    ]
    assert all(x < 24 for area in cells for x, _ in area)
    assert not any(one & other for one, other in combinations(cells, 2))


def test_every_panel_says_what_it_shows_and_asks_the_chosen_data_source() -> None:
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    for panel in panels():
        assert panel["description"]
        assert [target["datasource"] for target in panel["targets"]] == [chosen] * len(
            panel["targets"]
        )
        assert panel["datasource"] == chosen
        for target in panel["targets"]:
            assert target["expr"].count("{") == target["expr"].count(
                '{job=~"$job", instance=~"$instance"'
            ), panel["title"]
    assert {each["type"]: each["query"] for each in dashboard()["templating"]["list"]}[
        "datasource"
    ] == "prometheus"
    variables = {each["name"] for each in dashboard()["templating"]["list"]} | {
        "__rate_interval",
        "__range",
    }
    assert set(re.findall(r"\$\{?(\w+)", text())) == variables | {"__all"}


def test_queries_name_only_what_the_daemon_exports() -> None:
    for where, query in queries():
        assert unknown_words(Expression(query)) == [], where
    known = {label for labels in exported_samples().values() for label in labels} | OF_THE_SCRAPE
    legends = {target["legendFormat"] for panel in panels() for target in panel["targets"]}
    assert set(re.findall(r"\{\{(\w+)\}\}", "".join(legends))) <= known


def test_every_exported_metric_is_shown_or_said_why_not() -> None:
    shown = set().union(*(Expression(query).metrics for _, query in queries()))
    families = exported_families()
    hidden = {name for name, samples in families.items() if not shown & set(samples)}
    assert hidden == set(NOT_SHOWN)


def test_links_lead_to_the_runbook_entry_of_an_alert_and_every_alert_is_linked() -> None:
    links = [link["url"] for panel in panels() for link in panel.get("links", ())]
    entries = {rule["annotations"]["runbook_url"]: rule["alert"] for rule in alert_rules()}
    assert set(links) <= set(entries)
    shown = {entries[link] for link in links}
    assert [rule["alert"] for rule in alert_rules() if rule["alert"] not in shown] == []
    [runbook] = dashboard()["links"]
    assert {url.partition("#")[0] for url in entries} == {runbook["url"]}


def test_the_data_source_that_is_provisioned_fits_prometheus_and_the_dashboard() -> None:
    [source] = yaml.safe_load(
        (GRAFANA / "provisioning" / "datasources" / "prometheus.yaml").read_text()
    )["datasources"]
    assert source["type"] == "prometheus"
    assert source["uid"] == dashboard()["templating"]["list"][0]["current"]["value"]
    scrape = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["global"]
    assert source["jsonData"]["timeInterval"] == scrape["scrape_interval"]
    [provider] = yaml.safe_load(
        (GRAFANA / "provisioning" / "dashboards" / "modeldb-sync.yaml").read_text()
    )["providers"]
    assert provider["options"] == {"path": "/var/lib/grafana/dashboards"}


@pytest.mark.slow  # waits until Prometheus has scraped
async def test_every_query_has_an_answer_on_a_prometheus_that_scraped_a_real_run(
    moto_endpoint: str, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    async with watched_daemon(moto_endpoint, tmp_path, free_port) as watched:
        untagged = Job("half-tagged", tags={"MODEL_DB_SYNC": "true"})
        # a series that appears with its first request has its rate from the second scrape on
        for round_ in ("first", "second"):
            jobs = [*jobs_named(round_, 4), untagged]
            watched.scene.finish_jobs(jobs)
            await watched.scene.send([job.event for job in jobs])
            await watched.scene.drained()
            done = 4 if round_ == "first" else 8
            await watched.scraped('sum(modeldb_sync_jobs_total{outcome="synced"})', done)
        await watched.prometheus.firing("ModelDBSyncJobsRejected")
        await watched.scraped(
            'count(rate(modeldb_sync_target_requests_total{operation="createExperimentRun"}[1m]))',
            1,
        )

        await watched.scraped("count(modeldb_sync_reconcile_last_success_timestamp_seconds > 0)", 1)

        answers: Mapping[str, list[dict[str, Any]]] = {
            where: await watched.prometheus.query(query) for where, query in queries()
        }
        # this daemon works for its own account only
        of_accounts = [where for where, query in queries() if "account_breaker_open" in query]
        assert [where for where, samples in answers.items() if not samples] == of_accounts
        no_number = [
            where
            for where, samples in answers.items()
            if samples and all(sample["value"][1] == "NaN" for sample in samples)
        ]
        assert no_number == []
