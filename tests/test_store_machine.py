"""Store, keyspace, types and upkeep together, beside a dictionary: commands, commits, syncs, repairs and crashes in any order.

Each crash copies the directory as it is, or as a power cut leaves it, and goes on with the copy: so damage adds up.
"""

from __future__ import annotations

import random
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.crash import Engine, Model, PowerDisk, Workload

if TYPE_CHECKING:
    from tests.crash_units import State

HELD_S = 0.03
SEEDS = st.integers(0, 1 << 30)


class HeldPowerDisk(PowerDisk):
    """A disk whose commits wait while they are held, before or after the engine has written its pages; not for long, since
    an ordered read waits for them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.before = threading.Event()
        self.after = threading.Event()
        self.let_go()

    def let_go(self) -> None:
        """Hold nothing."""
        self.before.set()
        self.after.set()

    def commit(self, transaction: object) -> None:
        """Commit, when one may."""
        self.before.wait(HELD_S)
        super().commit(transaction)
        self.after.wait(HELD_S)


class Machine(RuleBasedStateMachine):
    """See the module."""

    @initialize(hot_layer=st.sampled_from(("0", "20kb", "64mb")))
    def begin(self, hot_layer: str) -> None:
        """Open an empty store."""
        self.holder = tempfile.TemporaryDirectory(prefix="machine-")
        self.number = 0
        self.options = ("--hot-layer-size", hot_layer)
        self.disk = HeldPowerDisk()
        self.open(Path(self.holder.name) / "0")
        self.model = Model()
        self.history: list[tuple[int, State]] = []
        self.take_note()

    def open(self, directory: Path) -> None:
        """Open a directory."""
        clock_ms = self.engine.clock_ms if hasattr(self, "engine") else 1_000_000
        self.engine = Engine(directory, self.disk, *self.options)
        self.engine.clock_ms = clock_ms

    @invariant()
    def take_note(self) -> None:
        """Keep the state that the log now holds."""
        if not hasattr(self, "history"):
            return
        self.history.append((self.engine.store.wal.end_lsn, self.model.copy()))

    @rule(seed=SEEDS, batches=st.integers(1, 8), size=st.integers(1, 6))
    def run(self, seed: int, batches: int, size: int) -> None:
        """Run some batches of commands."""
        workload = Workload(random.Random(seed))
        for _ in range(batches):
            batch = [workload.command() for _ in range(size)]
            for words, reply in zip(batch, self.engine.run(*batch), strict=True):
                assert not reply.is_error or reply.value == b"ERR no such key", (words, reply)
                self.model.apply(words)
            self.take_note()

    @rule(number=st.integers(0, 5))
    def flush_all(self, number: int) -> None:
        """Delete everything, now and then."""
        if number == 0:
            self.engine.run((b"FLUSHALL",))
            self.model.state.clear()
            self.take_note()

    @rule(milliseconds=st.sampled_from((0, 1, 60)), times=st.integers(1, 10))
    def tick(self, milliseconds: int, times: int) -> None:
        """Let the upkeep work: checkpoints, and reclaiming."""
        for _ in range(times):
            self.engine.tick(milliseconds)

    @rule(seed=SEEDS, keys=st.integers(1, 5))
    def expire(self, seed: int, keys: int) -> None:
        """Let some keys expire."""
        chance = random.Random(seed)
        due = chance.sample(sorted(self.model.state), min(keys, len(self.model.state)))
        for key in due:
            self.engine.run((b"PEXPIREAT", key, b"%d" % (self.engine.clock_ms + 3)))
            kind, _, value = self.model.state[key]
            self.model.state[key] = (kind, self.engine.clock_ms + 3, value)
            self.take_note()
        self.engine.clock_ms += 10
        for key in due[::2]:  # found expired by a command
            assert self.engine.run((b"EXISTS", key))[0].value == 0
            del self.model.state[key]
            self.take_note()
        self.let_expire()  # and the others by the upkeep

    def let_expire(self) -> None:
        """Let the upkeep delete what is due."""
        self.disk.let_go()
        for _ in range(1000):
            self.engine.tick(0)
            self.engine.store.settle()  # waits for a commit that is on its way
            if self.engine.keyspace.due.next_ms > self.engine.clock_ms:
                break
        for key, (_, expire_at_ms, _) in list(self.model.state.items()):
            if 0 < expire_at_ms <= self.engine.clock_ms:
                del self.model.state[key]
        self.take_note()

    @rule(when=st.sampled_from(("before", "after")))
    def hold_a_commit(self, when: str) -> None:
        """Begin a commit that does not end until it must."""
        if not self.engine.store.is_committing:
            getattr(self.disk, when).clear()
            self.engine.store.begin_commit()

    @rule()
    def let_go(self) -> None:
        """Let the commit end, if one is held."""
        self.disk.let_go()

    @rule()
    def sync(self) -> None:
        """Sync the log: what was written is promised."""
        self.engine.store.wal.sync()

    @rule()
    def checkpoint(self) -> None:
        """Make a checkpoint here and now."""
        self.disk.let_go()
        self.engine.store.checkpoint()

    @rule()
    def repair(self) -> None:
        """Repair: nothing changes."""
        self.disk.let_go()
        self.engine.store.repair()

    @rule()
    def compare(self) -> None:
        """The state is the model's, and the check finds nothing."""
        self.disk.let_go()
        assert self.model.state == self.engine.dump()
        assert self.engine.check() == []

    @rule(orderly=st.booleans())
    def restart(self, orderly: bool) -> None:
        """Close and open."""
        self.disk.let_go()
        self.engine.close(checkpoint=orderly)
        self.open(self.engine.directory)
        self.take_note()
        self.compare()

    @rule(how=st.sampled_from(("killed", "power", "power", "harshest")), seed=SEEDS)
    def crash(self, how: str, seed: int) -> None:
        """Crash, and go on with what is left."""
        self.take_note()
        self.number += 1
        source, target = self.engine.directory, Path(self.holder.name) / f"{self.number}"
        syncing = self.engine.store._syncing
        if syncing is not None:  # the copy is not made in a moment: nothing may move meanwhile
            syncing.exception()
        promised = self.engine.store.wal.end_lsn if how == "killed" else self.engine.store.wal.synced_lsn
        if how == "killed":
            _copy(source, target)
        else:
            self.disk.cut(source, target, random.Random(seed), harshest=how == "harshest")
        self.disk.let_go()
        self.engine.close(checkpoint=False)
        self.disk.close()
        self.disk = HeldPowerDisk()
        self.disk.trust(target)
        self.open(target)
        found = self.engine.dump()
        possible = [(lsn, state) for lsn, state in self.history if lsn >= promised and state == found]
        note(f"{how}: promised {promised:x}, ends at {self.engine.store.wal.end_lsn:x}")

        self.broken = not possible
        assert possible, "the state is none that was logged after what was promised"
        self.model.state = possible[0][1]
        self.model.state = self.model.copy()
        self.history = []
        self.take_note()
        self.let_expire()  # the crash may have brought back what was due
        assert self.engine.check() == []

    def teardown(self) -> None:
        """Compare once more."""
        if hasattr(self, "engine"):
            if not getattr(self, "broken", False):
                self.compare()
            self.engine.close()
            self.disk.close()
            self.holder.cleanup()


def _copy(source: Path, target: Path) -> None:
    """Copy a directory, CONTROL first: it names what the other files hold."""
    target.mkdir()
    (target / "wal").mkdir()
    for path in [source / "CONTROL", source / "data.mdb", *(source / "wal").iterdir()]:
        (target / path.relative_to(source)).write_bytes(path.read_bytes())


TestMachine = Machine.TestCase
