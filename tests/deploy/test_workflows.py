"""The workflows of GitHub: pinned actions, least permissions, no untrusted text in a script, and
only existing targets and files.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / ".github" / "workflows"
FILES = sorted(FOLDER.glob("*.yml"))
# Without YAML's own types: `on` stays a word.
WORKFLOWS: dict[str, dict[str, Any]] = {
    file.stem: yaml.load(file.read_text(encoding="utf-8"), yaml.BaseLoader) for file in FILES
}
JOBS: dict[str, dict[str, Any]] = {
    f"{name}.{job}": content
    for name, workflow in WORKFLOWS.items()
    for job, content in workflow["jobs"].items()
}
STEPS: list[dict[str, Any]] = [step for job in JOBS.values() for step in job.get("steps", [])]
SCRIPTS = [step["run"] for step in STEPS if "run" in step]


def test_every_action_is_pinned_to_a_commit_and_says_its_version() -> None:
    lines = [
        line.strip()
        for file in FILES
        for line in file.read_text(encoding="utf-8").splitlines()
        if re.search(r"\buses:", line)
    ]
    assert lines
    pinned = re.compile(r"(- )?uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
    local = re.compile(r"uses: \./(\S+\.yml)( #.*)?")
    for line in lines:
        called = local.fullmatch(line)
        assert pinned.fullmatch(line) or (called and (ROOT / called[1]).is_file()), line


def test_one_action_has_one_version() -> None:
    used = {step["uses"] for step in STEPS if "uses" in step}
    assert len({use.partition("@")[0] for use in used}) == len(used)


def test_a_workflow_gives_no_permission_and_a_job_only_those_it_needs() -> None:
    assert {
        name for name, workflow in WORKFLOWS.items() if workflow.get("permissions") != {}
    } == set()
    assert {
        name for name, job in JOBS.items() if not isinstance(job.get("permissions"), dict)
    } == set()
    writing = {
        name: {key for key, value in job["permissions"].items() if value == "write"}
        for name, job in JOBS.items()
    }
    assert {name: keys for name, keys in writing.items() if keys} == {
        "image.publish": {"packages", "id-token", "attestations"},
        "release.image": {"packages", "id-token", "attestations"},
        "release.chart": {"packages", "id-token", "attestations"},
        "release.publish": {"contents", "id-token", "attestations"},
    }


def test_only_a_tag_publishes() -> None:
    assert WORKFLOWS["release"]["on"] == {"push": {"tags": ["v*"]}}
    assert JOBS["image.publish"]["if"] == "inputs.publish"
    assert [name for name, job in JOBS.items() if "publish" in job.get("with", {})] == [
        "release.image"
    ]
    assert set(JOBS["release.image"]["needs"]) == {"build", "tests"}
    assert JOBS["release.chart"]["needs"] == "image"
    assert set(JOBS["release.publish"]["needs"]) == {"image", "chart"}
    assert JOBS["image.publish"]["needs"] == "try"


def test_nobody_elses_code_meets_our_token() -> None:
    events = {name: set(workflow["on"]) for name, workflow in WORKFLOWS.items()}
    assert {
        name
        for name, on in events.items()
        if on & {"pull_request_target", "workflow_run", "issue_comment"}
    } == set()
    checkouts = [step for step in STEPS if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] == "false" for step in checkouts)


def test_no_script_is_put_together_from_expressions() -> None:
    assert SCRIPTS
    assert [script for script in SCRIPTS if "${{" in script] == []


def test_nothing_runs_for_ever_and_nothing_twice() -> None:
    assert {
        name for name, job in JOBS.items() if "steps" in job and "timeout-minutes" not in job
    } == set()
    groups = [workflow["concurrency"]["group"] for workflow in WORKFLOWS.values()]
    assert len(set(groups)) == len(groups)
    # A called workflow with its caller's group would wait for itself.
    assert not any("github.workflow" in group for group in groups)


def test_what_is_called_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {
        name
        for head in re.findall(r"^([\w./$() -]+):(?!=)", makefile, re.MULTILINE)
        for name in head.split()
    }
    commands = [
        shlex.split(line) for script in SCRIPTS for line in re.findall(r"\bmake ([^\n]+)", script)
    ]
    called = {word for command in commands for word in command if "=" not in word}
    assert {"lint", "test", "dist", "sbom"} <= called
    assert called <= targets
    modules = {
        module for script in SCRIPTS for module in re.findall(r"python -m (tools\.\w+)", script)
    }
    assert all((ROOT / f"{module.replace('.', '/')}.py").is_file() for module in modules)
    paths = {
        path
        for script in SCRIPTS
        for path in re.findall(r"\b(?:requirements|daemon|docs|deploy)/[\w./-]+", script)
    }
    paths |= {
        step["with"]["cache-dependency-path"]
        for step in STEPS
        if "cache-dependency-path" in step.get("with", {})
    }
    assert paths >= {"requirements/dev.txt", "requirements/runtime.txt", "daemon/__init__.py"}
    assert {path for path in paths if not (ROOT / path).is_file()} == set()


def test_both_ends_of_the_supported_pythons_are_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    supported = [
        name.rpartition(" ")[2]
        for name in project["classifiers"]
        if name.startswith("Programming Language :: Python :: 3.")
    ]
    assert JOBS["tests.test"]["strategy"]["matrix"]["python"] == [supported[0], supported[-1]]


def test_the_image_is_tried_on_the_architectures_it_is_published_for() -> None:
    tried = {
        f"linux/{variant['architecture']}"
        for variant in JOBS["image.try"]["strategy"]["matrix"]["include"]
    }
    published = [
        step["with"]["platforms"]
        for step in JOBS["image.publish"]["steps"]
        if "platforms" in step.get("with", {})
    ]
    assert published == [",".join(sorted(tried))]


def tool(name: str) -> str | None:
    """A program named by a variable, beside this Python, or on PATH."""
    beside = Path(sys.executable).with_name(name)
    return os.environ.get(name.upper()) or (str(beside) if beside.is_file() else shutil.which(name))


ACTIONLINT, ZIZMOR = tool("actionlint"), tool("zizmor")


@pytest.mark.skipif(
    not ACTIONLINT,
    reason="needs actionlint: go install github.com/rhysd/actionlint/cmd/actionlint@v1.7.12",
)
def test_actionlint_finds_nothing() -> None:
    result = subprocess.run(
        [str(ACTIONLINT), *map(str, FILES)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.skipif(
    not ZIZMOR, reason="needs zizmor, which `make test` installs with requirements/dev.txt"
)
def test_zizmor_finds_nothing() -> None:
    command = [str(ZIZMOR), "--offline", "--no-progress", "--persona", "pedantic", ".github"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
