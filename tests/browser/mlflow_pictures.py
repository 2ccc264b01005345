"""Makes the pictures of MLflow's own pages in docs/images, with the runs of the demo:
``python -m tests.browser.mlflow_pictures``.

Needs the packages of requirements/demo-mlflow.txt, and chromium on PATH. Runs the demo with the
real server, and ends it.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import tempfile
from pathlib import Path

import aiohttp

from tests.browser.pictures import IMAGES, reduced
from tests.support.browser import Tab, running_chromium, tab_of

WIDTH = 1440
EXPERIMENT = "Churn"
RUN = "churn-xgb-2041"
COLUMNS = (
    "attributes.`Dataset`",
    "metrics.`train/auc`",
    "metrics.`validation/auc`",
    "params.`eta`",
    "params.`max_depth`",
)
_START_SECONDS = 180


async def _shown(demo: asyncio.subprocess.Process) -> str:
    """The address of MLflow's pages, when the demo has shown its result."""
    assert demo.stdout is not None
    address = ""
    async with asyncio.timeout(_START_SECONDS):
        async for line in demo.stdout:
            found = re.match(rb"  MLflow's pages +(http\S+)/$", line.rstrip())
            if found:
                address = found[1].decode()
            if b"--follow" in line:
                break
    assert address, "the demo did not run with the real MLflow"
    return address


async def _ids(address: str) -> tuple[str, str]:
    """Of the experiment and the run in the pictures."""
    async with aiohttp.ClientSession(f"{address}/api/2.0/mlflow/") as http:
        async with http.get(
            "experiments/get-by-name", params={"experiment_name": EXPERIMENT}
        ) as answer:
            experiment = (await answer.json())["experiment"]["experiment_id"]
        body = {"experiment_ids": [experiment], "filter": f"attributes.run_name = '{RUN}'"}
        async with http.post("runs/search", json=body) as answer:
            return experiment, (await answer.json())["runs"][0]["info"]["run_id"]


async def _set_up(tab: Tab, address: str, experiment: str) -> None:
    """Chooses the columns of the table, as a person would, and closes the assistant."""
    columns = json.dumps({"selectedColumns": COLUMNS})
    chosen = {
        f'MLflowLocalStorage-1.1-ExperimentPage-["{experiment}"]-ReactComponentState': columns,
        "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
        "mlflow.assistant.panelOpen_v1": "false",
        "mlflow.workflowType_v1": json.dumps("machine_learning"),
    }
    await tab.open(f"{address}/version")
    for name, value in chosen.items():
        await tab.run(f"localStorage.setItem({json.dumps(name)}, {json.dumps(value)})")


async def _picture(chromium: str, url: str, words: str, path: Path, height: int) -> None:
    """Takes a page as soon as it shows some words."""
    async with tab_of(chromium) as tab:
        await tab.look((WIDTH, height))
        await tab.open(url)
        await tab.until(f"document.body.innerText.includes({json.dumps(words)})")
        await tab.until("document.getAnimations().every(each => each.playState !== 'running')")
        png = reduced(await tab.picture(height))
    path.write_bytes(png)
    print(f"{path}: {len(png) // 1024} kB")


async def make(folder: Path) -> None:
    demo = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "daemon", "demo", "--target", "mlflow", "--keep"),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        address = await _shown(demo)
        experiment, run = await _ids(address)
        pages = f"{address}/#/experiments/{experiment}/runs"
        with tempfile.TemporaryDirectory() as profile, running_chromium(Path(profile)) as chromium:
            async with tab_of(chromium) as tab:
                await _set_up(tab, address, experiment)
            await _picture(chromium, pages, "0.9412", folder / "mlflow-runs.png", 520)
            await _picture(chromium, f"{pages}/{run}", "0.9412", folder / "mlflow-run.png", 900)
    finally:
        demo.terminate()
        await demo.wait()


if __name__ == "__main__":
    asyncio.run(make(Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES))
