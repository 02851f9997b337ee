"""The page of the farm's images: what there is, what it says of them, building, stopping and pruning; for admins alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from html import unescape
from pathlib import Path

import pytest

from ami.builds import BuildStatus
from ami.recipe import BadRecipe, Recipe, read_recipe
from supervisor.cloud.ports import SIGN_IN, SIGNED_OUT, NoCapacity, Refused, SignedOut, Unreachable
from supervisor.config import Config
from supervisor.domain.job import JobStatus
from tests.fakes.account import FakeAccount
from tests.fakes.farm import set_price
from tests.fakes.images import FakeImages

from .web_site import WebSite, a_web_site, as_somebody_else, root

NEWEST = read_recipe().blenders[-1].version


@pytest.fixture
def images() -> FakeImages:
    return FakeImages()


@pytest.fixture
def artist(tmp_path: Path, images: FakeImages) -> Iterator[WebSite]:
    config = Config.model_validate({"cloud": {"provider": "aws"}})
    with a_web_site(tmp_path, account=FakeAccount(), images=images, config=config) as site:
        yield site


@pytest.fixture
def site(artist: WebSite) -> WebSite:
    """The site as an admin sees it."""
    return as_somebody_else(artist, "root", "admin")


def words(html: str) -> str:
    """What a person reads."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


def test_images_are_for_admins(artist: WebSite, site: WebSite) -> None:
    assert 'href="/images"' in site.get("/jobs").text
    assert 'href="/images"' not in artist.get("/jobs").text
    for path in ("/images", "/images/list", "/images/builds", "/images/builds/build_1/log"):
        assert artist.get(path).status_code == 403, path
    for path in ("/images/build", "/images/prune", "/images/builds/build_1/stop"):
        assert artist.post(path).status_code == 403, path


def test_farm_that_rents_nothing_has_no_page_of_images(tmp_path: Path) -> None:
    with a_web_site(tmp_path) as artist:
        admin = as_somebody_else(artist, "root", "admin")
        assert 'href="/images"' not in admin.get("/jobs").text
        answer = admin.get("/images/list")
        assert answer.status_code == 404
        assert "has no images" in answer.text


def test_page_loads_before_aws_answers_and_asks_it_afterwards(site: WebSite, images: FakeImages) -> None:
    images.fail_next(AssertionError("the page itself asks nobody"), times=2)
    page = site.get("/images").text
    assert re.search(r'hx-get="/images/list\?seen=[^"]+" hx-trigger="load"', page)
    assert re.search(r'hx-get="/images/builds\?seen=[^"]+" hx-trigger="load"', page)
    assert NEWEST in page, "what would be built needs no answer of anybody's"


def test_browser_without_scripts_gets_everything_in_one_page(site: WebSite, images: FakeImages) -> None:
    images.an_image()
    images.a_build(progress="3/9 Python")
    page = site.get("/images?look=1").text
    assert "ami-0aaaaaaaaaaaaaaaa" in page
    assert "3/9" in page
    assert 'action="/images/build"' in page


def test_image_is_shown_with_what_is_on_it_and_why_it_is_kept(site: WebSite, images: FakeImages) -> None:
    images.an_image(blenders=("4.2.23", "4.5.14"), used_by=("the newest for cpu, x86_64", "3 instances, such as i-1"))
    text = words(site.get("/images/list").text)
    assert "Blender 4.2.23, 4.5.14" in text
    assert "Without a GPU, x86_64 · made 3 days ago · protocol 1 · ami-0aaaaaaaaaaaaaaaa" in text
    assert "Kept: the newest for cpu, x86_64; 3 instances, such as i-1" in text
    assert "nothing to prune" in text


def test_job_that_keeps_an_image_is_named_and_linked(artist: WebSite, site: WebSite, images: FakeImages) -> None:
    job = artist.a_draft(name="Shot <40>")
    images.an_image(used_by=(f"launches of {job}", "launches of job_gone"))
    text = site.get("/images/list").text
    assert f'Kept: launches of <a href="/jobs/{job}">“Shot &lt;40&gt;”</a>; launches of job_gone' in text


def test_farm_without_images_says_so(site: WebSite) -> None:
    assert "There is no image yet" in words(site.get("/images/list").text)


def test_newer_blender_in_the_recipe_is_told(site: WebSite, images: FakeImages) -> None:
    images.an_image(blenders=("4.2.23",), is_current=False)
    text = words(site.get("/images/list").text)
    assert f"{NEWEST}, which is on none of the images: build a new one" in text
    images.an_image("ami-0bbbbbbbbbbbbbbbb", age_days=0)
    assert "build a new one" not in words(site.get("/images/list").text)


def test_image_of_an_older_recipe_or_of_another_version_of_kiln_is_marked(site: WebSite, images: FakeImages) -> None:
    images.an_image("ami-0aaaaaaaaaaaaaaa1", is_current=False)
    images.an_image("ami-0aaaaaaaaaaaaaaa2", variant="gpu", is_served=False, protocol="9")
    text = words(site.get("/images/list").text)
    assert "can't start from the newest for gpu, x86_64 (ami-0aaaaaaaaaaaaaaa2)" in text
    assert text.count("of an older recipe") == 2, "in the word at the top, and beside the image"
    assert "of another version of Kiln" in text


def test_build_is_asked_for_and_watched_until_it_ends(site: WebSite, images: FakeImages) -> None:
    answer = site.post("/images/build", {"variant": "gpu", "arch": "x86_64"})
    assert answer.status_code == 200
    assert root(answer.text).attributes["hx-trigger"] == "every 3s"
    assert "you can leave this page" in words(answer.text).lower()
    [build] = images.known
    assert (build.variant, build.arch) == ("gpu", "x86_64")

    images.change(build.id, progress="5/9 Blender, side by side", tail=("unpacking", "4.5.14"))
    text = site.get("/images/builds").text
    assert "5/9 Blender, side by side" in words(text)
    assert 'max="9"' in text
    assert "unpacking\n4.5.14" in text

    images.change(build.id, status=BuildStatus.READY, image="ami-0new", ended_at=datetime.now(UTC), progress="")
    ended = site.get(root(text).attributes["hx-get"])
    assert "hx-trigger" not in root(ended.text).attributes
    assert ended.headers["HX-Trigger-After-Settle"] == "images-changed", "the list of images looks again"
    assert "Made ami-0new" in words(ended.text)


def test_what_has_not_changed_is_not_sent_again(site: WebSite, images: FakeImages) -> None:
    images.an_image()
    images.a_build()
    for path in ("/images/list", "/images/builds"):
        again = site.get(root(site.get(path).text).attributes["hx-get"])
        assert (again.status_code, again.headers.get("HX-Trigger-After-Settle")) == (204, None)


def test_watching_a_build_asks_nothing_of_ec2(site: WebSite, images: FakeImages) -> None:
    images.a_build()
    site.get("/images/builds")
    site.post("/images/build")
    assert images.asked == 0


def test_image_of_this_recipe_that_is_there_is_not_built_again(site: WebSite, images: FakeImages) -> None:
    images.a_build(status=BuildStatus.READY, image="ami-0there", progress="")
    assert "one of this recipe already, ami-0there" in words(site.post("/images/build").text)
    assert len(images.known) == 1


def test_failed_build_shows_its_last_words_and_leads_to_the_whole_log(site: WebSite, images: FakeImages) -> None:
    build = images.a_build(status=BuildStatus.FAILED, message="90-validate.sh: the frame is <black>", tail=("line 1", "line <2>"))
    images.logs[build.id] = b"all of it"
    text = site.get("/images/builds").text
    assert "90-validate.sh: the frame is &lt;black&gt;" in text
    assert re.search(r"<details[^>]* open", text), "what failed is read without a click"
    assert "line &lt;2&gt;" in text
    assert f'href="/images/builds/{build.id}/log"' in text
    log = site.get(f"/images/builds/{build.id}/log")
    assert (log.text, log.content_type) == ("all of it", "text/plain; charset=utf-8")


def test_log_that_there_is_not_is_not_found(site: WebSite, images: FakeImages) -> None:
    answer = site.get("/images/builds/build_9/log")
    assert answer.status_code == 404
    assert "no log of this build" in answer.text


def test_what_holds_a_build_up_is_shown(site: WebSite, images: FakeImages) -> None:
    images.a_build(held_up="can't launch a builder: no room (VcpuLimitExceeded)")
    assert "VcpuLimitExceeded). The farm asks again." in words(site.get("/images/builds").text)


def test_build_can_be_stopped(site: WebSite, images: FakeImages) -> None:
    build = images.a_build()
    assert f'hx-post="/images/builds/{build.id}/stop"' in site.get("/images/builds").text
    text = site.post(f"/images/builds/{build.id}/stop").text
    assert "being given back" in words(text)
    assert "/stop" not in text


def test_build_that_the_recipe_has_nothing_for_is_refused(site: WebSite) -> None:
    answer = site.post("/images/build", {"variant": "cpu", "arch": "arm64"})
    assert answer.status_code == 422
    assert "would have no Blender" in words(answer.text)
    assert site.post("/images/build", {"variant": "tpu"}).status_code == 422


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (SignedOut(f"can't look for the image x: {SIGNED_OUT}; {SIGN_IN}"), 'gives it credentials on its <a href="/aws">AWS page</a>'),
        (Refused("the farm is not set up in AWS yet"), "The farm is not set up in AWS yet"),
        (NoCapacity("can't launch: no room"), "no room"),
        (Unreachable("can't read images/: no answer"), "no answer"),
    ],
)
def test_what_aws_answers_is_a_notice_wherever_it_comes(site: WebSite, images: FakeImages, error: Exception, said: str) -> None:
    images.an_image("ami-0old", used_by=())
    for call, method, path in (
        ("images", "GET", "/images/list"),
        ("builds", "GET", "/images/builds"),
        ("begin", "POST", "/images/build"),
        ("stop", "POST", "/images/builds/build_1/stop"),
        ("remove_image", "POST", "/images/prune"),
    ):
        images.fail_next(error, call=call)
        answer = site.get(path) if method == "GET" else site.post(path, {"image": "ami-0old"})
        assert answer.status_code == (200 if method == "GET" else 422)
        assert said in answer.text, call


def test_pruning_says_what_goes_and_removes_that_alone(site: WebSite, images: FakeImages) -> None:
    images.an_image("ami-0kept")
    images.an_image("ami-0old", age_days=30, used_by=())
    form = site.get("/images/list").text
    assert 'hx-confirm="Remove ami-0old, with its snapshots? Everything else stays' in form
    assert 'name="image" value="ami-0old"' in form
    images.an_image("ami-0later", age_days=1, used_by=())  # unused since the page was shown
    text = words(site.post("/images/prune", {"image": "ami-0old"}).text)
    assert images.removed == ["ami-0old"]
    assert "Removed, with its snapshots: ami-0old." in text
    assert "Removes 1 image that nothing uses: ami-0later" in text


def test_image_that_an_unfinished_job_needs_for_its_next_instances_is_kept(artist: WebSite, site: WebSite, images: FakeImages) -> None:
    set_price(artist.fake.cloud, "3.60")
    job = artist.a_job(JobStatus.PAUSED)
    images.an_image("ami-0new", blenders=("5.2.2",))
    images.an_image("ami-0old", age_days=30, blenders=("4.5.15",), used_by=())
    assert f'Kept: Blender 4.5.15 for <a href="/jobs/{job}">' in site.get("/images/list").text
    site.post("/images/prune", {"image": "ami-0old"})
    assert images.removed == []


def test_pruning_leaves_what_came_into_use_since_the_page_was_shown(site: WebSite, images: FakeImages) -> None:
    images.an_image("ami-0old", used_by=("instance i-1",))
    assert "Nothing was removed" in site.post("/images/prune", {"image": "ami-0old"}).text
    assert images.removed == []


def test_plain_forms_are_answered_with_the_page(site: WebSite, images: FakeImages) -> None:
    images.an_image("ami-0old", used_by=())
    for path, form, said in (
        ("/images/build", {}, "You can leave this page"),
        ("/images/prune", {"image": "ami-0old"}, "Removed, with its snapshots"),
    ):
        answer = site.post(path, form, htmx=False)
        assert answer.status_code == 200
        assert "<h1>Images</h1>" in answer.text
        assert said in answer.text
    refused = site.post("/images/build", {"arch": "arm64"}, htmx=False)
    assert refused.status_code == 422
    assert "<h1>Images</h1>" in refused.text


class SpoiltRecipe(FakeImages):
    """Somebody changed the recipe, and wrongly."""

    def recipe(self) -> Recipe:
        raise BadRecipe("recipe.toml: nvidia: is missing")


def test_recipe_that_can_not_be_read_is_said_and_the_rest_shown(tmp_path: Path) -> None:
    spoilt = SpoiltRecipe()
    spoilt.an_image()
    with a_web_site(tmp_path, images=spoilt) as artist:
        page = as_somebody_else(artist, "root", "admin").get("/images?look=1").text
    assert page.count("Recipe.toml: nvidia: is missing") == 2
    assert "ami-0aaaaaaaaaaaaaaaa" in page
    assert 'action="/images/build"' not in page
