"""Names made distinct: which ones, and with how many look-ups."""

from __future__ import annotations

import pytest

from daemon.text import DistinctNames
from tests.support.training_runs import run_of


class Counted(dict[str, None]):
    """Names so far, and how often one was looked up."""

    looked_up = 0

    def __contains__(self, name: object) -> bool:
        self.looked_up += 1
        return super().__contains__(name)


def made_distinct(names: list[str]) -> Counted:
    taken = Counted()
    distinct = DistinctNames(taken)
    for name in names:
        taken[distinct.untaken(name)] = None
    return taken


@pytest.mark.parametrize(
    ("names", "distinct"),
    [
        ([], []),
        (["a"], ["a"]),
        (["a", "b"], ["a", "b"]),
        (["a", "a", "a"], ["a", "a-2", "a-3"]),
        (["a", "b", "a", "b"], ["a", "b", "a-2", "b-2"]),
        (["a-2", "a", "a"], ["a-2", "a", "a-3"]),
        (["a", "a-2", "a"], ["a", "a-2", "a-3"]),
        (["a", "a", "a-2"], ["a", "a-2", "a-2-2"]),
        (["a", "a", "a-2", "a-2", "a"], ["a", "a-2", "a-2-2", "a-2-3", "a-3"]),
        (["a-3", "a", "a", "a"], ["a-3", "a", "a-2", "a-4"]),
        (["a-02", "a", "a"], ["a-02", "a", "a-2"]),
        (["", "", ""], ["", "-2", "-3"]),
    ],
)
def test_each_name_gets_the_first_number_that_is_free(
    names: list[str], distinct: list[str]
) -> None:
    assert list(made_distinct(names)) == distinct


@pytest.mark.parametrize(
    "names",
    [
        ["a"] * 5000,
        [f"a-{number}" for number in range(2500)] + ["a"] * 2500,
        ["a"] * 2500 + [f"a-{number}" for number in range(2500)],
        [name for number in range(2500) for name in ("a", f"a-{number}")],
        ["a", "b", "a-2", "b-2", "a-2-2"] * 1000,
    ],
    ids=["equal", "numbered-first", "numbered-last", "in-turn", "several"],
)
def test_many_equal_names_take_few_look_ups_each(names: list[str]) -> None:
    taken = made_distinct(names)
    assert len(taken) == len(names) == 5000
    assert taken.looked_up <= 3 * len(names)


def test_a_job_with_many_channels_of_one_name_is_read() -> None:
    run = run_of(InputDataConfig=[{"ChannelName": "train"}] * 3000)
    assert [channel.name for channel in run.channels[:2]] == ["train", "train-2"]
    assert run.channels[-1].name == "train-3000"
