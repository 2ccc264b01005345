"""Tests that share a server must run in one process, whatever else runs beside them."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def _in_the_process_of_its_group(request: pytest.FixtureRequest) -> None:
    """pytest-xdist writes the group into the id of a test. A version that does not understand
    pytest leaves it out, says nothing, and tests stop servers that others use.
    """
    group = request.node.get_closest_marker("xdist_group")
    if group is not None and "PYTEST_XDIST_WORKER" in os.environ:
        assert request.node.nodeid.endswith(f"@{group.args[0]}"), (
            "pytest-xdist keeps no groups: run this with --dist=loadgroup, or --numprocesses=0"
        )
