"""The crash matrix: jobs' whole lives on AWS, and for every call in them the farm's death just before it and just after it took effect.

`python -m tests.aws.crash_matrix` (`make crash-matrix`) ends with one line, `N points: N ended right, 0 leaked, 0 doubled`, and with status
0 only if it says so. `--life` plays some of the lives alone, `--every` some of their points; the policy is looked at over all lives only.
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
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog

from supervisor.cloud.aws.policy import Part

from .lives.account import Account, open_account
from .lives.life import LIVES, Life
from .lives.matrix import Matrix, Outcome, Point
from .policy_check import never_used

#: Faults that are told in full.
_MOST_SHOWN = 40
#: What the policy allows, and no life needs -> why, and which test does.
_NOT_IN_LIVES = {
    "autoscaling:DetachInstances": "AWS takes nothing back in these lives: tests/aws/test_shared_pool.py",
    "autoscaling:UpdateAutoScalingGroup": "one job alone makes no pool larger: tests/aws/test_shared_pool.py",
    "iam:CreateServiceLinkedRole": "a farm with a pool is set up with it, before its life begins: lives/account.py",
}


@dataclass(kw_only=True)
class Tally:
    """What has come of all points so far."""

    counts: Counter[str] = field(default_factory=Counter)
    operations: set[str] = field(default_factory=set)  #: that were called in any life
    is_wrong: bool = False  #: something is, beside the points

    def add(self, outcome: Outcome) -> None:
        counts = self.counts
        counts["points"] += 1
        counts["right"] += outcome.has_ended_right
        for kind in {kind for kind, _ in outcome.faults}:
            counts[kind] += 1
        if outcome.faults and counts["points"] - counts["right"] <= _MOST_SHOWN:
            say(f"point {outcome.point.number} of {outcome.point}\n  " + "\n  ".join(f"{k}: {t}" for k, t in outcome.faults))

    def complain(self, text: str) -> None:
        self.is_wrong = True
        say(text)

    def __str__(self) -> str:
        counts = self.counts
        return f"{counts['points']} points: {counts['right']} ended right, {counts['leaked']} leaked, {counts['doubled']} doubled"

    @property
    def status(self) -> int:
        return 0 if self.counts["points"] == self.counts["right"] > 0 and not self.is_wrong else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which points of a life are played."""

    number: int | None  #: this one alone; None: all
    every: int  #: each of so many

    def __call__(self, point: Point) -> bool:
        return point.number == self.number if self.number else point.number % self.every == 0


def play(account: Account, lives: Sequence[Life], folder: Path, *, asked: argparse.Namespace, tally: Tally) -> None:
    """Play lives and their points, and say of each life how it went."""
    for index, life in enumerate(lives):
        began = time.monotonic()
        choice = Choice(number=asked.point, every=asked.every)
        matrix = Matrix(
            account=account, life=life, folder=folder / str(index), workers=asked.workers, literally=asked.literally, chosen=choice
        )
        before = tally.counts["right"]
        for outcome in matrix.run():
            tally.add(outcome)
        tally.operations |= matrix.operations
        for fault in matrix.baseline:
            tally.complain(f"{life.name}, with no death in it: {fault}")
        states = len({point.state for point in matrix.points})
        right = tally.counts["right"] - before
        say(f"{life.name}: {len(matrix.points)} points, {right} ended right ({states} states, {time.monotonic() - began:.0f} s)")


def faults_of_policy(operations: set[str]) -> Iterator[str]:
    """Compare what the policy allows with what lives needed; that none needed more, each life has seen itself."""
    unused = never_used(operations, Part.RUN) | never_used(operations, Part.POOL)
    for action in sorted(unused - _NOT_IN_LIVES.keys()):
        yield f"the policy allows {action}, and no life needs it"


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--life", default="", help="only the lives with this in their name; =NAME: only that one")
    parser.add_argument("--point", type=int, help="only this point of them")
    parser.add_argument("--every", type=int, default=1, help="only each of so many points")
    parser.add_argument("--literally", action="store_true", help="play every point, those too that leave what another one leaves")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--log", action="store_true")
    return parser


def _is_asked(life: Life, wanted: str) -> bool:
    return life.name == wanted[1:] if wanted.startswith("=") else wanted in life.name


def main() -> int:
    asked = _parser().parse_args()
    if not asked.log:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    lives, tally = [life for life in LIVES if _is_asked(life, asked.life)], Tally()
    with TemporaryDirectory(prefix="crash-matrix-") as folder, open_account() as account:
        gc.freeze()
        play(account, lives, Path(folder), asked=asked, tally=tally)
        os.chdir("/")
    if not asked.life and not asked.point and asked.every == 1:
        for fault in faults_of_policy(tally.operations):
            tally.complain(fault)
    say(str(tally))
    return tally.status


if __name__ == "__main__":
    sys.exit(main())
