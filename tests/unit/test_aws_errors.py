"""What AWS answers, sorted by what the farm does next."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from supervisor.cloud.aws.errors import error_of, is_absent, is_not_seen_yet
from supervisor.cloud.ports import CloudError, NoCapacity, Refused, Throttled, Unreachable


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("InsufficientInstanceCapacity", NoCapacity, ""),
        ("MaxIOPSLimitExceeded", NoCapacity, ""),
        ("PendingVerification", NoCapacity, "AWS is still looking at this new account"),
        ("RequestLimitExceeded", Throttled, ""),
        ("ConcurrentModification", Throttled, ""),
        ("OperationAborted", Throttled, "repeat this in a minute"),
        ("InternalError", Unreachable, ""),
        ("Blocked", Refused, "AWS has blocked this account"),
        ("UnauthorizedOperation", Refused, "`kiln aws policy`"),
        ("NoSuchEntity", Refused, "IAM needs some seconds"),
        ("InvalidParameterValue", Refused, ""),
    ],
)
def test_each_answer_is_sorted_and_says_what_to_do(code: str, kind: type[CloudError], words: str) -> None:
    found = error_of(code, "can't do it: AWS said so")
    assert type(found) is kind
    assert str(found).startswith(f"can't do it: AWS said so ({code})")
    assert words in str(found)


@pytest.mark.parametrize(
    ("code", "is_gone"),
    [
        ("InvalidFleetId.NotFound", True),
        ("InvalidLaunchTemplateName.NotFoundException", True),
        ("NoSuchEntity", True),
        ("NoSuchResourceException", True),
        ("AccessDenied", False),
        ("ValidationError", False),
    ],
)
def test_what_is_not_there_is_told_from_other_refusals(code: str, is_gone: bool) -> None:
    assert is_absent(ClientError({"Error": {"Code": code, "Message": ""}}, "Any")) is is_gone


@pytest.mark.parametrize(
    ("code", "message", "may_come"),
    [
        (
            "InvalidParameterValue",
            "Value (kiln-f0) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name",
            True,
        ),
        ("InvalidParameterValue", 'IAM Instance Profile "arn:aws:iam::1:instance-profile/kiln-f0" has no associated IAM Roles', True),
        ("InvalidAMIID.NotFound", "The image id '[ami-1]' does not exist", True),
        ("InvalidParameterValue", "Invalid value 'x' for InstanceType", False),
        ("UnauthorizedOperation", "You are not authorized", False),
    ],
)
def test_what_a_part_of_aws_has_not_heard_of_yet_is_told_from_what_is_wrong(code: str, message: str, may_come: bool) -> None:
    assert is_not_seen_yet(code, message) is may_come
