"""``python -m daemon demo``: a real process with an empty environment, and the demo's check of
itself.

What it reads of a ModelDB V1 is in test_demo_modeldb_v1.py.
"""

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
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import daemon
from daemon.demo.aws import DeadLetter
from daemon.demo.results import Evidence, Figures, shortcomings
from daemon.demo.sample_jobs import SECRETS, sample_story
from daemon.demo.target import FoundRun
from daemon.targets.modeldb_v1.mapping import mark_in
from daemon.training_job.identity import JobMark

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    Start: TypeAlias = Callable[..., subprocess.Popen[str]]

DEMO = ("-m", "daemon", "demo")
KINDS = ("modeldb-v2", "modeldb-v1")
LONGEST_SECONDS = 30.0

STORY = sample_story(datetime.now(UTC))


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """The demo's TMPDIR."""
    made = tmp_path / "tmp"
    made.mkdir()
    return made


@pytest.fixture
def start(tmp_path: Path, scratch: Path) -> Iterator[Start]:
    """Starts Python in a directory of its own, with nothing in its environment but what is
    given.
    """
    (tmp_path / "cwd").mkdir()
    started = []

    def begin(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=tmp_path / "cwd",
            env={
                "PATH": os.defpath,
                "HOME": "/nonexistent",
                "TMPDIR": str(scratch),
                "PYTHONPATH": str(Path(daemon.__file__).parents[1]),
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
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


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


def get(url: str, body: str | None = None) -> Any:
    with urllib.request.urlopen(
        urllib.request.Request(url, body.encode() if body else None), timeout=5
    ) as answer:
        return answer.read().decode()


@pytest.mark.parametrize(
    ("options", "server", "nightly_run"),
    [
        ((), "ModelDB V2", "demand-ridge / demand-nightly-[0-9a-f]{8}"),
        (
            ("--target", "modeldb-v1"),
            "ModelDB V1",
            "Default_Experiment / run 9, model demand-ridge",
        ),
    ],
    ids=["as it is", "ModelDB V1"],
)
def test_the_demo_needs_nothing_and_ends_well(
    start: Start,
    tmp_path: Path,
    scratch: Path,
    options: tuple[str, ...],
    server: str,
    nightly_run: str,
) -> None:
    begun = time.monotonic()
    demo = start(*DEMO, *options)
    output, errors = demo.communicate(timeout=90)
    seconds = time.monotonic() - begun

    assert (demo.returncode, errors) == (0, ""), output
    assert seconds < LONGEST_SECONDS
    assert f"{server}, a stand-in for the real server: " in output
    last_line = output.splitlines()[-1]
    assert re.fullmatch(
        r"OK in \d+\.\d s: 9 runs in ModelDB, exactly one for each completed, tagged job", last_line
    )
    shown = figures_in(output)
    assert {
        name: shown[name]
        for name in ("messages received", "synced", "duplicate", "skipped", "rejected")
    } == {
        "messages received": "20",
        "synced": "9",
        "duplicate": "4",
        "skipped": "4",
        "rejected": "3",
    }
    assert (shown["runs in ModelDB"], shown["dead letters"], shown["highest receive count"]) == (
        "9",
        "3",
        "1",
    )
    assert int(shown["held during the outage"]) >= 1
    assert re.search(
        r"the daemon is alive, but paused: [1-4] messages held, [0-3] left in the queue", output
    )
    assert re.search(
        rf"^demand-nightly .* created +Demand / {nightly_run} *$", output, re.MULTILINE
    )
    assert re.search(r"^demand-deepar-9 .* synced", output, re.MULTILINE)
    # its answer was lost
    assert (
        output.count("found_in_target")
        == output.count("was found in ModelDB and not written again")
        == 1
    )
    assert (
        output.count("tags_incomplete")
        == output.count("foreign_account")
        == output.count("malformed_body")
        == 1
    )
    assert "\x1b" not in output, "escape sequences in what is no terminal"

    left = files_in(scratch)
    log = [json.loads(line) for line in left["daemon.log"].splitlines()]
    assert [line for line in log if line["level"] == "error"] == []
    assert log[-1]["event"] == "stopped"
    for secret in SECRETS:
        assert secret not in output
        assert [name for name, content in left.items() if secret.encode() in content] == []
    assert list((tmp_path / "cwd").iterdir()) == []


def test_keep_stays_up_until_sigterm_whatever_the_environment_says_of_aws(start: Start) -> None:
    demo = start(
        *DEMO,
        "--keep",
        AWS_PROFILE="a-profile-that-nobody-has",
        AWS_ENDPOINT_URL="http://192.0.2.1:9",
        HTTP_PROXY="http://192.0.2.1:9",
        http_proxy="http://192.0.2.1:9",
        MODELDB_SYNC_QUEUE__URL="https://sqs.eu-west-1.amazonaws.com/123456789012/a-real-queue",
        PYTHONUNBUFFERED="1",
    )
    shown = figures_in(read_until("\n  history ", demo))

    assert "modeldb_sync_jobs_total" in get(shown["metrics"])
    assert json.loads(get(shown["alive?"]))["state"] == "alive"
    assert json.loads(get(shown["ready?"]))["state"] == "ready"
    curl = re.fullmatch(r"curl -s (\S+) -d '(.*)'", shown["all runs"])
    assert curl is not None
    assert len(json.loads(get(curl[1], curl[2]))["experiment_runs"]) == 9
    history = subprocess.run(
        [*shown["history"].split(), "--json"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(daemon.__file__).parents[1],
    )
    states = [json.loads(line).get("state") for line in history.stdout.splitlines()]
    assert states.count("synced") == 9

    begun = time.monotonic()
    demo.send_signal(signal.SIGTERM)
    _, errors = demo.communicate(timeout=30)
    assert (demo.returncode, errors) == (0, "")
    assert time.monotonic() - begun < 10


def test_keep_tells_how_to_look_into_a_modeldb_v1(start: Start) -> None:
    demo = start(*DEMO, "--keep", "--target", "modeldb-v1", PYTHONUNBUFFERED="1")
    output = read_until("\n  history ", demo)
    shown = figures_in(output)

    host, port = shown["ModelDB (Thrift, framed)"].split(":")
    assert (host, port.isdecimal()) == ("127.0.0.1", True)
    assert re.findall(r"^  in it +(.*)$", output, re.MULTILINE) == [
        "Churn (amara.okafor): 3 runs, 3 models, 7 metrics",
        "Demand (sofia.rossi): 3 runs, 3 models, 4 metrics",
        "Fraud (li.wei): 3 runs, 3 models, 7 metrics",
    ]
    runs = subprocess.run(
        shlex.split(shown["all runs"]),
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(daemon.__file__).parents[1],
        timeout=30,
    )
    marks = {mark_in(found) for found in re.findall(r"description='([^']*)'", runs.stdout)}
    assert len(runs.stdout.splitlines()) == len(marks) == 9
    assert None not in marks

    demo.send_signal(signal.SIGTERM)
    _, errors = demo.communicate(timeout=30)
    assert (demo.returncode, errors) == (0, "")


def test_a_target_that_there_is_not_is_a_usage_error(start: Start) -> None:
    demo = start(*DEMO, "--target", "mlflow")
    output, errors = demo.communicate(timeout=30)
    assert (demo.returncode, output) == (2, "")
    assert "modeldb-v2" in errors
    assert "modeldb-v1" in errors


def test_ctrl_c_in_the_middle_ends_it_with_its_own_status(start: Start) -> None:
    demo = start(*DEMO, PYTHONUNBUFFERED="1")
    read_until("Training jobs end", demo)
    demo.send_signal(signal.SIGINT)
    rest, errors = demo.communicate(timeout=30)
    assert (demo.returncode, errors) == (130, "")
    assert "interrupted" in rest
    assert "OK" not in rest


def test_a_reader_that_leaves_ends_it_in_order(start: Start, scratch: Path) -> None:
    demo = start(*DEMO, PYTHONUNBUFFERED="1")
    assert demo.stdout is not None
    assert demo.stderr is not None
    while "the daemon:" not in demo.stdout.readline():
        pass
    demo.stdout.close()
    assert demo.stderr.read() == "error: nobody reads standard output any more\n"
    assert demo.wait(timeout=30) == 1
    assert json.loads(files_in(scratch)["daemon.log"].splitlines()[-1])["event"] == "stopped"


@pytest.mark.parametrize("kind", KINDS)
def test_a_lost_job_is_told_and_ends_it_with_status_1(start: Start, kind: str) -> None:
    demo = start(
        "-c",
        "from daemon.demo import aws, scenario\n"
        "scenario.PATIENCE_SECONDS = 4.0\n"
        "put = aws.EmbeddedAws.put_events\n"
        "aws.EmbeddedAws.put_events = lambda self, events: put(self, [e for e in events if "
        "e[0].name != 'churn-mlp-118'])\n"
        f"raise SystemExit(scenario.run_demo({kind!r}, keep=False))",
    )
    output, errors = demo.communicate(timeout=60)
    assert (demo.returncode, errors) == (1, ""), output
    assert "FAILED" in output
    assert re.search(r"churn-mlp-118 \(created \S+Z\) has 0 runs in ModelDB, not 1", output)
    assert "4 s were not enough until all 13 messages have an outcome" in output


# --- the check of itself --------------------------------------------------------------------------


@pytest.fixture
def all_is_well() -> Evidence:
    """What there is when every job of `STORY` landed where it must."""
    runs = [
        FoundRun(
            "project",
            "experiment",
            job.name,
            job.arn,
            job.mark,
            metrics=[*job.finite_metrics.items()],
            inputs=[*job.inputs.items()],
            models=1,
            content="",
        )
        for job in STORY.jobs
        if job.demands == "synced"
    ]
    letters = [
        DeadLetter(
            json.dumps(
                {
                    "detail-type": "SageMaker Training Job State Change",
                    "source": "aws.sagemaker",
                    "detail": job.event_detail("Completed"),
                }
            ),
            "why",
            "detail",
        )
        for job in STORY.jobs
        if job.demands == "rejected"
    ]
    letters += [DeadLetter(body, "why", "detail") for body in STORY.bodies]
    return Evidence(runs, letters, [], Figures([]))


def test_the_check_is_content_when_every_job_landed_where_it_must(all_is_well: Evidence) -> None:
    assert len(all_is_well.runs) == 9
    assert shortcomings(STORY, all_is_well) == []


def test_the_check_finds_a_missing_a_double_and_a_foreign_run(all_is_well: Evidence) -> None:
    first, second, *others = all_is_well.runs
    assert "has 0 runs" in shortcomings(STORY, replace(all_is_well, runs=[second, *others]))[0]
    assert (
        "has 2 runs"
        in shortcomings(STORY, replace(all_is_well, runs=[first, first, second, *others]))[0]
    )
    stranger = replace(first, name="scratch-7", mark=JobMark("", ""))
    [found] = shortcomings(STORY, replace(all_is_well, runs=[*all_is_well.runs, stranger]))
    assert "scratch-7" in found


def test_the_check_finds_what_a_run_lacks_or_has_twice(all_is_well: Evidence) -> None:
    first, *others = all_is_well.runs

    def problems(run: FoundRun) -> list[str]:
        return list(shortcomings(STORY, replace(all_is_well, runs=[run, *others])))

    (name, value), *more = first.metrics
    kept_as_32_bit = replace(first, metrics=[(name, value * (1 + 5e-8)), *more])
    assert problems(kept_as_32_bit) == []
    for metrics in ([(name, value * 1.001), *more], more, [*first.metrics, (name, value)]):
        [found] = problems(replace(first, metrics=metrics))
        assert f"the run of {first.name} has the metrics " in found
    (channel, _), *channels = first.inputs
    for inputs in (
        [(channel, "s3://elsewhere"), *channels],
        channels,
        [*first.inputs, first.inputs[0]],
    ):
        [found] = problems(replace(first, inputs=inputs))
        assert f"the run of {first.name} has the inputs " in found
    assert problems(replace(first, models=0)) == [f"the run of {first.name} has 0 models, not 1"]


def test_the_check_finds_a_secret_in_modeldb(all_is_well: Evidence) -> None:
    first, *others = all_is_well.runs
    leaking = replace(first, content=f"api_key={SECRETS[0]}")
    [found] = shortcomings(STORY, replace(all_is_well, runs=[leaking, *others]))
    assert "secret" in found
    assert SECRETS[0] not in found


def test_the_check_finds_missing_and_unexplained_dead_letters(all_is_well: Evidence) -> None:
    first, *others = all_is_well.dead_letters
    assert "has 0 dead letters" in shortcomings(STORY, replace(all_is_well, dead_letters=others))[0]
    assert (
        "no dead letter with the body"
        in shortcomings(STORY, replace(all_is_well, dead_letters=[first, *others[:-1]]))[0]
    )
    assert (
        "has no reason"
        in shortcomings(
            STORY, replace(all_is_well, dead_letters=[replace(first, reason=""), *others])
        )[0]
    )
