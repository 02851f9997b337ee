"""The table of calls in docs/api.md, made from the route table: `python -m app.api.reference` brings the page up to date."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from . import PREFIX
from .endpoint import JSON, Endpoint
from .routes import ENDPOINTS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"
BEGIN, END = "<!-- calls -->", "<!-- end of calls -->"


def with_calls(page: str) -> str:
    """The page with the calls as they are."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{''.join(_rows())}{END}{after}"


def _rows() -> Iterator[str]:
    yield "| call | what | takes | answers |\n|---|---|---|---|\n"
    for endpoint in ENDPOINTS:
        call = f"`{endpoint.method} {PREFIX}{endpoint.path}`"
        yield f"| {call} | {endpoint.summary} | {_taken(endpoint)} | {_answered(endpoint)} |\n"


def _taken(endpoint: Endpoint) -> str:
    taken = []
    if endpoint.query:
        taken.append(" ".join(f"`?{name}=`" for name in endpoint.query.model_fields))
    if endpoint.body:
        taken.append(f"`{endpoint.body.__name__}`: " + " ".join(f"`{name}`" for name in endpoint.body.model_fields))
    elif endpoint.body_media != JSON:
        taken.append("bytes, with a Content-Length")
    return "; ".join(taken)


def _answered(endpoint: Endpoint) -> str:
    return f"{endpoint.status}" + (f" {_named(endpoint.answer)}" if endpoint.answer is not None else f" {endpoint.answer_media}".rstrip())


def _named(answer: Any) -> str:
    return f"list of `{get_args(answer)[0].__name__}`" if get_args(answer) else f"`{answer.__name__}`"


if __name__ == "__main__":
    PAGE.write_text(with_calls(PAGE.read_text()))
