"""What AWS says that things cost: a region's price list, spot prices; and the list that comes with Kiln for when AWS can't be asked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from .errors import aws_errors
from .session import PRICING_REGION, AwsSession

_SHIPPED = Path(__file__).with_name("prices.json")
#: Linux on shared hardware, without software that costs extra, as it is billed when an instance runs.
_LINUX = {
    "productFamily": "Compute Instance",
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
    "marketoption": "OnDemand",
}
_PAGE = 100
#: How EC2 calls Linux in the history of spot prices.
_SPOT_PRODUCT = "Linux/UNIX"

#: (type, zone) -> dollars an hour
SpotPrices = Mapping[tuple[str, str], Decimal]


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceList:
    """Prices of one region, in dollars. A month is what AWS makes of it: 30 days."""

    instances: Mapping[str, Decimal]  #: type -> an hour on demand
    gp3_usd_per_gib_month: Decimal
    gp3_usd_per_iops_month: Decimal  #: of those beyond 3,000
    gp3_usd_per_mib_s_month: Decimal  #: of those beyond 125
    snapshot_usd_per_gib_month: Decimal
    stored_usd_per_gib_month: Decimal  #: S3 Standard, its dearest tier

    def to_dict(self) -> dict[str, Any]:
        rates = {name: str(getattr(self, name)) for name in _RATES}
        return {**rates, "instances": {name: str(price) for name, price in self.instances.items()}}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> PriceList:
        """Errors: KeyError, TypeError, ValueError, AttributeError - it is no price list"""
        try:
            rates = {name: Decimal(raw[name]) for name in _RATES}
            return cls(instances={name: Decimal(price) for name, price in raw["instances"].items()}, **rates)
        except InvalidOperation as error:
            raise ValueError("a price is no number") from error


_RATES = tuple(each.name for each in fields(PriceList) if each.name != "instances")


def shipped_prices() -> PriceList:
    """The list that comes with Kiln: of us-east-1, at the date that is in the file."""
    return PriceList.from_dict(json.loads(_SHIPPED.read_text()))


def ask_prices(session: AwsSession, *, otherwise: PriceList) -> PriceList:
    """Ask for the prices of the session's region: about a dozen calls, some seconds.

    Shape:   otherwise: stands for single rates that AWS's list does not tell
    Errors:  Refused, Throttled, Unreachable
    """
    with aws_errors("ask for AWS's price list"):
        instances = {product.instance_type: product.usd for product in _products(session, "AmazonEC2", _LINUX) if product.instance_type}
        gp3 = list(_products(session, "AmazonEC2", {"volumeApiName": "gp3"}))
        snapshots = list(_products(session, "AmazonEC2", {"productFamily": "Storage Snapshot"}))
        stored = list(_products(session, "AmazonS3", {"volumeType": "Standard", "storageClass": "General Purpose"}))
    return PriceList(
        instances=instances or otherwise.instances,
        gp3_usd_per_gib_month=_rate(gp3, "EBS:VolumeUsage.gp3") or otherwise.gp3_usd_per_gib_month,
        gp3_usd_per_iops_month=_rate(gp3, "EBS:VolumeP-IOPS.gp3") or otherwise.gp3_usd_per_iops_month,
        gp3_usd_per_mib_s_month=_rate(gp3, "EBS:VolumeP-Throughput.gp3") or otherwise.gp3_usd_per_mib_s_month,
        snapshot_usd_per_gib_month=_rate(snapshots, "EBS:SnapshotUsage") or otherwise.snapshot_usd_per_gib_month,
        stored_usd_per_gib_month=_rate(stored, "TimedStorage-ByteHrs") or otherwise.stored_usd_per_gib_month,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Product:
    """Something on the price list, with the price of its first unit on demand: what is stored first costs most."""

    instance_type: str  #: empty: it is no instance
    usage: str  #: usage type; outside of us-east-1 it begins with the region's short name
    usd: Decimal


def _products(session: AwsSession, service: str, wanted: Mapping[str, str]) -> Iterator[_Product]:
    """Ask for those products of a service that cost something."""
    filters = [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in {**wanted, "regionCode": session.region}.items()]
    client = session.client("pricing", region=PRICING_REGION)
    for page in client.get_paginator("get_products").paginate(ServiceCode=service, Filters=filters, PaginationConfig={"PageSize": _PAGE}):
        for text in page["PriceList"]:
            entry = json.loads(text)
            attributes = entry["product"]["attributes"]
            usd = _first_price(entry.get("terms", {}).get("OnDemand", {}).values())
            if usd:
                yield _Product(instance_type=attributes.get("instanceType", ""), usage=attributes.get("usagetype", ""), usd=usd)


def _first_price(terms: Iterable[Mapping[str, Any]]) -> Decimal | None:
    dimensions = [dimension for term in terms for dimension in term["priceDimensions"].values()]
    first = min(dimensions, key=lambda dimension: float(dimension.get("beginRange") or 0), default=None)
    if first is None or "USD" not in first["pricePerUnit"]:
        return None
    usd = Decimal(first["pricePerUnit"]["USD"])
    # the list counts throughput in GiB/s
    return (usd / 1024 if first.get("unit", "").startswith("GiBps") else usd).normalize()


def _rate(products: Sequence[_Product], usage: str) -> Decimal | None:
    """The rate of a usage type, such as `EBS:SnapshotUsage`, elsewhere `EUC1-EBS:SnapshotUsage`."""
    found = (product.usd for product in products if product.usage == usage or product.usage.endswith(f"-{usage}"))
    return next(found, None)


def ask_spot_prices(session: AwsSession, types: Sequence[str], *, now: datetime) -> SpotPrices:
    """Ask for the spot prices at present of types that exist. Errors: Refused, Throttled, Unreachable"""
    newest: dict[tuple[str, str], tuple[datetime, Decimal]] = {}
    with aws_errors("ask for spot prices"):
        pages = session.client("ec2").get_paginator("describe_spot_price_history")
        for page in pages.paginate(InstanceTypes=list(types), ProductDescriptions=[_SPOT_PRODUCT], StartTime=now):
            for each in page["SpotPriceHistory"]:
                pool = (each["InstanceType"], each["AvailabilityZone"])
                if pool not in newest or each["Timestamp"] > newest[pool][0]:
                    newest[pool] = (each["Timestamp"], Decimal(each["SpotPrice"]).normalize())
    return {pool: price for pool, (_, price) in newest.items()}
