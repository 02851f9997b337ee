"""STYLE, section 13: partials keep the one-name rule, and htmx attributes stand where they work."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.conventions.sources import ROOT, name_of

TEMPLATES = ROOT / "app" / "templates"
PAGES = sorted(TEMPLATES.rglob("*.html"))
PARTIALS = [path for path in PAGES if path.name.startswith("_") and path.parent != TEMPLATES]

OPENING = re.compile(r"\{#- Served by: \w[\w., ]+\.\s+Needs: .+ -#\}", re.DOTALL)
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
REQUESTS = {"hx-get", "hx-post", "hx-put", "hx-patch", "hx-delete"}
#: Attributes that htmx would inherit from an ancestor if we let it.
INHERITED = {"hx-target", "hx-swap", "hx-headers", "hx-vals", "hx-include", "hx-select", "hx-push-url", "hx-confirm", "hx-indicator"}


@dataclass(frozen=True, slots=True)
class Element:
    """An opening tag, with the template's own marks still in its attributes."""

    tag: str
    depth: int
    attributes: dict[str, str] = field(default_factory=dict)


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[Element] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(Element(tag, len(self._open), {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass


def elements(path: Path) -> list[Element]:
    """The tags of a template. Jinja's statements and comments are taken out; its expressions stay, as text."""
    text = re.sub(r"\{#.*?#\}|\{%.*?%\}", "", path.read_text(), flags=re.DOTALL)
    # quotes inside of an expression would end the attribute that it stands in
    text = re.sub(r"\{\{.*?\}\}", lambda match: re.sub(r"[\"'<>]", "~", match[0]), text, flags=re.DOTALL)
    parser = _Elements()
    parser.feed(text)
    return parser.found


def test_there_are_templates_to_check() -> None:
    assert PAGES
    assert PARTIALS


@pytest.mark.parametrize("partial", PARTIALS, ids=name_of)
def test_a_partial_opens_with_who_serves_it_and_what_it_needs(partial: Path) -> None:
    first = partial.read_text().split("-#}")[0] + "-#}"
    assert OPENING.match(first), first


@pytest.mark.parametrize("partial", PARTIALS, ids=name_of)
def test_a_partial_is_one_element_with_the_id_that_its_name_says(partial: Path) -> None:
    roots = [element for element in elements(partial) if element.depth == 0]
    part = partial.stem.removeprefix("_").replace("_", "-")
    thing = partial.parent.name.removesuffix("s")
    assert len({root.attributes.get("id", "") for root in roots}) == 1, [root.tag for root in roots]
    assert re.fullmatch(rf"{thing}(-\{{\{{.+\}}\}})?-{part}|{thing}s?-{part}", roots[0].attributes.get("id", "")), roots[0].attributes


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_request_names_its_own_target_and_swap(page: Path) -> None:
    for element in elements(page):
        if REQUESTS & set(element.attributes):
            missing = {"hx-target", "hx-swap"} - set(element.attributes)
            assert not missing, f"<{element.tag} {element.attributes}> lacks {missing}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_nothing_is_set_for_others_to_inherit(page: Path) -> None:
    for element in elements(page):
        if not REQUESTS & set(element.attributes):
            assert not INHERITED & set(element.attributes), f"<{element.tag} {element.attributes}> makes no request"
        assert "hx-boost" not in element.attributes


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_polls_end_when_their_thing_can_no_longer_change(page: Path) -> None:
    text = page.read_text()
    for poll in re.finditer(r'hx-trigger="([^"]*\bevery\b[^"]*)"', text):
        is_conditional = text.rfind("{% if", 0, poll.start()) > text.rfind("{% endif", 0, poll.start())
        assert is_conditional or "{{" in poll[1], f"{poll[0]} stands outside of an if"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_template_runs_a_script_of_its_own(page: Path) -> None:
    # the content security policy would refuse it
    for element in elements(page):
        assert not (element.tag == "script" and "src" not in element.attributes and element.attributes.get("type") != "application/json")
        assert not [name for name in element.attributes if name.startswith("on")], element.attributes
        assert "style" not in element.attributes, element.attributes
