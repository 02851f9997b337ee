"""The farm's images as the page and the command line use them. `builder.ImageBuilder` is what a farm on AWS has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO, Protocol

from ami.builds import ImageBuild
from ami.images import OwnImage
from ami.recipe import Arch, Recipe, Variant


class FarmImages(Protocol):
    """Images, and builds of them."""

    def recipe(self) -> Recipe:
        """What an image would be made of. Errors: BadRecipe"""

    def images(self) -> Sequence[OwnImage]:
        """The images that the farm's instances may start from, newest first. Asks EC2. Errors: CloudError"""

    def remove_image(self, image: str) -> None:
        """Make an image and its snapshots be gone. Repeat: safe. Errors: CloudError"""

    def builds(self) -> Sequence[ImageBuild]:
        """Every build that is known, newest first. Asks the bucket alone. Errors: CloudError"""

    def begin(self, variant: Variant, arch: Arch) -> ImageBuild:
        """Ask for an image; of the same recipe, the one that is there or being built. Errors: BadRecipe; CloudError"""

    def advance(self, build: ImageBuild) -> ImageBuild:
        """Do what a build needs now. Returns: the build as it is then. Repeat: safe. Errors: CloudError - it is held up"""

    def stop(self, build_id: str) -> None:
        """Give a build up. One that has ended is left. Errors: CloudError"""

    def open_log(self, build_id: str) -> BinaryIO:
        """The whole log of a build that has ended, as a stream. The caller closes it. Errors: FileNotFoundError, Unreachable"""
