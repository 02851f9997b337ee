"""Caps: when people are warned, when nothing more is begun, how many instances there is money for."""

from __future__ import annotations

from decimal import Decimal

import pytest

from supervisor.domain.budget import (
    AtWork,
    Standing,
    ahead_usd,
    check_cap,
    how_many_fit,
    launch_usd,
    standing,
)
from supervisor.domain.errors import Rejected
from supervisor.domain.wording import about, dollars

#: A tenth of a cent a second.
PRICE = Decimal("3.60")


@pytest.mark.parametrize(
    ("spent", "ahead", "cap", "stands"),
    [
        ("3.99", "0", "5", Standing.FINE),
        ("4.00", "0", "5", Standing.NEAR),
        ("4.00", "1.00", "5", Standing.NEAR),  # all of it fits
        ("4.00", "1.01", "5", Standing.REACHED),
        ("0.10", "9.00", "5", Standing.REACHED),
        ("5.00", "0", "5", Standing.REACHED),
        ("5.49", "0", "5", Standing.REACHED),
        ("5.50", "0", "5", Standing.PASSED),
        ("9999", "99", None, Standing.FINE),
    ],
)
def test_spending_stands_to_its_cap(spent: str, ahead: str, cap: str | None, stands: Standing) -> None:
    wanted = None if cap is None else Decimal(cap)
    assert standing(spent_usd=Decimal(spent), ahead_usd=Decimal(ahead), cap_usd=wanted, warn_pct=80) is stands


def old(elapsed_s: float | None, *, price: Decimal = PRICE) -> AtWork:
    return AtWork(usd_per_h=price, age_s=10_000, elapsed_s=elapsed_s)


@pytest.mark.parametrize(
    ("at_work", "frame_s", "queued", "usd"),
    [
        ([], 100, 5, "0"),
        ([old(40)], 100, 0, "0.090"),  # 60 s of its frame are left, and it ends
        ([old(40)], 100, 1, "0.190"),  # then it takes another one
        ([old(400)], 100, 0, "0.030"),  # a frame that takes longer than others: nobody knows how long
        ([old(None)], 100, 0, "0.030"),
        ([old(40)], None, 9, "0.030"),  # no frame is received yet
        ([old(0), old(0)], 100, 1, "0.360"),  # one more frame for one of them
        ([old(0), old(0, price=PRICE * 2)], 100, 1, "0.590"),  # the dearest, to be safe
        ([AtWork(usd_per_h=PRICE, age_s=100, elapsed_s=None)], None, 9, "0.200"),  # the rest of its first five minutes
        ([AtWork(usd_per_h=PRICE, age_s=100, elapsed_s=0)], 400, 0, "0.430"),
    ],
)
def test_what_is_as_good_as_spent_is_counted_ahead(at_work: list[AtWork], frame_s: float | None, queued: int, usd: str) -> None:
    assert ahead_usd(at_work, frame_s=frame_s, queued=queued) == Decimal(usd)


@pytest.mark.parametrize(("boot_s", "frame_s", "usd"), [(60, None, "0.300"), (60, 100, "0.300"), (60, 1000, "1.090")])
def test_a_new_instance_needs_money_for_its_first_frame_and_five_minutes_at_least(boot_s: float, frame_s: float | None, usd: str) -> None:
    assert launch_usd(PRICE, boot_s=boot_s, frame_s=frame_s) == Decimal(usd)


@pytest.mark.parametrize(("left", "each", "fit"), [("1", "0.3", 3), ("0.29", "0.3", 0), ("-4", "0.3", 0), ("0", "0", None)])
def test_as_many_instances_fit_as_there_is_money_for(left: str, each: str, fit: int | None) -> None:
    assert how_many_fit(left_usd=Decimal(left), each_usd=Decimal(each)) == fit


@pytest.mark.parametrize(
    ("wanted", "kept", "farm", "by_admin"),
    [(None, "50", "5", False), ("5", None, "5", False), ("50", "50", "5", False), ("50", None, "5", True), ("50", None, None, False)],
)
def test_a_cap_up_to_the_farms_or_by_an_administrator_is_taken(
    wanted: str | None, kept: str | None, farm: str | None, by_admin: bool
) -> None:
    values = [None if each is None else Decimal(each) for each in (wanted, kept, farm)]
    assert check_cap(values[0], kept=values[1], farm_usd=values[2], by_admin=by_admin) is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize(
    ("wanted", "says"), [("5.01", "a job on this farm may cost \\$5.00"), ("0", "above 0"), ("NaN", "above 0"), ("1e9", "at most")]
)
def test_another_cap_is_refused_with_what_can_be_had(wanted: str, says: str) -> None:
    with pytest.raises(Rejected, match=says) as refused:
        check_cap(Decimal(wanted), kept=None, farm_usd=Decimal(5), by_admin=False)
    assert refused.value.field == "max_cost_usd"


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0", "$0.00"),
        ("0.00001", "$0.00"),
        ("0.05001", "$0.05"),
        ("0.0312", "$0.0312"),
        ("0.05", "$0.05"),
        ("0.123", "$0.12"),
        ("4.999", "$5.00"),
        ("1234.5", "$1,234.50"),
    ],
)
def test_money_is_written_as_exactly_as_it_matters(amount: str, text: str) -> None:
    assert dollars(Decimal(amount)) == text


@pytest.mark.parametrize(("s", "text"), [(10, "less than a minute"), (80, "about 1 min"), (7000, "about 2 h"), (200_000, "about 2 days")])
def test_estimates_of_time_are_written_no_more_exactly_than_they_are_known(s: float, text: str) -> None:
    assert about(s) == text
