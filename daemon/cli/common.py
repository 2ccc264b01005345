"""Shared by several verbs: their parsers and options, and logging as configured."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.clock import wall
from daemon.config.settings import secret_values
from daemon.config.sources import load_settings
from daemon.observability.logs import configure_logging, register_secret
from daemon.operations.when import BadWhen, parse_when

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daemon.config.settings import Settings

PROGRAM = "sagemaker-modeldb-sync"
_EXAMPLES = "examples:"


def add_verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    *,
    summary: str,
    description: str,
    examples: Sequence[tuple[str, str]],
) -> argparse.ArgumentParser:
    """Adds the parser of a verb, or of a verb's own verb.

    Args:
        verbs: what `argparse.ArgumentParser.add_subparsers` returned.
        name: of the verb.
        summary: one line, for the help of the parser above.
        description: one paragraph; it is wrapped.
        examples: at least one pair of what to type after the program's name and what that does;
            shown at the end of the verb's help.
    """
    shown = "\n\n".join(f"  {PROGRAM} {command}\n      {what}" for command, what in examples)
    return verbs.add_parser(
        name,
        help=summary,
        description=description,
        epilog=f"{_EXAMPLES}\n{shown}",
        formatter_class=_HelpFormatter,
    )


class _HelpFormatter(argparse.HelpFormatter):
    """Wraps paragraphs, but not the examples."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith(_EXAMPLES) else super()._fill_text(text, width, indent)


def add_config_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="YAML configuration file (default: $MODELDB_SYNC_CONFIG, else "
        "/etc/modeldb-sync/config.yaml if it exists)",
    )


def when(text: str) -> float:
    """The type of an argument WHEN, in epoch seconds."""
    try:
        return parse_when(text, wall())
    except BadWhen as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def settings_of(arguments: argparse.Namespace) -> Settings:
    """Loads the settings from all sources.

    Raises:
        ConfigError: with one line per problem.
    """
    return load_settings(arguments.config, os.environ)


def start_logging(settings: Settings) -> None:
    on_terminal = sys.stderr.isatty()
    configure_logging(
        settings.log.level, settings.log.format or ("console" if on_terminal else "json")
    )
    for secret in secret_values(settings):
        register_secret(secret)
