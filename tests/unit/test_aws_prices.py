"""Prices come from AWS where it answers, and from what is at hand where it does not; nobody waits for them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from supervisor.cloud.aws.price_list import PriceList, shipped_prices
from supervisor.cloud.aws.prices import AwsPrices
from supervisor.cloud.aws.session import AwsSession
from supervisor.config import AwsConfig, Config, words
from supervisor.domain.instance import Market
from tests.aws.faults import Call, Fault, Way, breakable, nothing
from tests.aws.moto_server import Moto

SPOT, ON_DEMAND = Market.SPOT, Market.ON_DEMAND


@dataclass
class Days:
    """A clock that a test moves on."""

    now: datetime = datetime(2026, 3, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def way() -> Iterator[Way]:
    with breakable(Way()) as way:
        yield way


@pytest.fixture
def clock() -> Days:
    return Days()


@pytest.fixture
def prices(moto: Moto, aws_session: AwsSession, tmp_path: Path, clock: Days) -> AwsPrices:
    moto.change(
        on_demand_prices={
            "c7i.4xlarge": "0.7990000000",
            "c7a.4xlarge": "0.8",
            "c6i.4xlarge": "0.7",
            "m7i.4xlarge": "0.9",
            "g6.xlarge": "0.8",
        },
        spot_prices={"c7i.4xlarge/us-east-1a": "0.2100", "c7i.4xlarge/us-east-1b": "0.3300", "*": "0.1"},
    )
    return AwsPrices(aws_session, AwsConfig(), folder=tmp_path, clock=clock)


def asked(way: Way) -> list[str]:
    return [call.operation for call in way.calls]


def deny(way: Way, *operations: str) -> None:
    def plan(call: Call) -> Fault | None:
        return Fault.REFUSED if call.operation in operations else None

    way.take(plan)


def test_list_that_comes_with_kiln_knows_what_the_farm_rents_unless_told_otherwise() -> None:
    config, shipped = Config(), shipped_prices()
    defaults = words(config.aws.instance_types)
    others = (*words(config.workspace.staging_instance_type), config.ami.builder_instance_type, config.ami.gpu_builder_instance_type)
    assert {*defaults, *others} <= shipped.instances.keys()
    assert shipped.instances["c7i.4xlarge"] == Decimal("0.714")
    assert all(Decimal("0.01") < price < 50 for price in shipped.instances.values())
    assert all(Decimal(rate) > 0 for name, rate in shipped.to_dict().items() if name != "instances")


def test_list_that_comes_with_kiln_says_of_when_and_from_where_it_is() -> None:
    raw = json.loads((Path(__file__).parents[2] / "supervisor/cloud/aws/prices.json").read_text())
    assert datetime.fromisoformat(raw["date"]).year >= 2026
    assert "Price List" in raw["source"]
    assert raw["region"] == "us-east-1"


def test_before_anything_was_asked_prices_on_demand_are_known_and_those_of_spot_are_not(prices: AwsPrices, way: Way) -> None:
    assert prices.instance_usd_per_h("c7i.4xlarge", market=ON_DEMAND) == Decimal("0.714")
    assert prices.instance_usd_per_h("c7i.4xlarge", market=SPOT) is None
    assert prices.instance_usd_per_h("c7i.huge", market=ON_DEMAND) is None
    assert prices.stored_usd_per_gib_month() == Decimal("0.023")
    assert asked(way) == []


def test_refreshed_prices_are_those_of_aws(prices: AwsPrices) -> None:
    prices.refresh()
    assert prices.problem == ""
    assert prices.instance_usd_per_h("c7i.4xlarge", market=ON_DEMAND) == Decimal("0.799")
    assert prices.instance_usd_per_h("c7i.4xlarge", market=SPOT, zone="us-east-1a") == Decimal("0.21")
    assert prices.instance_usd_per_h("c7i.4xlarge", market=SPOT) == Decimal("0.33")
    assert prices.instance_usd_per_h("c7i.4xlarge", market=SPOT, zone="us-east-1z") == Decimal("0.33")
    assert prices.instance_types() == ("c7i.4xlarge", "c7a.4xlarge", "c6i.4xlarge", "m7i.4xlarge")


def test_what_is_paid_by_size_is_counted_by_the_month_of_720_hours(prices: AwsPrices) -> None:
    prices.refresh()
    assert prices.root_volume_usd_per_h() == 30 * Decimal("0.088") / 720
    assert prices.volume_usd_per_month(100) == Decimal("8.8")
    assert prices.volume_usd_per_month(100, iops=4000, throughput_mib_s=225) == Decimal("8.8") + 5 + 4
    assert prices.snapshot_usd_per_gib_month() == Decimal("0.05")
    assert prices.stored_usd_per_gib_month() == Decimal("0.023")


def test_the_list_is_asked_for_once_a_day_and_spot_prices_every_few_minutes(prices: AwsPrices, way: Way, clock: Days) -> None:
    prices.refresh()
    assert asked(way) == ["GetProducts"] * 4 + ["DescribeSpotPriceHistory"]
    prices.refresh()
    clock.now += timedelta(minutes=6)
    prices.refresh()
    assert asked(way)[5:] == ["DescribeSpotPriceHistory"]
    clock.now += timedelta(days=1)
    prices.refresh()
    assert asked(way)[6:] == ["GetProducts"] * 4 + ["DescribeSpotPriceHistory"]


def test_the_list_outlives_the_process(prices: AwsPrices, aws_session: AwsSession, tmp_path: Path, clock: Days, way: Way) -> None:
    prices.refresh()
    way.take(nothing)
    restarted = AwsPrices(aws_session, AwsConfig(), folder=tmp_path, clock=clock)
    assert restarted.instance_usd_per_h("c7i.4xlarge", market=ON_DEMAND) == Decimal("0.799")
    restarted.refresh()
    assert asked(way) == ["DescribeSpotPriceHistory"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"at": "yesterday", "prices": {}}', '{"at": "2026-03-01T00:00:00+00:00", "prices": {"a": 1}}']
)
def test_file_that_can_not_be_read_is_made_anew(prices: AwsPrices, aws_session: AwsSession, tmp_path: Path, clock: Days, text: str) -> None:
    (tmp_path / "aws-prices-us-east-1.json").write_text(text)
    restarted = AwsPrices(aws_session, AwsConfig(), folder=tmp_path, clock=clock)
    assert restarted.instance_usd_per_h("c7i.4xlarge", market=ON_DEMAND) == Decimal("0.714")
    restarted.refresh()
    kept = json.loads((tmp_path / "aws-prices-us-east-1.json").read_text())
    assert PriceList.from_dict(kept["prices"]).instances["c7i.4xlarge"] == Decimal("0.799")


def test_type_that_somebody_asks_for_has_its_spot_price_asked_for_next(prices: AwsPrices, way: Way) -> None:
    prices.refresh()
    assert prices.instance_usd_per_h("g6.xlarge", market=SPOT) == Decimal("0.8")
    assert prices.instance_usd_per_h("c7i.huge", market=SPOT) is None
    prices.refresh()
    assert prices.instance_usd_per_h("g6.xlarge", market=SPOT) == Decimal("0.1")
    way.take(nothing)
    prices.refresh()
    assert asked(way) == []


def test_without_an_answer_what_is_at_hand_stands_in_and_aws_is_left_alone_for_a_while(prices: AwsPrices, way: Way, clock: Days) -> None:
    deny(way, "GetProducts", "DescribeSpotPriceHistory")
    prices.refresh()
    assert "prices of us-east-1, as they came with Kiln, stand in" in prices.problem
    assert "kiln aws policy" in prices.problem
    assert prices.instance_usd_per_h("c7i.4xlarge", market=ON_DEMAND) == Decimal("0.714")
    assert prices.instance_usd_per_h("c7i.4xlarge", market=SPOT) == Decimal("0.714")
    way.take(nothing)
    prices.refresh()
    assert asked(way) == []
    clock.now += timedelta(minutes=11)
    prices.refresh()
    assert prices.problem == ""
    assert prices.instance_usd_per_h("c7i.4xlarge", market=SPOT) == Decimal("0.33")


def test_old_prices_stand_in_for_those_that_can_not_be_had(prices: AwsPrices, way: Way, clock: Days) -> None:
    prices.refresh()
    deny(way, "GetProducts", "DescribeSpotPriceHistory")
    clock.now += timedelta(days=2)
    prices.refresh()
    assert "prices of 2026-03-01 stand in" in prices.problem
    assert prices.instance_usd_per_h("c7i.4xlarge", market=ON_DEMAND) == Decimal("0.799")
    assert prices.instance_usd_per_h("c7i.4xlarge", market=SPOT) == Decimal("0.33")
