"""STYLE, sections 2, 7, 10 and 14, as far as a parser can tell."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.conventions.sources import PACKAGES, calls, dotted, functions, imported, modules, name_of, product_modules, tree_of

MOST_FUNCTION_LINES = 60
MOST_MODULE_LINES = 500
NAMELESS = {"utils", "util", "helpers", "helper", "common", "manager", "misc", "base", "core"}
LOG_METHODS = {"debug", "info", "warning", "error", "exception", "critical"}


def test_every_module_says_in_its_docstring_what_it_is_for() -> None:
    silent = [name_of(path) for path in modules(*PACKAGES, "tests", "bench", "samples") if not _says(path.read_text())]
    assert silent == []


def _says(source: str) -> bool:
    return not source.strip() or bool(ast.get_docstring(ast.parse(source)))


def test_no_function_is_longer_than_sixty_lines() -> None:
    long = [
        f"{name_of(path)}:{function.lineno} {function.name}: {length} lines"
        for path in modules(*PACKAGES, "bench", "tests", "samples")
        if "migrations" not in path.parts  # a schema is one list, however long
        for function in functions(path)
        if (length := (function.end_lineno or 0) - function.lineno + 1) > MOST_FUNCTION_LINES
    ]
    assert long == []


def test_no_module_is_longer_than_five_hundred_lines() -> None:
    long = [f"{name_of(path)}: {lines}" for path in product_modules() if (lines := path.read_text().count("\n")) > MOST_MODULE_LINES]
    assert long == []


def test_modules_are_named_for_their_job() -> None:
    assert [name_of(path) for path in product_modules() if path.stem in NAMELESS] == []


def test_the_environment_is_read_by_the_configuration_alone() -> None:
    # others may hand it on, whole, to processes that they start
    readers = [
        f"{name_of(path)}:{node.lineno}"
        for path in modules("supervisor")
        if name_of(path) != "supervisor/config.py"
        for node in ast.walk(tree_of(path))
        if (isinstance(node, ast.Call) and dotted(node.func) in {"os.environ.get", "os.getenv"})
        or (isinstance(node, ast.Subscript) and dotted(node.value) == "os.environ" and isinstance(node.ctx, ast.Load))
    ]
    assert readers == []


def test_the_node_needs_the_standard_library_and_boto3_alone() -> None:
    allowed = {*sys.stdlib_module_names, "nodeimage", "boto3", "botocore"}
    blenders_own = {"addon_utils", "bpy", "imbuf", "mathutils", "idprop", "gpu"}
    foreign = [
        f"{name_of(path)}:{line} {name}"
        for path in modules("nodeimage")
        for name, line in imported(path)
        if name.partition(".")[0] not in (allowed | blenders_own if {"driver", "blender"} & set(path.parts) else allowed)
    ]
    assert foreign == []


def test_rules_need_the_standard_library_alone() -> None:
    foreign = [
        f"{name_of(path)}:{line} {name}"
        for path in modules("supervisor/domain")
        for name, line in imported(path)
        if name.partition(".")[0] not in sys.stdlib_module_names and not name.startswith(("supervisor.domain", "nodeimage.protocol"))
    ]
    assert foreign == []


def test_log_events_are_constant_and_lower_case() -> None:
    wrong = [
        f"{name_of(path)}:{call.lineno} {text!r}" for path in product_modules() for call, text in _log_calls(path) if not _is_event(text)
    ]
    assert wrong == []


def _log_calls(path: Path) -> Iterator[tuple[ast.Call, object]]:
    for call in calls(path):
        target, _, method = dotted(call.func).rpartition(".")
        if method in LOG_METHODS and target.rpartition(".")[2].strip("_") in {"log", "logger"} and call.args:
            first = call.args[0]
            yield call, first.value if isinstance(first, ast.Constant) else None


def _is_event(text: object) -> bool:
    first_word = text.split()[0] if isinstance(text, str) and text.split() else ""
    # a name such as Blender or S3 may open an event
    return bool(first_word) and (first_word[0].islower() or first_word in {"Blender", "Blender's", "S3", "SeaweedFS"})


def test_no_except_catches_everything() -> None:
    # `except Exception` is for the few edges behind which nothing may fall over: ruff's BLE001 names each
    bare = [
        f"{name_of(path)}:{node.lineno}"
        for path in product_modules()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]
    assert bare == []


def test_nothing_is_left_to_do_without_an_entry_in_the_tracker() -> None:
    left = [
        f"{name_of(path)}:{number}"
        for path in product_modules()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"#\s*(TODO|FIXME|XXX|HACK)\b(?!.*#\d+)", line)
    ]
    assert left == []
