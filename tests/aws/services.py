"""Services that moto lacks, as far as the farm asks them: Pricing and Service Quotas."""

from __future__ import annotations

import json
from typing import Any

from .world import REGION, World, backend_of, world_of

#: What a new account may run, by the codes of the quotas. Source: AWS, EC2 quotas, 2026-01
NEW_ACCOUNT = {
    "L-1216C47A": ("Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances", 5.0),
    "L-34B43A08": ("All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests", 5.0),
    "L-DB2E81BA": ("Running On-Demand G and VT instances", 0.0),
    "L-3819A6DF": ("All G and VT Spot Instance Requests", 0.0),
}
_LINUX = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
    "marketoption": "OnDemand",
    "licenseModel": "No License required",
}
#: What costs by its size: service, attributes, family, unit, dollars.
_STORED = (
    ("AmazonEC2", {"volumeApiName": "gp3", "usagetype": "EBS:VolumeUsage.gp3"}, "Storage", "GB-Mo", "0.0880000000"),
    ("AmazonEC2", {"volumeApiName": "gp3", "usagetype": "EBS:VolumeP-IOPS.gp3"}, "System Operation", "IOPS-Mo", "0.0050000000"),
    ("AmazonEC2", {"volumeApiName": "gp3", "usagetype": "EBS:VolumeP-Throughput.gp3"}, "Provisioned Throughput", "GiBps-mo", "40.96"),
    ("AmazonEC2", {"usagetype": "EBS:SnapshotArchiveStorage"}, "Storage Snapshot", "GB-Mo", "0.0125000000"),
    ("AmazonEC2", {"usagetype": "EBS:SnapshotUsage"}, "Storage Snapshot", "GB-Mo", "0.0500000000"),
    (
        "AmazonS3",
        {"volumeType": "Standard", "storageClass": "General Purpose", "usagetype": "TimedStorage-ByteHrs"},
        "Storage",
        "GB-Mo",
        "0.023",
    ),
)
_PAGE = 100


class Unknown(Exception):
    """There is no such thing: a code of AWS and a text."""


def answer(target: str, asked: dict[str, Any]) -> dict[str, Any] | None:
    """Answer a call by its `X-Amz-Target`. Returns: None if it is not ours to answer. Errors: Unknown"""
    world = world_of(backend_of())
    service, _, action = target.partition(".")
    if service == "AWSPriceListService" and action == "GetProducts":
        return _products(world, asked)
    if service == "ServiceQuotasV20190624" and action in {"GetServiceQuota", "GetAWSDefaultServiceQuota"}:
        return {"Quota": _quota(world, asked["QuotaCode"], is_default=action != "GetServiceQuota")}
    if service == "ServiceQuotasV20190624" and action in {"ListServiceQuotas", "ListAWSDefaultServiceQuotas"}:
        return {"Quotas": [_quota(world, code, is_default=action != "ListServiceQuotas") for code in NEW_ACCOUNT]}
    return None


def _quota(world: World, code: str, *, is_default: bool) -> dict[str, Any]:
    if code not in NEW_ACCOUNT:
        raise Unknown("NoSuchResourceException", f"The request failed because there is no quota {code}.")
    if not is_default and code in world.unapplied_quotas:
        raise Unknown("NoSuchResourceException", f"The request failed because the account has no value of its own for the quota {code}.")
    name, value = NEW_ACCOUNT[code]
    now = value if is_default else world.quotas.get(code, value)
    return {"ServiceCode": "ec2", "QuotaCode": code, "QuotaName": name, "Value": now, "Adjustable": True, "GlobalQuota": False}


def _products(world: World, asked: dict[str, Any]) -> dict[str, Any]:
    instances = [
        ("AmazonEC2", {**_LINUX, "instanceType": name, "usagetype": f"BoxUsage:{name}"}, "Compute Instance", "Hrs", price)
        for name, price in world.on_demand_prices.items()
    ]
    wanted = {each["Field"]: each["Value"] for each in asked.get("Filters", [])}
    found = [
        _product({**attributes, "regionCode": REGION}, family, unit, price)
        for service, attributes, family, unit, price in [*instances, *_STORED]
        if service == asked["ServiceCode"] and wanted.items() <= {**attributes, "productFamily": family, "regionCode": REGION}.items()
    ]
    first = int(asked.get("NextToken") or 0)
    page = {"FormatVersion": "aws_v1", "PriceList": [json.dumps(each) for each in found[first : first + _PAGE]]}
    return {**page, "NextToken": str(first + _PAGE)} if len(found) > first + _PAGE else page


def _product(attributes: dict[str, str], family: str, unit: str, price: str) -> dict[str, Any]:
    """A product as the price list tells of it: with tiers, the cheapest first where there are some."""
    tiers = [("51200", "Inf", f"{float(price) * 0.9:.10f}"), ("0", "51200", price)] if family == "Storage" else [("0", "Inf", price)]
    dimensions = {
        f"SKU.JRTCKXETXF.{number}": {"unit": unit, "beginRange": begin, "endRange": end, "pricePerUnit": {"USD": usd}}
        for number, (begin, end, usd) in enumerate(tiers)
    }
    return {
        "product": {"productFamily": family, "attributes": attributes, "sku": "SKU"},
        "serviceCode": "AmazonEC2",
        "terms": {"OnDemand": {"SKU.JRTCKXETXF": {"priceDimensions": dimensions}}},
    }
