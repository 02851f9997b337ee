"""People: users, their tokens, and which names and passwords will do."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from .errors import Rejected

Role = Literal["admin", "artist"]

ROLES: tuple[str, ...] = get_args(Role)
MIN_PASSWORD_CHARACTERS = 10
#: Hashing a password takes effort in proportion to its length: nobody may send a megabyte of it.
MAX_PASSWORD_CHARACTERS = 1024
MAX_TOKEN_NAME_CHARACTERS = 100

_NAME = re.compile(r"\w[\w.@+-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    id: str
    name: str
    role: Role
    session_epoch: int  #: a session of an earlier epoch is signed out


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    id: str
    name: str
    created_at: datetime
    last_used_at: datetime | None  #: exact to a minute


def may_change(user: User, *, owner_id: str | None) -> bool:
    """Say whether a user may change a job of that owner: an admin may change every job, an artist those of their own."""
    return user.role == "admin" or user.id == owner_id


def fold_name(name: str) -> str:
    """Write a user's name the one way it is kept: NFKC, lower case, no space around it, nothing that UTF-8 can't write."""
    return unicodedata.normalize("NFKC", name).strip().lower().encode(errors="replace").decode()


def checked_name(name: str) -> str:
    """Fold a new user's name. Errors: Rejected - field `name`; says which names will do"""
    folded = fold_name(name)
    if not folded:
        raise Rejected("the user needs a name", field="name")
    if not _NAME.fullmatch(folded):
        raise Rejected("a user's name has 1 to 64 letters, digits or . _ - @ + and begins with a letter or digit", field="name")
    return folded


def check_password(password: str, *, user_name: str, field: str = "password") -> None:
    """Errors: Rejected - field as given: too short, too long, or the user's name"""
    if len(password) < MIN_PASSWORD_CHARACTERS:
        raise Rejected(f"a password has at least {MIN_PASSWORD_CHARACTERS} characters; this one has {len(password)}", field=field)
    if len(password) > MAX_PASSWORD_CHARACTERS:
        raise Rejected(f"a password has at most {MAX_PASSWORD_CHARACTERS} characters", field=field)
    if fold_name(password) == fold_name(user_name):
        raise Rejected("the password is the user's name; choose one that others don't guess", field=field)
    if len(set(password)) == 1:
        raise Rejected("the password is one character repeated; choose one that others don't guess", field=field)


def check_token_name(name: str) -> str:
    """Errors: Rejected - field `name`"""
    clean = name.strip()
    if len(clean) > MAX_TOKEN_NAME_CHARACTERS or not clean.isprintable():
        raise Rejected(f"a token's name has at most {MAX_TOKEN_NAME_CHARACTERS} printable characters", field="name")
    return clean
