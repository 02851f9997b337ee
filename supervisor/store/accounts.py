"""Users and tokens in the database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, delete, exists, insert, select, update

from supervisor.domain.account import Role, Token, User

from .schema import tokens, users

#: A token in steady use costs one write a minute, not one a request.
_USE_NOTED_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A user with what the password is checked against."""

    user: User
    password_hash: str


def has_users(connection: Connection) -> bool:
    return bool(connection.execute(select(exists().where(users.c.id.is_not(None)))).scalar())


def add_user(connection: Connection, user: User, *, password_hash: str, at: datetime) -> None:
    values = {"id": user.id, "name": user.name, "role": user.role, "session_epoch": user.session_epoch}
    connection.execute(insert(users).values(**values, password_hash=password_hash, created_at=at))


def user_by_id(connection: Connection, user_id: str) -> User | None:
    row = connection.execute(select(users).where(users.c.id == user_id)).first()
    return _user(row) if row else None


def user_by_name(connection: Connection, name: str) -> User | None:
    found = credentials(connection, name)
    return found.user if found else None


def credentials(connection: Connection, name: str) -> Credentials | None:
    row = connection.execute(select(users).where(users.c.name == name)).first()
    return Credentials(user=_user(row), password_hash=row.password_hash) if row else None


def all_users(connection: Connection) -> list[User]:
    return [_user(row) for row in connection.execute(select(users).order_by(users.c.name))]


def replace_hash(connection: Connection, user_id: str, *, seen: str, password_hash: str) -> bool:
    """Keep a new hash of the same password. Returns: False if the password was changed meanwhile"""
    where = (users.c.id == user_id) & (users.c.password_hash == seen)
    return connection.execute(update(users).where(where).values(password_hash=password_hash)).rowcount == 1


def change_password(connection: Connection, user_id: str, *, seen: str, password_hash: str) -> bool:
    """Keep a new password's hash and end the sessions of before. Returns: False if it was changed meanwhile"""
    where = (users.c.id == user_id) & (users.c.password_hash == seen)
    change = update(users).where(where).values(password_hash=password_hash, session_epoch=users.c.session_epoch + 1)
    return connection.execute(change).rowcount == 1


def set_password(connection: Connection, user_id: str, *, password_hash: str) -> bool:
    """Keep a new password's hash, whatever it was, and end the sessions of before. Returns: False if there is no such user"""
    change = update(users).where(users.c.id == user_id).values(password_hash=password_hash, session_epoch=users.c.session_epoch + 1)
    return connection.execute(change).rowcount == 1


def remove_user(connection: Connection, user_id: str) -> None:
    """Remove a user with their tokens; jobs that were theirs are nobody's."""
    connection.execute(delete(users).where(users.c.id == user_id))


def add_token(connection: Connection, *, token_id: str, user_id: str, name: str, token_hash: str, at: datetime) -> None:
    connection.execute(insert(tokens).values(id=token_id, user_id=user_id, name=name, token_hash=token_hash, created_at=at))


def tokens_of(connection: Connection, user_id: str) -> list[Token]:
    rows = connection.execute(select(tokens).where(tokens.c.user_id == user_id).order_by(tokens.c.created_at.desc(), tokens.c.id))
    return [Token(id=row.id, name=row.name, created_at=row.created_at, last_used_at=row.last_used_at) for row in rows]


def remove_token(connection: Connection, *, user_id: str, token_id: str) -> bool:
    """Returns: False if the user has no such token"""
    return connection.execute(delete(tokens).where((tokens.c.id == token_id) & (tokens.c.user_id == user_id))).rowcount == 1


def user_of_token(connection: Connection, token_hash: str, *, at: datetime) -> tuple[User, bool] | None:
    """Returns: the token's user, and whether its use should be noted; None if there is no such token"""
    joined = users.join(tokens, tokens.c.user_id == users.c.id)
    row = connection.execute(select(users, tokens.c.last_used_at).select_from(joined).where(tokens.c.token_hash == token_hash)).first()
    if row is None:
        return None
    return _user(row), row.last_used_at is None or at - row.last_used_at > _USE_NOTED_EVERY


def note_token_use(connection: Connection, token_hash: str, *, at: datetime) -> None:
    connection.execute(update(tokens).where(tokens.c.token_hash == token_hash).values(last_used_at=at))


def _user(row: Row[Any]) -> User:
    role: Role = "admin" if row.role == "admin" else "artist"
    return User(id=row.id, name=row.name, role=role, session_epoch=row.session_epoch)
