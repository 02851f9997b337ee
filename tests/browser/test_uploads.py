"""Uploads in the browser: folders keep their shape, and an upload goes on after whatever stopped it."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import BrowserContext, Page, Request, Route, expect

from .conftest import new_draft, signed_in
from .live_farm import CHECKOUT, LiveFarm

SAMPLE = CHECKOUT / "samples" / "kiln.blend"
MIB = 1 << 20


def file_names(page: Page, *, count: int) -> set[str]:
    """The names that the list of files shows, once there are so many: it is swapped in after the upload's own row says that it ended."""
    expect(page.locator(".file-name .break")).to_have_count(count)
    return {" ".join(name.split()) for name in page.locator(".file-name .break").all_inner_texts()}


def a_big_file(folder: Path) -> Path:
    """Six parts of at most 5 MiB."""
    file = folder / "big texture.exr"
    file.write_bytes(os.urandom(28 * MIB))
    return file


def is_part(request: Request) -> bool:
    return request.method == "PUT"


def test_a_folder_keeps_its_shape_and_fills_the_form(page: Page, tmp_path: Path) -> None:
    shot = tmp_path / "shot"
    (shot / "tex tures").mkdir(parents=True)
    shutil.copy(SAMPLE, shot / "kiln.blend")
    (shot / "tex tures" / 'wood "ü".png').write_bytes(b"png")
    (shot / "empty.txt").write_bytes(b"")
    (shot / ".DS_Store").write_bytes(b"junk")
    new_draft(page)
    page.set_input_files("#pick-folder", shot)
    expect(page.locator("#uploads")).to_contain_text("2 files uploaded")
    expect(page.locator("#uploads")).to_contain_text("Left out: the file is empty.")
    expect(page.locator("#frames")).to_have_value("1-24")
    expect(page.locator(".facts")).to_contain_text("Blender 4.5")
    assert file_names(page, count=2) == {"shot/kiln.blend", 'shot/tex tures/wood "ü".png'}
    expect(page.locator("#job-submit")).to_be_enabled()


def test_dropped_files_are_taken_and_a_wrong_one_says_what_is_wrong(page: Page) -> None:
    new_draft(page)
    drop = """zone => {
        const data = new DataTransfer();
        data.items.add(new File(["not a blend at all"], "<img src=x onerror=alert(1)>.blend"));
        zone.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
    }"""
    page.locator("#drop").evaluate(drop)
    expect(page.locator(".file-bad")).to_contain_text(".blend")
    expect(page.locator(".upload[data-state=error] .upload-name")).to_have_text("<img src=x onerror=alert(1)>.blend")
    assert page.locator("img[src=x]").count() == 0


def test_a_zip_of_two_projects_is_unpacked_in_sight_and_asks_which_to_render(page: Page, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "film.zip", "w") as archive:
        for name in ("shot 1.blend", "shot 2.blend"):
            archive.write(SAMPLE, f"film/{name}")
    new_draft(page)
    page.set_input_files("#pick-files", str(tmp_path / "film.zip"))
    page.select_option("#main_file", label="film/shot 2.blend")
    expect(page.locator(".check .ready")).to_contain_text("24 frames")
    expect(page.locator("#job-name")).to_have_value("shot 2")


def test_an_upload_goes_on_by_itself_when_the_connection_is_back(page: Page, tmp_path: Path) -> None:
    new_draft(page)
    parts: list[str] = []

    def cut_off_after_two(route: Route) -> None:
        if not is_part(route.request):
            route.continue_()
        elif len(parts) < 2:
            parts.append(route.request.url)
            route.continue_()
        else:
            route.abort("internetdisconnected")

    page.route("**/*", cut_off_after_two)
    page.set_input_files("#pick-files", a_big_file(tmp_path))
    expect(page.locator(".upload-note")).to_contain_text("Trying again")
    page.unroute("**/*")
    expect(page.locator("#uploads")).to_contain_text("1 file uploaded")
    assert file_names(page, count=1) == {"big texture.exr"}


def test_an_upload_goes_on_after_a_closed_tab_and_a_restarted_server(
    farm: LiveFarm, new_context: Callable[[], BrowserContext], tmp_path: Path
) -> None:
    file = a_big_file(tmp_path)
    first = signed_in(new_context(), farm)
    address = new_draft(first)
    sent: list[str] = []

    def let_two_through(route: Route) -> None:
        if not is_part(route.request):
            route.continue_()
        elif len(sent) < 2:
            sent.append(route.request.url)
            route.continue_()
        # the others wait for an answer that never comes

    first.route("**/*", let_two_through)
    with first.expect_event("requestfinished", lambda request: is_part(request) and len(sent) == 2 and request.url == sent[1]):
        first.set_input_files("#pick-files", file)
    first.context.close()
    farm.restart()

    second = signed_in(new_context(), farm)
    second.goto(address)
    expect(second.locator(".file-uploading")).to_contain_text("Drop the same file again")
    again: list[str] = []
    second.on("request", lambda request: again.append(request.url) if is_part(request) else None)
    second.set_input_files("#pick-files", file)
    expect(second.locator(".file-ready")).to_contain_text("big texture.exr")
    assert len(again) == 6 - 2


def test_a_paused_upload_waits_and_goes_on_with_what_is_missing(page: Page, tmp_path: Path) -> None:
    new_draft(page)
    sent: list[str] = []

    def let_two_through(route: Route) -> None:
        if not is_part(route.request):
            route.continue_()
        elif len(sent) < 2:
            sent.append(route.request.url)
            route.continue_()

    page.route("**/*", let_two_through)
    with page.expect_event("requestfinished", lambda request: is_part(request) and len(sent) == 2 and request.url == sent[1]):
        page.set_input_files("#pick-files", a_big_file(tmp_path))
    page.click("#uploads-pause")
    expect(page.locator("#uploads-text")).to_contain_text("Paused")
    page.unroute("**/*")
    page.click("#uploads-pause")
    expect(page.locator(".file-ready")).to_contain_text("big texture.exr")


def test_uploads_go_through_the_farm_where_the_store_is_out_of_reach(page: Page, farm: LiveFarm, tmp_path: Path) -> None:
    new_draft(page)
    page.route("**/*", lambda route: route.continue_() if route.request.url.startswith(farm.url) else route.abort("connectionrefused"))
    page.set_input_files("#pick-files", a_big_file(tmp_path))
    expect(page.locator(".file-ready")).to_contain_text("big texture.exr")
