"""What a farm is opened with: its folder, its secrets, its lock, its log."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from app.bootstrap import AlreadyServed, build_farm, hold_lock, is_served, keep_secrets, open_farm, prepare_folder
from app.logs import set_up_logs
from supervisor.cloud.ports import SignedOut, Unreachable
from supervisor.config import Config, LogConfig, load_config
from supervisor.store.migrate import NewerDatabase
from tests.aws.signed_out import sign_out


@pytest.fixture
def own_logs() -> Iterator[None]:
    """Logging as it was, whatever the test makes of it."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def test_secrets_are_made_once_for_their_owner_alone(tmp_path: Path) -> None:
    first = keep_secrets(tmp_path)
    assert keep_secrets(tmp_path) == first
    assert first.secret_key != first.link_key
    assert [path.name for path in tmp_path.iterdir()] == ["secrets.json"]
    assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert first.secret_key not in repr(first)


def test_new_data_folder_is_its_owners_alone(tmp_path: Path) -> None:
    assert prepare_folder(tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_farm_can_be_opened_beside_no_server_and_starts_nothing(tmp_path: Path) -> None:
    farm = build_farm(Config(), tmp_path / "data")
    with farm.db.read() as connection:
        assert connection.exec_driver_sql("select count(*) from jobs").scalar() == 0
    with pytest.raises(Unreachable):
        farm.cloud.objects.get("received/x")
    assert list(farm.cloud.compute.instances()) == []
    assert not (tmp_path / "data" / "objects").exists()
    farm.wake()  # nobody listens
    farm.db.close()


def test_farm_on_aws_opens_without_credentials_and_keeps_who_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sign_out(monkeypatch, {})
    config = load_config(env={"KILN_CLOUD__PROVIDER": "aws"})
    ids = []
    for _ in range(2):
        opened = open_farm(config, tmp_path, serves=True)
        with pytest.raises(SignedOut):
            opened.farm.cloud.compute.instances()
        ids.append((tmp_path / "farm.json").read_text())
        opened.close()
    assert ids[0] == ids[1]


def test_store_of_ones_own_takes_the_place_of_the_farms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    config = load_config(env={"KILN_STORE__ENDPOINT": "http://127.0.0.1:9"})
    opened = open_farm(config, tmp_path, serves=False)
    assert opened.farm.cloud.internal_endpoint == "http://127.0.0.1:9"
    assert opened.upkeep == ()
    assert not (tmp_path / "store").exists()
    opened.close()


def test_database_of_a_newer_kiln_is_left_alone(tmp_path: Path) -> None:
    farm = build_farm(Config(), tmp_path)
    with farm.db.write() as connection:
        connection.exec_driver_sql("update alembic_version set version_num = '9999'")
    farm.db.close()
    with pytest.raises(NewerDatabase, match="newer"):
        build_farm(Config(), tmp_path)


def test_data_folder_is_served_by_one_process_at_a_time(tmp_path: Path) -> None:
    assert not is_served(tmp_path)
    with hold_lock(tmp_path):
        assert is_served(tmp_path)
        with pytest.raises(AlreadyServed, match=f"process {os.getpid()}"), hold_lock(tmp_path):
            pass
    assert not is_served(tmp_path)
    with hold_lock(tmp_path):
        assert is_served(tmp_path)


def test_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    code = f"import os\nfrom pathlib import Path\nfrom app.bootstrap import hold_lock\nwith hold_lock(Path({str(tmp_path)!r})): os._exit(9)"
    killed = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False, timeout=60)
    assert killed.returncode == 9
    with hold_lock(tmp_path):
        assert is_served(tmp_path)


@pytest.mark.usefixtures("own_logs")
def test_json_log_has_one_object_a_line_from_every_logger(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logs(LogConfig(format="json"))
    structlog.get_logger("a").info("job moved", job="job_1")
    logging.getLogger("b").warning("tick skipped", extra={"job": "job_2"})
    logging.getLogger("botocore").info("told at length")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line["level"], line["logger"], line["job"]) for line in lines] == [
        ("job moved", "info", "a", "job_1"),
        ("tick skipped", "warning", "b", "job_2"),
    ]


@pytest.mark.usefixtures("own_logs")
@pytest.mark.parametrize("as_json", [False, True])
def test_traceback_does_not_show_the_values_of_variables(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    set_up_logs(LogConfig(format="json" if as_json else "text"))
    secret = "".join(["hun", "ter2"])
    try:
        raise ValueError("wrong password")
    except ValueError:
        structlog.get_logger("a").exception("sign-in failed")
    told = capsys.readouterr().err
    assert "wrong password" in told
    assert secret not in told
