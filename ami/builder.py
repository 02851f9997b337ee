"""Builds images on EC2: a fresh Debian that runs the provisioners, stops, and is made an image. Any process may go on with a build."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import BinaryIO

import structlog

from ami.build_rules import LONGEST_BUILD, Next, Seen, SeenImage, next_step
from ami.builds import UNFINISHED, BuildRecords, BuildStatus, ImageBuild
from ami.hands import BuilderSite, Hands
from ami.images import OwnImage, own_images
from ami.recipe import Arch, Recipe, Variant, read_recipe, recipe_hash
from nodeimage.launch import BuildReport, build_bundle_key, build_log_key, build_report_key
from nodeimage.protocol import Unreadable
from supervisor.cloud.aws.identity import Identity
from supervisor.cloud.aws.session import AwsSession
from supervisor.cloud.ports import CloudError, NoCapacity, ObjectStore
from supervisor.domain.ids import new_id

log = structlog.get_logger(__name__)

#: While nothing is being built, the bucket is looked at so seldom: another process may have asked for an image.
_IDLE_LOOK = timedelta(seconds=60)
#: Builds that have ended are remembered up to so many.
KEPT_BUILDS = 20


class ImageBuilder:
    """Begins builds and moves them on."""

    def __init__(
        self,
        session: AwsSession,
        identity: Identity,
        objects: ObjectStore,
        site: BuilderSite,
        *,
        records: BuildRecords | None = None,
        chosen: str = "",
        recipe: Callable[[], Recipe] = read_recipe,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Shape:   chosen: id of the image that the configuration names; empty: none"""
        self._session = session
        self._identity = identity
        self._objects = objects
        self._records = records or BuildRecords(objects)
        self._hands = Hands(session, identity, objects, site, longest_minutes=int(LONGEST_BUILD.total_seconds() // 60))
        self._chosen = chosen
        self._recipe = recipe
        self._clock = clock
        self._lock = threading.Lock()  # a record is read, thought about and written: the timer and the page do so
        self._looks_at = datetime.min.replace(tzinfo=UTC)

    def recipe(self) -> Recipe:
        """What an image would be made of. Errors: BadRecipe"""
        return self._recipe()

    def begin(self, variant: Variant = Variant.CPU, arch: Arch = Arch.X86_64) -> ImageBuild:
        """Ask for an image. One of the same recipe that is there, or being built, is taken instead.

        Errors:  BadRecipe - it has nothing for this variant or architecture; Refused - the account is not set up; CloudError
        """
        recipe, made_of = self._recipe(), recipe_hash(variant, arch)
        versions = tuple(release.version for release in recipe.blenders_for(arch))
        if variant is Variant.GPU:
            recipe.driver_for(arch)
        wanted = ImageBuild(
            id=new_id("build"),
            recipe=made_of,
            variant=variant,
            arch=arch,
            name=f"kiln-node-{versions[-1]}-{variant}-{arch}-{made_of}",
            blenders=versions,
            status=BuildStatus.BUILDING,
            asked_at=self._clock(),
            progress="asked for",
        )
        self._hands.check_site()
        with self._lock:
            return self._begun(wanted)

    def _begun(self, wanted: ImageBuild) -> ImageBuild:
        builds = self._records.all()
        known = [build for build in builds if build.name == wanted.name]
        for build in known:
            if build.status in UNFINISHED:
                return build
        there = self._hands.image(wanted.name)
        if there is not None and there.state == "available":
            return next((build for build in known if build.image == there.id), None) or self._found(wanted, there)
        self._records.forget([build for build in builds if build.status not in UNFINISHED][KEPT_BUILDS - 1 :])
        self._records.put(wanted)
        self._looks_at = self._clock()
        log.info("image wanted", build=wanted.id, name=wanted.name)
        return wanted

    def _found(self, wanted: ImageBuild, image: SeenImage) -> ImageBuild:
        """An image of this recipe whose build nobody remembers."""
        build = replace(wanted, status=BuildStatus.READY, ended_at=wanted.asked_at, image=image.id, progress="")
        self._records.put(build)
        return build

    def builds(self) -> Sequence[ImageBuild]:
        """Every build that is known, newest first. Asks the bucket alone. Errors: CloudError"""
        return self._records.all()

    def images(self) -> list[OwnImage]:
        """The images that the farm's instances may start from, newest first. Errors: CloudError"""
        return own_images(self._session, self._identity, chosen=self._chosen)

    def remove_image(self, image: str) -> None:
        """Make an image and its snapshots be gone. Repeat: safe. Errors: CloudError"""
        self._hands.remove_image(image)

    def open_log(self, build_id: str) -> BinaryIO:
        """The whole log of a build that has ended, as a stream. The caller closes it. Errors: FileNotFoundError, Unreachable"""
        return self._objects.open(build_log_key(build_id))

    def stop(self, build_id: str) -> None:
        """Give a build up: what is rented for it is given back, in a moment. One that has ended is left. Errors: CloudError"""
        with self._lock:
            build = self._records.find(build_id)
            if build is not None and build.status in UNFINISHED - {BuildStatus.FAILING}:
                self._records.put(replace(build, status=BuildStatus.FAILING, message="stopped by a person", held_up=""))
                log.info("build moved", build=build.id, to="failing", because="stopped by a person")

    def advance_all(self) -> None:
        """Move every unfinished build on; one's trouble is its own. Repeat: safe"""
        if self._clock() < self._looks_at:
            return
        unfinished = self._records.unfinished()
        for build in unfinished:
            try:
                self.advance(build)
            except CloudError as error:
                log.warning("build held up", build=build.id, error=str(error))
        if not unfinished:
            self._looks_at = self._clock() + _IDLE_LOOK

    def advance(self, build: ImageBuild) -> ImageBuild:
        """Do what a build needs now. Returns: the build as it is then. Repeat: safe, by several processes too.

        Errors:  CloudError - it is held up; it says by what (`held_up`), and going on may help
        """
        with self._lock:
            build = self._records.find(build.id) or build
            if build.status not in UNFINISHED:
                return build
            try:
                after = self._advanced(build)
            except CloudError as error:
                self._note_hold_up(build, error)
                raise
            if after != build:
                self._records.put(after)
                if after.status is not build.status:
                    log.info("build moved", build=build.id, to=str(after.status), because=after.message)
            return after

    def _advanced(self, build: ImageBuild) -> ImageBuild:
        seen = self._observe(build)
        step, why = next_step(build, seen)
        return replace(self._act(build, seen, step, why), held_up="")

    def _note_hold_up(self, build: ImageBuild, error: CloudError) -> None:
        """Write down what AWS answered, for the page and for the end, if it comes to that."""
        with suppress(CloudError):  # the store itself may be what does not answer
            build = self._records.find(build.id) or build
            # nothing was launched: it is asked for anew, however long that takes
            launched_at = None if isinstance(error, NoCapacity) else build.launched_at
            self._records.put(replace(build, held_up=str(error), launched_at=launched_at))

    def _observe(self, build: ImageBuild) -> Seen:
        hands = self._hands
        return Seen(now=self._clock(), builders=hands.builders(build.id), image=hands.image(build.name), report=self._report(build.id))

    def _report(self, build_id: str) -> BuildReport | None:
        stored = self._objects.get(build_report_key(build_id))
        if stored is None:
            return None
        try:
            return BuildReport.from_bytes(stored.body)
        except Unreadable as error:
            log.warning("builder's report not understood", build=build_id, error=str(error))
            return None

    def _act(self, build: ImageBuild, seen: Seen, step: Next, why: str) -> ImageBuild:
        told = replace(build, tail=seen.report.tail if seen.report else build.tail)
        ids = [builder.id for builder in seen.builders if builder.state not in {"shutting-down", "terminated"}]
        if step is Next.LAUNCH:
            return self._launch(told)
        if step is Next.STOP:
            self._hands.stop(build.id, ids)
            return replace(told, progress="the builder stops")
        if step is Next.MAKE_IMAGE:
            self._hands.make_image(told, ids[0])
            return replace(told, status=BuildStatus.IMAGING, progress="the image is being made")
        if step is Next.END_BUILDER:
            self._hands.terminate(build.id, ids)
            return told
        if step is Next.FINISH:
            return self._finish(told, seen)
        if step is Next.FAIL:
            return replace(told, status=BuildStatus.FAILING, message=why)
        if step is Next.GIVE_UP:
            return self._give_up(told, seen)
        return replace(told, progress=why or build.progress)

    def _launch(self, build: ImageBuild) -> ImageBuild:
        """Write down that a builder is asked for, then ask."""
        if build.launched_at is None:
            build = replace(build, launched_at=self._clock(), progress="a builder is asked for")
            self._records.put(build)
        self._hands.launch(build, self._recipe())
        return replace(build, progress="the builder boots")

    def _finish(self, build: ImageBuild, seen: Seen) -> ImageBuild:
        assert seen.image is not None, "the rule finishes a build whose image is there"
        self._objects.delete([build_bundle_key(build.id), build_report_key(build.id)])
        return replace(build, status=BuildStatus.READY, image=seen.image.id, ended_at=self._clock(), progress="")

    def _give_up(self, build: ImageBuild, seen: Seen) -> ImageBuild:
        if seen.image is not None and seen.image.is_ours:
            self._hands.remove_image(seen.image.id)
        self._objects.delete([build_bundle_key(build.id), build_report_key(build.id)])
        return replace(build, status=BuildStatus.FAILED, ended_at=self._clock(), progress="")
