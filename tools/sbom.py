"""Writes the CycloneDX bill of materials of the runtime lock: ``python -m tools.sbom OUTPUT``.

CycloneDX's own tool reads hashes from the lock or licences and dependencies from an environment,
but not both at once. This runs it twice and joins the results. The same lock gives the same bytes,
regardless of other packages in the environment.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from daemon import __version__

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "requirements" / "runtime.txt"

# The metadata of these name no licence that CycloneDX knows. Read in the package's own files, so
# for this version only. metadata: "BSD"; the text is at the top of ply/lex.py
READ_LICENCES = {"pkg:pypi/ply@3.11": "BSD-3-Clause"}


class SbomError(Exception):
    """The lock and the environment do not match, or the result is invalid."""


def join(locked: dict[str, Any], installed: dict[str, Any], version: str) -> dict[str, Any]:
    """Joins two bills.

    Args:
        locked: the bill of the lock: every package with its hashes.
        installed: the bill of an environment: licences and dependencies of at least those packages.
        version: the application's.

    Returns:
        The packages of the lock, sorted by their package URL, with hashes, licences and
        dependencies, and the application itself.

    Raises:
        SbomError: a package of the lock is not installed in the version locked, or says nothing of
            its licence.
    """
    distributions = {
        component["purl"]: component["externalReferences"] for component in locked["components"]
    }
    described = {component["purl"]: component for component in installed["components"]}
    if missing := sorted(distributions.keys() - described.keys()):
        raise SbomError(
            f"not installed here as the lock says (rebuild the environment): {', '.join(missing)}"
        )
    components = [
        described[purl]
        | {
            "externalReferences": [
                *described[purl].get("externalReferences", []),
                *distributions[purl],
            ]
        }
        for purl in sorted(distributions)
    ]
    for component in components:
        if not component.get("licenses") and (read := READ_LICENCES.get(component["purl"])):
            component["licenses"] = [{"license": {"acknowledgement": "concluded", "id": read}}]
    if silent := [component["purl"] for component in components if not component.get("licenses")]:
        raise SbomError(f"without a licence in their metadata: {', '.join(silent)}")
    application = installed["metadata"]["component"] | {
        "version": version,
        "purl": f"pkg:generic/sagemaker-modeldb-sync@{version}",
    }
    references = {component["bom-ref"] for component in [application, *components]}
    return installed | {
        "metadata": installed["metadata"] | {"component": application},
        "components": components,
        # What is installed beside the lock can satisfy an extra of a package: no dependency of
        # ours.
        "dependencies": [
            entry | {"dependsOn": [on for on in entry.get("dependsOn", []) if on in references]}
            for entry in installed["dependencies"]
            if entry["ref"] in references
        ],
    }


def ask(*arguments: str) -> dict[str, Any]:
    """The output of ``cyclonedx-py``, without times and random numbers."""
    options = [
        "--pyproject",
        "pyproject.toml",
        "--sv",
        "1.6",
        "--output-reproducible",
        "--no-validate",
    ]  # the result is validated, once
    command = [sys.executable, "-W", "ignore", "-m", "cyclonedx_py", *arguments, *options]
    answer = subprocess.run(command, cwd=ROOT, check=True, capture_output=True)  # noqa: S603 - fixed words
    bill: dict[str, Any] = json.loads(answer.stdout)
    return bill


def bill_of_materials() -> dict[str, Any]:
    """The bill of this tree's lock, by this environment. Raises SbomError if they do not fit
    together.
    """
    return join(
        ask("requirements", str(LOCK.relative_to(ROOT))),
        ask("environment", sys.executable),
        __version__,
    )


def validated(bill: dict[str, Any]) -> str:
    """The bill as JSON. Raises SbomError if CycloneDX's own schema does not allow it."""
    text = json.dumps(bill, indent=2, sort_keys=True) + "\n"
    if flaw := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise SbomError(f"not valid CycloneDX 1.6: {flaw}")
    return text


def main(arguments: list[str] | None = None) -> int:
    """Writes the file. Returns 1, with the reason on stderr, if it cannot be complete and valid."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("output", type=Path)
    output: Path = parser.parse_args(arguments).output
    try:
        text = validated(bill_of_materials())
    except SbomError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
