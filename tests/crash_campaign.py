"""Minutes of crashes: ``python -m tests.crash_campaign --seconds 300 [--seed N]``, for ``make crash``.

Plays at random, again and again on the same directory, so that damage would add up: a server under load killed at a random
moment or at a named point, starts that are killed too, orderly ends between; and engines whose power is cut. Before all that, a
replica comes to a primary of many keys (`replica_rounds`). Each round says
what it played; the first thing that is wrong ends it with status 1, the seed and the directory to look into.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.crash import CRASH_POINTS, RECOVERY_POINTS, Engine, Load, Model, PowerDisk, Workload, recover
from tests.replica_rounds import many_keys
from tests.servers import Lmdbredis, ServerFailed

POLICIES = ("always", "everysec", "no")


class WrongError(Exception):
    """Something that must hold does not."""


def options(chance: random.Random) -> list[str]:
    """Return a configuration that makes much happen."""
    return [
        "--appendfsync", chance.choice(POLICIES),
        "--wal-segment-size", chance.choice(("65536", "300000", "4mb")),
        "--checkpoint-interval", chance.choice(("5", "50", "1000")),
        "--checkpoint-dirty", chance.choice(("50", "1000", "100000")),
        "--hot-layer-size", chance.choice(("0", "100kb", "64mb")),
        "--repl-backlog-size", chance.choice(("20000", "1mb")),
    ]  # fmt: skip


def killed_servers(chance: random.Random, directory: Path, rounds: int) -> str:
    """Kill a server again and again; return what was played. Raises WrongError."""
    load = Load(chance, clients=chance.randint(1, 4))
    played = []
    for _ in range(rounds):
        point = chance.choice((*CRASH_POINTS, "", ""))
        one = Lmdbredis(*options(chance), dir=directory)
        if point:
            one.env = {"LMDBREDIS_CRASH_AT": f"{point}:{chance.choice((1, 2, 3, 5, 10, 50))}"}
        try:
            one.start()
        except ServerFailed:  # it was killed in its start
            played.append(f"{point} in start")
            one.kill9()
            continue
        try:
            load.start(one.port)
            time.sleep(chance.random() * 2)
            how = chance.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
            status = one.end(how)
            load.wait()
        finally:
            one.kill9()
        if status == 0 and "Traceback" in one.log_path.read_text():
            raise WrongError(f"a traceback in {one.log_path}")
        played.append(f"{point or how.name} ({load.acknowledged()} commands)")
        killed_starts(chance, directory)
        with Lmdbredis(*options(chance), dir=directory) as one:
            verify(one, load)  # the ledgers must know what is there before they go on
            if chance.random() < 0.7:
                one.kill9()
    return ", ".join(played)


def killed_starts(chance: random.Random, directory: Path) -> None:
    """Kill some starts."""
    while chance.random() < 0.3:
        one = Lmdbredis(*options(chance), dir=directory)
        one.env = {"LMDBREDIS_CRASH_AT": f"{chance.choice(RECOVERY_POINTS)}:{chance.choice((1, 2, 10, 100))}"}
        try:
            one.start()
        except ServerFailed:
            pass
        finally:
            one.kill9()


def verify(one: Lmdbredis, load: Load) -> None:
    """Compare a running server with the ledgers. Raises WrongError."""
    with one.connect() as client:
        wrong = load.verify(client)
    refused = [text for ledger in load.ledgers for text in ledger.errors]
    if wrong or refused:
        raise WrongError("\n".join([*wrong, *map(repr, refused[:5])]))


def power_cuts(chance: random.Random, directory: Path) -> str:
    """Cut the power of an engine again and again, each time going on with what was left. Raises WrongError."""
    model, workload = Model(), Workload(chance)
    policy = chance.choice(POLICIES)
    for cut in range(8):
        disk = PowerDisk()
        if directory.exists():
            disk.trust(directory)
        engine = Engine(directory, disk, "--checkpoint-dirty", chance.choice(("20", "500")))
        workload.able = engine.able()
        history = [(engine.store.wal.end_lsn, model.copy())]
        for _ in range(chance.randrange(400)):
            batch = [workload.command() for _ in range(chance.randint(1, 8))]
            engine.run(*batch)
            for words in batch:
                model.apply(words)
            history.append((engine.store.wal.end_lsn, model.copy()))
            if policy == "always" or (policy == "everysec" and chance.random() < 0.05):
                engine.store.wal.sync()
            engine.tick(chance.choice((0, 1, 5, 60)))
        promised = history[-1][0] if policy == "always" else engine.store.wal.synced_lsn
        following = directory.with_name(f"{directory.name}.{cut}")
        disk.cut(directory, following, chance, harshest=chance.random() < 0.2)
        engine.close()
        disk.close()
        found = recover(following)
        possible = [state for lsn, state in history if lsn >= promised and state == found.state]
        if found.faults or not possible:
            raise WrongError(
                f"after a power cut under {policy}, {following}: {found.faults or 'promised writes are lost'}"
            )
        model.state = possible[-1]
        model.state = model.copy()
        shutil.rmtree(directory)
        following.rename(directory)
    return f"8 power cuts under {policy}"


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run the campaign; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=None, help="repeat a campaign (but for what threads do)")
    parser.add_argument("--keys", type=int, default=3_000_000, help="of the primary that a replica comes to; 0 = none")
    given = parser.parse_args()
    seed = random.randrange(1 << 30) if given.seed is None else given.seed
    say(f"seed {seed}")
    if given.keys:
        try:
            say(f"a replica: {many_keys(random.Random(seed), given.keys)}")
        except (AssertionError, ServerFailed) as wrong:
            say(f"WRONG with a replica of many keys, seed {seed}\n{wrong}")
            return 1
    began, number = time.monotonic(), 0
    while time.monotonic() - began < given.seconds:
        chance = random.Random(f"{seed}.{number}")
        holder = Path(tempfile.mkdtemp(prefix="crash-"))
        (holder / "data").mkdir()
        try:
            played = (
                killed_servers(chance, holder / "data", rounds=4)
                if chance.random() < 0.7
                else power_cuts(chance, holder / "engine")
            )
        except (WrongError, ServerFailed) as wrong:
            say(f"WRONG in round {number} of seed {seed}; the directory is kept: {holder}\n{wrong}")
            return 1
        say(f"{time.monotonic() - began:6.0f} s, round {number}: {played}")
        shutil.rmtree(holder)
        number += 1
    say(f"{number} rounds, nothing lost")
    return 0


if __name__ == "__main__":
    sys.exit(main())
