"""Users, passwords and tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest
from argon2 import PasswordHasher
from sqlalchemy import select

from supervisor.cloud.ports import Cloud
from supervisor.commands import accounts, jobs
from supervisor.config import Config
from supervisor.domain.errors import Conflict, Forbidden, NotFound, Rejected
from supervisor.farm import Farm
from supervisor.store import jobs as job_store
from supervisor.store.database import Database
from supervisor.store.schema import metadata
from supervisor.store.schema import tokens as tokens_table
from supervisor.store.schema import users as users_table

PASSWORD = "a long enough one"


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    db = Database.open(tmp_path / "kiln.db")
    metadata.create_all(db.engine)
    # accounts touch the database alone
    yield Farm(config=Config(), data=tmp_path, db=db, cloud=cast("Cloud", None), wake=lambda: None)
    db.close()


def a_user(farm: Farm, name: str = "ada", *, password: str = PASSWORD) -> accounts.User:
    return accounts.add_user(farm, name=name, password=password, role="artist")


def test_farm_has_users_after_the_first_is_added(farm: Farm) -> None:
    assert not accounts.has_users(farm)
    accounts.add_user(farm, name="ada", password=PASSWORD, role="admin")
    assert accounts.has_users(farm)


def test_first_user_can_be_made_only_once(farm: Farm) -> None:
    accounts.add_user(farm, name="ada", password=PASSWORD, role="admin", only_if_first=True)
    with pytest.raises(Conflict, match="set up already"):
        accounts.add_user(farm, name="eve", password=PASSWORD, role="admin", only_if_first=True)
    assert [user.name for user in accounts.users(farm)] == ["ada"]


def test_name_is_folded_and_found_in_any_case(farm: Farm) -> None:
    made = a_user(farm, "  Ada.Lovelace ")
    assert made.name == "ada.lovelace"
    assert accounts.authenticate(farm, name="ADA.LOVELACE", password=PASSWORD) == made


def test_name_that_differs_only_in_case_is_taken(farm: Farm) -> None:
    a_user(farm, "ada")
    with pytest.raises(Rejected, match="already") as caught:
        a_user(farm, "ADA")
    assert caught.value.field == "name"


@pytest.mark.parametrize("name", ["", "   ", "a b", "-ada", "ada/../root", "a" * 65, "ada\nx", "ada\x00x", "<script>", "\ud800"])
def test_unusable_name_is_rejected_at_its_field(farm: Farm, name: str) -> None:
    with pytest.raises(Rejected) as caught:
        a_user(farm, name)
    assert caught.value.field == "name"


@pytest.mark.parametrize(
    ("password", "why"),
    [("short", "at least 10"), ("", "at least 10"), ("a" * 12, "repeated"), ("Adalovelace", "user's name"), ("x1" * 600, "at most 1024")],
)
def test_weak_password_is_rejected_at_its_field(farm: Farm, password: str, why: str) -> None:
    with pytest.raises(Rejected, match=why) as caught:
        accounts.add_user(farm, name="adalovelace", password=password, role="artist")
    assert caught.value.field == "password"
    assert not accounts.has_users(farm)


def test_unknown_role_is_rejected(farm: Farm) -> None:
    with pytest.raises(Rejected) as caught:
        accounts.add_user(farm, name="ada", password=PASSWORD, role=cast("accounts.Role", "root"))
    assert caught.value.field == "role"


def test_sign_in_fails_for_a_wrong_password_and_for_an_unknown_user(farm: Farm) -> None:
    a_user(farm)
    assert accounts.authenticate(farm, name="ada", password=PASSWORD + "!") is None
    assert accounts.authenticate(farm, name="eve", password=PASSWORD) is None
    assert accounts.authenticate(farm, name="\ud800", password="\ud800") is None


def test_password_is_kept_as_an_argon2_hash_alone(farm: Farm) -> None:
    a_user(farm)
    with farm.db.read() as connection:
        kept = connection.execute(select(users_table.c.password_hash)).scalar_one()
    assert kept.startswith("$argon2id$")
    assert PASSWORD not in kept


def test_hash_of_weaker_settings_is_renewed_at_sign_in(farm: Farm) -> None:
    a_user(farm)
    weaker = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(PASSWORD)
    with farm.db.write() as connection:
        connection.execute(users_table.update().values(password_hash=weaker))
    assert accounts.authenticate(farm, name="ada", password=PASSWORD)
    with farm.db.read() as connection:
        assert "m=1024" not in connection.execute(select(users_table.c.password_hash)).scalar_one()
    assert accounts.authenticate(farm, name="ada", password=PASSWORD)


def test_changed_password_takes_effect_and_ends_other_sessions(farm: Farm) -> None:
    made = a_user(farm)
    accounts.change_password(farm, made.id, old=PASSWORD, new="another long one")
    assert accounts.authenticate(farm, name="ada", password=PASSWORD) is None
    now = accounts.authenticate(farm, name="ada", password="another long one")
    assert now is not None
    assert now.session_epoch == made.session_epoch + 1


@pytest.mark.parametrize(
    ("old", "new", "field"), [("wrong password", "another long one", "old"), (PASSWORD, "short", "new"), (PASSWORD, PASSWORD, "new")]
)
def test_refused_change_of_password_names_its_field_and_changes_nothing(farm: Farm, old: str, new: str, field: str) -> None:
    made = a_user(farm)
    with pytest.raises(Rejected) as caught:
        accounts.change_password(farm, made.id, old=old, new=new)
    assert caught.value.field == field
    assert accounts.authenticate(farm, name="ada", password=PASSWORD) == made


def test_password_of_nobody_can_not_be_changed(farm: Farm) -> None:
    with pytest.raises(NotFound):
        accounts.change_password(farm, "user_gone", old=PASSWORD, new="another long one")


def test_user_is_found_by_id_until_unknown(farm: Farm) -> None:
    made = a_user(farm)
    assert accounts.user(farm, made.id) == made
    assert accounts.user(farm, "user_gone") is None


def test_token_stands_for_its_user(farm: Farm) -> None:
    made = a_user(farm)
    token = accounts.create_token(farm, user_name="Ada", name=" laptop ")
    assert token.startswith("kiln_")
    assert accounts.user_of_token(farm, token) == made
    assert [t.name for t in accounts.tokens(farm, made.id)] == ["laptop"]


def test_token_is_kept_as_a_hash_alone(farm: Farm) -> None:
    a_user(farm)
    token = accounts.create_token(farm, user_name="ada")
    with farm.db.read() as connection:
        kept = connection.execute(select(tokens_table.c.token_hash)).scalar_one()
    assert token.removeprefix("kiln_") not in kept
    assert len(kept) == 64


@pytest.mark.parametrize("token", ["", "kiln_", "kiln_nope", "nope", "kiln_\ud800"])
def test_unknown_token_stands_for_nobody(farm: Farm, token: str) -> None:
    a_user(farm)
    assert accounts.user_of_token(farm, token) is None


def test_revoked_token_stands_for_nobody(farm: Farm) -> None:
    made = a_user(farm)
    token = accounts.create_token(farm, user_name="ada")
    accounts.revoke_token(farm, made.id, accounts.tokens(farm, made.id)[0].id)
    assert accounts.user_of_token(farm, token) is None
    assert accounts.tokens(farm, made.id) == []


def test_token_of_somebody_else_can_not_be_revoked(farm: Farm) -> None:
    made, other = a_user(farm), a_user(farm, "eve")
    token = accounts.create_token(farm, user_name="ada")
    with pytest.raises(NotFound):
        accounts.revoke_token(farm, other.id, accounts.tokens(farm, made.id)[0].id)
    assert accounts.user_of_token(farm, token) == made


def test_token_for_an_unknown_user_is_refused(farm: Farm) -> None:
    with pytest.raises(NotFound, match="eve"):
        accounts.create_token(farm, user_name="eve")


def test_token_name_that_no_list_can_show_is_rejected(farm: Farm) -> None:
    a_user(farm)
    for name in ("x" * 101, "a\x1b[2Jb"):
        with pytest.raises(Rejected):
            accounts.create_token(farm, user_name="ada", name=name)


def test_use_of_a_token_is_noted_about_once_a_minute(farm: Farm) -> None:
    made = a_user(farm)
    token = accounts.create_token(farm, user_name="ada")
    start = datetime(2026, 1, 1, tzinfo=UTC)
    seen = []
    for seconds in (0, 30, 90):
        at = start + timedelta(seconds=seconds)
        assert accounts.user_of_token(replace(farm, now=lambda at=at: at), token) == made  # type: ignore[misc]
        seen.append(accounts.tokens(farm, made.id)[0].last_used_at)
    assert seen == [start, start, start + timedelta(seconds=90)]


def test_password_set_by_others_takes_effect_and_ends_every_session(farm: Farm) -> None:
    made = a_user(farm)
    token = accounts.create_token(farm, user_name="ada")
    accounts.set_password(farm, made.id, new="another long one")
    assert accounts.authenticate(farm, name="ada", password=PASSWORD) is None
    now = accounts.authenticate(farm, name="ada", password="another long one")
    assert now is not None
    assert now.session_epoch == made.session_epoch + 1
    assert accounts.user_of_token(farm, token) == now


def test_password_set_by_others_must_be_good_and_somebodys(farm: Farm) -> None:
    made = a_user(farm)
    with pytest.raises(Rejected) as caught:
        accounts.set_password(farm, made.id, new="short")
    assert caught.value.field == "new"
    with pytest.raises(NotFound):
        accounts.set_password(farm, "user_gone", new="another long one")
    assert accounts.authenticate(farm, name="ada", password=PASSWORD) == made


def test_removed_user_is_gone_with_their_tokens_and_their_jobs_are_nobodys(farm: Farm) -> None:
    admin, made = an_admin(farm), a_user(farm)
    token = accounts.create_token(farm, user_name="ada")
    job = jobs.create_job(farm, name="shot", owner_id=made.id)
    before = version_of(farm, job)
    accounts.remove_user(farm, made.id, by=admin)
    assert accounts.users(farm) == [admin]
    assert accounts.user_of_token(farm, token) is None
    assert version_of(farm, job) > before
    with pytest.raises(Forbidden, match="no owner"):
        accounts.check_may_change(farm, made, job)
    accounts.check_may_change(farm, admin, job)


def version_of(farm: Farm, job: str) -> int:
    with farm.db.read() as connection:
        found = job_store.find_job(connection, job)
    assert found is not None
    return found.version


def an_admin(farm: Farm, name: str = "root") -> accounts.User:
    return accounts.add_user(farm, name=name, password=PASSWORD, role="admin")


def test_nobody_removes_themselves_nor_the_last_admin(farm: Farm) -> None:
    first, second = an_admin(farm, "first"), an_admin(farm, "second")
    with pytest.raises(Conflict, match="that is you"):
        accounts.remove_user(farm, first.id, by=first)
    accounts.remove_user(farm, second.id, by=first)
    with pytest.raises(Conflict, match="last admin"):  # two who remove each other at once: the second comes too late
        accounts.remove_user(farm, first.id, by=second)
    with pytest.raises(NotFound):
        accounts.remove_user(farm, second.id, by=first)
    assert accounts.users(farm) == [first]


def test_jobs_are_changed_by_their_owners_and_by_admins(farm: Farm) -> None:
    admin, ada, eve = an_admin(farm), a_user(farm), a_user(farm, "eve")
    job = jobs.create_job(farm, name="shot", owner_id=ada.id)
    accounts.check_may_change(farm, ada, job)
    accounts.check_may_change(farm, admin, job)
    with pytest.raises(Forbidden, match="this job is ada's: only ada or an admin"):
        accounts.check_may_change(farm, eve, job)
    with pytest.raises(NotFound):
        accounts.check_may_change(farm, eve, "job_gone")


def test_only_admins_pass_for_admins(farm: Farm) -> None:
    accounts.check_is_admin(an_admin(farm))
    with pytest.raises(Forbidden):
        accounts.check_is_admin(a_user(farm))
