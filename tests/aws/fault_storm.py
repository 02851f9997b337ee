"""The fault storm: hundreds of small jobs on AWS, each in bad weather from a seed of its own. All must end right, with nothing left.

`python -m tests.aws.fault_storm` (`make fault-storm`) prints the seed that it begins with. `--seed N --jobs 1` plays one job again.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog

from .lives.account import Account, open_account
from .lives.matrix import Forks
from .lives.storm import play_in_storm, weather_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of one job."""

    seed: int
    faults: tuple[str, ...]
    deaths: int = 0


def weather_report(account: Account, seed: int) -> Result:
    """Play one job."""
    with TemporaryDirectory(prefix="storm-") as folder:
        try:
            play = play_in_storm(account, seed, Path(folder) / "data")
        except Exception:  # noqa: BLE001  whatever it is, it is what came of the job
            return Result(seed=seed, faults=(traceback.format_exc(limit=-12),))
    return Result(seed=seed, faults=tuple(map(str, play.faults)), deaths=play.deaths)


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def _settle_hashes() -> None:
    """Begin again as a process whose sets have their order from no dice: a seed is to bring the same storm each time."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.execve(sys.executable, [sys.executable, "-m", "tests.aws.fault_storm", *sys.argv[1:]], {**os.environ, "PYTHONHASHSEED": "0"})


def main() -> int:
    _settle_hashes()
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1, 1_000_000), help="of the first job")
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--log", action="store_true")
    asked = parser.parse_args()
    if not asked.log:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    say(f"seed {asked.seed}, {asked.jobs} jobs")
    counts: Counter[str] = Counter()
    began = time.monotonic()
    with open_account() as account:
        forks: Forks[Result] = Forks(asked.workers)
        for seed in range(asked.seed, asked.seed + asked.jobs):
            forks.begin(partial(weather_report, account, seed))
            _count(forks.take(), counts)
        _count(forks.finish(), counts)
    say(f"{counts['jobs']} jobs: {counts['right']} ended right; the farm died {counts['deaths']} times; {time.monotonic() - began:.0f} s")
    return 0 if counts["jobs"] == counts["right"] else 1


def _count(results: list[Result], counts: Counter[str]) -> None:
    for result in results:
        counts["jobs"] += 1
        counts["right"] += not result.faults
        counts["deaths"] += result.deaths
        if result.faults:
            say(f"seed {result.seed}, {weather_of(result.seed).life.name}:\n  " + "\n  ".join(result.faults))


if __name__ == "__main__":
    sys.exit(main())
