"""Commands about people: users, passwords, tokens."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from supervisor.farm import Farm

Role = Literal["admin", "artist"]


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    id: str
    name: str
    role: Role
    session_epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    id: str
    name: str
    created_at: datetime
    last_used_at: datetime | None


def has_users(farm: Farm) -> bool:
    """False on a farm that still waits for its set-up."""
    raise NotImplementedError


def add_user(farm: Farm, *, name: str, password: str, role: Role, only_if_first: bool = False) -> User:
    """Make a user (argon2). `only_if_first`: Conflict if there is one already, decided in the same transaction. Errors: Rejected (name, password), Conflict"""
    raise NotImplementedError


def user(farm: Farm, user_id: str) -> User | None:
    raise NotImplementedError


def users(farm: Farm) -> list[User]:
    raise NotImplementedError


def authenticate(farm: Farm, *, name: str, password: str) -> User | None:
    """Returns: None if either is wrong; takes as long in both cases."""
    raise NotImplementedError


def change_password(farm: Farm, user_id: str, *, old: str, new: str) -> None:
    """Errors: Rejected (old, new). Signs the user's other sessions out."""
    raise NotImplementedError


def create_token(farm: Farm, *, user_name: str, name: str = "") -> str:
    """Make a token for the API; only its hash is kept. Returns: the token. Errors: NotFound"""
    raise NotImplementedError


def tokens(farm: Farm, user_id: str) -> list[Token]:
    raise NotImplementedError


def revoke_token(farm: Farm, user_id: str, token_id: str) -> None:
    """Errors: NotFound"""
    raise NotImplementedError


def user_of_token(farm: Farm, token: str) -> User | None:
    """Returns: None for a token that is not (any more) one."""
    raise NotImplementedError
