"""``demo``: the whole thing on one machine with nothing but Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.cli.common import add_verb
from daemon.errors import SetupFault

if TYPE_CHECKING:
    import argparse

try:
    from daemon.demo import STAND_INS
except ModuleNotFoundError:  # the container image leaves the demo out
    STAND_INS = {}


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_verb(
        verbs,
        "demo",
        summary="demonstrate the daemon on this machine",
        description="Starts an embedded AWS emulator (moto) and a fake ModelDB or MLflow, "
        "completes a dozen training jobs, simulates a database outage, prints a summary and exits.",
        examples=[
            ("demo", "shows the daemon at work, in ten seconds"),
            ("demo --keep", "the same, and lets you try the other verbs on it"),
        ],
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help="keep the servers running afterwards and print their addresses",
    )
    kinds = list(STAND_INS)
    parser.add_argument(
        "--target",
        choices=kinds or None,
        default=next(iter(kinds), ""),
        help="what the jobs are synchronized to (default: %(default)s); mlflow is the real server "
        "where the extra demo-mlflow is installed",
    )
    parser.set_defaults(act=act)


def act(arguments: argparse.Namespace) -> int:
    try:
        from daemon.demo.scenario import run_demo  # noqa: PLC0415 - moto and rich are an extra
    except ModuleNotFoundError as error:
        missing = (
            "the demo is not part of this installation (the container image leaves it out)"
            if (error.name or "").startswith("daemon.demo")
            else f"the demo needs {error.name}"
        )
        raise SetupFault(f"{missing}: pip install 'sagemaker-modeldb-sync[demo]'") from error
    return run_demo(arguments.target, keep=arguments.keep)
