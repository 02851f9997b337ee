"""STYLE, section 12: what a test may not do."""

from __future__ import annotations

import ast

from tests.conventions.sources import Function, calls, dotted, functions, modules, name_of, tree_of

FEWEST_WORDS = 3


def test_no_test_sleeps_for_a_fixed_time() -> None:
    # programs that tests run, such as a Blender that pretends to be slow, may: they are not what waits
    sleepers = [
        f"{name_of(path)}:{call.lineno}"
        for path in modules("tests")
        if path.name.startswith(("test_", "conftest"))
        for call in calls(path)
        if dotted(call.func) in {"time.sleep", "sleep", "asyncio.sleep"} and not _is_short(call)
    ]
    assert sleepers == []


def _is_short(call: ast.Call) -> bool:
    """A tenth of a second at most: the pause of a loop that looks for a condition."""
    first = call.args[0] if call.args else None
    return isinstance(first, ast.Constant) and isinstance(first.value, int | float) and first.value <= 0.1


def test_no_test_patches_our_own_code() -> None:
    patches = [
        f"{name_of(path)}:{node.lineno}"
        for path in modules("tests")
        for node in ast.walk(tree_of(path))
        if (isinstance(node, ast.ImportFrom) and node.module == "unittest.mock")
        or (isinstance(node, ast.Import) and any(alias.name.startswith("unittest.mock") for alias in node.names))
    ]
    assert patches == []


def test_no_test_is_skipped() -> None:
    names = {"pytest.skip", "pytest.mark.skip", "pytest.mark.skipif", "pytest.importorskip", "pytest.mark.xfail", "pytest.xfail"}
    skipped = [
        f"{name_of(path)}:{node.lineno}"
        for path in modules("tests")
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute) and dotted(node) in names
    ]
    assert skipped == []


def test_test_names_are_sentences() -> None:
    short = [
        f"{name_of(path)}:{function.lineno} {function.name}"
        for path in modules("tests")
        for function in functions(path)
        if function.name.startswith("test_") and len(function.name.split("_")[1:]) < FEWEST_WORDS
    ]
    assert short == []


def test_every_test_says_what_should_be() -> None:
    """A test asserts, expects an error, or calls something that is named for asserting."""
    silent = [
        f"{name_of(path)}:{function.lineno} {function.name}"
        for path in modules("tests")
        for function in functions(path)
        if function.name.startswith("test_") and not _asserts(function)
    ]
    assert silent == []


def _asserts(function: Function) -> bool:
    if "stubber" in {argument.arg for argument in function.args.args}:
        return True  # the fixture asserts that all it expected was asked for
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            last = dotted(node.func).rpartition(".")[2] or (node.func.attr if isinstance(node.func, ast.Attribute) else "")
            if last == "raises" or last.startswith(("assert", "expect", "wait", "check", "to_")):
                return True
    return False
