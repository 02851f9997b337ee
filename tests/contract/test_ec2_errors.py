"""What the EC2 adapter sends, and what it makes of what EC2 answers; no EC2 is played here."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber

from supervisor.cloud.aws.batches import in_batches
from supervisor.cloud.aws.listing import Listing
from supervisor.cloud.aws.session import AwsSession
from supervisor.cloud.ports import CloudError, NoCapacity, Refused, Throttled, Unreachable
from supervisor.domain.instance import InstanceStatus, Market
from tests.aws.farm import IDENTITY, SPEC, Renting
from tests.fakes.prices import FakePrices

FILTERS = [
    {"Name": "tag:kiln:farm", "Values": [IDENTITY.farm]},
    {"Name": "tag:kiln:role", "Values": ["render", "pool"]},
]
IDS = [f"i-0000000{number}" for number in range(5)]


class StubbedSession(AwsSession):
    """A session whose client for EC2 answers what a test says."""

    def __init__(self) -> None:
        super().__init__(region="us-east-1")
        keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
        self.ec2 = boto3.session.Session(**keys).client("ec2", region_name="us-east-1")

    def client(self, service: str, *, region: str = "", endpoint: str = "") -> Any:
        assert service == "ec2"
        return self.ec2


@pytest.fixture
def session() -> StubbedSession:
    return StubbedSession()


@pytest.fixture
def stubber(session: StubbedSession) -> Iterator[Stubber]:
    with Stubber(session.ec2) as stub:
        yield stub
        stub.assert_no_pending_responses()


def an_instance(id: str, *, state: str = "running", **more: Any) -> dict[str, Any]:
    return {
        "InstanceId": id,
        "InstanceType": "c7i.4xlarge",
        "State": {"Name": state},
        "LaunchTime": datetime(2026, 1, 1, tzinfo=UTC),
        "Placement": {"AvailabilityZone": "us-east-1a"},
        **more,
    }


def listing(session: StubbedSession) -> Listing:
    return Listing(session, IDENTITY.farm, FakePrices(), believed_s=0)


def test_description_is_asked_for_by_tags_page_by_page(session: StubbedSession, stubber: Stubber) -> None:
    first = {"Reservations": [{"Instances": [an_instance(IDS[0])]}], "NextToken": "more"}
    second = {"Reservations": [{"Instances": [an_instance(IDS[1])]}, {"Instances": [an_instance(IDS[2])]}]}
    stubber.add_response("describe_instances", first, {"Filters": FILTERS, "MaxResults": 1000})
    stubber.add_response("describe_instances", second, {"Filters": FILTERS, "MaxResults": 1000, "NextToken": "more"})
    assert [each.instance.id for each in listing(session).all()] == IDS[:3]


@pytest.mark.parametrize(
    ("code", "message", "note", "was_interrupted"),
    [
        ("Server.SpotInstanceTermination", "Server.SpotInstanceTermination: Spot …", "AWS took the spot instance back", True),
        ("Server.SpotInstanceShutdown", "", "AWS took the spot instance back", True),
        ("Server.InsufficientInstanceCapacity", "", "there was no capacity left to launch it", False),
        ("Client.VolumeLimitExceeded", "", "it could not start: the account's quota of EBS volumes is used up", False),
        ("Client.SomethingNew", "Client.SomethingNew: what it is", "what it is", False),
        ("", "", "", False),
    ],
)
def test_reason_of_the_end_is_told_in_words(
    session: StubbedSession, stubber: Stubber, code: str, message: str, note: str, was_interrupted: bool
) -> None:
    shown = an_instance(IDS[0], state="terminated", StateReason={"Code": code, "Message": message}, InstanceLifecycle="spot")
    stubber.add_response("describe_instances", {"Reservations": [{"Instances": [shown]}]}, {"Filters": ANY, "MaxResults": 1000})
    [instance] = [each.instance for each in listing(session).all()]
    assert (instance.status, instance.market, instance.price_usd_per_h) == (InstanceStatus.TERMINATED, Market.SPOT, Decimal(0))
    assert (instance.note, instance.was_interrupted) == (note, was_interrupted)


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("RequestLimitExceeded", 503, Throttled),
        ("InternalError", 500, Unreachable),
        ("Unavailable", 503, Unreachable),
        ("UnauthorizedOperation", 403, Refused),
        ("AuthFailure", 401, Refused),
        ("InsufficientInstanceCapacity", 500, NoCapacity),
    ],
)
def test_answer_is_sorted_by_what_the_caller_does_next(
    session: StubbedSession, stubber: Stubber, code: str, status: int, expected: type[CloudError]
) -> None:
    stubber.add_client_error("describe_instances", service_error_code=code, service_message="no", http_status_code=status)
    with pytest.raises(expected, match="can't look at the farm's instances: no"):
        listing(session).all()


def test_call_goes_on_without_the_ids_that_the_answer_names(session: StubbedSession, stubber: Stubber) -> None:
    text = f"The instance IDs '{IDS[1]}, {IDS[3]}' do not exist"
    stubber.add_client_error(
        "terminate_instances",
        service_error_code="InvalidInstanceID.NotFound",
        service_message=text,
        expected_params={"InstanceIds": IDS},
    )
    stubber.add_response("terminate_instances", {}, {"InstanceIds": [IDS[0], IDS[2], IDS[4]]})
    assert in_batches(session.ec2.terminate_instances, [*IDS, "local_1", IDS[0]]).keys() == {IDS[1], IDS[3]}


def test_answer_that_names_none_is_narrowed_down_by_halves(session: StubbedSession, stubber: Stubber) -> None:
    def refused(ids: list[str]) -> None:
        stubber.add_client_error(
            "stop_instances", service_error_code="IncorrectInstanceState", service_message="no", expected_params={"InstanceIds": ids}
        )

    refused(IDS[:4])
    stubber.add_response("stop_instances", {}, {"InstanceIds": IDS[:2]})
    refused(IDS[2:4])
    refused(IDS[2:3])
    stubber.add_response("stop_instances", {}, {"InstanceIds": IDS[3:4]})
    left_out = in_batches(session.ec2.stop_instances, IDS[:4], spared=frozenset({"IncorrectInstanceState"}))
    assert left_out == {IDS[2]: "IncorrectInstanceState"}


def test_many_ids_go_in_calls_of_a_hundred(session: StubbedSession, stubber: Stubber) -> None:
    many = [f"i-{number:08x}" for number in range(250)]
    for part in (many[:100], many[100:200], many[200:]):
        stubber.add_response("terminate_instances", {}, {"InstanceIds": part})
    assert in_batches(session.ec2.terminate_instances, many) == {}


def test_end_that_ec2_does_not_permit_is_refused(session: StubbedSession, stubber: Stubber) -> None:
    stubber.add_client_error("terminate_instances", service_error_code="OperationNotPermitted", service_message="it is protected")
    with pytest.raises(Refused, match="can't end instances: it is protected"):
        Renting(session).compute.terminate(IDS)


def test_stopping_what_ec2_can_only_end_ends_it(session: StubbedSession, stubber: Stubber) -> None:
    shown = {"Reservations": [{"Instances": [an_instance(IDS[0]), an_instance(IDS[1])]}]}
    stubber.add_response("describe_instances", shown, {"Filters": ANY, "MaxResults": 1000})
    stubber.add_client_error(
        "stop_instances",
        service_error_code="UnsupportedOperation",
        service_message=f"The instance '{IDS[0]}' does not have an 'ebs' root device type and cannot be stopped",
    )
    stubber.add_response("stop_instances", {}, {"InstanceIds": [IDS[1]]})
    stubber.add_response("terminate_instances", {}, {"InstanceIds": [IDS[0]]})
    Renting(session).compute.stop(IDS[:2])


def test_launch_of_a_farm_without_rights_is_refused_with_a_remedy(session: StubbedSession, stubber: Stubber) -> None:
    none: dict[str, Any] = {"Reservations": []}
    stubber.add_response("describe_instances", none, {"Filters": ANY, "MaxResults": 1000})
    stubber.add_response("describe_instances", none, {"Filters": ANY, "MaxResults": 1000})
    stubber.add_client_error("describe_instance_types", service_error_code="UnauthorizedOperation", http_status_code=403)
    with pytest.raises(Refused, match="kiln aws policy"):
        Renting(session).compute.launch(SPEC, request_id="launch_1")
