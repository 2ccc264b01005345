"""The command line. Every verb is a module with ``add_to`` (its parser) and ``act``.

Exit status: 0 success; 1 failure, explained on standard error; 2 usage or configuration error;
130 interrupted; 128 + n killed by signal n.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from daemon import __version__
from daemon.cli.common import PROGRAM
from daemon.errors import DaemonError, SetupFault
from daemon.observability.logs import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

VERBS = (
    *("run", "check", "sync", "backfill", "dead-letters", "history", "explain"),
    *("checkpoint", "completion", "demo"),
)
"""Each is a module of this package, imported when it is asked for: a running daemon has no use for
the code of the others, which takes memory and time to start.
"""

INTERRUPTED = 128 + signal.SIGINT
NOBODY_READS = 128 + signal.SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb.

    Args:
        argv: the arguments without the program's name; None: those of the process.

    Returns:
        The exit status.
    """
    given = sys.argv[1:] if argv is None else argv
    parser = program_parser(given[:1] if given and given[0] in VERBS else VERBS)
    arguments = parser.parse_args(given)
    try:
        status: int = arguments.act(arguments)
        sys.stdout.flush()
    except SetupFault as fault:
        _say(fault)
        return 2
    except DaemonError as error:
        _say(error)
        return 1
    except KeyboardInterrupt:
        if arguments.interrupted:
            print(arguments.interrupted, file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader has seen enough, such as head
        # Python flushes standard output once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOBODY_READS
    return status


def _say(error: DaemonError) -> None:
    print("error:", "\n".join(map(printable, str(error).split("\n"))), file=sys.stderr)


def program_parser(names: Sequence[str] = VERBS) -> argparse.ArgumentParser:
    """The parser of the program.

    A verb's ``interrupted`` is the sentence for Ctrl-C; "": that is how it is meant to end.

    Args:
        names: of the verbs that it knows.
    """
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Records every finished, tagged SageMaker training job in ModelDB or MLflow, "
        "exactly once.",
        epilog="Exit status: 0 success, 1 failure, 2 usage or configuration error, 130 "
        "interrupted. '%(prog)s VERB --help' describes a verb, with examples.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.set_defaults(interrupted="interrupted: run the same command again to go on")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for name in names:
        import_module(f"daemon.cli.{name.replace('-', '_')}").add_to(verbs)
    return parser
