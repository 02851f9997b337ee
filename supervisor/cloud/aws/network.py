"""Where instances stand: the subnets, and the security group that lets nothing in and little out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from supervisor.cloud.ports import Refused, Removal, RemovalState, SetupStep, StepState

from .errors import aws_errors, error_code, is_absent
from .identity import FARM_TAG, Identity, tag_list, tags_of
from .session import AwsSession

#: HTTPS for S3, EC2's own services and Blender's mirror; HTTP for Debian's packages, which bear signatures, while an image is built. Names,
#: time and instance metadata need no rule: security groups do not filter what goes to Amazon's own DNS, clock and metadata.
_PORTS_OUT = (443, 80)
_ANYWHERE = ("0.0.0.0/0", "::/0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subnet:
    """A subnet that instances are launched into."""

    id: str
    zone: str
    vpc: str
    free_addresses: int = 0  #: when it was looked at


@dataclass(frozen=True, slots=True, order=True)
class Rule:
    """What may pass a security group in one direction."""

    protocol: str  #: tcp, udp, …; -1: any
    first_port: int
    last_port: int
    to: str  #: addresses, or the id of a group or prefix list


#: What EC2 lets out of a new group; to IPv6 addresses where the network has some.
_EVERYTHING_OUT = frozenset(Rule("-1", -1, -1, to) for to in _ANYWHERE)


def find_subnets(session: AwsSession, names: Sequence[str]) -> tuple[Subnet, ...]:
    """The subnets by these names; without names, the region's default ones.

    Errors:  Refused - there are none, or they lie in several networks; Throttled, Unreachable
    """
    chosen = {"SubnetIds": list(names)} if names else {"Filters": [{"Name": "default-for-az", "Values": ["true"]}]}
    with aws_errors("look for the subnets"):
        pages = session.client("ec2").get_paginator("describe_subnets").paginate(**chosen)
        shown = [_subnet(each) for page in pages for each in page["Subnets"]]
    # A local zone has prices and types of its own: it is used where it is named alone.
    found = shown if names else [subnet for subnet in shown if is_zone_of(session.region, subnet.zone)]
    if not found:
        raise Refused(
            f"the account has no default subnets in {session.region}: name subnets of yours in [aws] subnets, "
            "or make the default network anew with `aws ec2 create-default-vpc`"
        )
    if len({subnet.vpc for subnet in found}) > 1:
        raise Refused("the subnets in [aws] subnets lie in several networks (VPCs): name subnets of one of them")
    return tuple(sorted(found, key=lambda subnet: (subnet.zone, subnet.id)))


def _subnet(shown: Mapping[str, Any]) -> Subnet:
    return Subnet(
        id=shown["SubnetId"], zone=shown["AvailabilityZone"], vpc=shown["VpcId"], free_addresses=shown.get("AvailableIpAddressCount", 0)
    )


def is_zone_of(region: str, zone: str) -> bool:
    """Say whether a zone is the region's own, such as us-east-1a: no local zone (us-east-1-bos-1a), none at a telephone company's."""
    return zone[:-1] == region


def one_in_each_zone(subnets: Iterable[Subnet]) -> tuple[Subnet, ...]:
    """Of the subnets of a zone that with most room: EC2 takes a type in a zone once in a fleet (InvalidFleetConfig: duplicate pools)."""
    best: dict[str, Subnet] = {}
    for subnet in subnets:
        if subnet.zone not in best or subnet.free_addresses > best[subnet.zone].free_addresses:
            best[subnet.zone] = subnet
    return tuple(best.values())


class SecurityGroup:
    """The farm's security group: looked at, made, removed."""

    def __init__(self, session: AwsSession, identity: Identity, *, subnets: Sequence[str], addresses: Sequence[str]) -> None:
        """Shape:   addresses: URLs that instances must reach, beside what every instance does"""
        self._session = session
        self._identity = identity
        self._subnets = subnets
        self._addresses = addresses
        self._id = ""  #: of the one made just now: a listing may not show it yet
        self.title = f"security group {identity.name}"

    @property
    def _ec2(self) -> Any:
        return self._session.client("ec2")

    @property
    def wanted(self) -> frozenset[Rule]:
        """What may go out. Nothing may come in."""
        ports = {*_PORTS_OUT, *(port for address in self._addresses if (port := urlsplit(address).port))}
        return frozenset(Rule("tcp", port, port, to) for port in ports for to in _ANYWHERE)

    def id(self) -> str | None:
        """Returns: None if there is none. Errors: CloudError"""
        if self._id:
            return self._id
        found = self._find(find_subnets(self._session, self._subnets)[0].vpc)
        return str(found["GroupId"]) if found else None

    def look(self) -> SetupStep:
        """See what is so. Errors: Throttled, Unreachable, Refused"""
        try:
            found = self._find(find_subnets(self._session, self._subnets)[0].vpc)
        except Refused as error:
            return SetupStep(name=self.title, state=StepState.BLOCKED, text=str(error))
        ports = " and ".join(str(port) for port in sorted({rule.first_port for rule in self.wanted}))
        if found is None:
            return SetupStep(name=self.title, state=StepState.ABSENT, text=f"nothing may come in, TCP to ports {ports} may go out")
        if tags_of(found).get(FARM_TAG) != self._identity.farm:
            text = "there is one of that name that is not this farm's: rename or delete it"
            return SetupStep(name=self.title, state=StepState.BLOCKED, text=text)
        if _rules(found["IpPermissions"]) or _rules(found["IpPermissionsEgress"]) != self.wanted:
            return SetupStep(name=self.title, state=StepState.DIFFERS, text=f"let nothing in, and TCP to ports {ports} out")
        return SetupStep(name=self.title, state=StepState.READY, text=f"lets nothing in, and TCP to ports {ports} out")

    def make(self) -> None:
        """Make it as wished. Repeat: safe. Errors: CloudError"""
        vpc = find_subnets(self._session, self._subnets)[0].vpc
        found = self._find(vpc)
        with aws_errors(f"make {self.title}"):
            if found is None:
                self._id = self._create(vpc)
                self._change(self._id, out=_EVERYTHING_OUT)
            else:
                self._id = str(found["GroupId"])
                self._change(self._id, out=_rules(found["IpPermissionsEgress"]), within=_rules(found["IpPermissions"]))

    def _change(self, group: str, *, out: frozenset[Rule], within: frozenset[Rule] = frozenset()) -> None:
        """Shape:   out, within: what may go out and come in at present"""
        for rule in sorted(self.wanted - out):
            with _unless("InvalidPermission.Duplicate"):
                self._ec2.authorize_security_group_egress(GroupId=group, IpPermissions=[_permission(rule)])
        for rule in sorted(out - self.wanted):
            with _unless("InvalidPermission.NotFound"):
                self._ec2.revoke_security_group_egress(GroupId=group, IpPermissions=[_permission(rule)])
        for rule in sorted(within):
            with _unless("InvalidPermission.NotFound"):
                self._ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=[_permission(rule)])

    def _find(self, vpc: str) -> Mapping[str, Any] | None:
        filters = [{"Name": "group-name", "Values": [self._identity.name]}, {"Name": "vpc-id", "Values": [vpc]}]
        with aws_errors(f"look for {self.title}"):
            found = self._ec2.describe_security_groups(Filters=filters)["SecurityGroups"]
        return found[0] if found else None

    def _create(self, vpc: str) -> str:
        tags = [{"ResourceType": "security-group", "Tags": tag_list({FARM_TAG: self._identity.farm, "Name": self._identity.name})}]
        text = "Instances of the render farm: nothing comes in"
        try:
            made = self._ec2.create_security_group(GroupName=self._identity.name, Description=text, VpcId=vpc, TagSpecifications=tags)
        except ClientError as error:
            # made a moment ago: by a call whose answer was lost, or a run that broke off
            there = self._find(vpc) if error_code(error) == "InvalidGroup.Duplicate" else None
            if there is None:
                raise
            return str(there["GroupId"])
        return str(made["GroupId"])

    def remove(self, *, dry_run: bool) -> Removal | None:
        """Delete the farm's groups, in whichever network. Returns: None if there are none. Errors: CloudError"""
        filters = [
            {"Name": "group-name", "Values": [self._identity.name]},
            {"Name": f"tag:{FARM_TAG}", "Values": [self._identity.farm]},
        ]
        with aws_errors(f"delete {self.title}"):
            groups = [group["GroupId"] for group in self._ec2.describe_security_groups(Filters=filters)["SecurityGroups"]]
            if not groups:
                return None
            if not dry_run and not all([self._delete(group) for group in groups]):
                text = "something still uses it, perhaps an instance that ended just now: repeat this in a few minutes"
                return Removal(name=self.title, state=RemovalState.STAYS, text=text)
        return Removal(name=self.title, state=RemovalState.REMOVED)

    def _delete(self, group: str) -> bool:
        """Returns: False: something uses it"""
        try:
            self._ec2.delete_security_group(GroupId=group)
        except ClientError as error:
            if error_code(error) == "DependencyViolation":
                return False
            if not is_absent(error):
                raise
        return True


def _rules(permissions: Iterable[Mapping[str, Any]]) -> frozenset[Rule]:
    found = set()
    for each in permissions:
        to = [
            *(entry["CidrIp"] for entry in each.get("IpRanges", ())),
            *(entry["CidrIpv6"] for entry in each.get("Ipv6Ranges", ())),
            *(entry["PrefixListId"] for entry in each.get("PrefixListIds", ())),
            *(entry["GroupId"] for entry in each.get("UserIdGroupPairs", ())),
        ]
        found |= {Rule(each["IpProtocol"], each.get("FromPort", -1), each.get("ToPort", -1), where) for where in to}
    return frozenset(found)


def _permission(rule: Rule) -> dict[str, object]:
    ports = {} if rule.protocol == "-1" else {"FromPort": rule.first_port, "ToPort": rule.last_port}
    return {"IpProtocol": rule.protocol, **ports, **_range(rule.to)}


def _range(to: str) -> dict[str, object]:
    if to.startswith("pl-"):
        return {"PrefixListIds": [{"PrefixListId": to}]}
    if to.startswith("sg-"):
        return {"UserIdGroupPairs": [{"GroupId": to}]}
    return {"Ipv6Ranges": [{"CidrIpv6": to}]} if ":" in to else {"IpRanges": [{"CidrIp": to}]}


@contextmanager
def _unless(expected: str) -> Iterator[None]:
    """Let one answer of EC2 pass: what was asked for is so already."""
    try:
        yield
    except ClientError as error:
        if error_code(error) != expected:
            raise
