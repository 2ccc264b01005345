"""Advice on the file system under the checkpoint: SQLite's locks need a local disk, and the file
must outlive the container.

The table of mounts is the kernel's (proc(5), ``/proc/PID/mountinfo``); elsewhere nothing is known.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePath, PurePosixPath

MOUNTS = Path("/proc/self/mountinfo")

_NETWORK = re.compile(
    r"nfs4?|cifs|smb[23]?|smbfs|9p|ceph|glusterfs|lustre|beegfs|gpfs|ocfs2|gfs2|pvfs2|afs|coda|ncpfs"
    # most file systems in user space are remote; fuseblk is a local disk
    r"|fuse(\.(?!lxcfs).+)?"
)
_VOLATILE = {
    "tmpfs": "memory, which is lost at the next start of the machine or container",
    "ramfs": "memory, which is lost at the next start of the machine or container",
    "overlay": "the container's own layer, which is lost with the container",
    "aufs": "the container's own layer, which is lost with the container",
}
_ESCAPE = re.compile(r"\\([0-7]{3})")


def is_on_network(path: Path) -> bool:
    """Whether a path is on a network file system."""
    return _NETWORK.fullmatch(file_system_of(path.resolve(), _mounts())) is not None


def file_system_advice(path: Path, mounts: str | None = None) -> str:
    """What to know about the place of the checkpoint; "" if there is nothing.

    Args:
        path: of the database, which need not exist.
        mounts: the content of ``mountinfo``; None: that of this process.
    """
    kind = file_system_of(path.resolve(), _mounts() if mounts is None else mounts)
    if _NETWORK.fullmatch(kind):
        return (
            f"{path} is on a network file system ({kind}): two hosts would not see each other's "
            "locks, and a hanging server stops the daemon; set checkpoint.path to a local disk"
        )
    if kind in _VOLATILE:
        return (
            f"{path} is in {_VOLATILE[kind]} ({kind}): after that, every job is looked up in the "
            "target before it is written; a volume saves these look-ups"
        )
    return ""


def file_system_of(path: PurePath, mounts: str) -> str:
    """The type of the file system that a path is on; "" if no mount covers it.

    Args:
        path: absolute, without symbolic links.
        mounts: as `file_system_advice`.
    """
    deepest, found = -1, ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        try:
            point = PurePosixPath(_unescaped(fields[4]))
            kind = fields[fields.index("-", 6) + 1]
        except (IndexError, ValueError):
            continue
        # of several mounts on one point, the last one hides the others
        if path.is_relative_to(point) and len(point.parts) >= deepest:
            deepest, found = len(point.parts), kind
    return found


def _mounts() -> str:
    try:
        return MOUNTS.read_text(errors="surrogateescape")
    except OSError:
        return ""


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda code: chr(int(code[1], 8)), text)
