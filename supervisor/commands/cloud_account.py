"""Commands about the account that the farm rents in: sign in, set up, take down."""

from __future__ import annotations

from collections.abc import Iterator

from supervisor.cloud.ports import CloudAccount, Refused, Removal
from supervisor.domain.errors import Conflict, NotFound, Rejected
from supervisor.domain.job import ACTIVE, JobStatus
from supervisor.farm import Farm
from supervisor.store import jobs

_UNFINISHED = ACTIVE | {JobStatus.PAUSED}
_SHOWN = 5


def account_of(farm: Farm) -> CloudAccount:
    """The farm's account. Errors: NotFound - it rents nothing"""
    if farm.cloud.account is None:
        raise NotFound('this farm renders on its own machine and needs no AWS account; [cloud] provider = "aws" makes it rent')
    return farm.cloud.account


def sign_in(farm: Farm, *, access_key: str, secret_key: str) -> None:
    """Use these keys from now on, if AWS knows them; the farm keeps them, and never shows them again.

    Errors:  Rejected - field `secret_key`: AWS does not know them; NotFound, Unreachable
    """
    if not access_key:
        raise Rejected("Type the access key's id; it looks like AKIA and 16 more letters and digits.", field="access_key")
    if not secret_key:
        raise Rejected("Type the secret that AWS showed with it.", field="secret_key")
    try:
        account_of(farm).change_keys(access_key, secret_key)
    except Refused as error:
        raise Rejected(str(error), field="secret_key") from error
    farm.wake()


def sign_out(farm: Farm) -> None:
    """Forget the keys that were typed. Repeat: safe. Errors: NotFound"""
    account_of(farm).change_keys("", "")
    farm.wake()


def tear_down(farm: Farm, *, with_data: bool, dry_run: bool) -> Iterator[Removal]:
    """Remove from the account what setting up made; yield each thing that is gone, or stays. Repeat: safe.

    Errors:  Conflict - a job is not ended; Refused - something is still rented; NotFound, Throttled, Unreachable
    """
    account = account_of(farm)
    with farm.db.read() as connection:
        unfinished = sorted(job for job, status in jobs.statuses(connection).items() if status in _UNFINISHED)
    if unfinished:
        shown = ", ".join(unfinished[:_SHOWN]) + (f" and {len(unfinished) - _SHOWN} more" if len(unfinished) > _SHOWN else "")
        raise Conflict(f"these jobs have not ended: {shown}; cancel them or let them finish, then repeat this")
    return account.tear_down(with_data=with_data, dry_run=dry_run)
