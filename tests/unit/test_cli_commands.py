"""The `kiln` command as a person meets it: what it prints, what it refuses, and with which exit code."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from app.bootstrap import hold_lock, open_database
from app.cli import main
from app.cli.local import opened_farm
from supervisor.cloud.aws.identity import keep_identity
from supervisor.cloud.ports import BlenderFound
from supervisor.commands import accounts
from supervisor.config import AwsConfig, Config
from supervisor.domain.cost import Run
from supervisor.store import runs
from tests.fakes.farm import renting, set_price
from tests.unit.api_site import SAMPLE, Site, a_site, serving

PASSWORD = "a long enough one"
#: Through the app: nothing answers at the fake store's address.
FOREIGN_STORE = Config.model_validate({"store": {"endpoint": "http://store.invalid"}})


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A farm's data folder, made by its first command."""
    assert kiln("user", "add", "ada", data=tmp_path / "data", stdin=PASSWORD + "\n").exit_code == 0
    return tmp_path / "data"


def kiln(*arguments: str | Path, data: Path | None = None, stdin: str = "", env: dict[str, str] | None = None) -> Result:
    where = ["--data", str(data)] if data else []
    return CliRunner().invoke(main, [*map(str, arguments), *where], input=stdin, env=env)


# People.


def test_first_user_is_an_admin_and_the_next_an_artist(data: Path) -> None:
    added = kiln("user", "add", "Bob", "--json", data=data, stdin=PASSWORD)
    assert json.loads(added.stdout)["name"] == "bob"
    assert json.loads(added.stdout)["role"] == "artist"
    with a_farm(data) as farm:
        assert [(user.name, user.role) for user in accounts.users(farm)] == [("ada", "admin"), ("bob", "artist")]
        assert accounts.authenticate(farm, name="bob", password=PASSWORD)


def a_farm(data: Path) -> Any:
    return opened_farm(data, None)


@pytest.mark.parametrize(("stdin", "said"), [("", "no password on standard input"), ("short\n", "at least 10 characters")])
def test_user_without_a_good_password_is_refused(tmp_path: Path, stdin: str, said: str) -> None:
    refused = kiln("user", "add", "ada", data=tmp_path / "data", stdin=stdin)
    assert refused.exit_code != 0
    assert said in refused.stderr


def test_user_that_is_there_already_is_refused(data: Path) -> None:
    refused = kiln("user", "add", "ADA", data=data, stdin=PASSWORD)
    assert refused.exit_code == 1
    assert "there is a user “ada” already; `kiln user password ada` gives them a new password" in refused.stderr


def test_forgotten_password_is_replaced(data: Path) -> None:
    done = kiln("user", "password", "Ada", data=data, stdin="quite another one\n")
    assert (done.exit_code, done.stdout) == (0, "ada has a new password\n")
    with a_farm(data) as farm:
        assert accounts.authenticate(farm, name="ada", password="quite another one")
        assert accounts.authenticate(farm, name="ada", password=PASSWORD) is None


@pytest.mark.parametrize(
    ("name", "stdin", "said"),
    [
        ("bob", "quite another one\n", "there is no user “bob”"),
        ("ada", "short\n", "at least 10"),
        ("ada", "", "no password on standard input"),
    ],
)
def test_password_that_can_not_be_set_is_refused(data: Path, name: str, stdin: str, said: str) -> None:
    refused = kiln("user", "password", name, data=data, stdin=stdin)
    assert refused.exit_code != 0
    assert said in refused.stderr
    with a_farm(data) as farm:
        assert accounts.authenticate(farm, name="ada", password=PASSWORD)


def test_password_in_no_farm_is_refused(tmp_path: Path) -> None:
    refused = kiln("user", "password", "ada", data=tmp_path / "none", stdin=PASSWORD)
    assert refused.exit_code == 2
    assert "there is no farm in" in refused.stderr


def test_token_is_printed_alone_and_works(data: Path) -> None:
    made = kiln("token", "create", "ada", data=data)
    assert made.exit_code == 0
    (token,) = made.stdout.splitlines()
    with a_farm(data) as farm:
        user = accounts.user_of_token(farm, token)
    assert user is not None
    assert user.name == "ada"


def test_token_for_nobody_and_in_no_farm_is_refused(data: Path, tmp_path: Path) -> None:
    assert "there is no user" in kiln("token", "create", "bob", data=data).stderr
    elsewhere = kiln("token", "create", "ada", data=tmp_path / "none")
    assert elsewhere.exit_code == 2
    assert "there is no farm in" in elsewhere.stderr
    assert not (tmp_path / "none").exists()


# Care.


def test_doctor_finds_a_new_farm_well(data: Path) -> None:
    seen = kiln("doctor", "--json", data=data)
    found = {check["name"]: check for check in json.loads(seen.stdout)}
    assert found["database"]["is_ok"]
    assert found["server"]["text"] == "the farm is not being served"
    assert "object store" not in found, "it answers only while the farm is served"
    assert seen.exit_code == (0 if all(check["is_ok"] for check in found.values()) else 1)


def test_doctor_finds_a_damaged_database(data: Path) -> None:
    database = data / "kiln.db"
    database.write_bytes(database.read_bytes()[:4096] + b"\xff" * 20_000)
    seen = kiln("doctor", data=data)
    assert seen.exit_code == 1
    assert "WRONG  database" in seen.stdout
    assert "kiln restore" in seen.stdout


def test_doctor_names_the_keys_of_a_configuration_that_can_not_be_used(data: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("[local]\nslots = 0\nslot = 1\n")
    seen = kiln("doctor", "--config", tmp_path / "bad.toml", data=data)
    assert seen.exit_code == 1
    assert "local.slots" in seen.stdout
    assert "local.slot: there is no such key" in seen.stdout


def test_sweep_needs_the_farm_to_be_served(data: Path) -> None:
    refused = kiln("sweep", "--dry-run", data=data)
    assert refused.exit_code == 1
    assert "start it first" in refused.stderr


def test_second_server_of_a_data_folder_is_refused(data: Path) -> None:
    with hold_lock(data):
        refused = kiln("serve", "--port", "0", data=data)
    assert refused.exit_code == 1
    assert "already served by process" in refused.stderr


# Backups.


def test_backup_taken_while_the_farm_is_in_use_makes_the_same_farm(data: Path, tmp_path: Path) -> None:
    database = open_database(data)
    with database.write():  # somebody else is writing
        assert kiln("backup", tmp_path / "farm.tar.gz", data=data).exit_code == 0
    database.close()
    assert (tmp_path / "farm.tar.gz").stat().st_mode & 0o077 == 0, "it has the farm's secrets"
    made = kiln("restore", tmp_path / "farm.tar.gz", data=tmp_path / "again")
    assert made.exit_code == 0, made.stderr
    with a_farm(tmp_path / "again") as farm:
        assert accounts.authenticate(farm, name="ada", password=PASSWORD)
    for name in ("secrets.json", "store/keys.json"):
        assert (tmp_path / "again" / name).read_bytes() == (data / name).read_bytes()
        assert (tmp_path / "again" / name).stat().st_mode & 0o077 == 0


def test_restored_farm_is_the_same_on_aws_and_finds_what_it_rented(data: Path, tmp_path: Path) -> None:
    farm = keep_identity(data, AwsConfig())
    assert kiln("backup", tmp_path / "farm.tar.gz", data=data).exit_code == 0
    made = kiln("restore", tmp_path / "farm.tar.gz", data=tmp_path / "again")
    assert "never serve both" in made.stderr
    assert keep_identity(tmp_path / "again", AwsConfig()) == farm


def test_backup_overwrites_nothing(data: Path, tmp_path: Path) -> None:
    (tmp_path / "farm.tar.gz").write_bytes(b"older")
    assert kiln("backup", tmp_path / "farm.tar.gz", data=data).exit_code == 2
    assert (tmp_path / "farm.tar.gz").read_bytes() == b"older"


def test_backup_with_objects_needs_the_farm_to_be_served(data: Path, tmp_path: Path) -> None:
    refused = kiln("backup", tmp_path / "farm.tar.gz", "--with-objects", data=data)
    assert refused.exit_code == 2
    assert not (tmp_path / "farm.tar.gz").exists()


def test_backup_that_can_not_be_written_says_where(data: Path, tmp_path: Path) -> None:
    refused = kiln("backup", tmp_path / "no" / "such" / "folder.tar.gz", data=data)
    assert refused.exit_code == 1
    assert "folder.tar.gz" in refused.stderr


def test_restore_over_a_farm_is_refused(data: Path, tmp_path: Path) -> None:
    kiln("backup", tmp_path / "farm.tar.gz", data=data)
    refused = kiln("restore", tmp_path / "farm.tar.gz", data=data)
    assert refused.exit_code == 2
    assert "is not empty" in refused.stderr


def _an_archive(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, body in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return path


MANIFEST = {"manifest.json": b'{"format": 1}'}


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"kiln.db": b""}, "was not made by `kiln backup`"),
        ({"manifest.json": b'{"format": 2, "kiln": "9.0"}'}, "made by Kiln 9.0"),
        ({"manifest.json": b"no json"}, "can't be put back"),
        (MANIFEST, "there is no database"),
        (MANIFEST | {"../evil": b"x"}, "unknown file ../evil"),
        (MANIFEST | {"kiln.db": b"SQLite format 3\0 but no more"}, "damaged"),
        (MANIFEST | {"kiln.db": b"", "objects/../../evil": b"x"}, "unknown object"),
    ],
)
def test_archive_of_something_else_is_refused_and_leaves_nothing(tmp_path: Path, members: dict[str, bytes], said: str) -> None:
    refused = kiln("restore", _an_archive(tmp_path / "x.tar.gz", members), data=tmp_path / "data")
    assert refused.exit_code == 1
    assert said in refused.stderr
    assert list((tmp_path / "data").iterdir()) == []


def test_truncated_archive_is_refused_and_leaves_nothing(data: Path, tmp_path: Path) -> None:
    kiln("backup", tmp_path / "farm.tar.gz", data=data)
    whole = (tmp_path / "farm.tar.gz").read_bytes()
    (tmp_path / "half.tar.gz").write_bytes(whole[: len(whole) // 2])
    refused = kiln("restore", tmp_path / "half.tar.gz", data=tmp_path / "again")
    assert refused.exit_code == 1
    assert "can't be put back" in refused.stderr
    assert list((tmp_path / "again").iterdir()) == []


# Sending work.


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with a_site(tmp_path, config=FOREIGN_STORE) as made:
        yield made


@pytest.fixture
def env(site: Site, tmp_path: Path) -> Iterator[dict[str, str]]:
    with serving(site.app) as address:
        yield {"KILN_SERVER": address, "KILN_TOKEN": site.token, "XDG_STATE_HOME": str(tmp_path / "state")}


def test_submit_prints_the_job_and_its_page(site: Site, env: dict[str, str]) -> None:
    done = kiln("submit", SAMPLE, "--frames", "1-4", "--instances", "2", "--samples", "3", "--name", "Shot", env=env)
    assert done.exit_code == 0, done.stderr
    job, url = done.stdout.splitlines()
    seen: Any = site.ask("GET", f"/jobs/{job}").json
    assert url.endswith(f"/jobs/{job}")
    assert (seen["name"], seen["status"], seen["frames"]["total"]) == ("Shot", "submitted", 4)
    assert (seen["settings"]["instances"], seen["settings"]["output"]["samples"]) == (2, 3)
    assert "scene “" in done.stderr
    assert "to render: frames 1-4" in done.stderr


def test_submit_asks_for_a_way_of_the_files_and_says_where_there_is_none(env: dict[str, str]) -> None:
    done = kiln("submit", SAMPLE, "--workspace", "snapshot", env=env)
    assert done.exit_code == 1
    assert "this farm renders on its own machine" in done.stderr


def test_submit_asks_for_a_blender_and_says_that_it_is_newer_than_the_file(site: Site, env: dict[str, str]) -> None:
    site.cloud.premises.blenders_found = [BlenderFound(version=version, where="here") for version in ("4.5.15", "5.2.2")]
    done = kiln("submit", SAMPLE, "--blender", "5.2", env=env)
    assert done.exit_code == 0, done.stderr
    assert "Saved by Blender 4.5; rendered with 5.2.2." in done.stderr
    seen: Any = site.ask("GET", f"/jobs/{done.stdout.split()[0]}").json
    assert (seen["settings"]["blender"], seen["blender_version"]) == ("5.2", "5.2.2")
    refused = kiln("submit", SAMPLE, "--blender", "4.4", env=env)
    assert refused.exit_code == 1
    assert "this farm has no Blender 4.4; it has 4.5.15, 5.2.2" in refused.stderr


def test_submit_with_json_prints_json_alone(env: dict[str, str]) -> None:
    done = kiln("submit", SAMPLE, "--json", env=env)
    assert json.loads(done.stdout)["status"] == "submitted"


def test_submit_sends_a_folder_with_its_places(site: Site, env: dict[str, str], tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "tex").mkdir(parents=True)
    (project / "shot.blend").write_bytes(SAMPLE.read_bytes())
    (project / "tex" / "wood.png").write_bytes(b"wood")
    done = kiln("submit", project / "shot.blend", project / "tex", "--json", env=env)
    job = json.loads(done.stdout)["id"]
    assert [file["path"] for file in site.ask("GET", f"/jobs/{job}/files").json or []] == ["shot.blend", "tex/wood.png"]


def test_submit_goes_on_with_the_draft_of_an_interrupted_run(site: Site, env: dict[str, str], tmp_path: Path) -> None:
    first = kiln("submit", SAMPLE, "--scene", "No such", env=env)
    assert first.exit_code == 1
    assert "No such" in first.stderr
    (draft,) = site.ask("GET", "/jobs").json or []
    second = kiln("submit", SAMPLE, env=env)
    assert second.stdout.splitlines()[0] == draft["id"]
    assert f"going on with {draft['id']}" in second.stderr
    assert "upload" not in second.stderr, "nothing is sent twice"
    third = kiln("submit", SAMPLE, env=env)
    assert third.stdout.splitlines()[0] != draft["id"], "a submitted job is done with"


def test_submit_with_another_users_token_makes_a_draft_of_its_own(site: Site, env: dict[str, str]) -> None:
    assert kiln("submit", SAMPLE, "--scene", "No such", env=env).exit_code == 1
    (draft,) = site.ask("GET", "/jobs").json or []
    accounts.add_user(site.farm, name="eve", password=PASSWORD, role="artist")
    second = kiln("submit", SAMPLE, env=env | {"KILN_TOKEN": accounts.create_token(site.farm, user_name="eve")})
    assert second.exit_code == 0, second.stderr
    assert second.stdout.splitlines()[0] != draft["id"]


def test_submit_of_what_is_no_blend_fails_with_the_reason(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "shot.blend").write_bytes(b"no blend")
    failed = kiln("submit", tmp_path / "shot.blend", env=env)
    assert failed.exit_code == 1
    assert "shot.blend: " in failed.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("gone.blend",), "there is no file gone.blend"),
        (("notes.txt",), "is no .blend and no .zip"),
        ((SAMPLE, "--frames", "10-1"), "ends before it begins"),
        ((SAMPLE, "--frames", ""), "no frames are named"),
        ((SAMPLE, "--frames", "1-1000000000"), "Blender's frame numbers go from -1048574 to 1048574"),
        ((SAMPLE, "--instances", "0"), "--instances"),
        ((SAMPLE, "--server", "farm:8000"), "is not a URL"),
        ((SAMPLE, "--token", ""), "a token is needed"),
    ],
)
def test_submit_that_is_written_wrong_exits_with_2(env: dict[str, str], arguments: tuple[str | Path, ...], said: str) -> None:
    refused = kiln("submit", *arguments, env=env)
    assert refused.exit_code == 2
    assert said in refused.stderr


def test_server_that_does_not_answer_is_named(tmp_path: Path) -> None:
    refused = kiln("jobs", env={"KILN_SERVER": "http://127.0.0.1:9", "KILN_TOKEN": "t"})
    assert refused.exit_code == 1
    assert "no answer from 127.0.0.1:9: Connection refused" in refused.stderr


def test_token_that_the_farm_does_not_know_is_said_to_be_so(env: dict[str, str]) -> None:
    refused = kiln("jobs", env=env | {"KILN_TOKEN": "kiln_wrong"})
    assert refused.exit_code == 1
    assert "does not know the token" in refused.stderr


def test_jobs_are_listed_in_columns_and_as_json(site: Site, env: dict[str, str]) -> None:
    ids = [site.a_job("first"), site.a_job("second one")]
    listed = kiln("jobs", env=env)
    assert [line.split(maxsplit=4) for line in listed.stdout.splitlines()] == [
        [ids[1], "draft", "0/0", "ada", "second one"],
        [ids[0], "draft", "0/0", "ada", "first"],
    ]
    assert [job["id"] for job in json.loads(kiln("jobs", "--json", env=env).stdout)] == ids[::-1]


def test_jobs_are_listed_with_what_they_cost_where_anything_costs(tmp_path: Path) -> None:
    with a_site(tmp_path, config=renting()) as site, serving(site.app) as address:
        spent, free = site.a_job("first"), site.a_job("second one")
        at = site.farm.now()
        run = Run(instance="i-1", price_usd_per_h=Decimal("3.60"), began_at=at - timedelta(hours=2), ended_at=at)
        with site.farm.db.write() as connection:
            runs.add_run(connection, spent, run)
        listed = kiln("jobs", env={"KILN_SERVER": address, "KILN_TOKEN": site.token})
    assert [line.split(maxsplit=5) for line in listed.stdout.splitlines()] == [
        [free, "draft", "0/0", "$0.00", "ada", "second one"],
        [spent, "draft", "0/0", "$7.20", "ada", "first"],
    ]


def test_submit_says_what_it_would_take_and_where_it_pauses(tmp_path: Path) -> None:
    config = renting().model_copy(update={"store": FOREIGN_STORE.store})
    with a_site(tmp_path, config=config) as site, serving(site.app) as address:
        set_price(site.cloud, "3.60")
        env = {"KILN_SERVER": address, "KILN_TOKEN": site.token, "XDG_STATE_HOME": str(tmp_path / "state")}
        done = kiln("submit", SAMPLE, "--max-cost", "12.5", "--scout", "--frames", "1-9", "--json", env=env)
        refused = kiln("submit", SAMPLE, "--max-cost", "0.1", env=env)
    assert done.exit_code == 0, done.stderr
    seen = json.loads(done.stdout)
    assert (seen["cap_usd"], seen["scouting"]["frames"]) == (12.5, [1, 5, 9])
    assert "  estimate: time and price are unknown until a frame is rendered" in done.stderr
    assert "  pauses at: $12.50" in done.stderr
    assert refused.exit_code == 1
    assert "its cap of $0.10 is nearly reached, and an instance's first minutes (about $0.30) would take it over" in refused.stderr


def test_every_command_explains_itself() -> None:
    listed = kiln("--help").stdout
    for command in ("serve", "user", "token", "submit", "jobs", "doctor", "sweep", "backup", "restore"):
        assert command in listed
        assert kiln(command, "--help").exit_code == 0
    assert kiln("nonsense").exit_code == 2
