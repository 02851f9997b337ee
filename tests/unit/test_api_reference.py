"""The documentation that is made from the code is as the code is."""

from __future__ import annotations

from app.api import reference as api
from app.cli import reference as cli


def test_table_of_calls_is_current() -> None:
    page = api.PAGE.read_text()
    assert api.with_calls(page) == page, "run `python -m app.api.reference`"


def test_page_of_the_command_line_is_current() -> None:
    assert cli.PAGE.read_text() == cli.reference(), "run `python -m app.cli.reference`"
