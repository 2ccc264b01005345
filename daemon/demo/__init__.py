"""The demo, which the container image leaves out: see `daemon.demo.scenario`.

A kind of target takes part with one line in `STAND_INS`.
"""

STAND_INS = {
    "modeldb-v2": "daemon.demo.modeldb_v2.demo_target",
    "modeldb-v1": "daemon.demo.modeldb_v1.demo_target",
    "mlflow": "daemon.demo.mlflow.demo_target",
}
"""By ``target.kind``, the first the default: the module whose ``running(http, folder)`` is an async
context manager around a `daemon.demo.target.DemoTarget`. It is imported when the demo runs."""
