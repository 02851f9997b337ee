"""Names of output files, from what an artist typed into a render path. No Blender needed."""

from __future__ import annotations

import re

#: Blender expands `{…}` in paths since 4.5; what it would expand to on a node helps nobody.
_TEMPLATE = re.compile(r"\{[^{}]*\}|[{}]")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f<>:\"|?*]")
#: A name becomes a file name with number, view suffix and extension added; file systems take 255 bytes.
MOST_BYTES = 180


def output_stem(path: str) -> str:
    """The output name in a render path: what follows its last slash, `#` runs kept, templates removed. Empty: only the number."""
    return safe_name(re.split(r"[/\\]", path)[-1])


def safe_name(name: str) -> str:
    """Make a name that any file system and the bucket take, as close to the given one as can be. May be empty."""
    name = _UNSAFE.sub("_", _TEMPLATE.sub("", name)).replace("/", "_").replace("\\", "_")
    return name.encode(errors="replace")[:MOST_BYTES].decode(errors="ignore").replace("..", "_")


def safe_path(path: str) -> str:
    """Make a relative path below a folder of one that a File Output slot names. May be empty, and may end in nothing."""
    parts = [safe_name(part) for part in re.split(r"[/\\]+", path) if part.strip() != ".."]
    return "/".join(part.strip() for part in parts if part.strip() not in ("", "."))


def with_number(name: str, frame: int) -> str:
    """The name with the frame's number in the place of its last run of `#`, as Blender puts it there."""
    return re.sub(r"#+(?=[^#]*$)", lambda run: f"{frame:0{len(run[0]) + (frame < 0)}d}", name)


def unique_name(name: str, taken: set[str]) -> str:
    """Take a name that nobody took before, differing in more than case; a number is added where needed."""
    candidate, n = name, 1
    while candidate.casefold() in taken:
        n += 1
        candidate = f"{name}_{n}"
    taken.add(candidate.casefold())
    return candidate
