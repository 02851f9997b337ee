"""`kiln ami build`, `list` and `prune`: the images that the farm's instances start from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from time import sleep

import click

from ami.builds import UNFINISHED, BuildStatus, ImageBuild
from ami.images import OwnImage, advice, prune, with_jobs
from ami.ports import FarmImages
from ami.recipe import Arch, BadRecipe, Variant
from supervisor import queries
from supervisor.cloud.ports import CloudError, SignedOut
from supervisor.farm import Farm

from .failure import Failed
from .local import opened_beside, with_data
from .options import with_json

_LOOK_S = 3.0


@click.group()
def ami() -> None:
    """The images (AMIs) that instances on AWS start from."""


@ami.command()
@click.option(
    "--variant", type=click.Choice([each.value for each in Variant]), default="cpu", show_default=True, help="gpu: with NVIDIA's driver."
)
@click.option(
    "--arch", type=click.Choice([each.value for each in Arch]), default="x86_64", show_default=True, help="Processors of the instances."
)
@click.option("--no-wait", is_flag=True, help="Only ask for it: a farm that is being served goes on with it.")
@with_data
@with_json
def build(variant: str, arch: str, no_wait: bool, data: Path, config_file: Path | None, as_json: bool) -> None:
    """Build the image of this version of Kiln, with every Blender of its recipe. Takes about half an hour, and some ten cents.

    One of the same recipe that is there already, or being built, is taken. A builder is rented for it and given back whatever happens;
    when this command is broken off, a farm that is being served goes on, and so does this command when it is given again.
    """
    with _opened(data, config_file) as (_, images):
        try:
            wanted = images.begin(Variant(variant), Arch(arch))
        except BadRecipe as error:
            raise Failed(str(error)) from error
        if not no_wait:
            wanted = follow(images, wanted, tell=(lambda text: None) if as_json else _tell, pause=lambda: sleep(_LOOK_S))
    if as_json:
        click.echo(json.dumps(_plain(asdict(wanted)), indent=1))
    if wanted.status is BuildStatus.FAILED:
        if not as_json:
            for line in wanted.tail:
                click.echo(f"  {line}", err=True)
        raise Failed(f"the image could not be built: {wanted.message}")
    if not as_json:
        click.echo(wanted.image or wanted.id)


def follow(images: FarmImages, wanted: ImageBuild, *, tell: Callable[[str], None], pause: Callable[[], None]) -> ImageBuild:
    """Move a build on to its end, and tell how far it is, each word once.

    Errors:  SignedOut; whatever else AWS answers is told, and asked again: the build itself ends if that goes on
    """
    told = ""
    while True:
        try:
            wanted = images.advance(wanted)
            now = wanted.message or wanted.progress
        except SignedOut:
            raise
        except CloudError as error:
            now = f"{error}; asked again"
        if now and now != told:
            tell(now)
            told = now
        if wanted.status not in UNFINISHED:
            return wanted
        pause()


def _tell(text: str) -> None:
    click.echo(f"{datetime.now(UTC):%H:%M:%S}  {text}", err=True)


@ami.command("list")
@with_data
@with_json
def list_(data: Path, config_file: Path | None, as_json: bool) -> None:
    """List the farm's images, newest first."""
    with _opened(data, config_file) as (farm, opened):
        images = _listed(farm, opened)
        said = advice(opened.recipe(), images)
        builds = [build for build in opened.builds() if build.status in UNFINISHED]
    if as_json:
        click.echo(json.dumps([_plain(asdict(image)) for image in images], indent=1))
        return
    for image in images:
        click.echo(f"{image.id}  {image.state}  {_age(image)}  {image.variant} {image.arch}  Blender {' '.join(image.blenders)}")
        click.echo(f"    {'kept: ' + '; '.join(image.used_by) if image.used_by else 'unused: `kiln ami prune` removes it'}")
    for build in builds:
        click.echo(
            f"{build.id} is being built for {build.variant} {build.arch}: {build.held_up or build.message or build.progress}", err=True
        )
    for each in said:
        click.echo(each, err=True)


@ami.command("prune")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@with_data
@with_json
def prune_(dry_run: bool, data: Path, config_file: Path | None, as_json: bool) -> None:
    """Remove images that nothing uses, with their snapshots. The newest of each kind stays, and whatever an instance or a job names."""
    with _opened(data, config_file) as (farm, images):
        removed = []
        for image in prune(_listed(farm, images), remove=images.remove_image, dry_run=dry_run):
            removed.append(image)
            if not as_json:
                click.echo(f"{'would remove' if dry_run else 'removed'} {image.id}: {image.name}")
    if as_json:
        click.echo(json.dumps({"dry_run": dry_run, "removed": [image.id for image in removed]}, indent=1))
    elif not removed:
        click.echo("every image is in use", err=True)


@contextmanager
def _opened(data: Path, config_file: Path | None) -> Iterator[tuple[Farm, FarmImages]]:
    """Errors: Failed - the farm rents nothing"""
    with opened_beside(data, config_file) as opened:
        if opened.images is None:
            raise Failed('this farm renders on its own machine and has no images; [cloud] provider = "aws" makes it rent instances')
        yield opened.farm, opened.images


def _listed(farm: Farm, images: FarmImages) -> list[OwnImage]:
    return with_jobs(images.images(), queries.unfinished_blenders(farm))


def _age(image: OwnImage) -> str:
    days = (datetime.now(UTC) - image.created_at).days
    return f"{days} days old" if days != 1 else "1 day old"


def _plain(values: dict[str, object]) -> dict[str, object]:
    """What JSON takes."""
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}
