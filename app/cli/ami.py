"""`kiln ami build`, `list` and `prune`: the images that the farm's instances start from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from time import sleep

import click

from ami.builder import ImageBuilder
from ami.builds import UNFINISHED, BuildStatus, ImageBuild
from ami.images import OwnImage, newer_blenders, prune
from ami.recipe import Arch, BadRecipe, Variant, read_recipe
from supervisor.cloud.ports import NoCapacity, Throttled, Unreachable

from .failure import Failed
from .local import opened_beside, with_data
from .options import with_json

_LOOK_S = 3.0


@click.group()
def ami() -> None:
    """The images (AMIs) that instances on AWS start from."""


@ami.command()
@click.option("--variant", type=click.Choice([*Variant]), default=Variant.CPU, show_default=True, help="gpu: with NVIDIA's driver.")
@click.option("--arch", type=click.Choice([*Arch]), default=Arch.X86_64, show_default=True, help="Processors of the instances.")
@click.option("--no-wait", is_flag=True, help="Only ask for it: a farm that is being served goes on with it.")
@with_data
@with_json
def build(variant: str, arch: str, no_wait: bool, data: Path, config_file: Path | None, as_json: bool) -> None:
    """Build the image of this version of Kiln, with every Blender of its recipe. Takes about half an hour, and some ten cents.

    One of the same recipe that is there already, or being built, is taken. A builder is rented for it and given back whatever happens;
    when this command is broken off, a farm that is being served goes on, and so does this command when it is given again.
    """
    with _image_builder(data, config_file) as builder:
        try:
            wanted = builder.begin(Variant(variant), Arch(arch))
        except BadRecipe as error:
            raise Failed(str(error)) from error
        if not no_wait:
            wanted = _built(builder, wanted, quiet=as_json)
    if as_json:
        click.echo(json.dumps(_plain(asdict(wanted)), indent=1))
    if wanted.status is BuildStatus.FAILED:
        if not as_json:
            for line in wanted.tail:
                click.echo(f"  {line}", err=True)
        raise Failed(f"the image could not be built: {wanted.message}")
    if not as_json:
        click.echo(wanted.image or wanted.id)


def _built(builder: ImageBuilder, wanted: ImageBuild, *, quiet: bool) -> ImageBuild:
    """Move a build on to its end, and tell how far it is."""
    told = ""
    while wanted.status in UNFINISHED:
        try:
            wanted = builder.advance(wanted)
            now = wanted.message if wanted.status is BuildStatus.FAILING else wanted.progress
        except (NoCapacity, Throttled, Unreachable) as error:
            now = f"{error}; asked again"
        if now != told and not quiet:
            click.echo(f"{datetime.now(UTC):%H:%M:%S}  {now}", err=True)
        told = now
        if wanted.status in UNFINISHED:
            sleep(_LOOK_S)
    return wanted


@ami.command("list")
@with_data
@with_json
def list_(data: Path, config_file: Path | None, as_json: bool) -> None:
    """List the farm's images, newest first."""
    with _image_builder(data, config_file) as builder:
        images = builder.images()
    if as_json:
        click.echo(json.dumps([_plain(asdict(image)) for image in images], indent=1))
        return
    for image in images:
        click.echo(f"{image.id}  {image.state}  {_age(image)}  {image.variant} {image.arch}  Blender {' '.join(image.blenders)}")
        click.echo(f"    {'kept: ' + '; '.join(image.used_by) if image.used_by else 'unused: `kiln ami prune` removes it'}")
    newer = newer_blenders(read_recipe(), images)
    if not images:
        click.echo("there is none; `kiln ami build` makes one", err=True)
    elif newer:
        click.echo(f"this version of Kiln knows Blender {', '.join(newer)}, which is on none: `kiln ami build`", err=True)


@ami.command("prune")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@with_data
@with_json
def prune_(dry_run: bool, data: Path, config_file: Path | None, as_json: bool) -> None:
    """Remove images that nothing uses, with their snapshots. The newest of each kind stays, and whatever an instance or a job names."""
    with _image_builder(data, config_file) as builder:
        removed = []
        for image in prune(builder.images(), remove=builder.remove_image, dry_run=dry_run):
            removed.append(image)
            if not as_json:
                click.echo(f"{'would remove' if dry_run else 'removed'} {image.id}: {image.name}")
    if as_json:
        click.echo(json.dumps({"dry_run": dry_run, "removed": [image.id for image in removed]}, indent=1))
    elif not removed:
        click.echo("every image is in use", err=True)


@contextmanager
def _image_builder(data: Path, config_file: Path | None) -> Iterator[ImageBuilder]:
    """Errors: Failed - the farm rents nothing"""
    with opened_beside(data, config_file) as opened:
        if opened.images is None:
            raise Failed('this farm renders on its own machine and has no images; [cloud] provider = "aws" makes it rent instances')
        yield opened.images


def _age(image: OwnImage) -> str:
    days = (datetime.now(UTC) - image.created_at).days
    return f"{days} days old" if days != 1 else "1 day old"


def _plain(values: dict[str, object]) -> dict[str, object]:
    """What JSON takes."""
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}
