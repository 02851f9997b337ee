"""The farm's HTTP API for Python programs: typed answers, uploads in parts that go on where they stopped."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import urllib3
from pydantic import TypeAdapter, ValidationError
from urllib3.exceptions import HTTPError, LocationParseError

from app.api import models, money_models

_T = TypeVar("_T")

_CONNECT_S, _ANSWER_S = 10.0, 300.0  # completing an upload includes the inspection of a .blend
_BLOCK_BYTES = 1 << 20

Wish = Literal["pause", "resume", "cancel", "retry"]


class ServerUnreachable(Exception):
    """No answer from the server, or an answer that is not a Kiln farm's."""


class ApiError(Exception):
    """The farm refused; the message is its own."""

    def __init__(self, problem: models.Problem) -> None:
        super().__init__(problem.detail)
        self.status = problem.status
        self.problem = problem


class Client:
    """One farm, asked with one token. Threads may share it."""

    def __init__(self, server: str, token: str, *, connections: int = 8) -> None:
        self.server = server.rstrip("/")
        self._token = token
        self._pool = urllib3.PoolManager(
            num_pools=4,
            maxsize=connections,
            blocksize=_BLOCK_BYTES,
            retries=False,
            timeout=urllib3.Timeout(connect=_CONNECT_S, read=_ANSWER_S),
        )

    def close(self) -> None:
        self._pool.clear()

    # Jobs.

    def jobs(self, *, limit: int = 100) -> list[models.JobSummary]:
        """The newest jobs."""
        return self._call("GET", "/jobs", list[models.JobSummary], query={"limit": limit})

    def create_job(self, name: str = "") -> models.Job:
        return self._call("POST", "/jobs", models.Job, body={"name": name})

    def job(self, job: str) -> models.Job:
        return self._call("GET", f"/jobs/{_q(job)}", models.Job)

    def change_job(self, job: str, **changes: Any) -> models.Job:
        """Shape:   the fields of `models.JobChange` that are to change"""
        return self._call("PATCH", f"/jobs/{_q(job)}", models.Job, body=changes)

    def submit_job(self, job: str, **settings: Any) -> models.Job:
        """Shape:   the fields of `models.SettingsChange` that are to differ from what the job has"""
        return self._call("POST", f"/jobs/{_q(job)}/submit", models.Job, body=settings)

    def wish(self, job: str, wish: Wish) -> models.Job:
        """Pause, resume, cancel or retry a job."""
        return self._call("POST", f"/jobs/{_q(job)}/{wish}", models.Job)

    def change_cap(self, job: str, max_cost_usd: float | None) -> models.Job:
        """Give a job another cap; None: the farm's own."""
        return self._call("POST", f"/jobs/{_q(job)}/cap", models.Job, body={"max_cost_usd": max_cost_usd})

    def estimate(self, job: str) -> money_models.Estimate:
        """What is left of a job would take."""
        return self._call("GET", f"/jobs/{_q(job)}/estimate", money_models.Estimate)

    def statistics(self) -> money_models.Statistics:
        return self._call("GET", "/statistics", money_models.Statistics)

    def delete_job(self, job: str) -> None:
        self._send("DELETE", f"{self.server}/api/v1/jobs/{_q(job)}", headers=self._auth())

    def frames(self, job: str) -> Iterator[models.Frame]:
        """All frames of a job, by number."""
        after: int | None = None
        while True:
            query = {"limit": models.MAX_PAGE} | ({} if after is None else {"after": after})
            page = self._call("GET", f"/jobs/{_q(job)}/frames", list[models.Frame], query=query)
            yield from page
            if len(page) < models.MAX_PAGE:
                return
            after = page[-1].number

    def frame_log(self, job: str, number: int) -> str:
        return self._send("GET", f"{self.server}/api/v1/jobs/{_q(job)}/frames/{number}/log", headers=self._auth()).data.decode()

    # Files.

    def files(self, job: str) -> Iterator[models.File]:
        """All files of a job, by path."""
        after = ""
        while True:
            page = self._call("GET", f"/jobs/{_q(job)}/files", list[models.File], query={"after": after, "limit": models.MAX_PAGE})
            yield from page
            if len(page) < models.MAX_PAGE:
                return
            after = page[-1].path

    def begin_file(self, job: str, new: models.NewFile, *, through_app: bool = False) -> models.UploadPlan:
        return self._call("POST", f"/jobs/{_q(job)}/files", models.UploadPlan, query=_through(through_app), body=new.model_dump())

    def resume_file(self, job: str, file: str, *, through_app: bool = False) -> models.UploadPlan:
        return self._call("GET", f"/jobs/{_q(job)}/files/{_q(file)}/parts", models.UploadPlan, query=_through(through_app))

    def complete_file(self, job: str, file: str, parts: Mapping[int, str]) -> models.File:
        """Shape:   number -> ETag"""
        listed = [{"number": number, "etag": etag} for number, etag in sorted(parts.items())]
        return self._call("POST", f"/jobs/{_q(job)}/files/{_q(file)}/complete", models.File, body={"parts": listed})

    def put_file(self, job: str, path: str, source: Any, *, length: int) -> models.File:
        """Upload a file in one request. Shape: source: bytes or a file-like of exactly so many bytes"""
        url = f"{self.server}/api/v1/jobs/{_q(job)}/files/{quote(path)}"
        answer = self._send(
            "PUT", url, body=source, headers={**self._auth(), "Content-Length": str(length), "Content-Type": "application/octet-stream"}
        )
        return _decoded(models.File, answer.data)

    def put_part(self, url: str, source: Any, *, length: int) -> str:
        """PUT one part to its address. Returns: its ETag. Errors: ServerUnreachable; ApiError, of the store too"""
        answer = self._send("PUT", self._reachable(url), body=source, headers={"Content-Length": str(length)})
        etag = answer.headers.get("ETag", "")
        if not etag:
            raise ServerUnreachable(f"{urlsplit(url).netloc} took a part and answered no ETag; something between us and it takes it away")
        return etag

    def _reachable(self, url: str) -> str:
        """A part's address through the app, by the address that the app was reached by: the farm may know itself by another."""
        path = urlsplit(url).path
        return self.server + path if path.startswith("/api/v1/parts/") else url

    # Frames' files and zips.

    def begin_download(self, job: str) -> models.Download:
        return self._call("POST", f"/jobs/{_q(job)}/downloads", models.Download)

    def download(self, download: str) -> models.Download:
        return self._call("GET", f"/downloads/{_q(download)}", models.Download)

    def fetch_output(self, job: str, frame: int, name: str) -> Iterator[bytes]:
        """The bytes of an output."""
        answer = self._send(
            "GET", f"{self.server}/api/v1/jobs/{_q(job)}/frames/{frame}/outputs/{quote(name)}", headers=self._auth(), preload=False
        )
        yield from _stream(answer)

    def fetch_zip(self, download: models.Download, target: Path) -> None:
        """Write a ready download's zip to `target`, going on where an earlier try of the same zip stopped"""
        assert download.url is not None, "the caller waited until it is ready"
        have = target.stat().st_size if target.exists() else 0
        if have and have == download.total_bytes:
            return
        answer = self._send("GET", download.url, headers={"Range": f"bytes={have}-"} if have else {}, preload=False)
        with target.open("ab" if answer.status == HTTPStatus.PARTIAL_CONTENT else "wb") as out:
            for chunk in _stream(answer):
                out.write(chunk)

    # Below all of them.

    def health(self) -> dict[str, Any]:
        """What /healthz says, whatever its status."""
        try:
            answer = self._pool.request("GET", f"{self.server}/healthz")
            health: dict[str, Any] = answer.json()
        except (HTTPError, ValueError, LocationParseError) as error:
            raise ServerUnreachable(f"no farm answers at {self.server}: {_short(error)}") from error
        return health

    def _auth(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"}

    def _call(self, method: str, path: str, answer: type[_T], *, query: Mapping[str, Any] | None = None, body: Any = None) -> _T:
        url = f"{self.server}/api/v1{path}" + (f"?{urlencode(query)}" if query else "")
        headers = self._auth()
        if body is not None:
            headers["Content-Type"] = "application/json"
        return _decoded(answer, self._send(method, url, body=None if body is None else json.dumps(body).encode(), headers=headers).data)

    def _send(
        self, method: str, url: str, *, body: Any = None, headers: dict[str, str] | None = None, preload: bool = True
    ) -> urllib3.BaseHTTPResponse:
        """Errors: ServerUnreachable; ApiError"""
        try:
            answer = self._pool.request(method, url, body=body, headers=headers, preload_content=preload)
        except (HTTPError, LocationParseError, OSError) as error:
            raise ServerUnreachable(f"no answer from {urlsplit(url).netloc or url}: {_short(error)}") from error
        if answer.status >= 300:
            raise ApiError(_problem(answer.status, answer.data, url))
        return answer


def _stream(answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    try:
        yield from answer.stream(_BLOCK_BYTES)
    except HTTPError as error:
        raise ServerUnreachable(f"the connection broke: {_short(error)}") from error
    finally:
        answer.release_conn()


def _q(part: str) -> str:
    return quote(part, safe="")


def _through(through_app: bool) -> dict[str, str]:
    return {"through": "app"} if through_app else {}


def _short(error: Exception) -> str:
    """The part of an error that a person can use: “Connection refused”, not the names of classes around it."""
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause or error)


def _decoded(answer: type[_T], data: bytes) -> _T:
    try:
        return TypeAdapter(answer).validate_json(data)
    except ValidationError as error:
        raise ServerUnreachable(f"the answer is not a Kiln farm's, or one of another version's: {error.errors()[0]['msg']}") from error


def _problem(status: int, data: bytes, url: str) -> models.Problem:
    try:
        return models.Problem.model_validate_json(data)
    except ValidationError:
        # the object store, or a proxy in front of the farm
        text = data[:300].decode(errors="replace").strip()
        return models.Problem(
            type="about:blank", title="", status=status, detail=f"{urlsplit(url).netloc} answered {status}: {text}", errors=[]
        )
