"""One line for each change of what the AWS library logs about credentials.

It logs a traceback at every refresh that fails. A failure that matters is the fault of an edge, and
logged as such; one that does not yet matter is said here once.
"""

from __future__ import annotations

import logging

import structlog

from daemon.aws.credential_faults import cause_of

log = structlog.get_logger(__name__)

_LOGGERS = tuple(
    f"{library}.{module}"
    for library in ("aiobotocore", "botocore")
    for module in ("credentials", "tokens", "utils")
)


class _OneLine(logging.Filter):
    """Drops records with a traceback; says what is new in those about an early refresh."""

    def __init__(self) -> None:
        super().__init__()
        self._said = ""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, Exception):
            return "still expired" not in record.getMessage()  # the error that follows says it
        if "advisory" in str(record.args):
            detail = cause_of(error)
            if detail != self._said:
                self._said = detail
                log.warning(
                    "AWS credentials could not be renewed; they are still valid", detail=detail
                )
        return False


_one_line = _OneLine()


def quiet_credential_loggers() -> None:
    """Installs the filter; may be called repeatedly."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_one_line)
