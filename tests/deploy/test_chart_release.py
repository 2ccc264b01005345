"""How the chart is released: the steps of release.yml that have no other test, without a
registry.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from daemon import __version__
from tests.deploy.helm_chart import CHART, helm

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

WORKFLOW: dict[str, Any] = yaml.safe_load(
    (CHART.parents[1] / ".github" / "workflows" / "release.yml").read_text()
)


def run_step(
    name: str, environ: Mapping[str, str], folder: Path
) -> subprocess.CompletedProcess[str]:
    """Runs a step of the job ``chart`` as GitHub does, with the folder's ``helm``."""
    [script] = [
        step["run"] for step in WORKFLOW["jobs"]["chart"]["steps"] if step.get("name") == name
    ]
    (folder / "step").write_text(script)
    return subprocess.run(
        ["bash", "-e", "step"],
        cwd=folder,
        env={"PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder), **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_chart_must_name_the_image_that_was_pushed(tmp_path: Path) -> None:
    done = helm("package", str(CHART), "--destination", str(tmp_path / "dist"))
    assert done.returncode == 0, done.stderr
    (tmp_path / "helm").symlink_to(os.environ.get("HELM") or str(shutil.which("helm")))
    names = tmp_path / "names"
    named = run_step(
        "Name it",
        {
            "GITHUB_REF_NAME": f"v{__version__}",
            "GITHUB_REPOSITORY_OWNER": "Some-Body",
            "GITHUB_OUTPUT": str(names),
        },
        tmp_path,
    )
    assert named.returncode == 0, named.stderr
    outputs = dict(line.split("=", 1) for line in names.read_text().splitlines())
    assert outputs["folder"] == "ghcr.io/some-body/charts"
    assert outputs["image"] == f"ghcr.io/some-body/sagemaker-modeldb-sync:{__version__}"
    for image, matches in (
        (outputs["image"], False),
        (outputs["image"].replace("some-body", "OWNER"), True),
    ):
        compared = run_step(
            "Compare it with the image that was pushed",
            {"FILE": outputs["file"], "IMAGE": image},
            tmp_path,
        )
        assert (compared.returncode == 0) is matches, compared.stderr


@pytest.mark.parametrize(
    ("printed", "written"),
    [
        (f"Pushed: x:1\nDigest: sha256:{'ab' * 32}\n", f"digest=sha256:{'ab' * 32}\n"),
        ("Error: denied\n", ""),
    ],
)
def test_the_digest_is_what_helm_says(printed: str, written: str, tmp_path: Path) -> None:
    (tmp_path / "helm").write_text(f"#!/bin/sh\nprintf '%s' '{printed}' >&2\n")
    (tmp_path / "helm").chmod(0o700)
    outputs = tmp_path / "outputs"
    outputs.touch()
    done = run_step(
        "Push it",
        {"FILE": "chart.tgz", "FOLDER": "ghcr.io/x", "GITHUB_OUTPUT": str(outputs)},
        tmp_path,
    )
    assert outputs.read_text() == written
    assert (done.returncode == 0) is bool(written)
