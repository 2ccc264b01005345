"""Asks an advisory service about each package of a lock: ``python -m tools.audit [--must-ask] [LOCK
…]``.

Needs only Python: pip-audit is installed from a lock of its own into an environment of its own. A
service counts only if it reports a release that is known to be vulnerable: a mirror that returns an
empty list for everything would pass every package.

Exit status: 0 no known vulnerability, or no service could be asked; 1 a known vulnerability; 2 the
audit itself failed, or no service could be asked and ``--must-ask`` was given.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "requirements" / "runtime.txt"
TOOL_LOCK = ROOT / "requirements" / "audit.txt"

KNOWN_AS_VULNERABLE = "https://pypi.org/pypi/urllib3/1.24.1/json"
"""A release for which pip-audit's service reports CVE-2019-11324 and others."""
ASK_SECONDS = 15

ACCEPTED: Mapping[str, str] = {}
"""Advisories that do not concern this program: id and reason. Remove an entry with the release that
fixes it."""


class AuditError(Exception):
    """A service could be asked, but gave no usable answer."""


@dataclass(frozen=True, slots=True)
class Advisory:
    """One known vulnerability of a locked package."""

    package: str
    version: str
    id: str
    fixed_in: tuple[str, ...]

    def __str__(self) -> str:
        fixed = f"fixed in {', '.join(self.fixed_in)}" if self.fixed_in else "not fixed yet"
        return f"{self.package} {self.version}: {self.id}, {fixed}"


def why_nobody_can_be_asked(url: str = KNOWN_AS_VULNERABLE) -> str | None:
    """Why no service can be asked; None if one answers and knows advisories."""
    try:
        with urllib.request.urlopen(url, timeout=ASK_SECONDS) as answer:  # noqa: S310 - https, written above
            reported = json.load(answer)
    except OSError as error:  # no network, no name, no such page, a broken certificate
        return str(getattr(error, "reason", error))
    except ValueError:
        return "what answers there is no JSON"
    if not isinstance(reported, dict) or not reported.get("vulnerabilities"):
        return "what answers there knows no advisories"
    return None


def locked(lock: Path) -> dict[str, str]:
    """Version by name."""
    return dict(
        re.findall(
            r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", lock.read_text(encoding="utf-8"), re.MULTILINE
        )
    )


def advisories(lock: Path, pip_audit: Sequence[str]) -> list[Advisory]:
    """The known advisories of the packages of a lock, without those in `ACCEPTED`.

    Args:
        lock: with hashes.
        pip_audit: the command.

    Raises:
        AuditError: pip-audit failed, or did not answer for every package.
    """
    options = (
        "--format=json",
        "--progress-spinner=off",
        "--disable-pip",
        "--require-hashes",
        "--strict",
        f"--requirement={lock}",
    )
    ignored = [f"--ignore-vuln={advisory}" for advisory in ACCEPTED]
    done = subprocess.run(  # noqa: S603 - our own command
        [*pip_audit, *options, *ignored], capture_output=True, text=True, check=False
    )
    try:
        answered: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
        found = [
            Advisory(
                package["name"],
                package["version"],
                known["id"],
                tuple(known.get("fix_versions", ())),
            )
            for package in answered
            for known in package["vulns"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise AuditError(
            f"pip-audit gives no answer (exit status {done.returncode}): "
            f"{done.stderr.strip() or error}"
        ) from error
    if unasked := set(locked(lock)) - {package["name"] for package in answered}:
        raise AuditError(f"pip-audit does not answer for {', '.join(sorted(unasked))}")
    if done.returncode and not found:
        raise AuditError(f"pip-audit ends with {done.returncode}: {done.stderr.strip()}")
    return found


def installed_pip_audit(home: Path) -> Sequence[str]:
    """The command of pip-audit in an environment that is rebuilt when its lock has changed.

    Raises:
        AuditError: it cannot be installed.
    """
    python, stamp = home / "bin" / "python", home / "audit.txt"
    wanted = TOOL_LOCK.read_text(encoding="utf-8")
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != wanted:
        install = (
            "-m",
            "pip",
            "--quiet",
            "--disable-pip-version-check",
            "install",
            "--no-deps",
            "--require-hashes",
            "-r",
            str(TOOL_LOCK),
        )
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)  # noqa: S603 - our own command
            subprocess.run([str(python), *install], check=True)  # noqa: S603 - our own command
        except (OSError, subprocess.CalledProcessError) as error:
            raise AuditError(f"pip-audit cannot be installed: {error}") from error
        stamp.write_text(wanted, encoding="utf-8")
    return (str(python), "-m", "pip_audit")


def main(
    arguments: Sequence[str] | None = None,
    *,
    pip_audit: Sequence[str] | None = None,
    service_url: str = KNOWN_AS_VULNERABLE,
) -> int:
    """Audits the locks.

    Args:
        arguments: of the command line; None: the process's.
        pip_audit: a command to use instead of the installed one.
        service_url: what the service is asked first.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tools.audit", description="Known vulnerabilities of locked packages."
    )
    parser.add_argument(
        "locks",
        nargs="*",
        type=Path,
        default=[LOCK],
        metavar="LOCK",
        help="default: requirements/runtime.txt",
    )
    parser.add_argument(
        "--must-ask", action="store_true", help="fail where no advisory service can be reached"
    )
    parser.add_argument(
        "--home", type=Path, default=ROOT / ".venv" / "audit", help="where pip-audit is installed"
    )
    options = parser.parse_args(arguments)
    if (why := why_nobody_can_be_asked(service_url)) is not None:
        print(f"not asked: no advisory service reachable ({service_url}: {why})")  # noqa: T201 - the answer
        return 2 if options.must_ask else 0
    try:
        command = pip_audit or installed_pip_audit(options.home)
        found = [advisory for lock in options.locks for advisory in advisories(lock, command)]
    except AuditError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - the answer
        return 2
    for advisory in dict.fromkeys(found):
        print(advisory)  # noqa: T201 - the answer
    packages = len({name for lock in options.locks for name in locked(lock)})
    print(  # noqa: T201 - the answer
        f"{packages} packages asked about, {len(set(found))} known vulnerabilities, "
        f"{len(ACCEPTED)} accepted"
    )
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
