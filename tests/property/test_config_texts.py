"""Any file, variables and secret files load as settings or are reported as problems."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from daemon.config.settings import Settings, settings_for_log
from daemon.config.sources import ENV_PREFIX, ConfigError, load_settings, setting_keys
from daemon.config.types import BaseUrl, Host
from tests.property.changes import changed
from tests.property.texts import json_values, texts
from tests.support.config_loader import EXAMPLE, QUEUE_URL, TARGET_URL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

SECRET = "c4n4ry-9f2e"
VARIABLES = [setting_keys().variable(key) for key in setting_keys().fields]
CONFIGS: list[Any] = [
    yaml.safe_load(EXAMPLE.read_text(encoding="utf-8")),
    {"queue": {"url": QUEUE_URL}, "target": {"url": TARGET_URL}},
    {"queue": {"url": QUEUE_URL}, "target": {"kind": "modeldb-v1", "host": "modeldb"}},
    {
        "queue": {"url": QUEUE_URL, "retry": {"initial_seconds": 5, "max_seconds": 10}},
        "target": {
            "url": TARGET_URL,
            "auth": {"kind": "basic", "username": "u", "password": SECRET},
            "headers": {"x-key": SECRET},
        },
    },
]


@pytest.fixture(scope="module")
def load(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str | None, Mapping[str, str]], Settings | None]:
    """Loads a file's text and variables. Returns the settings or the problems, after checking
    them.
    """
    folder = tmp_path_factory.mktemp("config")
    file = folder / "config.yaml"

    def loaded(text: str | None, variables: Mapping[str, str]) -> Settings | None:
        if text is not None:
            file.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            return load_settings(
                None if text is None else file, variables, folder / "secrets", folder / "none.yaml"
            )
        except ConfigError as refused:
            problems = refused.problems
        assert problems
        assert all(line.strip() and "\n" not in line and SECRET not in line for line in problems)
        return None

    return loaded


class TestWhateverIsGiven:
    @given(
        text=texts(40)
        | st.sampled_from(
            [
                "&a [*a]",
                "a: &a {b: *a}",
                "? {a: b}",
                "!!python/object:os.x {}",
                "a: 2024-13-45",
                "[" * 2000,
            ]
        )
    )
    def test_any_text_is_a_file(self, load: Callable[..., Settings | None], text: str) -> None:
        assert load(text, {}) is None

    @given(
        config=st.sampled_from(CONFIGS).flatmap(
            lambda config: changed(config, json_values(), most=3)
        )
    )
    def test_changed_configurations(
        self, load: Callable[..., Settings | None], config: Any
    ) -> None:
        settings = load(yaml.safe_dump(config), {})
        assert settings is None or SECRET not in repr(settings_for_log(settings)) + repr(settings)

    @given(
        config=st.sampled_from(CONFIGS).map(yaml.safe_dump),
        variables=st.dictionaries(
            st.sampled_from(VARIABLES) | texts().map(lambda text: f"{ENV_PREFIX}{text}"),
            texts(),
            max_size=4,
        ),
    )
    def test_any_variables(
        self, load: Callable[..., Settings | None], config: str, variables: dict[str, str]
    ) -> None:
        load(config, variables)


@pytest.mark.parametrize("key", ["ca_file", "client_cert_file", "client_key_file"])
def test_a_file_that_cannot_be_looked_at_is_refused(tmp_path: Path, key: str) -> None:
    """The same goes for a file in a folder that the daemon may not enter."""
    given_keys = {
        "queue.url": QUEUE_URL,
        "target.url": "https://modeldb/v1",
        "target.client_cert_file": str(EXAMPLE),
    }
    variables = {
        setting_keys().variable(name): value
        for name, value in {**given_keys, f"target.{key}": "x" * 300}.items()
    }
    with pytest.raises(ConfigError, match="must be the path of an existing file"):
        load_settings(None, variables, tmp_path, tmp_path / "none.yaml")


@pytest.mark.parametrize("kind", [Host, BaseUrl])
@given(
    text=texts()
    | st.builds(
        "{}{}{}".format, st.sampled_from(["http://", "https://h:", "", "[", "::"]), texts(), texts()
    )
)
def test_a_host_or_url_that_is_taken_stays_as_it_is(kind: Any, text: str) -> None:
    adapter = TypeAdapter(kind)
    try:
        taken = adapter.validate_python(text)
    except ValidationError:
        return
    assert adapter.validate_python(taken) == taken


@given(st.ip_addresses())
def test_every_address_is_a_host(address: Any) -> None:
    host = TypeAdapter(Host)
    assert host.validate_python(str(address)) == str(address)
    if address.version == 6:
        assert host.validate_python(f"[{address.exploded}]") == str(address)
