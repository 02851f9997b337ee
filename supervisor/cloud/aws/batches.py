"""Calls about many instances at once, of which EC2 refuses all because of one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from botocore.exceptions import ClientError

from .errors import error_code

#: Instances in one call. EC2 takes a thousand; smaller ones are answered sooner.
_MOST_IN_ONE = 100
#: Only what looks like an id is sent: EC2 refuses the whole call for one that does not.
_INSTANCE_ID = re.compile(r"i-[0-9a-f]{8,17}")
ABSENT_CODES = frozenset({"InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed"})


def in_batches(call: Callable[..., Any], ids: Iterable[str], *, spared: frozenset[str] = ABSENT_CODES) -> dict[str, str]:
    """Call with all ids that the call takes; leave out those for which it is refused with one of the codes.

    Shape:   call: takes InstanceIds; spared: codes that say that the call is not for this instance
    Returns: the ids that were left out, each with the code
    Errors:  ClientError - with another code; then some batches may be done and others not
    """
    chosen = [id for id in dict.fromkeys(ids) if _INSTANCE_ID.fullmatch(id)]
    left_out: dict[str, str] = {}
    for first in range(0, len(chosen), _MOST_IN_ONE):
        left_out |= _call(call, chosen[first : first + _MOST_IN_ONE], spared)
    return left_out


def _call(call: Callable[..., Any], ids: Sequence[str], spared: frozenset[str]) -> dict[str, str]:
    """Returns: those of the ids that the call is not for, each with the code"""
    if not ids:
        return {}
    try:
        call(InstanceIds=list(ids))
        return {}
    except ClientError as error:
        code = error_code(error)
        if code not in spared:
            raise
        # the message names the ids, or some of them: what it does not name may be good
        named = set(_INSTANCE_ID.findall(str(error.response["Error"].get("Message", ""))))
    wrong = [id for id in ids if id in named] or (ids if len(ids) == 1 else [])
    if wrong:
        return dict.fromkeys(wrong, code) | _call(call, [id for id in ids if id not in wrong], spared)
    half = len(ids) // 2
    return _call(call, ids[:half], spared) | _call(call, ids[half:], spared)
