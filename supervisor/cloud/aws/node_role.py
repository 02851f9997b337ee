"""What instances may do: their role with its policy, the instance profile that gives it to them; and the roles of AWS's own services."""

from __future__ import annotations

import json
from typing import Any

from botocore.exceptions import ClientError

from supervisor.cloud.ports import Removal, RemovalState, SetupStep, StepState

from .errors import aws_errors, error_code, is_absent, suppress_absent
from .identity import FARM_TAG, Identity, tag_list
from .node_policy import node_policy, trust_policy
from .policy import SCALING_ROLE, SCALING_SERVICE, SPOT_ROLE, SPOT_SERVICE, Place
from .session import AwsSession

_POLICY = "kiln-node"


class NodeRole:
    """The role of the farm's instances."""

    def __init__(self, session: AwsSession, identity: Identity) -> None:
        self._session = session
        self._name = identity.name
        self._tags = tag_list({FARM_TAG: identity.farm})
        place = Place(identity=identity, region=session.region)
        self._policy = node_policy(place)
        self._trust = trust_policy(place)
        self.title = f"role {identity.name}"

    @property
    def _iam(self) -> Any:
        return self._session.client("iam")

    def look(self) -> SetupStep:
        """See what is so. Errors: CloudError"""
        with aws_errors(f"look at {self.title}"):
            trust = self._trust_there()
            if trust is None:
                text = "instances read the projects, write what they render, and may do nothing else"
                return SetupStep(name=self.title, state=StepState.ABSENT, text=text)
            if trust != self._trust or self._policy_there() != self._policy:
                text = "give it this version's policy: instances read the projects and write what they render"
                return SetupStep(name=self.title, state=StepState.DIFFERS, text=text)
        return SetupStep(name=self.title, state=StepState.READY, text="instances read the projects and write what they render")

    def make(self) -> None:
        """Make it as wished. Repeat: safe. Errors: CloudError"""
        with aws_errors(f"make {self.title}"):
            trust = self._trust_there()
            if trust is None:
                self._create()
            elif trust != self._trust:
                self._iam.update_assume_role_policy(RoleName=self._name, PolicyDocument=json.dumps(self._trust))
            self._iam.put_role_policy(RoleName=self._name, PolicyName=_POLICY, PolicyDocument=json.dumps(self._policy))

    def _create(self) -> None:
        text = "Instances of the render farm"
        try:
            self._iam.create_role(RoleName=self._name, AssumeRolePolicyDocument=json.dumps(self._trust), Description=text, Tags=self._tags)
        except ClientError as error:
            if error_code(error) != "EntityAlreadyExists":
                raise

    def _trust_there(self) -> Any | None:
        try:
            return self._iam.get_role(RoleName=self._name)["Role"]["AssumeRolePolicyDocument"]
        except ClientError as error:
            if is_absent(error):
                return None
            raise

    def _policy_there(self) -> Any | None:
        try:
            return self._iam.get_role_policy(RoleName=self._name, PolicyName=_POLICY)["PolicyDocument"]
        except ClientError as error:
            if is_absent(error):
                return None
            raise

    def remove(self, *, dry_run: bool) -> Removal | None:
        """Delete it, when the profile is gone. Returns: None if there is none. Errors: CloudError"""
        with aws_errors(f"delete {self.title}"):
            if self._trust_there() is None:
                return None
            if not dry_run:
                self._delete()
        return Removal(name=self.title, state=RemovalState.REMOVED)

    def _delete(self) -> None:
        with suppress_absent():
            self._iam.delete_role_policy(RoleName=self._name, PolicyName=_POLICY)
        with suppress_absent():
            self._iam.delete_role(RoleName=self._name)


class InstanceProfile:
    """What hands the role to instances."""

    def __init__(self, session: AwsSession, identity: Identity) -> None:
        self._session = session
        self._name = identity.name
        self._tags = tag_list({FARM_TAG: identity.farm})
        self.title = f"instance profile {identity.name}"

    @property
    def _iam(self) -> Any:
        return self._session.client("iam")

    def look(self) -> SetupStep:
        """See what is so. Errors: CloudError"""
        with aws_errors(f"look at {self.title}"):
            roles = self._roles()
        if roles is None:
            return SetupStep(name=self.title, state=StepState.ABSENT, text="hands the role to instances")
        if roles != [self._name]:
            return SetupStep(name=self.title, state=StepState.DIFFERS, text="put the role into it")
        return SetupStep(name=self.title, state=StepState.READY, text="hands the role to instances")

    def make(self) -> None:
        """Make it, with the role in it. Repeat: safe. Errors: CloudError"""
        with aws_errors(f"make {self.title}"):
            roles = self._roles()
            if roles is None:
                self._create()
            # A profile holds one role.
            for other in [role for role in roles or () if role != self._name]:
                self._iam.remove_role_from_instance_profile(InstanceProfileName=self._name, RoleName=other)
            if self._name not in (roles or ()):
                self._add_role()

    def _create(self) -> None:
        try:
            self._iam.create_instance_profile(InstanceProfileName=self._name, Tags=self._tags)
        except ClientError as error:
            if error_code(error) != "EntityAlreadyExists":
                raise

    def _add_role(self) -> None:
        try:
            self._iam.add_role_to_instance_profile(InstanceProfileName=self._name, RoleName=self._name)
        except ClientError as error:
            # a profile that has its one role already: what was asked for
            if error_code(error) != "LimitExceeded":
                raise

    def _roles(self) -> list[str] | None:
        try:
            profile = self._iam.get_instance_profile(InstanceProfileName=self._name)["InstanceProfile"]
        except ClientError as error:
            if is_absent(error):
                return None
            raise
        return [role["RoleName"] for role in profile["Roles"]]

    def remove(self, *, dry_run: bool) -> Removal | None:
        """Delete it. Returns: None if there is none. Errors: CloudError"""
        with aws_errors(f"delete {self.title}"):
            roles = self._roles()
            if roles is None:
                return None
            if not dry_run:
                for role in roles:
                    with suppress_absent():
                        self._iam.remove_role_from_instance_profile(InstanceProfileName=self._name, RoleName=role)
                with suppress_absent():
                    self._iam.delete_instance_profile(InstanceProfileName=self._name)
        return Removal(name=self.title, state=RemovalState.REMOVED)


class ServiceRole:
    """A role that a service of AWS has in the account, once. Whoever needs the service first makes it, if they may."""

    def __init__(self, session: AwsSession, *, name: str, service: str, text: str) -> None:
        self._session = session
        self._name = name
        self._service = service
        self._text = text
        self.title = f"role {name}"

    @classmethod
    def of_spot(cls, session: AwsSession) -> ServiceRole:
        return cls(session, name=SPOT_ROLE, service=SPOT_SERVICE, text="AWS starts spot instances for the account by it")

    @classmethod
    def of_scaling(cls, session: AwsSession) -> ServiceRole:
        return cls(session, name=SCALING_ROLE, service=SCALING_SERVICE, text="AWS keeps the shared pool's instances by it")

    @property
    def _iam(self) -> Any:
        return self._session.client("iam")

    def look(self) -> SetupStep:
        """See whether there is one. Errors: CloudError"""
        with aws_errors(f"look at {self.title}"):
            try:
                self._iam.get_role(RoleName=self._name)
            except ClientError as error:
                if not is_absent(error):
                    raise
                return SetupStep(name=self.title, state=StepState.ABSENT, text=self._text)
        return SetupStep(name=self.title, state=StepState.READY, text=self._text)

    def make(self) -> None:
        """Make it. Repeat: safe. Errors: CloudError"""
        with aws_errors(f"make {self.title}"):
            try:
                self._iam.create_service_linked_role(AWSServiceName=self._service)
            except ClientError as error:
                # “… has been taken in this account”: it is there
                if error_code(error) != "InvalidInput":
                    raise
