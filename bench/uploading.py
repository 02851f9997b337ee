"""Uploading: 1 GB through the page in a real browser, beside `aws s3 cp` of the same file to the same store."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from app.bootstrap import build_farm
from supervisor.cloud.local.seaweedfs import SeaweedFS
from supervisor.config import Config
from supervisor.domain.file import FileStatus

from .farm import PASSWORD, ROOT, USER, MeasuredFarm, running_farm
from .report import Row

AWS = ROOT / ".bench" / "bin" / "aws"
#: A name for this machine that is no loopback name: to the farm, a browser that can't reach the store.
ELSEWHERE = "farm.test"
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    f"--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1",
]
FILE_BYTES = 1_000_000_000
RUNS = 3
_LIMIT_S = 300.0


def measure_uploading() -> list[Row]:
    """Measure both ways that a part can take. Returns: a row for each"""
    rows = []
    with running_farm({}) as farm, sync_playwright() as playwright:
        for title, address in (
            ("upload of 1 GB from a browser, parts straight to the store", farm.url),
            ("the same, parts through the app (a browser that can't reach the store)", farm.url.replace("127.0.0.1", ELSEWHERE)),
        ):
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM_ARGUMENTS)
            page = browser.new_page(base_url=address)
            _sign_in(page)
            rows.append(_measure(title, farm, page))
            browser.close()
    return rows


def _measure(title: str, farm: MeasuredFarm, page: Page) -> Row:
    kiln_s: list[float] = []
    aws_s: list[float] = []
    ratios: list[float] = []
    source = farm.data / "bench.abc"
    for run in range(RUNS):
        _fill(source)
        aws_s.append(_aws_copy_s(farm, source))
        kiln_s.append(_browser_upload_s(farm, page, source))
        ratios.append(aws_s[-1] / kiln_s[-1])
        print(f"upload {run + 1}/{RUNS}: browser {kiln_s[-1]:.1f} s, aws s3 cp {aws_s[-1]:.1f} s", flush=True)
    return Row(
        what=title,
        kiln=f"{FILE_BYTES / 1e6 / statistics.median(kiln_s):.0f} MB/s",
        instead=f"`aws s3 cp` to the same store: {FILE_BYTES / 1e6 / statistics.median(aws_s):.0f} MB/s",
        figure=f"ratio {statistics.median(ratios):.2f}",
        goal="≥ 0.6",
        is_reached=statistics.median(ratios) >= 0.6,
        runs=", ".join(f"{each:.2f}" for each in ratios),
    )


def _fill(path: Path) -> None:
    with path.open("wb") as out:
        for _ in range(FILE_BYTES // 10_000_000):
            out.write(os.urandom(10_000_000))
    os.sync()


def _sign_in(page: Page) -> None:
    page.goto("/login")
    page.fill("#name", USER)
    page.fill("#password", PASSWORD)
    page.click("button.btn-primary")
    page.wait_for_url("**/jobs")


def _browser_upload_s(farm: MeasuredFarm, page: Page, source: Path) -> float:
    job = farm.client.create_job("upload").id
    page.goto(f"/jobs/{job}")
    page.wait_for_load_state("networkidle")
    began = time.monotonic()
    page.set_input_files("#pick-files", source)
    while time.monotonic() < began + _LIMIT_S:
        if any(file.status is FileStatus.READY for file in farm.client.files(job)):
            took_s = time.monotonic() - began
            farm.client.delete_job(job)
            return took_s
        page.wait_for_timeout(50)  # lets the browser's events through
    raise SystemExit(f"the upload did not end; the page says: {page.inner_text('#uploads')}")


def _aws_copy_s(farm: MeasuredFarm, source: Path) -> float:
    config = Config()
    store = SeaweedFS(farm.data, bucket=config.store.bucket)
    keys = store.keys
    env = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": keys.farm_access,
        "AWS_SECRET_ACCESS_KEY": keys.farm_secret,
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",  # as our own client: SeaweedFS takes either
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_DEFAULT_REGION": config.store.region,
    }
    endpoint = build_farm(config, farm.data).cloud.internal_endpoint
    target = f"s3://{config.store.bucket}/bench/{source.name}"
    aws = [str(AWS), "--endpoint-url", endpoint, "s3"]
    began = time.monotonic()
    subprocess.run([*aws, "cp", "--only-show-errors", source, target], env=env, check=True)
    took_s = time.monotonic() - began
    subprocess.run([*aws, "rm", "--only-show-errors", target], env=env, check=True)
    return took_s
