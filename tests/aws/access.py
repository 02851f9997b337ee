"""Roles that AWS makes for its services, which moto names by their address and makes a second time; and IAM's simulator, which it lacks."""

from __future__ import annotations

from typing import Any

from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult
from moto.iam import models
from moto.iam.models import IAMBackend
from moto.iam.responses import IamResponse

from .patching import Method, mend
from .world import backend_of, world_of


class _Taken(ServiceException):
    code = "InvalidInput"

    def __init__(self, role: str) -> None:
        super().__init__(f"Service role name {role} has been taken in this account, please try a different suffix.")


_DENIED = """<ErrorResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><Error><Type>Sender</Type><Code>AccessDenied</Code>
<Message>User is not authorized to perform: iam:SimulatePrincipalPolicy on resource: {source}</Message></Error></ErrorResponse>"""

_MALFORMED = """<ErrorResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><Error><Type>Sender</Type><Code>InvalidInput</Code>
<Message>Invalid Resource ARN: {resource}</Message></Error></ErrorResponse>"""


def repair() -> None:
    models.SERVICE_NAME_CONVERSION["spot"] = "EC2Spot"
    mend(IAMBackend, "create_service_linked_role", _once)
    # moto has no such action: it finds what it can do by the names of its methods
    setattr(IamResponse, "simulate_principal_policy", simulate_principal_policy)  # noqa: B010


def simulate_principal_policy(self: Any) -> Any:
    world = world_of(backend_of())
    source = self._get_param("PolicySourceArn")
    if not world.may_simulate:
        # raw: the code is in no model of the service, and moto warns of that
        return 403, {"status": 403}, _DENIED.format(source=source)
    malformed = [each for each in self._get_param("ResourceArns") if each != "*" and len(each.split(":", 5)) < 6]
    if malformed:
        return 400, {"status": 400}, _MALFORMED.format(resource=malformed[0])
    results = [
        {
            "EvalActionName": action,
            "EvalResourceName": resource,
            "EvalDecision": "implicitDeny" if action in world.denied else "allowed",
        }
        for action in self._get_param("ActionNames")
        for resource in self._get_param("ResourceArns")
    ]
    return ActionResult({"EvaluationResults": results, "IsTruncated": False})


def _once(original: Method) -> Method:
    def create_service_linked_role(self: Any, service_name: str, description: str, suffix: str) -> Any:
        path = f"/aws-service-role/{service_name}/"
        taken = [role.name for role in self.roles.values() if role.path == path]
        if taken:
            raise _Taken(taken[0])
        return original(self, service_name, description, suffix)

    return create_service_linked_role
