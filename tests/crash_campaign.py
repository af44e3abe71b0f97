"""Crashes, for as long as one likes: ``python -m tests.crash_campaign --seconds 300`` (``make crash``).

Each round draws its kind and everything else from a seed, which it prints; ``--seed`` plays one again. Exit status 1 at the
first thing that is wrong.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.crash import CRASH_POINTS, RECOVERY_POINTS
from tests.crash_rounds import kill_at_point, kill_at_random, kill_in_recovery, lose_power

POLICIES = ("always", "everysec", "no")


def play(seed: int) -> tuple[str, list[str]]:
    """Play one round; return what it was and what is wrong."""
    chance = random.Random(seed)
    policy = chance.choice(POLICIES)
    kind = chance.choice(("random", "point", "recovery", "power", "power", "power"))
    if kind == "random":
        return f"kill -9, {policy}", kill_at_random(chance, policy, kills=1)
    if kind == "point":
        point = chance.choice(CRASH_POINTS)
        return f"kill -9 at {point}", kill_at_point(chance, point, chance.randint(1, 6))
    if kind == "recovery":
        point = chance.choice(RECOVERY_POINTS)
        return f"kill -9 in recovery at {point}", kill_in_recovery(chance, point)
    with tempfile.TemporaryDirectory() as scratch:
        return f"power cut, {policy}", lose_power(chance, policy, Path(scratch) / "round", batches=200)


def main() -> int:
    """Play rounds; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300, help="how long (default: 300)")
    parser.add_argument("--seed", type=int, help="play this one round")
    given = parser.parse_args()
    until = time.monotonic() + given.seconds
    rounds = 0
    while rounds == 0 or (given.seed is None and time.monotonic() < until):
        seed = random.randrange(1 << 32) if given.seed is None else given.seed
        what, faults = play(seed)
        rounds += 1
        print(f"round {rounds}, seed {seed}: {what}: {'ok' if not faults else 'BROKEN'}", flush=True)  # noqa: T201
        for fault in faults:
            print(f"  {fault}")  # noqa: T201
        if faults:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
