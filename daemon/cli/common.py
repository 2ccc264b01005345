"""Shared by several verbs: the ``--config`` option and logging as configured."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.config.settings import secret_values
from daemon.config.sources import load_settings
from daemon.observability.logs import configure_logging, register_secret

if TYPE_CHECKING:
    import argparse

    from daemon.config.settings import Settings


def add_config_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="YAML configuration file (default: $MODELDB_SYNC_CONFIG, else "
        "/etc/modeldb-sync/config.yaml if it exists)",
    )


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
