"""Hold the values that the farm sends against AWS's own description of its services, as botocore carries it.

botocore itself refuses names that do not exist and types that are wrong; moto takes any text. What is left are words: one that is in no
list of a service, or longer than it takes, is sent, and refused by AWS alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any  # Any: botocore's shapes and parameters have no types


def wrong_values(shape: Any, value: Any, where: str = "") -> Iterator[str]:
    """Say which values of a request AWS would refuse.

    Shape:   shape: of the request, or of a part of it; where: names the part
    """
    if shape.type_name == "string" and isinstance(value, str):
        yield from _wrong_text(shape, value, where)
    elif isinstance(value, int) and value > shape.metadata.get("max", value):
        yield f"{where}: {value} is more than {shape.metadata['max']}"
    for name, part, each in _parts(shape, value):
        yield from wrong_values(part, each, f"{where}{name}".strip("."))


def _parts(shape: Any, value: Any) -> Iterator[tuple[str, Any, Any]]:
    """What a request, or a part of it, is made of: name, shape, value."""
    if shape.type_name == "structure" and isinstance(value, Mapping):
        yield from ((f".{name}", shape.members[name], each) for name, each in value.items() if name in shape.members)
    elif shape.type_name == "list" and isinstance(value, Sequence):
        yield from (("[]", shape.member, each) for each in value)
    elif shape.type_name == "map" and isinstance(value, Mapping):
        yield from (("{}", shape.value, each) for each in value.values())


def _wrong_text(shape: Any, value: str, where: str) -> Iterator[str]:
    words, most, pattern = getattr(shape, "enum", ()), shape.metadata.get("max"), shape.metadata.get("pattern")
    # instance types are the region's, and newer than botocore's list at times
    if words and value not in words and shape.name != "InstanceType":
        yield f"{where}: {value!r} is none of {', '.join(words)}"
    if most is not None and len(value) > most:
        yield f"{where}: {len(value)} characters are more than {most}"
    if pattern and _does_not_fit(pattern, value):
        yield f"{where}: {value!r} does not fit {pattern}"


def _does_not_fit(pattern: str, value: str) -> bool:
    try:
        return not re.fullmatch(pattern, value)
    except re.error:  # they are Java's, and some know classes that Python does not
        return False
