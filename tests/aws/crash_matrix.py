"""The crash matrix: jobs' whole lives on AWS, and for every call in them the farm's death just before it and just after it took effect.

`python -m tests.aws.crash_matrix` (`make crash-matrix`) ends with one line, `N points: N ended right, 0 leaked, 0 doubled`, and with status
0 only if it says so.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog

from .lives.account import Account, open_account
from .lives.life import LIVES, Life
from .lives.matrix import Matrix, Outcome

_MOST_SHOWN = 40


def run(account: Account, lives: Sequence[Life], folder: Path, *, workers: int, literally: bool, number: int | None) -> Iterator[Outcome]:
    for index, life in enumerate(lives):
        began = time.monotonic()
        matrix = Matrix(account=account, life=life, folder=folder / str(index), workers=workers, literally=literally)
        if number is not None:
            matrix.chosen = lambda point: point.number == number
        yield from matrix.run()
        states = len({point.state for point in matrix.points})
        took_s = time.monotonic() - began
        say(f"{life.name}: {len(matrix.points)} points, {states} states, {took_s:.0f} s {'; '.join(matrix.baseline)}")


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def main() -> int:
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--life", default="", help="only the lives with this in their name")
    parser.add_argument("--point", type=int, help="only this point of them")
    parser.add_argument("--literally", action="store_true", help="play every point, those too that leave what another one leaves")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--log", action="store_true")
    asked = parser.parse_args()
    if not asked.log:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    counts: Counter[str] = Counter()
    lives = [life for life in LIVES if asked.life in life.name]
    with TemporaryDirectory(prefix="crash-matrix-") as folder, open_account() as account:
        gc.freeze()
        outcomes = run(account, lives, Path(folder), workers=asked.workers, literally=asked.literally, number=asked.point)
        for outcome in outcomes:
            counts["points"] += 1
            counts["right"] += outcome.has_ended_right
            for kind in {kind for kind, _ in outcome.faults}:
                counts[kind] += 1
            if outcome.faults and counts["points"] - counts["right"] <= _MOST_SHOWN:
                say(f"point {outcome.point.number} of {outcome.point}\n  " + "\n  ".join(f"{k}: {t}" for k, t in outcome.faults))
        os.chdir("/")
    say(f"{counts['points']} points: {counts['right']} ended right, {counts['leaked']} leaked, {counts['doubled']} doubled")
    return 0 if counts["points"] == counts["right"] > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
