"""Roles that AWS makes for its services: moto names the one for spot by its address, and makes it a second time."""

from __future__ import annotations

from typing import Any

from moto.core.exceptions import ServiceException
from moto.iam import models
from moto.iam.models import IAMBackend

from .patching import Method, mend


class _Taken(ServiceException):
    code = "InvalidInput"

    def __init__(self, role: str) -> None:
        super().__init__(f"Service role name {role} has been taken in this account, please try a different suffix.")


def repair() -> None:
    models.SERVICE_NAME_CONVERSION["spot"] = "EC2Spot"
    mend(IAMBackend, "create_service_linked_role", _once)


def _once(original: Method) -> Method:
    def create_service_linked_role(self: Any, service_name: str, description: str, suffix: str) -> Any:
        path = f"/aws-service-role/{service_name}/"
        taken = [role.name for role in self.roles.values() if role.path == path]
        if taken:
            raise _Taken(taken[0])
        return original(self, service_name, description, suffix)

    return create_service_linked_role
