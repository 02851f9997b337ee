"""docs/cli.md, made from the commands' own help: `python -m app.cli.reference` writes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from app.cli import main

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"
_WIDTH = 100

_INTRODUCTION = """\
# Command line

<!-- Made from the commands' own help by `python -m app.cli.reference`; a test keeps it current. -->

In a checkout the command is `.venv/bin/kiln`, in the container `kiln`.

Commands that work on a farm's own data (`serve`, `user`, `token`, `doctor`, `sweep`, `aws`, `ami`, `backup`, `restore`) take
`--data DIR`, and can be used while the farm is served. The others (`submit`, `jobs`) ask a farm over HTTP, from any machine: give
`--server` and `--token`, or set `KILN_SERVER` and `KILN_TOKEN`. With `--json` standard output is JSON and nothing else; what is said
meanwhile goes to standard error.

Exit codes: 0 done; 1 it failed, and standard error says why; 2 the command was written wrong.
"""


def reference() -> str:
    """The whole page."""
    return "\n".join([_INTRODUCTION, *_sections(main, "kiln")])


def _sections(command: click.Command, path: str) -> Iterator[str]:
    context = click.Context(command, info_name=path, terminal_width=_WIDTH, max_content_width=_WIDTH, help_option_names=["-h", "--help"])
    if not isinstance(command, click.Group):
        yield f"## {path}\n\n```\n{command.get_help(context)}\n```\n"
        return
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        assert child is not None, "listed a moment ago"
        yield from _sections(child, f"{path} {name}")


if __name__ == "__main__":
    PAGE.write_text(reference())
