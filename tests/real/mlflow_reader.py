"""Prints what an MLflow holds, as one JSON object, read with MLflow's official client.

A program for the interpreter that has this client (see `mlflow_lab.interpreter`); it imports
nothing of this project.

    python mlflow_reader.py URL [--frame] [--histories]

``--frame`` adds the rows of `mlflow.search_runs`. ``--histories`` reads all points of each metric,
a call for each, instead of the latest.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

ALL = 3
"""`mlflow.entities.ViewType.ALL`."""
PAGE = 500


def pages(search: Any, **arguments: object) -> list[Any]:
    """All pages of a search of the client."""
    found: list[Any] = []
    token = None
    while True:
        page = search(**arguments, max_results=PAGE, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def experiment(found: Any) -> dict[str, Any]:
    return {
        "id": found.experiment_id,
        "name": found.name,
        "deleted": found.lifecycle_stage != "active",
        "tags": dict(found.tags),
    }


def run(found: Any, points: Any, sources: Any) -> dict[str, Any]:
    """A run with the points of each metric (the latest one, unless with histories), and the address
    that the client makes of each input's source.
    """
    data = found.data
    return {
        "id": found.info.run_id,
        "experiment_id": found.info.experiment_id,
        "name": found.info.run_name,
        "status": found.info.status,
        "deleted": found.info.lifecycle_stage != "active",
        "start_time": found.info.start_time,
        "end_time": found.info.end_time,
        "tags": dict(data.tags),
        "params": dict(data.params),
        "metrics": {
            key: [[point.value, point.timestamp, point.step] for point in points(found, key)]
            for key in data.metrics
        },
        "latest": dict(data.metrics),
        "inputs": [
            {
                "name": each.dataset.name,
                "digest": each.dataset.digest,
                "source_type": each.dataset.source_type,
                "source": each.dataset.source,
                "tags": {tag.key: tag.value for tag in each.tags},
                "opened": getattr(sources(each.dataset), "uri", None)
                if each.dataset.source_type == "s3"
                else None,
            }
            for each in found.inputs.dataset_inputs
        ],
    }


def version(found: Any) -> dict[str, Any]:
    return {
        "name": found.name,
        "version": int(found.version),
        "run_id": found.run_id,
        "run_link": found.run_link,
        "source": found.source,
        "description": found.description,
        "status": found.status,
        "tags": dict(found.tags),
        "aliases": list(found.aliases),
    }


def main() -> None:
    url = sys.argv[1]
    tracking = importlib.import_module("mlflow.tracking")
    get_source = importlib.import_module("mlflow.data").get_source
    client = tracking.MlflowClient(url, url)
    experiments = pages(client.search_experiments, view_type=ALL)
    ids = [each.experiment_id for each in experiments]
    runs = pages(client.search_runs, experiment_ids=ids, run_view_type=ALL)

    def points(found: Any, key: str) -> list[Any]:
        if "--histories" in sys.argv:
            return list(client.get_metric_history(found.info.run_id, key))
        return [point for point in found.data._metric_objs if point.key == key]

    answer: dict[str, Any] = {
        "experiments": [experiment(each) for each in experiments],
        "runs": [run(client.get_run(each.info.run_id), points, get_source) for each in runs],
        "models": {each.name: each.description for each in pages(client.search_registered_models)},
        "versions": [version(each) for each in pages(client.search_model_versions)],
    }
    if "--frame" in sys.argv:
        mlflow = importlib.import_module("mlflow")
        mlflow.set_tracking_uri(url)
        frame = mlflow.search_runs(experiment_ids=ids, max_results=5000)
        answer["frame"] = json.loads(frame.to_json(orient="records", date_format="iso"))
    sys.stdout.write(json.dumps(answer))  # NaN is written as Python reads it


if __name__ == "__main__":
    main()
