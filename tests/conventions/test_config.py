"""STYLE, section 8: `config.toml` is complete, and says what the code says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

from supervisor.config import Config, load_config
from tests.conventions.sources import ROOT

CONFIG = ROOT / "config.toml"


def _values(config: BaseModel) -> dict[str, object]:
    return {f"{section}.{key}": value for section in type(config).model_fields for key, value in getattr(config, section)}


def test_config_toml_has_exactly_the_keys_of_the_code() -> None:
    written = {f"{section}.{key}" for section, keys in tomllib.loads(CONFIG.read_text()).items() for key in keys}
    assert written == set(_values(Config()))


def test_config_toml_states_the_defaults() -> None:
    assert _values(load_config(CONFIG, env={})) == _values(Config())


def test_every_line_of_config_toml_says_what_it_is() -> None:
    keys = [line for line in CONFIG.read_text().splitlines() if re.match(r"\w+ *=", line)]
    assert [line for line in keys if not re.search(r"# \S+", line)] == []


@pytest.mark.parametrize("key", sorted(_values(Config())))
def test_every_key_can_be_set_by_the_environment(key: str) -> None:
    section, _, name = key.partition(".")
    value = _values(Config())[key]
    variable = f"KILN_{section.upper()}__{name.upper()}"
    wanted = _other_than(key, value)
    assert _values(load_config(None, env={variable: str(wanted).lower()}))[key] == wanted


def _other_than(key: str, value: object) -> object:
    choices = {
        "log.level": "debug",
        "log.format": "json",
        "cloud.provider": "aws",
        "workspace.mode": "s3",
        "workspace.filled_by": "farm",
        "workspace.volume_throughput_mib_s": 500,
        "workspace.initialization_mib_s": 100,
        "money.warn_pct": 50,
        "pool.mode": "shared",
        "pool.market": "spot",
    }
    if key in choices:
        return choices[key]
    if isinstance(value, bool):
        return not value
    return (value * 2 or 4) if isinstance(value, int | float) else "other"


def test_unknown_key_stops_the_start_and_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[server]\nprot = 8000\n")
    with pytest.raises(Exception, match=r"server\.prot: there is no such key"):
        load_config(path, env={})
