"""Versions of launch templates: moto describes fifteen at most, deletes none, checks no user data, mixes the template's own tags in."""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError, InvalidLaunchTemplateVersionNotFound
from moto.ec2.models.launch_templates import LaunchTemplate, LaunchTemplateBackend
from moto.ec2.responses import EC2Response
from moto.ec2.responses.launch_templates import LaunchTemplates

from .patching import Method, mend

#: AWS takes this many numbers in one DeleteLaunchTemplateVersions.
_MOST_NUMBERS = 200
_MOST_RESULTS = 200


def repair() -> None:
    mend(LaunchTemplate, "create_version", _without_its_own_tags)
    mend(LaunchTemplate, "get_version", _get_version)
    mend(LaunchTemplate, "latest_version", lambda original: lambda self: self.versions[max(_numbers(self)) - 1])
    mend(LaunchTemplateBackend, "describe_launch_template_versions", _existing)
    mend(LaunchTemplates, "describe_launch_template_versions", _paged)
    # moto has no such action: it finds what it can do by the names of its methods
    setattr(EC2Response, "delete_launch_template_versions", delete_launch_template_versions)  # noqa: B010


def _without_its_own_tags(original: Method) -> Method:
    """moto puts the tags of the template itself among those that its data gives to what is launched."""

    def create_version(self: Any, data: dict[str, Any], description: str) -> Any:
        tags = data.get("TagSpecifications", [])
        kept = [each for each in tags if each["ResourceType"] != "launch-template"]
        return original(self, {**data, "TagSpecifications": kept} if tags else data, description)

    return create_version


def _deleted(template: Any) -> set[int]:
    deleted: set[int] = template.__dict__.setdefault("kiln_deleted", set())
    return deleted


def _numbers(template: Any) -> list[int]:
    return [version.number for version in template.versions if version.number not in _deleted(template)]


def _get_version(original: Method) -> Method:
    def get_version(self: Any, num: Any) -> Any:
        version = original(self, num)
        if version.number in _deleted(self):
            raise InvalidLaunchTemplateVersionNotFound(template_id=self.id, version=num)
        return version

    return get_version


def _existing(original: Method) -> Method:
    def describe_launch_template_versions(self: Any, **kwargs: Any) -> Any:
        kwargs["max_results"] = 1_000_000
        return [(template, version) for template, version in original(self, **kwargs) if version.number not in _deleted(template)]

    return describe_launch_template_versions


def _paged(original: Method) -> Method:
    def describe_launch_template_versions(self: Any) -> Any:
        answer = original(self)
        found = answer.result["LaunchTemplateVersions"]
        first = int(self._get_param("NextToken") or 0)
        last = first + min(self._get_int_param("MaxResults", _MOST_RESULTS), _MOST_RESULTS)
        page = {"LaunchTemplateVersions": found[first:last]}
        return ActionResult({**page, "NextToken": str(last)} if len(found) > last else page)

    return describe_launch_template_versions


def delete_launch_template_versions(self: Any) -> ActionResult:
    """As an action of moto's EC2."""
    backend, numbers = self.ec2_backend, self._get_param("Versions", [])
    if len(numbers) > _MOST_NUMBERS:
        raise EC2ClientError("InvalidParameterValue", f"At most {_MOST_NUMBERS} versions can be deleted at once.")
    id, name = self._get_param("LaunchTemplateId"), self._get_param("LaunchTemplateName")
    template = backend.get_launch_template(id) if id else backend.get_launch_template_by_name(name)
    done, refused = [], []
    for number in numbers:
        about = {"LaunchTemplateId": template.id, "LaunchTemplateName": template.name, "VersionNumber": int(number)}
        problem = _problem(template, int(number))
        if problem:
            refused.append({**about, "ResponseError": {"Code": problem, "Message": f"version {number} can't be deleted"}})
        else:
            _deleted(template).add(int(number))
            done.append(about)
    return ActionResult({"SuccessfullyDeletedLaunchTemplateVersions": done, "UnsuccessfullyDeletedLaunchTemplateVersions": refused})


def _problem(template: Any, number: int) -> str:
    if number not in _numbers(template):
        return "launchTemplateVersionDoesNotExist"
    return "unexpectedError" if number == template.default_version_number else ""
