"""The list ``accounts``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from daemon.aws.accounts import AccountAccess, Role
from daemon.config.settings import settings_for_log
from daemon.config.sources import ConfigError

if TYPE_CHECKING:
    from tests.support.config_loader import Loader

ACCOUNT, OWN = "210987654321", "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/modeldb-sync-member"
MEMBER = {"id": ACCOUNT, "role_arn": ROLE}


def test_an_account_is_reached_through_its_role(loader: Loader) -> None:
    entry = MEMBER | {"external_id": "an-agreed-word", "regions": ["eu-west-1", "eu-central-1"]}
    other = {"id": "000000000042", "role_arn": ROLE.replace(ACCOUNT, "000000000042")}
    settings = loader.load({"accounts": [entry, other]})
    first, second = (each.as_access() for each in settings.accounts)
    role = Role(ACCOUNT, ROLE, "an-agreed-word")
    assert first == AccountAccess(ACCOUNT, role, ("eu-west-1", "eu-central-1"))
    assert second.regions == ()
    assert "an-agreed-word" not in repr(role)
    assert settings_for_log(settings)["accounts"][1]["id"] == "000000000042"


def test_without_it_there_are_none(loader: Loader) -> None:
    assert loader.load().accounts == ()
    assert loader.load({"accounts": None}).accounts == ()


def test_further_regions_of_the_own_account_need_no_role(loader: Loader) -> None:
    own = {"id": OWN, "regions": ["eu-central-1"]}
    settings = loader.load({"aws": {"account_id": OWN}, "accounts": [own]})
    assert settings.accounts[0].as_access() == AccountAccess(OWN, None, ("eu-central-1",))


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([{"id": 210987654321, "role_arn": ROLE}], "accounts[0].id: must be 12 digits in quotes"),
        ([{"role_arn": ROLE}], "accounts[0].id: is required"),
        ([{"id": "1"}], "accounts[0].id = '1': must be 12 digits"),
        ([MEMBER, {"id": "1"}], "accounts[1].id = '1': must be 12 digits"),
        (
            [MEMBER | {"role_arn": "modeldb"}],
            "accounts[0].role_arn = 'modeldb': must be the ARN of a role, like arn:aws:iam::",
        ),
        ([MEMBER | {"id": "310987654321"}], "must be a role of account 310987654321, like its id"),
        ([MEMBER | {"external_id": "x"}], "accounts[0].external_id = 'x': must be 2 to 1224"),
        (
            [MEMBER | {"regions": ["Frankfurt"]}],
            "accounts[0].regions.0 = 'Frankfurt': must be the name of a region",
        ),
        ([MEMBER | {"regions": ["a", "a"]}], "accounts[0].regions: must name each region once"),
        ([MEMBER | {"role": ROLE}], "accounts[0].role: is an unknown key of an entry"),
        ([MEMBER, MEMBER], f"accounts: must have each account once; {ACCOUNT} is there twice"),
        ([{"id": ACCOUNT}], f"accounts: needs role_arn for account {ACCOUNT}"),
        ([{"id": OWN}], f"accounts: needs regions for account {OWN}"),
        (
            [{"id": OWN, "external_id": "word"}],
            "accounts[0].external_id = 'word': goes with role_arn only",
        ),
        ({"id": ACCOUNT}, "accounts: must be a list"),
        (ACCOUNT, f"accounts = '{ACCOUNT}': must be a list"),
    ],
)
def test_what_is_wrong_is_named(loader: Loader, entries: object, said: str) -> None:
    config: dict[str, Any] = {"aws": {"account_id": OWN}, "accounts": entries}
    with pytest.raises(ConfigError) as caught:
        loader.load(config)
    assert any(said in each for each in caught.value.problems), caught.value.problems
    assert all("config.yaml" in each for each in caught.value.problems)


def test_as_a_variable_it_is_a_json_list(loader: Loader) -> None:
    settings = loader.load(None, ACCOUNTS=json.dumps([MEMBER]))
    assert [each.id for each in settings.accounts] == [ACCOUNT]
    with pytest.raises(ConfigError, match="must be a JSON list"):
        loader.load(None, ACCOUNTS="[{")


def test_a_secret_file_of_that_name_is_somebody_elses(loader: Loader) -> None:
    loader.secret("accounts", "alice:1000")
    assert loader.load().accounts == ()


@pytest.mark.parametrize("value", ["reject", "skip"])
def test_unknown_accounts(loader: Loader, value: str) -> None:
    assert loader.load({"jobs": {"unknown_accounts": value}}).jobs.unknown_accounts == value
