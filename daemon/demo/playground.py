"""What `demo --keep` leaves to try the verbs on: an environment for a shell, and two jobs that need
an operator.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.cli.common import PROGRAM
from daemon.demo.aws import CREDENTIALS
from daemon.demo.sample_jobs import HALF_TAGGED, KEYS, REGION, lost_job

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from daemon.demo.aws import EmbeddedAws

PACKAGE = Path(__file__).parents[2]
"""The folder that ``daemon`` is imported from."""

_ADD_TAGS = """\
# Does what `aws sagemaker add-tags` would do: completes the tags of a rejected job.
import boto3

sagemaker = boto3.client("sagemaker", endpoint_url={endpoint!r}, region_name={region!r})
job = sagemaker.describe_training_job(TrainingJobName={name!r})
sagemaker.add_tags(
    ResourceArn=job["TrainingJobArn"], Tags=[{{"Key": {key!r}, "Value": "LightGBM"}}]
)
print({name!r}, "now has the tag", {key!r})
"""


async def lose_an_event(aws: EmbeddedAws, now: datetime) -> str:
    """Completes a training job of which no event tells. Returns its name."""
    job = lost_job(now)
    await aws.put_job(job)
    return job.name


def write_environment(directory: Path, configuration: Path, aws: EmbeddedAws) -> Path:
    """Writes a file that makes a shell ready for the verbs: the program's name, its configuration,
    and the demo's credentials.

    Args:
        directory: where the files go.
        configuration: of the daemon.
        aws: the emulator.

    Returns:
        The file, to be read by a POSIX shell with ``.``.
    """
    programs = directory / "bin"
    programs.mkdir(exist_ok=True)
    python = f"PYTHONPATH={shlex.quote(str(PACKAGE))} exec {shlex.quote(sys.executable)}"
    tags = directory / "complete_tags.py"
    tags.write_text(
        _ADD_TAGS.format(endpoint=aws.url, region=REGION, name=HALF_TAGGED, key=KEYS.model_type),
        encoding="utf-8",
    )
    for name, command in (
        (PROGRAM, f'{python} -m daemon "$@"'),
        ("complete-tags", f"{python} {shlex.quote(str(tags))}"),
    ):
        program = programs / name
        program.write_text(f"#!/bin/sh\n{command}\n", encoding="utf-8")
        program.chmod(0o700)
    variables = {
        **CREDENTIALS,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "MODELDB_SYNC_CONFIG": str(configuration),
    }
    lines = [
        "# Read this with a dot, in a shell of its own: it sets made-up credentials.",
        "unset AWS_PROFILE AWS_ENDPOINT_URL HTTP_PROXY HTTPS_PROXY http_proxy https_proxy",
        *(f"export {name}={shlex.quote(value)}" for name, value in variables.items()),
        f'export PATH={shlex.quote(str(programs))}:"$PATH"',
    ]
    environment = directory / "environment"
    environment.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return environment


def suggestions(environment: Path, lost: str, system: str) -> Sequence[tuple[str, str]]:
    """What to try, in this order: each a command, and what it shows.

    Args:
        environment: from `write_environment`.
        lost: from `lose_an_event`.
        system: what the target is called.
    """
    commands = [
        ("check", "is everything set up?"),
        ("history", "what became of the jobs?"),
        (f"explain {lost}", f"why is this one not in {system}? Its event was lost"),
        (f"sync {lost} --dry-run", "what would be written of it?"),
        ("backfill --since 1d --dry-run", "which jobs of a day are missing?"),
        ("backfill --since 1d --wait", "have them synced"),
        ("dead-letters list", "what was rejected, and why?"),
    ]
    redrive = f"{PROGRAM} dead-letters redrive --job {HALF_TAGGED}"
    return [
        (f". {shlex.quote(str(environment))}", "first, in another terminal"),
        *((f"{PROGRAM} {command}", what) for command, what in commands),
        ("complete-tags", f"adds the tag that {HALF_TAGGED} lacks"),
        (redrive, "sends it back: now it is synced"),
        (f"{PROGRAM} history --follow", "and watch it (Ctrl-C ends it)"),
    ]
