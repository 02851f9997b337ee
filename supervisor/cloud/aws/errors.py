"""What boto3 raises, as the ports' errors: sorted by what the caller does next."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError, PartialCredentialsError
from urllib3.exceptions import HTTPError

from supervisor.cloud.ports import SIGN_IN, SIGNED_OUT, CloudError, NoCapacity, Refused, SignedOut, Throttled, Unreachable

#: There is nothing of the kind to rent now. Quotas too: they are free again when other jobs end, and the doctor tells of those that are 0.
NO_CAPACITY_CODES = frozenset(
    {
        "InsufficientInstanceCapacity",
        "InsufficientHostCapacity",
        "InsufficientReservedInstanceCapacity",
        "InsufficientAddressCapacity",
        "InsufficientFreeAddressesInSubnet",
        "InsufficientVolumeCapacity",
        "InstanceLimitExceeded",
        "MaxIOPSLimitExceeded",
        "MaxSpotInstanceCountExceeded",
        "PendingVerification",
        "ReservationCapacityExceeded",
        "SpotMaxPriceTooLow",
        "UnfulfillableCapacity",
        "VcpuLimitExceeded",
        "VolumeLimitExceeded",
        "SnapshotLimitExceeded",
        "PendingSnapshotLimitExceeded",
        "ConcurrentSnapshotLimitExceeded",
    }
)
THROTTLED_CODES = frozenset(
    {
        "BandwidthLimitExceeded",
        "ConcurrentModification",
        "ConcurrentModificationException",
        "EC2ThrottledException",
        "OperationAborted",
        "PriorRequestNotComplete",
        "ResourceContention",
        "ScalingActivityInProgress",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SnapshotCreationPerVolumeRateExceeded",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "TooManyRequestsException",
    }
)
#: What a person does about an answer that AWS will give again and again.
_REMEDIES = {
    "AccessDenied": "the farm's keys may not do this: compare their policy with what `kiln aws policy` prints",
    "AccessDeniedException": "the farm's keys may not do this: compare their policy with what `kiln aws policy` prints",
    "UnauthorizedOperation": "the farm's keys may not do this: compare their policy with what `kiln aws policy` prints",
    "AuthFailure": "AWS does not accept the farm's keys: an administrator gives new ones on the AWS page",
    "InvalidAccessKeyId": "AWS does not know the farm's keys (any more): an administrator gives new ones on the AWS page",
    "InvalidClientTokenId": "AWS does not know the farm's keys (any more): an administrator gives new ones on the AWS page",
    "UnrecognizedClientException": "AWS does not know the farm's keys (any more): an administrator gives new ones on the AWS page",
    "SignatureDoesNotMatch": "the secret key is wrong, or this machine's clock is",
    "ExpiredToken": "the credentials have run out: sign in again, or give the farm keys that last",
    "RequestExpired": "this machine's clock is wrong, or the credentials have run out",
    "PendingVerification": "AWS is still looking at this new account, which takes minutes to some hours; the farm asks again",
    "Blocked": "AWS has blocked this account: see the mails and the support cases of whoever owns it",
    "NoSuchEntity": "where it was made a moment ago, IAM needs some seconds to know it: repeat this",
    "InvalidGroup.NotFound": "where it was made a moment ago, EC2 needs some seconds to know it: repeat this",
    "OperationAborted": "S3 is still at something else with this bucket: repeat this in a minute",
    "OptInRequired": "the account has not signed up for this service yet: open it in the AWS console once",
    "AuthFailure.ServiceLinkedRoleCreationNotPermitted": "the account has no role for spot instances yet: `kiln aws setup` makes it",
}
#: A launch names something that was made a moment ago, and the part of AWS that is asked has not heard of it; or that is gone since the
#: farm looked. IAM's news take seconds, two minutes at times. Source: IAM user guide, troubleshooting ("changes that I make are not always
#: immediately visible"); EC2 API reference, eventual consistency; as of 2026-01
NOT_SEEN_YET_CODES = frozenset(
    {
        "InvalidAMIID.NotFound",
        "InvalidAMIID.Unavailable",
        "InvalidGroup.NotFound",
        "InvalidSecurityGroupID.NotFound",
        "InvalidSnapshot.NotFound",
        "InvalidSubnetID.NotFound",
    }
)
#: The same of an instance profile, for which EC2 has no code but InvalidParameterValue.
_PROFILE_NOT_SEEN = re.compile(r"Invalid IAM Instance Profile|has no associated IAM Roles", re.IGNORECASE)
#: What was made is seen everywhere within this time; what is named later and not found is not there.
SEEN_WITHIN_S = 180.0
#: The keys may not do it.
DENIED_CODES = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "UnauthorizedException"})
UNREACHABLE_CODES = frozenset(
    {"InternalError", "InternalFailure", "InternalServerError", "ServiceUnavailable", "Unavailable", "RequestTimeout"}
)


def error_code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


_ABSENT = frozenset(
    {
        "404",
        "InvalidLaunchTemplateId.NotFound",
        "NoSuchBucket",
        "NoSuchEntity",
        "NoSuchEntityException",
        "NoSuchKey",
        "NoSuchResourceException",  # Service Quotas: the account has no value of its own
    }
)


def is_absent(error: ClientError) -> bool:
    """Say whether the answer is that there is no such thing (any more, or not to be seen yet)."""
    code = error_code(error)
    return code in _ABSENT or code.endswith((".NotFound", ".NotFoundException", "NotFoundException"))


def is_not_seen_yet(code: str, message: str) -> bool:
    """Say whether a launch is refused for something that may be known a moment later: asking again may help."""
    return code in NOT_SEEN_YET_CODES or bool(_PROFILE_NOT_SEEN.search(message))


def error_message(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Message", ""))


@contextmanager
def suppress_absent() -> Iterator[None]:
    """Take the answer that there is no such thing for done: what was to be removed is gone."""
    try:
        yield
    except ClientError as error:
        if not is_absent(error):
            raise


@contextmanager
def aws_errors(what: str) -> Iterator[None]:
    """Turn what boto3 raises into a CloudError whose message begins with `what` was attempted, such as `launch 2 instances for job_1`.

    Errors:  NoCapacity, Throttled, Unreachable, Refused - as `cloud.ports` sorts them
    """
    try:
        yield
    except ClientError as error:
        raise sorted_error(what, error) from error
    except NoCredentialsError as error:
        raise SignedOut(f"can't {what}: {SIGNED_OUT}; {SIGN_IN}") from error
    except (ParamValidationError, PartialCredentialsError) as error:
        raise Refused(f"can't {what}: {error}") from error
    except (BotoCoreError, HTTPError, ConnectionError, TimeoutError) as error:
        raise Unreachable(f"can't {what}: {error}") from error


def sorted_error(what: str, error: ClientError) -> CloudError:
    """Sort an answer of AWS. Source: EC2 API reference, error codes, as of 2026-01"""
    return error_of(error_code(error), f"can't {what}: {error_message(error) or 'AWS refused'}", status=_status(error))


def error_of(code: str, text: str, *, status: int = 400) -> CloudError:
    """Sort an error by its code: of an answer, or of a part of one (a fleet tells its errors one by one)."""
    # EC2 adds a message that only an administrator with tools can decode, of a thousand characters.
    said = f"{text.partition(' Encoded authorization failure message')[0]} ({code})"
    if code in _REMEDIES:
        said += f"; {_REMEDIES[code]}"
    if code in NO_CAPACITY_CODES:
        return NoCapacity(said)
    if code in THROTTLED_CODES or status == 429:
        return Throttled(said)
    if code in UNREACHABLE_CODES or status >= 500:
        return Unreachable(said)
    return Refused(said)


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
