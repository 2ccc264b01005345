"""Where a job's source code is when it is passed in an input channel.

The Python SDK (version 2) passes code in a channel when the job has no network, and so does
JumpStart. The hyperparameter sagemaker_submit_directory is then a path in the container, such as
/opt/ml/input/data/code/sourcedir.tar.gz, which says nothing outside of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from posixpath import normpath
from typing import Self

_CHANNELS = "/opt/ml/input/data/"


@dataclass(frozen=True, slots=True)
class CodePath:
    """A path in a channel's directory in the container."""

    channel: str
    """ChannelName as described."""
    file: str
    """Relative to the channel's directory; empty for the directory itself."""

    @classmethod
    def of(cls, path: str) -> Self | None:
        """None for a path outside of all channels."""
        path = normpath(path.removeprefix("file://"))
        if not path.startswith(_CHANNELS):
            return None
        channel, _, file = path.removeprefix(_CHANNELS).partition("/")
        return cls(channel, file)

    def in_source(self, uri: str, *, is_directory: bool) -> str:
        """Where the path is in the channel's source.

        Args:
            uri: the source's URI: the file itself, or what stands before the path.
            is_directory: whether the URI can stand before a path, unlike a manifest's.
        """
        if not self.file or not is_directory or uri.endswith(f"/{self.file}"):
            return uri
        return f"{uri.rstrip('/')}/{self.file}"


def is_in_container(submit_directory: str) -> bool:
    """Whether source code is said to be at a path in the container instead of at a URI."""
    return submit_directory.startswith(("/", "file://"))
