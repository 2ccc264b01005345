"""The kinds of target that the daemon brings, and the example of docs/write-a-target.md."""

from __future__ import annotations

import pytest

from tests.targets.jsonl_scene import JsonlScene
from tests.targets.mlflow_scene import Mlflow2Scene, MlflowOnPostgresqlScene, MlflowScene
from tests.targets.modeldb_v1_scene import ModelDbV1Scene
from tests.targets.modeldb_v2_scene import ModelDbV2Scene
from tests.targets.suite import TargetSuite


class TestModelDbV2(TargetSuite):
    new_scene = ModelDbV2Scene


class TestModelDbV1(TargetSuite):
    new_scene = ModelDbV1Scene


class TestMlflow(TargetSuite):
    new_scene = MlflowScene


@pytest.mark.slow  # all of it a second time; it differs in what the server takes and refuses
class TestMlflow2(TargetSuite):
    new_scene = Mlflow2Scene


@pytest.mark.slow  # as above
class TestMlflowOnPostgresql(TargetSuite):
    new_scene = MlflowOnPostgresqlScene


class TestJsonl(TargetSuite):
    new_scene = JsonlScene
