"""Registered models and versions of a job's run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from daemon.targets.mlflow.errors import ApiError, ApiErrorKind
from daemon.targets.mlflow.mapping import MappedModel
from daemon.targets.mlflow.model_versions import ModelVersions
from tests.support.target_jobs import job

if TYPE_CHECKING:
    from tests.support.mlflow_stand_in import MlflowStandIn
    from tests.support.mlflow_target import TargetScene

MARK = job().mark
MODEL = MappedModel(
    name="churn-xgb",
    description="",
    source="s3://models/churn/output/model.tar.gz",
    run_link=None,
    tags={
        "sagemaker_training_job_arn": MARK.arn,
        "sagemaker_creation_time": MARK.creation_time,
    },
    version_description="",
)
RUN = "0123456789abcdef0123456789abcdef"
DATABASE = {"error_code": "BAD_REQUEST", "message": "(pymysql.err.IntegrityError) (1062, ...)"}


@pytest.fixture
def versions(scene: TargetScene) -> ModelVersions:
    return ModelVersions(scene.client)


async def test_a_model_is_registered_once_in_a_process(
    server: MlflowStandIn, versions: ModelVersions
) -> None:
    await versions.register(MODEL)
    await versions.register(MODEL)

    assert server.requests["registered-models/create"] == 1


async def test_a_model_that_exists_is_used(scene: TargetScene, versions: ModelVersions) -> None:
    await scene.client.create_registered_model("churn-xgb", "People's own")
    await versions.register(MODEL)

    [model] = scene.server.model.registered_models()
    assert model["description"] == "People's own"


async def test_a_name_that_mysql_calls_a_database_error_is_looked_up(
    scene: TargetScene, versions: ModelVersions
) -> None:
    await scene.client.create_registered_model("churn-xgb")
    scene.server.faults.refuse_next(1, 400, DATABASE, operation="registered-models/create")
    await versions.register(MODEL)

    assert (await versions.create(MODEL, RUN)).version == "1"


async def test_a_database_error_of_a_new_name_is_raised(
    server: MlflowStandIn, versions: ModelVersions
) -> None:
    server.faults.refuse_next(1, 400, DATABASE, operation="registered-models/create")
    with pytest.raises(ApiError) as caught:
        await versions.register(MODEL)
    assert caught.value.kind is ApiErrorKind.ABSENT


async def test_other_errors_of_the_name_are_raised(
    server: MlflowStandIn, versions: ModelVersions
) -> None:
    invalid = {"error_code": "INVALID_PARAMETER_VALUE", "message": "no such name"}
    server.faults.refuse_next(1, 400, invalid, operation="registered-models/create")
    with pytest.raises(ApiError) as caught:
        await versions.register(MODEL)
    assert caught.value.kind is ApiErrorKind.INVALID


async def test_versions_are_ordered_by_number(versions: ModelVersions) -> None:
    await versions.register(MODEL)
    for _ in range(11):
        await versions.create(MODEL, RUN)
    found = await versions.of_run(RUN, MARK)

    assert [each.version for each in found] == [str(number) for number in range(1, 12)]


async def test_of_several_the_lowest_stays_whoever_deletes_the_others(
    scene: TargetScene, versions: ModelVersions
) -> None:
    await versions.register(MODEL)
    for _ in range(3):
        await versions.create(MODEL, RUN)
    found = await versions.of_run(RUN, MARK)
    await scene.client.delete_model_version("churn-xgb", "2")
    kept = await versions.keep_lowest(found)

    assert kept is not None
    assert kept.version == "1"
    assert [each["version"] for each in scene.server.model.model_versions()] == ["1"]


async def test_versions_of_other_jobs_are_not_the_jobs(versions: ModelVersions) -> None:
    await versions.register(MODEL)
    await versions.create(replace(MODEL, tags={}), RUN)
    await versions.create(
        replace(MODEL, tags={**MODEL.tags, "sagemaker_creation_time": "another"}), RUN
    )

    assert await versions.of_run(RUN, MARK) == []
    assert await versions.run_ids(MARK) == []


async def test_a_registry_that_is_not_used_is_not_asked(scene: TargetScene) -> None:
    versions = ModelVersions(scene.client, enabled=False)

    assert (await versions.of_run(RUN, MARK), await versions.run_ids(MARK)) == ((), ())
    assert not scene.server.requests
