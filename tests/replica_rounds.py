"""A replica comes to a primary of millions of keys that is written to meanwhile: a round of ``make crash``, too long for the suite.

The link breaks in the middle of the snapshot, and the replica is killed while the log comes; then both must have the same.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.crash import Load
from tests.replicas import Proxy, control, in_step, info, wait_for
from tests.servers import Lmdbredis

if TYPE_CHECKING:
    import random

    from tests.servers import Server

KEYS_AT_ONCE = 1000
CALL_SECONDS_MAX = 900.0  # reading all rows of millions takes its time
STEP_SECONDS_MAX = 300.0


def fill(server: Server, keys: int) -> None:
    """Write so many keys."""
    client = server.client()
    for start in range(0, keys, 50 * KEYS_AT_ONCE):
        portions = range(start, min(start + 50 * KEYS_AT_ONCE, keys), KEYS_AT_ONCE)
        client.pipeline(
            [
                ("MSET", *(word for number in range(at, min(at + KEYS_AT_ONCE, keys)) for word in (f"key:{number}", f"value:{number}")))
                for at in portions
            ]
        )  # fmt: skip


def ask(server: Server, *words: str) -> object:
    """Return the reply to what takes long."""
    with server.connect(timeout_seconds=CALL_SECONDS_MAX) as client:
        return client.call(*words).value


def many_keys(chance: random.Random, keys: int) -> str:
    """Play it; return what was played. Raises AssertionError."""
    load = Load(chance)
    with Lmdbredis() as primary, Lmdbredis() as replica:
        proxy = Proxy(primary.port)
        try:
            began = time.monotonic()
            fill(primary, keys)
            filled = time.monotonic()
            load.start(primary.port)
            size = (primary.dir / "data.mdb").stat().st_size
            proxy.cut_after(int(size * chance.uniform(0.1, 0.9)))
            control(replica).call("REPLICAOF", "127.0.0.1", proxy.port)
            wait_for(lambda: proxy.is_cut, "the link to break", STEP_SECONDS_MAX)
            proxy.heal()
            wait_for(lambda: control(replica).call("ROLE").plain()[3] == b"connected", "the snapshot", STEP_SECONDS_MAX)
            synced = time.monotonic()
            replica.kill9()
            replica.start()
            control(replica).call("REPLICAOF", "127.0.0.1", proxy.port)
            load.stop()
            wait_for(lambda: in_step(control(primary), control(replica)), "the replica to be in step", STEP_SECONDS_MAX)
            full = info(control(primary), "stats")["sync_full"]
            assert full == "2", f"{full} snapshots: the one that was cut off, and the whole one"
            digests = [ask(server, "DEBUG", "DIGEST") for server in (primary, replica)]
            assert digests[0] == digests[1], digests
            assert [ask(server, "DEBUG", "CHECK") for server in (primary, replica)] == [b"OK", b"OK"]
            assert load.verify(replica.client()) == []
            acknowledged = load.acknowledged()
        finally:
            load.stop()
            proxy.close()
    return (
        f"{keys} keys ({filled - began:.0f} s), a replica after {synced - filled:.0f} s, a cut and a kill -9 under {acknowledged} writes"
    )  # fmt: skip
