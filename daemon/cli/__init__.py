"""The command line. Every verb is a module with ``add_to`` (its parser) and ``act``.

Exit status: 0 success; 1 failure, explained on standard error; 2 usage or configuration error;
130 interrupted; 128 + n killed by signal n.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from daemon import __version__
from daemon.cli import check, demo, history, run
from daemon.errors import DaemonError, SetupFault
from daemon.observability.logs import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

VERBS = (run, check, history, demo)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb.

    Args:
        argv: the arguments without the program's name; None: those of the process.

    Returns:
        The exit status.
    """
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.act(arguments)
    except SetupFault as fault:
        _say(fault)
        return 2
    except DaemonError as error:
        _say(error)
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _say(error: DaemonError) -> None:
    print("error:", "\n".join(map(printable, str(error).split("\n"))), file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sagemaker-modeldb-sync",
        description="Records every finished, tagged SageMaker training job in ModelDB, exactly "
        "once.",
        epilog="Exit status: 0 success, 1 failure, 2 usage or configuration error. "
        "'%(prog)s VERB --help' describes a verb.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for verb in VERBS:
        verb.add_to(verbs)
    return parser
