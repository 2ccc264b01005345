"""One version everywhere, a matching changelog, the contents of the archives, known licences, a
complete bill of materials.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest

from daemon import __version__
from tools import release_notes

ROOT = Path(__file__).parent.parent.parent
LOCK = (ROOT / "requirements" / "runtime.txt").read_text(encoding="utf-8")
LOCKED = dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", LOCK, re.MULTILINE))

# What a user of the image may do anything with, or (MPL) anything but change these very files in
# secret.
ALLOWED_LICENCES = {
    *(
        "MIT",
        "MIT License",
        "Apache-2.0",
        "Apache Software License",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSD License",
        "ISC",
    ),
    *(
        "PSF-2.0",
        "Python-2.0",
        "Python Software Foundation License",
        "MPL-2.0",
        "Mozilla Public License 2.0 (MPL 2.0)",
    ),
}

# Named there too loosely to be allowed as it stands. Somebody read the package's own text, of this
# version only.
READ_LICENCES = {("ply", "3.11", "BSD"): "BSD-3-Clause"}


def installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


needs = {
    module: pytest.mark.skipif(
        not installed(module),
        reason=f"needs {package}, which `make test` installs with requirements/dev.txt",
    )
    for module, package in {
        "hatchling": "hatchling",
        "cyclonedx_py": "cyclonedx-bom",
        "piplicenses": "pip-licenses",
    }.items()
}


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


class TestChangelog:
    sections = release_notes.sections(release_notes.CHANGELOG.read_text(encoding="utf-8"))

    def test_it_begins_with_what_is_not_released_or_with_this_version(self) -> None:
        assert next(iter(self.sections)) in {"Unreleased", __version__}

    def test_released_versions_have_a_date_and_go_down_from_this_one(self) -> None:
        released = {
            version: date for version, (date, _) in self.sections.items() if version != "Unreleased"
        }
        assert all(released.values())
        assert [*map(numbers, released)] == sorted(map(numbers, released), reverse=True)
        assert all(numbers(version) <= numbers(__version__) for version in released)

    def test_every_section_says_something(self) -> None:
        assert all(text for _, text in self.sections.values())


class TestReleaseNotes:
    changelog = (
        "## [Unreleased]\n\nlater\n\n## [1.1.0] - 2026-11-23\n\n### Added\n\n- this\n\n## [1.0.0] "
        "- 2026-01-01\n\nold\n"
    )

    def test_they_are_the_section_of_the_version(self) -> None:
        assert release_notes.notes("v1.1.0", "1.1.0", self.changelog) == "### Added\n\n- this"
        assert release_notes.notes("v1.0.0", "1.0.0", self.changelog) == "old"

    @pytest.mark.parametrize("tag", ["v1.2.0", "1.1.0", "v1.1.0-rc1"])
    def test_a_tag_of_another_version_is_refused(self, tag: str) -> None:
        with pytest.raises(
            release_notes.NotReleasableError,
            match=re.escape(f"the tag is {tag}, but daemon/__init__.py says 1.1.0"),
        ):
            release_notes.notes(tag, "1.1.0", self.changelog)

    @pytest.mark.parametrize(
        "changelog",
        [
            "## [Unreleased]\n\nthis\n",
            "## [1.1.0]\n\nwithout a date\n",
            "## [1.1.0] - 2026-11-23\n",
        ],
    )
    def test_a_version_without_its_dated_text_is_refused(self, changelog: str) -> None:
        with pytest.raises(
            release_notes.NotReleasableError, match=r"needs a section `## \[1\.1\.0\] - YYYY-MM-DD`"
        ):
            release_notes.notes("v1.1.0", "1.1.0", changelog)

    def test_the_command_ends_a_release_that_does_not_fit(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert release_notes.main(["v0.0.0"]) == 1
        output = capsys.readouterr()
        assert output.out == ""
        assert f"daemon/__init__.py says {__version__}" in output.err

    def test_the_command_prints_the_notes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        changelog = tmp_path / "CHANGELOG.md"
        changelog.write_text(f"## [{__version__}] - 2026-11-23\n\n- this\n", encoding="utf-8")
        monkeypatch.setattr(release_notes, "CHANGELOG", changelog)
        assert release_notes.main([f"v{__version__}"]) == 0
        assert capsys.readouterr().out == "- this\n"


# Where shipped files name our version: an image's tag, a kustomization, a build argument, our
# distribution, the chart and a command that installs it.
VERSION_OF_OURS = re.compile(
    r"""sagemaker-modeldb-sync(?::|==|@)v?(?P<image>\d[\w.+-]*)
      | sagemaker-modeldb-sync\n\s+newTag:\s*["']?(?P<kustomization>[^\s"']+)
      | \bVERSION=(?P<argument>\d[\w.+-]*)
      | sagemaker_modeldb_sync-(?P<wheel>\d+\.\d+\.\d+)
      | ^(?:version|appVersion):\s*["']?(?P<chart>\d[^\s"']*)
      | charts/sagemaker-modeldb-sync\s+--version\s+(?P<pulled>\d[\w.+-]*)""",
    re.VERBOSE | re.MULTILINE,
)


def versions_named(text: str) -> list[str]:
    without_names = re.sub(r"(?m)^(\s*newName:.*\n)", "", text)
    return [
        next(found for found in match.groups() if found)
        for match in VERSION_OF_OURS.finditer(without_names)
    ]


class TestVersion:
    def test_the_forms_it_is_named_in_are_known(self) -> None:
        kustomization = (
            "images:\n  - name: sagemaker-modeldb-sync\n    newName: "
            "ghcr.io/OWNER/sagemaker-modeldb-sync\n    newTag: 1.2.3\n"
        )
        assert versions_named(kustomization) == ["1.2.3"]
        assert versions_named("image: ghcr.io/OWNER/sagemaker-modeldb-sync:1.2.3") == ["1.2.3"]
        assert versions_named("docker build --build-arg VERSION=1.2.3 .") == ["1.2.3"]
        assert versions_named("name: chart\nversion: 1.2.3\nappVersion: '1.2.4'\n") == [
            "1.2.3",
            "1.2.4",
        ]
        assert versions_named("oci://x/charts/sagemaker-modeldb-sync --version 1.2.3") == ["1.2.3"]

    def test_no_shipped_file_names_another_one(self) -> None:
        places = [
            "deploy",
            "docs",
            "Dockerfile",
            "docker-compose.yml",
            ".env.example",
            "README.md",
            "config.example.yaml",
            "Makefile",
        ]
        files = [
            file
            for place in places
            for file in [ROOT / place, *(ROOT / place).rglob("*")]
            if file.is_file()
        ]
        named = {
            str(file.relative_to(ROOT)): versions
            for file in files
            # releasing.md explains releases with a version of its own
            if file.suffix not in {".png", ".jpg", ".svg"} and file.name != "releasing.md"
            if (versions := versions_named(file.read_text(encoding="utf-8")))
        }
        assert "deploy/kubernetes/base/kustomization.yaml" in named
        assert {
            file: versions for file, versions in named.items() if set(versions) != {__version__}
        } == {}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source archive of this tree."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return folder


@needs["hatchling"]
class TestArchives:
    def test_the_wheel_says_what_it_is(self, built: Path) -> None:
        with zipfile.ZipFile(
            built / f"sagemaker_modeldb_sync-{__version__}-py3-none-any.whl"
        ) as wheel:
            info = f"sagemaker_modeldb_sync-{__version__}.dist-info"
            metadata = Parser().parsestr(wheel.read(f"{info}/METADATA").decode())
            assert (metadata["Name"], metadata["Version"]) == (
                "sagemaker-modeldb-sync",
                __version__,
            )
            assert metadata["Requires-Python"] == ">=3.11"
            assert "sagemaker-modeldb-sync = " in wheel.read(f"{info}/entry_points.txt").decode()

    def test_the_wheel_holds_the_program_and_nothing_else(self, built: Path) -> None:
        with zipfile.ZipFile(
            built / f"sagemaker_modeldb_sync-{__version__}-py3-none-any.whl"
        ) as wheel:
            files = {name for name in wheel.namelist() if ".dist-info/" not in name}
        program = [
            file
            for file in (ROOT / "daemon").rglob("*")
            if file.is_file() and "__pycache__" not in file.parts
        ]
        assert files == {str(file.relative_to(ROOT)) for file in program}

    def test_the_source_archive_holds_no_tests(self, built: Path) -> None:
        with tarfile.open(built / f"sagemaker_modeldb_sync-{__version__}.tar.gz") as archive:
            files = [Path(*Path(name).parts[1:]) for name in archive.getnames()]
        assert {"daemon", "pyproject.toml", "README.md"} <= {file.parts[0] for file in files}
        assert not {"tests", "tools", "requirements", ".venv"} & {file.parts[0] for file in files}


class TestLicences:
    page = (ROOT / "docs" / "third-party-licenses.md").read_text(encoding="utf-8")
    rows = tuple(
        tuple(cell.strip() for cell in line.strip("|").split("|"))
        for line in page.splitlines()
        if line.startswith("| ")
    )[1:]

    def test_the_list_is_that_of_the_lock(self) -> None:
        listed = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version, _ in self.rows}
        assert listed == LOCKED, "regenerate it: make licenses"

    def test_every_licence_is_allowed(self) -> None:
        known = {
            name: READ_LICENCES.get((name, version, licence), licence)
            for name, version, licence in self.rows
        }
        parts = {
            name: re.split(r"; | AND | OR ", licence.replace("(", "").replace(")", ""))
            for name, licence in known.items()
        }
        assert parts
        assert {
            name: licences
            for name, licences in parts.items()
            if not set(licences) <= ALLOWED_LICENCES
        } == {}

    def test_the_licence_read_by_hand_is_what_the_package_holds(self) -> None:
        ply = importlib.util.find_spec("ply.lex")
        assert ply is not None
        assert ply.origin is not None
        text = " ".join(
            Path(ply.origin)
            .read_text(encoding="utf-8")
            .partition("__version__")[0]
            .replace("#", " ")
            .split()
        )
        assert "Redistributions in binary form must reproduce the above copyright notice" in text
        assert (
            "may be used to endorse or promote products derived from this software without "
            "specific prior written permission" in text
        )

    @needs["piplicenses"]
    def test_the_list_says_what_the_packages_say(self) -> None:
        command = [sys.executable, "-m", "piplicenses", "--format=json", "--packages", *LOCKED]
        packages = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        assert {
            (package["Name"], package["Version"], package["License"]) for package in packages
        } == set(self.rows), "make licenses"


@pytest.fixture(scope="module")
def bill(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The bill of materials of this tree."""
    from tools import sbom

    return sbom.bill_of_materials()


@needs["cyclonedx_py"]
class TestBillOfMaterials:
    def test_it_has_the_packages_of_the_lock_and_no_others(self, bill: dict[str, Any]) -> None:
        locked = sorted(f"pkg:pypi/{name}@{version}" for name, version in LOCKED.items())
        assert [component["purl"] for component in bill["components"]] == locked

    def test_it_has_every_hash_and_a_licence_of_each(self, bill: dict[str, Any]) -> None:
        for component in bill["components"]:
            hashes = {
                digest["content"]
                for reference in component["externalReferences"]
                if reference["type"] == "distribution"
                for digest in reference.get("hashes", [])
            }
            name = component["purl"].removeprefix("pkg:pypi/").partition("@")[0]
            of_the_lock = re.search(
                rf"^{re.escape(name)}==\S+ \\\n((?:    --hash=\S+(?: \\)?\n)+)", LOCK, re.MULTILINE
            )
            assert of_the_lock is not None
            assert hashes == set(re.findall(r"sha256:([0-9a-f]{64})", of_the_lock[1]))
            assert component["licenses"]

    def test_it_names_the_application_and_what_that_needs(self, bill: dict[str, Any]) -> None:
        application = bill["metadata"]["component"]
        assert (application["name"], application["version"]) == (
            "sagemaker-modeldb-sync",
            __version__,
        )
        references = {component["bom-ref"] for component in bill["components"]}
        graph = {entry["ref"]: set(entry["dependsOn"]) for entry in bill["dependencies"]}
        assert graph.keys() == references | {application["bom-ref"]}
        assert all(needed <= references for needed in graph.values())
        assert "pydantic" in {
            reference.partition("==")[0] for reference in graph[application["bom-ref"]]
        }

    def test_nothing_in_it_changes_from_run_to_run(self, bill: dict[str, Any]) -> None:
        assert "serialNumber" not in bill
        assert "timestamp" not in bill["metadata"]

    def test_an_environment_that_is_not_the_locks_is_refused(self) -> None:
        from tools import sbom

        locked = {"components": [{"purl": "pkg:pypi/attrs@2", "externalReferences": []}]}
        other = {
            "components": [{"purl": "pkg:pypi/attrs@1", "bom-ref": "attrs"}],
            "metadata": {"component": {"bom-ref": "root"}},
        }
        with pytest.raises(
            sbom.SbomError, match=r"not installed here as the lock says.*pkg:pypi/attrs@2"
        ):
            sbom.join(locked, other, __version__)

    def test_a_package_that_says_nothing_of_its_licence_is_refused(self) -> None:
        from tools import sbom

        locked = {"components": [{"purl": "pkg:pypi/attrs@1", "externalReferences": []}]}
        silent = {
            "components": [{"purl": "pkg:pypi/attrs@1", "bom-ref": "attrs"}],
            "metadata": {"component": {"bom-ref": "root"}},
        }
        with pytest.raises(
            sbom.SbomError, match="without a licence in their metadata: pkg:pypi/attrs@1"
        ):
            sbom.join(locked, silent, __version__)

    def test_a_licence_read_by_hand_fills_the_gap(self, bill: dict[str, Any]) -> None:
        (ply,) = (
            component
            for component in bill["components"]
            if component["purl"] == "pkg:pypi/ply@3.11"
        )
        assert ply["licenses"] == [
            {"license": {"acknowledgement": "concluded", "id": "BSD-3-Clause"}}
        ]

    def test_the_command_writes_a_bill_that_fits_the_schema(
        self, bill: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from tools import sbom

        # One package: `make sbom` validates all, which takes ten seconds.
        monkeypatch.setattr(
            sbom,
            "bill_of_materials",
            lambda: bill | {"components": bill["components"][:1], "dependencies": []},
        )
        output = tmp_path / "dist" / "sbom.cdx.json"
        assert sbom.main([str(output)]) == 0
        assert (
            json.loads(output.read_text(encoding="utf-8"))["components"] == bill["components"][:1]
        )

    def test_the_command_does_not_write_one_that_does_not(
        self,
        bill: dict[str, Any],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        from tools import sbom

        monkeypatch.setattr(
            sbom,
            "bill_of_materials",
            lambda: bill | {"components": [{"type": "no such type", "name": "x"}]},
        )
        assert sbom.main([str(tmp_path / "sbom.cdx.json")]) == 1
        assert not (tmp_path / "sbom.cdx.json").exists()
        assert "not valid CycloneDX 1.6" in capsys.readouterr().err


def test_every_shipped_file_is_of_one_owner() -> None:
    shipped = [
        path.read_text(encoding="utf-8")
        for path in (ROOT / "deploy").rglob("*")
        if path.suffix in {".yml", ".yaml", ".json"}
    ]
    owners = [
        owner
        for text in shipped
        for owner in re.findall(r"(?:ghcr\.io|github\.com)/([\w.-]+)/sagemaker-modeldb-sync", text)
    ]
    assert len(owners) > 10
    assert len(set(owners)) == 1
