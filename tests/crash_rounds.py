"""One round of each kind of crash: play it, and return what is wrong afterwards, empty if nothing is.

Laws: a round draws everything from the chance it is given; it ends by itself; it leaves nothing behind but a server's log.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from tests.crash import Engine, Ledger, Model, PowerDisk, Workload, recover
from tests.servers import Lmdbredis

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from tests.crash_units import Words

CLIENTS = 3
POINT_SECONDS_MAX = 30.0
OPTIONS = (
    "--enable-debug-command",
    "yes",
    "--checkpoint-dirty",
    "100",
    "--checkpoint-interval",
    "20",
    "--wal-segment-size",
    "64kb",
)


class Load:
    """Clients at work on a server, each with a ledger."""

    def __init__(self, chance: random.Random) -> None:
        self.ledgers = [Ledger(chance, b"client%d:" % number) for number in range(CLIENTS)]
        self._until = threading.Event()
        self._threads: list[threading.Thread] = []

    def begin(self, port: int) -> None:
        """Let the clients work until `end`, or until the server is gone."""
        self._until = threading.Event()
        self._threads = [threading.Thread(target=ledger.run, args=(port, self._until)) for ledger in self.ledgers]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Let the clients stop."""
        self._until.set()
        for thread in self._threads:
            thread.join(POINT_SECONDS_MAX)

    def faults(self, server: Lmdbredis) -> list[str]:
        """Return what is wrong with a server that has come back."""
        client = server.client()
        found = [fault for ledger in self.ledgers if (fault := ledger.verify(client))]
        found += [str(error) for ledger in self.ledgers for error in ledger.errors]
        checked = client.call("DEBUG", "CHECK")
        if checked.is_error:
            found.append(str(checked.value))
        return found


def kill_at_random(chance: random.Random, policy: str, kills: int) -> list[str]:
    """Kill a server under load at a random moment, several times, and look each time."""
    with Lmdbredis("--appendfsync", policy, *OPTIONS) as server:
        for _ in range(kills):
            load = Load(chance)
            server.client().call("FLUSHALL")
            load.begin(server.port)
            time.sleep(chance.uniform(0.05, 0.8))  # the moment is the random draw itself, nothing is waited for
            server.kill9()
            load.end()
            server.start()
            if faults := load.faults(server):
                return faults
    return []


def kill_at_point(chance: random.Random, point: str, times: int) -> list[str]:
    """Let a server under load kill itself when it reaches `point` for the `times`-th time, and look."""
    with Lmdbredis("--appendfsync", chance.choice(("always", "everysec")), *OPTIONS) as server:
        return _run_to(chance, server, f"{point}:{times + 3}") or []


def _run_to(chance: random.Random, server: Lmdbredis, crash_at: str) -> list[str]:
    """Restart the server so that it kills itself at a point, load it until it is gone, bring it back, and look."""
    server.kill9()
    server.env["LMDBREDIS_CRASH_AT"] = crash_at
    server.start()
    load = Load(chance)
    load.begin(server.port)
    deadline = time.monotonic() + POINT_SECONDS_MAX
    while server.pid is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    came = server.pid is None
    load.end()
    server.kill9()
    del server.env["LMDBREDIS_CRASH_AT"]
    server.start()
    return load.faults(server) if came else [f"{crash_at} was not reached in {POINT_SECONDS_MAX} s"]


def kill_in_recovery(chance: random.Random, point: str) -> list[str]:
    """Kill a server under load, let its next start kill itself at `point` if it comes there, and look at the one after."""
    with Lmdbredis("--appendfsync", "everysec", *OPTIONS) as server:
        load = Load(chance)
        load.begin(server.port)
        time.sleep(chance.uniform(0.2, 0.5))  # as above
        server.kill9()
        load.end()
        server.env["LMDBREDIS_CRASH_AT"] = f"{point}:1"
        server.start_and_wait(POINT_SECONDS_MAX / 10)
        server.kill9()
        del server.env["LMDBREDIS_CRASH_AT"]
        server.start()
        return load.faults(server)


def lose_power(chance: random.Random, policy: str, directory: Path, batches: int) -> list[str]:
    """Run batches on a disk that loses power at a random moment; the state must be a promised one, or a later one."""
    directory.mkdir()
    disk = PowerDisk()
    engine = Engine(directory / "store", disk)
    workload = Workload(chance, able=engine.able())
    sent: list[Words] = []
    ends: list[tuple[int, int]] = []  # lsn after a batch, commands sent until then
    try:
        for _ in range(chance.randrange(batches)):
            batch = [workload.command() for _ in range(chance.randint(1, 12))]
            engine.run(*batch)
            sent += batch
            ends.append((engine.store.wal.end_lsn, len(sent)))
            if policy == "always" or (policy == "everysec" and chance.random() < 0.1):
                engine.store.wal.sync()
            engine.tick(chance.choice((1, 5, 60)))
        promised = max((count for lsn, count in ends if lsn <= engine.store.wal.synced_lsn), default=0)
        disk.cut(engine.directory, directory / "after", chance, harshest=chance.random() < 0.3)
    finally:
        engine.close(checkpoint=False)
        disk.close()
    if policy == "always" and promised != len(sent):
        return ["a sync that came back did not cover the batch before it"]
    found = recover(directory / "after")
    return found.faults or _not_a_state_of(sent, promised, found.state)


def _not_a_state_of(sent: list[Words], promised: int, found: object) -> list[str]:
    """Return why `found` is not the state after some number >= `promised` of the commands, empty if it is."""
    model = Model()
    for words in sent[:promised]:
        model.apply(words)
    for words in sent[promised:]:
        if model.state == found:
            return []
        model.apply(words)
    return (
        []
        if model.state == found
        else [f"after {promised} to {len(sent)} commands no state was like the one that was found"]
    )
