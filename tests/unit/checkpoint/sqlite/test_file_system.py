from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from daemon.checkpoint.sqlite import file_system
from daemon.checkpoint.sqlite.file_system import file_system_advice, file_system_of

ROOT = "22 1 259:1 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p1 rw"
NFS = (
    "36 22 0:32 / /var/lib/modeldb-sync rw,relatime shared:2 master:1 - nfs4 "
    "fs-0123.efs.eu-west-1.amazonaws.com:/ rw,vers=4.1"
)
DATA = "40 22 259:3 / /var/lib/modeldb-sync/local rw - xfs /dev/nvme1n1 rw"
SPACE = r"41 22 0:41 / /mnt/my\040share rw - cifs //server/share rw"
PATH = Path("/var/lib/modeldb-sync/checkpoint.db")


@pytest.mark.parametrize(
    ("path", "lines", "kind"),
    [
        ("/var/lib/modeldb-sync/checkpoint.db", [ROOT], "ext4"),
        ("/var/lib/modeldb-sync/checkpoint.db", [ROOT, NFS, DATA], "nfs4"),
        ("/var/lib/modeldb-sync/checkpoint.db", [NFS, ROOT], "nfs4"),
        ("/var/lib/modeldb-sync/local/checkpoint.db", [ROOT, DATA, NFS], "xfs"),
        # a name that only begins alike is another folder
        ("/var/lib/modeldb-sync2/checkpoint.db", [ROOT, NFS], "ext4"),
        ("/mnt/my share/checkpoint.db", [ROOT, SPACE], "cifs"),
        ("/x/checkpoint.db", [ROOT, "9 1 0:3 / / rw - overlay overlay rw"], "overlay"),
        ("/x/checkpoint.db", ["", "no mount", ROOT.replace(" - ", " "), "1 2 3 4 5"], ""),
    ],
)
def test_the_deepest_mount_counts(path: str, lines: list[str], kind: str) -> None:
    assert file_system_of(PurePosixPath(path), "\n".join(lines)) == kind


@pytest.mark.parametrize(
    "kind",
    ["nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "lustre", "fuse", "fuse.sshfs", "fuse.cephfs"],
)
def test_a_network_file_system_is_named(kind: str) -> None:
    advice = file_system_advice(PATH, f"{ROOT}\n{NFS.replace('nfs4', kind)}")
    assert f"on a network file system ({kind})" in advice
    assert "set checkpoint.path to a local disk" in advice


@pytest.mark.parametrize("kind", ["tmpfs", "overlay"])
def test_what_is_lost_with_the_container_is_named(kind: str) -> None:
    assert "is lost" in file_system_advice(PATH, ROOT.replace("ext4", kind))


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "fuseblk", "virtiofs"])
def test_of_a_local_disk_nothing_is_said(kind: str) -> None:
    assert file_system_advice(PATH, ROOT.replace("ext4", kind)) == ""


def test_without_a_table_of_mounts_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert file_system_advice(tmp_path / "checkpoint.db") in {"", file_system_advice(tmp_path)}
    monkeypatch.setattr(file_system, "MOUNTS", tmp_path / "absent")
    assert file_system_advice(tmp_path / "checkpoint.db") == ""
