"""Commands about people: users, passwords, tokens, and who may do what."""

from __future__ import annotations

import hashlib
import secrets
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from supervisor.domain.account import ROLES, Role, Token, User, check_password, check_token_name, checked_name, fold_name, may_change
from supervisor.domain.errors import Conflict, Forbidden, NotFound, Rejected
from supervisor.domain.ids import new_id
from supervisor.farm import Farm
from supervisor.store import accounts as store
from supervisor.store import jobs

__all__ = [
    "Role",
    "Token",
    "User",
    "add_user",
    "authenticate",
    "change_password",
    "check_is_admin",
    "check_may_change",
    "create_token",
    "has_users",
    "remove_user",
    "revoke_token",
    "set_password",
    "tokens",
    "user",
    "user_named",
    "user_of_token",
    "users",
]

TOKEN_PREFIX = "kiln_"  # lets secret scanners and people see what it is

_NO_USER = "there is no such user (any more)"

#: argon2id as OWASP's password storage cheat sheet has it (2024): 19 MiB, so that sixteen sign-ins at once don't take a gigabyte.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


def has_users(farm: Farm) -> bool:
    """False on a farm that still waits for its set-up."""
    with farm.db.read() as connection:
        return store.has_users(connection)


def add_user(farm: Farm, *, name: str, password: str, role: Role, only_if_first: bool = False) -> User:
    """Make a user (argon2). `only_if_first`: Conflict if there is one already, decided in the same transaction.

    Errors:  Rejected (name, password, role), Conflict
    """
    if role not in ROLES:
        raise Rejected(f"“{role}” is not a role; use {' or '.join(ROLES)}", field="role")
    clean = checked_name(name)
    check_password(password, user_name=clean)
    made = User(id=new_id("user"), name=clean, role=role, session_epoch=0)
    hashed = _HASHER.hash(_bytes(password))
    with farm.db.write() as connection:
        if only_if_first and store.has_users(connection):
            raise Conflict("this farm is set up already; sign in, or have an admin add a user")
        if store.user_by_name(connection, clean):
            raise Rejected(f"there is a user “{clean}” already; choose another name", field="name")
        store.add_user(connection, made, password_hash=hashed, at=farm.now())
    return made


def user(farm: Farm, user_id: str) -> User | None:
    """Returns: None if there is no such user (any more)."""
    with farm.db.read() as connection:
        return store.user_by_id(connection, user_id)


def user_named(farm: Farm, name: str) -> User:
    """Errors: NotFound"""
    with farm.db.read() as connection:
        found = store.user_by_name(connection, fold_name(name))
    if found is None:
        raise NotFound(f"there is no user “{name}”")
    return found


def users(farm: Farm) -> list[User]:
    """Everybody, by name."""
    with farm.db.read() as connection:
        return store.all_users(connection)


def authenticate(farm: Farm, *, name: str, password: str) -> User | None:
    """Returns: None if either is wrong; takes as long in both cases."""
    with farm.db.read() as connection:
        found = store.credentials(connection, fold_name(name))
    nobodys = _nobodys_hash()
    if not _is_password(found.password_hash if found else nobodys, password) or found is None:
        return None
    if _HASHER.check_needs_rehash(found.password_hash):
        renewed = _HASHER.hash(_bytes(password))
        with farm.db.write() as connection:
            store.replace_hash(connection, found.user.id, seen=found.password_hash, password_hash=renewed)
    return found.user


def change_password(farm: Farm, user_id: str, *, old: str, new: str) -> None:
    """Errors: Rejected (old, new). Signs the user's other sessions out."""
    with farm.db.read() as connection:
        person = store.user_by_id(connection, user_id)
        found = store.credentials(connection, person.name) if person else None
    if found is None:
        raise NotFound(_NO_USER)
    if not _is_password(found.password_hash, old):
        raise Rejected("that is not the present password", field="old")
    check_password(new, user_name=found.user.name, field="new")
    if new == old:
        raise Rejected("the new password is the old one", field="new")
    hashed = _HASHER.hash(_bytes(new))
    with farm.db.write() as connection:
        if not store.change_password(connection, user_id, seen=found.password_hash, password_hash=hashed):
            raise Conflict("the password was changed a moment ago; sign in again")


def set_password(farm: Farm, user_id: str, *, new: str) -> None:
    """Give a user a new password without asking for the old one; every session of theirs is signed out, their tokens stay.

    Errors:  NotFound, Rejected (new)
    """
    person = user(farm, user_id)
    if person is None:
        raise NotFound(_NO_USER)
    check_password(new, user_name=person.name, field="new")
    hashed = _HASHER.hash(_bytes(new))
    with farm.db.write() as connection:
        if not store.set_password(connection, user_id, password_hash=hashed):
            raise NotFound(_NO_USER)


def remove_user(farm: Farm, user_id: str, *, by: User) -> None:
    """Make a user be gone, signed out everywhere, with their tokens. Their jobs stay and are nobody's: admins look after them.

    Errors:  NotFound, Conflict (oneself, the last admin)
    """
    if user_id == by.id:
        raise Conflict("that is you; another admin can remove you")
    with farm.db.write() as connection:
        everybody = store.all_users(connection)
        person = next((each for each in everybody if each.id == user_id), None)
        if person is None:
            raise NotFound(_NO_USER)
        if person.role == "admin" and sum(each.role == "admin" for each in everybody) == 1:
            raise Conflict(f"“{person.name}” is the last admin; the farm needs one")
        jobs.leave_to_nobody(connection, user_id)
        store.remove_user(connection, user_id)


def check_is_admin(person: User) -> None:
    """Errors: Forbidden"""
    if person.role != "admin":
        raise Forbidden("only an admin may do that; ask one")


def check_may_change(farm: Farm, person: User, job: str) -> None:
    """Errors: Forbidden - it is another's job, and the message says whose; NotFound"""
    with farm.db.read() as connection:
        found = jobs.find_job(connection, job)
        owner = store.user_by_id(connection, found.owner_id) if found and found.owner_id else None
    if found is None:
        raise NotFound("there is no such job (any more)")
    if not may_change(person, owner_id=found.owner_id):
        whose = f"this job is {owner.name}'s: only {owner.name} or an admin" if owner else "this job has no owner: only an admin"
        raise Forbidden(f"{whose} may change it")


def create_token(farm: Farm, *, user_name: str, name: str = "") -> str:
    """Make a token for the API; only its hash is kept. Returns: the token. Errors: NotFound, Rejected (name)"""
    label = check_token_name(name)
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    with farm.db.write() as connection:
        owner = store.user_by_name(connection, fold_name(user_name))
        if owner is None:
            raise NotFound(f"there is no user “{user_name}”")
        token_id = new_id("token")
        store.add_token(connection, token_id=token_id, user_id=owner.id, name=label, token_hash=_token_hash(token), at=farm.now())
    return token


def tokens(farm: Farm, user_id: str) -> list[Token]:
    """A user's tokens, newest first."""
    with farm.db.read() as connection:
        return store.tokens_of(connection, user_id)


def revoke_token(farm: Farm, user_id: str, token_id: str) -> None:
    """Errors: NotFound"""
    with farm.db.write() as connection:
        if not store.remove_token(connection, user_id=user_id, token_id=token_id):
            raise NotFound("there is no such token (any more)")


def user_of_token(farm: Farm, token: str) -> User | None:
    """Returns: None for a token that is not (any more) one."""
    if not token.startswith(TOKEN_PREFIX):
        return None
    token_hash, now = _token_hash(token), farm.now()
    with farm.db.read() as connection:
        found = store.user_of_token(connection, token_hash, at=now)
    if found is None:
        return None
    owner, is_use_to_note = found
    if is_use_to_note:
        with farm.db.write() as connection:
            store.note_token_use(connection, token_hash, at=now)
    return owner


def _is_password(password_hash: str, password: str) -> bool:
    try:
        return _HASHER.verify(password_hash, _bytes(password))
    except (VerificationError, InvalidHashError):
        return False


def _bytes(password: str) -> bytes:
    # JSON can bring half a surrogate pair, which is not text that UTF-8 can write
    return password.encode(errors="surrogatepass")


@cache
def _nobodys_hash() -> str:
    """What a password is checked against when the user is unknown: the answer takes as long, so it does not tell who exists."""
    return _HASHER.hash(secrets.token_urlsafe(32))


def _token_hash(token: str) -> str:
    # a plain digest will do: the token has 256 random bits, nobody guesses it from its hash
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
