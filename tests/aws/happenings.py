"""What befalls the farm from outside of its own calls: told to the server by tests, through `POST /kiln/<name>`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.instances import StateReason
from moto.ssm.models import Parameter, ssm_backends

from . import images, volumes
from .cloud_time import now
from .launching import set_state
from .world import REGION, SETTINGS, World, backend_of, world_of

#: The farm's image that is there from the start.
IMAGE = "ami-0c111111111111111"
_SETTLED = {"pending": "running", "stopping": "stopped", "shutting-down": "terminated"}


def seed(region: str = REGION) -> None:
    """Make what an account that the farm is set up in has: subnets come with moto, images do not."""
    backend = backend_of(region)
    images.add_image(backend, image=IMAGE)
    for image, architecture, name in (
        ("ami-0deb1200000000001", "x86_64", "amd64"),
        ("ami-0deb1200000000002", "arm64", "arm64"),
    ):
        images.add_debian(backend, image=image, architecture=architecture)
        _publish(f"/aws/service/debian/release/12/latest/{name}", image, region)


def _publish(name: str, value: str, region: str) -> None:
    """moto refuses parameters under /aws/, and knows Amazon's own alone."""
    parameter = Parameter(  # type: ignore[abstract]  # its base class alone has abstract methods; moto makes it so too
        account_id=DEFAULT_ACCOUNT_ID,
        name=name,
        value=value,
        parameter_type="String",
        description="",
        allowed_pattern=None,
        keyid=None,
        last_modified_date=now(),
        version=1,
        data_type="text",
    )
    ssm_backends[DEFAULT_ACCOUNT_ID][region]._parameters[name].append(parameter)


def change(**settings: Any) -> None:
    """Change what the cloud is like."""
    unknown = settings.keys() - SETTINGS
    assert not unknown, f"World has no {unknown}; it has {SETTINGS}"
    for name, value in settings.items():
        setattr(_world(), name, value)


def interrupt(instance: str) -> None:
    """Take a spot instance back."""
    _end(instance, "Server.SpotInstanceTermination", "Spot instance termination")


def lose(instance: str) -> None:
    """Let the machine beneath an instance die."""
    _end(instance, "Server.InternalError", "Internal error on launch")


def power_off(instance: str) -> None:
    """Let the instance shut itself down: moto has no inside of instances."""
    backend = backend_of()
    one = backend.get_instance(instance)
    ends = one.instance_initiated_shutdown_behavior == "terminate"
    with _known(instance):
        (backend.terminate_instances if ends else backend.stop_instances)([instance])
    one.state_reason = StateReason("Client.InstanceInitiatedShutdown: Instance initiated shutdown", "Client.InstanceInitiatedShutdown")


def _end(instance: str, code: str, text: str) -> None:
    backend = backend_of()
    with _known(instance):
        backend.terminate_instances([instance])
    backend.get_instance(instance).state_reason = StateReason(f"{code}: {text}", code)


@contextmanager
def _known(instance: str) -> Iterator[None]:
    """What befalls an instance befalls it whether it is described yet or not."""
    hidden = _world().hidden
    was_hidden = instance in hidden
    hidden.discard(instance)
    yield
    if was_hidden:
        hidden.add(instance)


def settle() -> None:
    """Let everything that is on its way arrive: instances, volumes, snapshots, images."""
    backend = backend_of()
    volumes.settle(backend)
    for reservation in backend.reservations.values():
        for one in reservation.instances:
            set_state(one, _SETTLED.get(one.state, one.state))
    for snapshot in backend.snapshots.values():
        snapshot.status = "completed" if snapshot.status == "pending" else snapshot.status
    for image in backend.amis.values():
        image.state = "available" if image.state == "pending" else image.state


def fail_snapshots() -> int:
    """Let the snapshots that are on their way fail. Returns: how many"""
    pending = [snapshot for snapshot in backend_of().snapshots.values() if snapshot.status == "pending"]
    for snapshot in pending:
        snapshot.status = "error"
    return len(pending)


def age_out() -> None:
    """Forget instances that are terminated, as AWS does after about an hour."""
    backend = backend_of()
    for id, reservation in list(backend.reservations.items()):
        reservation.instances[:] = [one for one in reservation.instances if one.state != "terminated"]
        if not reservation.instances:
            del backend.reservations[id]


def hide(instance: str) -> None:
    """Describe an instance no more, until `show_all`."""
    _world().hidden.add(instance)


def show_all() -> None:
    """Describe what was hidden, and what comes."""
    _world().hides_new = False
    _world().hidden.clear()


def add_image(**image: Any) -> str:
    """Register an image of the farm's."""
    return images.add_image(backend_of(), **image)


def remove_image(image: str) -> None:
    del backend_of().amis[image]


def calls(action: str = "") -> list[dict[str, Any]]:
    """What was asked of EC2, oldest first."""
    return [each for each in _world().calls if not action or each["action"] == action]


def forget_calls() -> None:
    _world().calls.clear()


def settings() -> dict[str, Any]:
    """What the cloud is like."""
    return {each.name: getattr(_world(), each.name) for each in fields(World) if each.name in SETTINGS}


def tags(thing: str) -> dict[str, str] | None:
    """Tags of something of EC2's, a launch template by its id or name. Returns: empty: it has none; None: there is no such thing"""
    backend = backend_of()
    id = backend.launch_template_name_to_ids.get(thing, thing)
    found = {tag["key"]: tag["value"] for tag in backend.describe_tags({"resource-id": [id]})}
    return found if found or _is_there(id) else None


def _is_there(id: str) -> bool:
    """Say whether there is anything with that id, of the kinds that the farm changes."""
    backend = backend_of()
    kinds = (backend.volumes, backend.snapshots, backend.amis, backend.launch_templates, _world().fleets, *backend.groups.values())
    return any(id in those for those in kinds) or any(one.id == id for each in backend.reservations.values() for one in each.instances)


def template_data(template: str, version: str) -> dict[str, Any]:
    """The data of a version of a launch template, by its id or name. Returns: empty: there is none"""
    backend = backend_of()
    found = backend.launch_templates.get(backend.launch_template_name_to_ids.get(template, template))
    try:
        data: dict[str, Any] = (found.default_version() if version == "$Default" else found.get_version(version)).data if found else {}
    except EC2ClientError:
        return {}
    return data


def _world() -> World:
    return world_of(backend_of())


HAPPENINGS: dict[str, Callable[..., Any]] = {
    each.__name__: each
    for each in (
        seed,
        change,
        interrupt,
        lose,
        power_off,
        settle,
        fail_snapshots,
        age_out,
        hide,
        show_all,
        add_image,
        remove_image,
        calls,
        forget_calls,
        settings,
        tags,
        template_data,
    )
}
