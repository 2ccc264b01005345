"""Whatever a caller sends: MLflow, which drops what it cannot parse and answers 200, reads all of
it and gives it back as it was, or the client refuses to send it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from daemon.demo.mlflow.model import MlflowModel
from daemon.targets.mlflow.client import UnsendableValue
from daemon.targets.mlflow.entities import DatasetInput, MetricPoint
from daemon.targets.mlflow.errors import ApiError
from daemon.text import without_surrogates
from tests.property.texts import texts
from tests.support.mlflow_model_session import client_of

if TYPE_CHECKING:
    from daemon.targets.mlflow.client import MlflowClient
    from daemon.targets.mlflow.entities import Run


def model_and_client() -> tuple[MlflowModel, MlflowClient]:
    clock, ids = itertools.count(1_763_628_000_000), itertools.count(1)
    model = MlflowModel(now_ms=lambda: next(clock), new_id=lambda: f"{next(ids):032x}")
    return model, client_of(model)


ANY = st.one_of(st.text(max_size=20), texts(), st.sampled_from(["\ud800", "a\udfff"]))
TEXTS = ANY.map(lambda text: text[:500])
KEYS = st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=8)
INTEGERS = st.integers(-(2**63), 2**63 - 1)
NUMBERS = st.floats(allow_infinity=False)
TIMES = st.integers(0, 2**63 - 1)


@given(
    tags=st.dictionaries(KEYS, TEXTS, max_size=5),
    params=st.dictionaries(KEYS, TEXTS, max_size=5),
    metrics=st.dictionaries(KEYS, st.tuples(NUMBERS, TIMES, INTEGERS), max_size=5),
    inputs=st.dictionaries(KEYS, st.tuples(KEYS, TEXTS, TEXTS), max_size=3),
    start=INTEGERS,
    name=TEXTS.filter(bool),
)
def test_all_texts_and_numbers_of_a_caller_arrive(
    tags: dict[str, str],
    params: dict[str, str],
    metrics: dict[str, tuple[float, int, int]],
    inputs: dict[str, tuple[str, str, str]],
    start: int,
    name: str,
) -> None:
    async def write() -> Run:
        model, client = model_and_client()
        run = await client.create_run("0", run_name=name, start_time=start, tags=tags)
        points = [MetricPoint(key, *point) for key, point in metrics.items()]
        await client.log_batch(run.id, metrics=points, params=params, tags=tags)
        sets = [DatasetInput(key, digest, "s3", *rest) for key, (digest, *rest) in inputs.items()]
        await client.log_inputs(run.id, sets)
        assert model.stopped_parses == []
        return await client.get_run(run.id)

    run = asyncio.run(write())

    clean = without_surrogates
    assert run.name == clean(name)
    assert run.start_time == start
    assert run.tags.items() >= {key: clean(value) for key, value in tags.items()}.items()
    assert run.params == {key: clean(value) for key, value in params.items()}
    assert {
        key: (point.value, point.timestamp, point.step) if point.value == point.value else "NaN"
        for key, point in run.metrics.items()
    } == {key: "NaN" if math.isnan(point[0]) else point for key, point in metrics.items()}
    assert {each.name: (each.digest, each.source, each.context) for each in run.inputs} == {
        key: (digest, clean(source), clean(context))
        for key, (digest, source, context) in inputs.items()
    }


WRONG = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.binary(),
    st.lists(st.text()),
    st.text(),
)


@given(data=st.data())
def test_a_value_of_a_wrong_type_is_never_sent(data: st.DataObject) -> None:
    """Any value in any place: it is refused before it is sent, or read to its end."""
    value: Any = data.draw(WRONG)

    async def send() -> list[str]:
        model, client = model_and_client()
        ok = await client.create_run("0", run_name="n", start_time=1, tags={})
        odd: Any = client
        calls = (
            lambda: odd.create_run(value, run_name="n", start_time=1, tags={}),
            lambda: odd.create_run("0", run_name=value, start_time=1, tags={}),
            lambda: odd.create_run("0", run_name="n", start_time=value, tags={}),
            lambda: odd.create_run("0", run_name="n", start_time=1, tags={"a": value}),
            lambda: odd.log_batch(ok.id, params={"a": value}),
            lambda: odd.log_batch(ok.id, tags={"a": value}),
            lambda: odd.log_batch(ok.id, metrics=[MetricPoint("a", value, 1, 0)]),
            lambda: odd.log_batch(ok.id, metrics=[MetricPoint("a", 1.0, value, 0)]),
            lambda: odd.log_batch(ok.id, metrics=[MetricPoint("a", 1.0, 1, value)]),
            lambda: odd.update_run(ok.id, status=value),
            lambda: odd.update_run(ok.id, status="FINISHED", end_time=value),
            lambda: odd.log_inputs(ok.id, [DatasetInput("n", value, "s3", "{}", "c")]),
            lambda: odd.create_model_version("m", source="s3://b/k", run_id=value),
            lambda: odd.create_model_version("m", source="s3://b/k", run_id="", tags={"a": value}),
            lambda: odd.set_experiment_tag("0", "a", value),
        )
        with contextlib.suppress(UnsendableValue, ApiError):
            await data.draw(st.sampled_from(calls))()
        return model.stopped_parses

    assert asyncio.run(send()) == []
