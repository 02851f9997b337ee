"""Make moto quicker where it does the same work again for each request: thousands of lives are played on it. Its answers stay the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from moto import backends
from moto.core import responses, serialize
from moto.core.utils import get_value

from .patching import Method, mend

#: Last name of a path in an answer -> the paths that end with it, each with what is made of the value there.
_Transformers = dict[str, list[tuple[str, Callable[[Any], Any]]]]
_NOTHING = object()


@cache
def repair() -> None:
    """Quicken moto. Repeat: safe"""
    # it reads its own folder for each backend that it asks for
    modules = tuple(backends.list_of_moto_modules())
    mend(backends, "list_of_moto_modules", lambda original: lambda: modules)
    mend(responses, "method_names_from_class", cache)
    mend(serialize, "xform_name", cache)
    mend(serialize.AttributePicker, "__call__", _picked)


def _picked(original: Method) -> Method:
    """Of the hundred transformers of a service, moto tries each for each value. Only those for the value's own name can be meant."""
    tables: dict[int, tuple[Any, _Transformers]] = {}

    def __call__(self: Any, context: Any) -> Any:  # noqa: N807
        found = (get_value(context.obj, key, _NOTHING) for key in self.get_possible_keys(context))
        value = next((each for each in found if each is not _NOTHING), None)
        kept = tables.get(id(self.response_transformers))
        if kept is None:  # kept with its table, so that its id stays its own
            kept = tables[id(self.response_transformers)] = (self.response_transformers, _by_name(self.response_transformers))
        for path, transform in kept[1].get(context.key, ()):
            if f"{context.key_path}.{context.key}".endswith(path):
                return transform(value)
        return value

    return __call__


def _by_name(transformers: dict[str, Callable[[Any], Any]]) -> _Transformers:
    table: _Transformers = {}
    for path, transform in transformers.items():
        assert "." in path, "a path ends with a whole name"
        table.setdefault(path.rpartition(".")[2], []).append((path, transform))
    return table
