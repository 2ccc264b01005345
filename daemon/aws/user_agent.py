"""What this program calls itself to AWS."""

from __future__ import annotations

import platform

import aiobotocore
import botocore

from daemon import __version__

USER_AGENT = (
    f"sagemaker-modeldb-sync/{__version__} aiobotocore/{aiobotocore.__version__} "
    f"botocore/{botocore.__version__} Python/{platform.python_version()}"
)
"""Whole, as CloudTrail shows it: botocore would build its own anew for every request."""
