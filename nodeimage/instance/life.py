"""How long this instance has lived, and how often its program was started: both over restarts of the program."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

#: systemd ends what crashes quickly; this ends what crashes slowly, again and again.
MOST_STARTS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """The life of an instance since it was switched on."""

    boot: str
    began_at_ms: int  #: UTC, of the program's first start
    starts: int = 1  #: of the program, this one included

    def left_s(self, max_life_s: float, *, now_ms: int) -> float:
        """How long it may still live; below 0: not any more."""
        return max_life_s - (now_ms - self.began_at_ms) / 1000


def note_start(home: Path, *, boot: str, now_ms: int) -> Life:
    """Write down that the program was started. Returns: the life that it continues, or a new one. Errors: OSError"""
    home.mkdir(parents=True, exist_ok=True)
    path = home / "life.json"
    life = Life(boot=boot, began_at_ms=now_ms)
    with suppress(OSError, ValueError, TypeError, KeyError):
        before = Life(**json.loads(path.read_text()))
        if before.boot == boot:
            life = Life(boot=boot, began_at_ms=before.began_at_ms, starts=before.starts + 1)
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(asdict(life)))
    draft.replace(path)
    return life
