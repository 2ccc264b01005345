"""``python -m daemon demo`` as a real process with an empty environment, once for each kind."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import daemon
from daemon.cli import VERBS, program_parser
from daemon.cli.common import PROGRAM
from daemon.demo.sample_jobs import SECRETS
from daemon.targets.modeldb_v1.mapping import mark_in
from tests.support.json_lines import json_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

DEMO = ("-m", "daemon", "demo")
KINDS = (
    "modeldb-v2",
    "modeldb-v1",
    pytest.param("mlflow", marks=pytest.mark.slow),  # 10 s more for what the others show, too
)
LONGEST_SECONDS = 30.0
TOP = Path(daemon.__file__).parents[1]
TITLES = {"modeldb-v2": "ModelDB V2", "modeldb-v1": "ModelDB V1", "mlflow": "MLflow"}
SYSTEMS = {"modeldb-v2": "ModelDB", "modeldb-v1": "ModelDB", "mlflow": "MLflow"}
NIGHTLY_RUNS = {
    "modeldb-v2": "demand-ridge / demand-nightly-[0-9a-f]{8}",
    "modeldb-v1": "Default_Experiment / run 9, model demand-ridge",
    "mlflow": "demand-ridge / demand-nightly-[0-9a-f]{8}",
}
FIGURES = {
    "messages received": "20",
    "synced": "9",
    "duplicate": "4",
    "skipped": "4",
    "rejected": "3",
    "dead letters": "3",
    "highest receive count": "1",
}


class DemoScene:
    """Processes in a directory of their own, with an empty environment but for what is given."""

    def __init__(self, home: Path) -> None:
        self.work = home / "cwd"
        self.scratch = home / "tmp"
        """The demo's TMPDIR."""
        self.work.mkdir()
        self.scratch.mkdir()
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.work,
            env={
                "PATH": os.defpath,
                "HOME": "/nonexistent",
                "TMPDIR": str(self.scratch),
                "PYTHONPATH": str(TOP),
                "PYTHONUNBUFFERED": "1",
                **{
                    name: value
                    for name, value in os.environ.items()
                    if name.startswith("COVERAGE_")
                },
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def end(self) -> None:
        for process in self._started:
            process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[DemoScene]:
    scene = DemoScene(tmp_path)
    yield scene
    scene.end()


@dataclass(frozen=True, slots=True)
class KeptDemo:
    """A demo that has shown its result and stays up."""

    kind: str
    scene: DemoScene
    process: subprocess.Popen[str]
    output: str
    seconds: float


@pytest.fixture(scope="module", params=KINDS)
def kept(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KeptDemo]:
    """One demo per kind, in an environment that points elsewhere."""
    scene = DemoScene(tmp_path_factory.mktemp("demo"))
    begun = time.monotonic()
    process = scene.start(
        *DEMO,
        "--keep",
        *(() if request.param == "modeldb-v2" else ("--target", request.param)),
        AWS_PROFILE="a-profile-that-nobody-has",
        AWS_ENDPOINT_URL="http://192.0.2.1:9",
        HTTP_PROXY="http://192.0.2.1:9",
        http_proxy="http://192.0.2.1:9",
        MODELDB_SYNC_QUEUE__URL="https://sqs.eu-west-1.amazonaws.com/123456789012/a-real-queue",
    )
    output = read_until("--follow ", process)
    yield KeptDemo(request.param, scene, process, output, time.monotonic() - begun)
    scene.end()


def figures_in(output: str) -> dict[str, str]:
    """The lines with a name and a value."""
    return dict(re.findall(r"^  (\S.*?) {2,}(\S.*)$", output, re.MULTILINE))


def files_in(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def read_until(text: str, demo: subprocess.Popen[str]) -> str:
    """What a demo prints, up to the line that has the end of a text."""
    assert demo.stdout is not None
    output = ""
    while text not in output:
        line = demo.stdout.readline()
        assert line, output
        output += line
    return output


def run(*command: str) -> str:
    """What a command prints that the demo shows."""
    return subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=TOP, timeout=30
    ).stdout


def in_its_shell(kept: KeptDemo, command: str, status: int = 0) -> str:
    """What a command prints in a shell that has read the environment that the demo shows."""
    [environment] = re.findall(r"^  (\. \S+) +# first", kept.output, re.MULTILINE)
    done = subprocess.run(
        ["sh", "-c", f"{environment}\n{command}"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.defpath, "HOME": "/nonexistent"},
        timeout=60,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def get(url: str, body: str | None = None) -> Any:
    with urllib.request.urlopen(
        urllib.request.Request(url, body.encode() if body else None), timeout=5
    ) as answer:
        return answer.read().decode()


def test_every_job_lands_where_it_must(kept: KeptDemo) -> None:
    output, system = kept.output, SYSTEMS[kept.kind]
    assert kept.seconds < LONGEST_SECONDS
    assert f"{TITLES[kept.kind]}, a stand-in for the real server: " in output
    assert re.search(
        rf"^OK in \d+\.\d s: 9 runs in {system}, exactly one for each completed, tagged job$",
        output,
        re.MULTILINE,
    )
    shown = figures_in(output)
    assert {name: shown[name] for name in FIGURES} == FIGURES
    assert shown[f"runs in {system}"] == "9"
    assert int(shown["held during the outage"]) >= 1
    assert re.search(
        r"the daemon is alive, but paused: [1-4] messages held, [0-3] left in the queue", output
    )
    nightly = rf"^demand-nightly .* created +Demand / {NIGHTLY_RUNS[kept.kind]} *$"
    assert re.search(nightly, output, re.MULTILINE)
    assert re.search(r"^demand-deepar-9 .* synced", output, re.MULTILINE)
    # its answer was lost
    assert output.count("found_in_target") == 1
    assert output.count(f"was found in {system} and not written again") == 1
    for reason in ("tags_incomplete", "foreign_account", "malformed_body"):
        assert output.count(reason) == 1
    assert "\x1b" not in output, "escape sequences in what is no terminal"


def test_it_leaves_no_error_and_no_secret(kept: KeptDemo) -> None:
    left = files_in(kept.scene.scratch)
    log = json_lines(left["daemon.log"].decode())
    assert [line for line in log if line["level"] == "error"] == []
    for secret in SECRETS:
        assert secret not in kept.output
        assert [name for name, content in left.items() if secret.encode() in content] == []
    assert list(kept.scene.work.iterdir()) == []


def test_kept_it_can_be_looked_into(kept: KeptDemo) -> None:
    shown = figures_in(kept.output)
    assert "modeldb_sync_jobs_total" in get(shown["metrics"])
    assert json.loads(get(shown["alive?"]))["state"] == "alive"
    assert json.loads(get(shown["ready?"]))["state"] == "ready"
    entries = json_lines(in_its_shell(kept, f"{PROGRAM} history --json"))
    assert [entry.get("state") for entry in entries].count("synced") == 9
    if kept.kind == "modeldb-v2":
        curl = re.fullmatch(r"curl -s (\S+) -d '(.*)'", shown["all runs"])
        assert curl is not None
        assert len(json.loads(get(curl[1], curl[2]))["experiment_runs"]) == 9
        return
    if kept.kind == "mlflow":
        curl = re.fullmatch(r"curl -s '(\S+)'", shown["all experiments"])
        assert curl is not None
        names = {each["name"] for each in json.loads(get(curl[1]))["experiments"]}
        assert names == {"Default", "Churn", "Demand", "Fraud"}
        return
    host, port = shown["ModelDB (Thrift, framed)"].split(":")
    assert (host, port.isdecimal()) == ("127.0.0.1", True)
    # in the order in which their first jobs came
    assert sorted(re.findall(r"^  in it +(.*)$", kept.output, re.MULTILINE)) == [
        "Churn (amara.okafor): 3 runs, 3 models, 7 metrics",
        "Demand (sofia.rossi): 3 runs, 3 models, 4 metrics",
        "Fraud (li.wei): 3 runs, 3 models, 7 metrics",
    ]
    runs = run(*shlex.split(shown["all runs"]))
    marks = {mark_in(found) for found in re.findall(r"description='([^']*)'", runs)}
    assert len(runs.splitlines()) == len(marks) == 9
    assert None not in marks


def test_kept_it_offers_every_verb(kept: KeptDemo) -> None:
    offered = re.findall(rf"^  {PROGRAM} ([a-z-]+) ?(.*?) +# ", kept.output, re.MULTILINE)
    verbs = {verb for verb, _ in offered}
    assert verbs == set(VERBS) - {
        *("run", "completion", "demo"),
        "checkpoint",  # makes a table, and the demo's checkpoint is a file
    }
    for verb, arguments in offered:
        program_parser().parse_args([verb, *shlex.split(arguments)])
    assert "sagemaker.add_tags" in (next(kept.scene.scratch.rglob("complete_tags.py")).read_text())


@pytest.mark.slow  # a process for each verb
def test_kept_its_verbs_do_what_it_says_of_them(kept: KeptDemo) -> None:
    findings = json_lines(in_its_shell(kept, f"{PROGRAM} check --json"))
    assert [each for each in findings if each["verdict"] == "failed"] == []
    lost = "demand-nightly-2"
    assert lost in in_its_shell(kept, f"{PROGRAM} explain {lost}")


def test_sigterm_ends_the_kept_one(kept: KeptDemo) -> None:
    """The last test of the one demo: nothing can be asked of it afterwards."""
    begun = time.monotonic()
    kept.process.send_signal(signal.SIGTERM)
    _, errors = kept.process.communicate(timeout=30)
    assert (kept.process.returncode, errors) == (0, "")
    assert time.monotonic() - begun < 10
    last = files_in(kept.scene.scratch)["daemon.log"].splitlines()[-1]
    assert json.loads(last)["event"] == "stopped"


def test_a_target_that_there_is_not_is_a_usage_error(scene: DemoScene) -> None:
    demo = scene.start(*DEMO, "--target", "neptune")
    output, errors = demo.communicate(timeout=30)
    assert (demo.returncode, output) == (2, "")
    assert "modeldb-v2" in errors
    assert "modeldb-v1" in errors
    assert "mlflow" in errors


def test_ctrl_c_in_the_middle_ends_it_with_its_own_status(scene: DemoScene) -> None:
    demo = scene.start(*DEMO)
    read_until("Training jobs end", demo)
    demo.send_signal(signal.SIGINT)
    rest, errors = demo.communicate(timeout=30)
    assert (demo.returncode, errors) == (130, "")
    assert "interrupted" in rest
    assert "OK" not in rest


@pytest.mark.slow  # a demo
def test_a_reader_that_leaves_ends_it_in_order(scene: DemoScene) -> None:
    demo = scene.start(*DEMO)
    assert demo.stdout is not None
    assert demo.stderr is not None
    while "the daemon:" not in demo.stdout.readline():
        pass
    demo.stdout.close()
    assert demo.stderr.read() == "error: nobody reads standard output any more\n"
    assert demo.wait(timeout=30) == 1
    assert json.loads(files_in(scene.scratch)["daemon.log"].splitlines()[-1])["event"] == "stopped"


@pytest.mark.slow  # a whole demo
def test_a_lost_job_is_told_and_ends_it_with_status_1(scene: DemoScene) -> None:
    demo = scene.start(
        "-c",
        "from daemon.demo import aws, scenario\n"
        "scenario.PATIENCE_SECONDS = 4.0\n"
        "put = aws.EmbeddedAws.put_events\n"
        "aws.EmbeddedAws.put_events = lambda self, events: put(self, [e for e in events if "
        "e[0].name != 'churn-mlp-118'])\n"
        "raise SystemExit(scenario.run_demo('modeldb-v2', keep=False))",
    )
    output, errors = demo.communicate(timeout=60)
    assert (demo.returncode, errors) == (1, ""), output
    assert "FAILED" in output
    assert re.search(r"churn-mlp-118 \(created \S+Z\) has 0 runs in ModelDB, not 1", output)
    assert "4 s were not enough until all 13 messages have an outcome" in output
