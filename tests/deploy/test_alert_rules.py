"""The shipped alerts: Prometheus accepts them, they fire when they should, they use existing names,
and each is in the runbook.
"""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from daemon.cli import VERBS
from daemon.training_job.event import TrainingJobEvent, parse_event
from tests.deploy.exported import OF_THE_SCRAPE, exported_samples
from tests.deploy.prometheus import MONITORING, alert_rules, tool
from tests.deploy.vocabulary import Expression, unknown_words

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
RUNBOOK = ROOT / "docs" / "runbook.md"
RUNBOOK_URL = re.compile(
    r"https://github\.com/[\w.-]+/sagemaker-modeldb-sync/blob/main/docs/runbook\.md"
)
RULES = {rule["alert"]: rule for rule in alert_rules()}


@cache
def runbook_entries() -> Mapping[str, str]:
    """The runbook's text about each alert."""
    parts = re.split(r"(?m)^## (.+)$", RUNBOOK.read_text())
    entries = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert len(entries) == len(parts) // 2, "a heading comes twice"
    return {name: text for name, text in entries.items() if name.startswith("ModelDBSync")}


def source_of_the_daemon() -> str:
    return "\n".join(path.read_text() for path in sorted((ROOT / "daemon").rglob("*.py")))


def test_a_rule_says_what_it_means_and_how_urgent_it_is() -> None:
    for name, rule in RULES.items():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}, name
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}, name
        assert "\n" not in rule["annotations"]["summary"], name
        assert rule["for"], name
        page, _, entry = rule["annotations"]["runbook_url"].partition("#")
        assert RUNBOOK_URL.fullmatch(page), name
        assert entry == name.lower()


def test_a_rule_names_only_what_the_daemon_exports() -> None:
    assert {name: unknown_words(Expression(rule["expr"])) for name, rule in RULES.items()} == {
        name: [] for name in RULES
    }
    known = {label for labels in exported_samples().values() for label in labels} | OF_THE_SCRAPE
    unknown = {
        name: set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))) - known
        for name, rule in RULES.items()
    }
    assert unknown == {name: set() for name in RULES}


@pytest.mark.parametrize(
    ("expression", "unknown"),
    [
        ("sum(rate(modeldb_sync_job_total[5m]))", "metric modeldb_sync_job_total"),
        (
            'up == 0 unless modeldb_sync_breaker_open{edge="sqs"} == 1',
            "modeldb_sync_breaker_open{edge='sqs'}",
        ),
        (
            'modeldb_sync_target_requests_total{result!~"ok|missing"}',
            "modeldb_sync_target_requests_total{result='missing'}",
        ),
        ('modeldb_sync_breaker_open{Edge="queue"}', "modeldb_sync_breaker_open{Edge='queue'}"),
        ("sum by (reasons) (modeldb_sync_jobs_total)", "label reasons"),
    ],
)
def test_a_word_that_no_scrape_has_is_found(expression: str, unknown: str) -> None:
    assert unknown_words(Expression(expression)) == [unknown]


def test_every_alert_has_one_entry_in_the_runbook_and_every_entry_an_alert() -> None:
    assert list(runbook_entries()) == list(RULES)


def test_an_entry_says_why_how_to_see_and_what_to_do() -> None:
    for name, rule in RULES.items():
        entry = runbook_entries()[name]
        headings = ("Why it matters.", "How to see.", "What to do.")
        positions = [entry.find(f"**{heading}**") for heading in headings]
        assert -1 not in positions, name
        assert positions == sorted(positions), name
        opening = entry[: positions[0]].strip()
        assert opening.startswith(rule["labels"]["severity"]), name
        if rule["for"] != "0m":
            number, unit = rule["for"][:-1], {"m": "minutes", "h": "hours"}[rule["for"][-1]]
            assert f"{number} {unit}" in opening, name


def test_links_of_the_runbook_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", RUNBOOK.read_text())
    assert links
    for link in links:
        path, _, anchor = link.partition("#")
        page = RUNBOOK.parent / path if path else RUNBOOK
        assert page.exists(), link
        headings = re.findall(r"(?m)^#+ (.+)$", page.read_text()) if anchor else []
        assert not anchor or anchor in {
            heading.lower().replace(" ", "-") for heading in headings
        }, link


def test_the_runbook_names_only_what_exists() -> None:
    text = RUNBOOK.read_text()
    commands = set(re.findall(r"sagemaker-modeldb-sync ([a-z-]+)", text))
    assert commands
    assert commands <= set(VERBS)

    source = source_of_the_daemon()
    events = set(re.findall(r'\.event == "([^"]+)"', text))
    assert events
    assert [event for event in events if f'"{event}"' not in source] == []

    named = re.findall(r'\.(edge|outcome|reason) == "([^"]+)"', text)
    assert {label for label, _ in named} == {"edge", "outcome", "reason"}
    assert [
        f"{label}={word}"
        for label, word in named
        if not any(word in labels.get(label, ()) for labels in exported_samples().values())
    ] == []

    spans = re.findall(r"(?m)^    (.+)$", text) + re.findall(r"`([^`\n]+)`", text)
    queries = [span for span in spans if "modeldb_sync_" in span or "process_" in span]
    assert len(queries) > 20
    assert [words for query in queries if (words := unknown_words(Expression(query)))] == []

    [body] = re.findall(r"--message-body '([^']+)'", text)
    event = parse_event(body.replace("REGION", "eu-west-1").replace("ACCOUNT", "123456789012"))
    assert isinstance(event, TrainingJobEvent)


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [tool("promtool"), *arguments],
        cwd=MONITORING,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_prometheus_accepts_the_configuration_and_the_rules() -> None:
    checked = promtool("check", "config", "prometheus.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(RULES)} rules found" in checked.stdout


def test_every_alert_fires_when_it_should_and_is_quiet_on_near_misses() -> None:
    files = ("alerts_test.yml", "alerts_days_test.yml")
    tests = [
        test for file in files for test in yaml.safe_load((MONITORING / file).read_text())["tests"]
    ]
    asked = [case for test in tests for case in test["alert_rule_test"]]
    assert {case["alertname"] for case in asked if case["exp_alerts"]} == set(RULES)
    quiet = {
        test["alert_rule_test"][0]["alertname"]
        for test in tests
        if not any(case["exp_alerts"] for case in test["alert_rule_test"])
    }
    assert quiet == set(RULES)
    done = promtool("test", "rules", *files)
    assert done.returncode == 0, done.stdout + done.stderr
