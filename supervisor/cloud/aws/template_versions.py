"""The versions of the farm's launch template: one for each job, made when it launches first and deleted when it is released."""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import structlog
from botocore.exceptions import ClientError

from supervisor.cloud.ports import Refused

from .errors import aws_errors, error_code, suppress_absent
from .identity import Identity
from .session import AwsSession
from .template import as_template

log = structlog.get_logger(__name__)

NOT_SET_UP = "the farm is not set up in its AWS account: an administrator does it on the AWS page, or with `kiln aws setup`"
#: EC2's code for a template that is not there, by its name.
_NO_TEMPLATE = "InvalidLaunchTemplateName.NotFoundException"
#: EC2 deletes this many versions at once.
_MOST_DELETED = 200
_PAGE = 200
#: How descriptions of versions for the shared pool begin. One word: such a version is for no job.
_POOL = "shared-pool-"


class TemplateVersions:
    """The versions of one launch template, `Identity.name`. Each says in its description which job it is for."""

    def __init__(self, session: AwsSession, identity: Identity) -> None:
        self._session = session
        self._name = identity.name
        self._lock = threading.Lock()
        self._known: dict[str, str] = {}  #: description -> number

    @property
    def _ec2(self) -> Any:  # Any: boto3's clients are made at run time
        return self._session.client("ec2")

    def ensure(self, data: Mapping[str, Any], *, job: str, workspace: str, token: str) -> str:
        """Make sure that there is a version with this data. Returns: its number

        Shape:   data: as RunInstances takes it; token: of the launch that it is made for
        Repeat:  safe: the version of a job is found again by its description, and its making bears the token
        Errors:  Refused - the farm is not set up; Throttled, Unreachable
        """
        whole = as_template(data)
        content = _hash(whole)
        description = f"{job} {workspace} {content}"
        with self._lock, aws_errors(f"prepare the launch of {job}"):
            if description not in self._known:
                number = self._find(description) or self._create(description, whole, f"{token}-{content}")
                self._known[description] = number
            return self._known[description]

    def ensure_for_pool(self, data: Mapping[str, Any]) -> str:
        """Make sure that there is a version with this data for the shared pool. Returns: its number

        Shape:   data: as RunInstances takes it
        Repeat:  safe: it is found again by its description
        Errors:  Refused - the farm is not set up; Throttled, Unreachable
        """
        whole = as_template(data)
        description = f"{_POOL}{_hash(whole)}"
        with self._lock, aws_errors("prepare the launches of the shared pool"):
            if description not in self._known:
                # a token of its own each time: EC2 would answer with a version of before that was deleted
                token = f"{description}-{secrets.token_hex(4)}"
                self._known[description] = self._find(description) or self._create(description, whole, token)
            return self._known[description]

    def delete_of_pool(self, *, kept: str = "") -> None:
        """Delete the versions for the shared pool but one. Repeat: safe. Errors: Throttled, Unreachable, Refused"""
        with aws_errors("delete the launch templates of the shared pool"):
            old = [str(each["VersionNumber"]) for each in self._every() if each.get("VersionDescription", "").startswith(_POOL)]
            self._delete([number for number in old if number != kept])
        with self._lock:
            self._known = {said: number for said, number in self._known.items() if not said.startswith(_POOL) or number == kept}

    def forget(self, job: str) -> None:
        """Look again for the job's versions when asked next: one of them was not found."""
        with self._lock:
            self._known = {description: number for description, number in self._known.items() if _job_of(description) != job}

    def security_group(self) -> str:
        """The security group that the farm's setting up put into the template. Errors: Refused - it is not set up"""
        with aws_errors("look at the farm's launch template"):
            [default] = self._described(Versions=["$Default"])
        groups = default["LaunchTemplateData"].get("SecurityGroupIds", ())
        if not groups:
            raise Refused(NOT_SET_UP)
        return str(groups[0])

    def jobs(self) -> Mapping[str, datetime]:
        """The jobs that there are versions for, each with when its newest was made. Errors: Throttled, Unreachable, Refused"""
        newest: dict[str, datetime] = {}
        with aws_errors("look through the farm's launch templates"):
            for version in self._all():
                job = _job_of(version.get("VersionDescription", ""))
                newest[job] = max(version["CreateTime"], newest.get(job, version["CreateTime"]))
        return newest

    def delete(self, job: str) -> Sequence[str]:
        """Delete the versions for a job; instances launched from them do not mind.

        Repeat:  safe
        Returns: their numbers
        Errors:  Throttled, Unreachable, Refused
        """
        with aws_errors(f"delete the launch templates of {job}"):
            numbers = [str(version["VersionNumber"]) for version in self._all() if _job_of(version.get("VersionDescription", "")) == job]
            self._delete(numbers)
        self.forget(job)
        if numbers:
            log.info("launch template versions deleted", job=job, versions=numbers)
        return numbers

    def _delete(self, numbers: Sequence[str]) -> None:
        for first in range(0, len(numbers), _MOST_DELETED):
            with suppress_absent():
                self._ec2.delete_launch_template_versions(LaunchTemplateName=self._name, Versions=numbers[first : first + _MOST_DELETED])

    def _find(self, description: str) -> str | None:
        found = [version["VersionNumber"] for version in self._described() if version.get("VersionDescription") == description]
        return str(max(found)) if found else None

    def _create(self, description: str, data: Mapping[str, Any], token: str) -> str:
        made = self._ec2.create_launch_template_version(
            LaunchTemplateName=self._name, VersionDescription=description, LaunchTemplateData=data, ClientToken=token
        )["LaunchTemplateVersion"]
        log.info("launch template version made", description=description, version=made["VersionNumber"])
        return str(made["VersionNumber"])

    def _all(self) -> Iterator[Mapping[str, Any]]:
        """The versions for jobs. None where the farm is not set up."""
        yield from (version for version in self._every() if _job_of(version.get("VersionDescription", "")))

    def _every(self) -> Iterator[Mapping[str, Any]]:
        try:
            yield from self._described()
        except Refused as error:
            if str(error) != NOT_SET_UP:
                raise

    def _described(self, **which: Any) -> Iterator[Mapping[str, Any]]:
        config = {} if which else {"PaginationConfig": {"PageSize": _PAGE}}
        pages = self._ec2.get_paginator("describe_launch_template_versions").paginate(LaunchTemplateName=self._name, **which, **config)
        try:
            for page in pages:
                yield from page["LaunchTemplateVersions"]
        except ClientError as error:
            if error_code(error) != _NO_TEMPLATE:
                raise
            raise Refused(NOT_SET_UP) from error


def _job_of(description: str) -> str:
    """The job that a version is for. Returns: empty: for none, it is the template's own"""
    first, *others = description.split()[:2] or [""]
    return first if others else ""


def _hash(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]
