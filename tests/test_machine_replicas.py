"""A primary and two replicas through whatever happens to servers and links: once all is well again, all three have the same.

Laws:
- What is drawn are writes with or without a guarantee, and what goes wrong: a link is cut, stalled or slowed, a server is killed and
  started, stopped and continued, the log is trimmed, a replica takes the primary's place by FAILOVER or after the primary was killed.
- A write is acknowledged with nothing (`plain`), by WAIT 1, or under synchronous-replicas 1 (`safe`). Nothing that was acknowledged is
  lost while its primary lives on or comes back as the primary. When a replica takes the place of a primary that was killed, it is
  one that has seen its history, and more of it than the other, as an operator would choose; then it has whatever WAIT 1 or synchronous-replicas 1 promised.
- Once healed: all are in step, have the same DEBUG DIGEST and a clean DEBUG CHECK, and whatever the ledger says is there.

Segments and the backlog are small, so that the log is trimmed all the time, and snapshots and continuations both happen.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING, ClassVar

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.client import Disconnected, RawClient
from tests.differential import line_words, lines_of
from tests.replicas import Family, check_same, client_role, control, follow, info, is_linked, lead, offset, wait_for

if TYPE_CHECKING:
    from tests.replicas import Proxy
    from tests.servers import Server

OPTIONS = ("--repl-backlog-size", "16kb", "--repl-timeout", "5", "--databases", "4")
EXAMPLES = 6  # of the quick suite: each ends with three servers that must be in step
STEPS = 14
KEYS = [f"k{number}" for number in range(6)]
REPLICAS = st.integers(0, 1)

WRITES = lines_of("""
    SET {key} <300n{n}>
    APPEND {key}:a <500n{n}>
    RPUSH {key}:l {n} {n} a b
    LPOP {key}:l 2
    HSET {key}:h {n} {n} f{n} <50n{n}>
    SADD {key}:s {n} m{n}
    SPOP {key}:s
    ZADD {key}:z {n} m{n}
    XADD {key}:x * f {n}
    SET {key}:v {n} PX 30
    EXPIRE {key}:l 1000
    RENAME {key}:h {key}:g
    COPY {key}:l {key}:l2 DB 2 REPLACE
    MOVE {key}:s 1
    DEL {key}:z {key}:x
    SWAPDB 1 2
    EVAL "redis.call('SELECT', 3) redis.call('FLUSHDB') redis.call('SET', 'k', ARGV[1])" 0 {n}
    EVAL "for i = 0, 299 do redis.call('ZADD', KEYS[1], i, 7 * i + ARGV[1] % 7) redis.call('SADD', KEYS[2], 7 * i + ARGV[1] % 7) end" 2 {key}:bigz {key}:bigs {n}
""")
LOOKS = lines_of("""
    ZRANK {key}:bigz 700
    ZRANGE {key}:bigz 200 203
    SRANDMEMBER {key}:bigs -200
    RANDOMKEY
""")


class Machine(RuleBasedStateMachine):
    """The servers live as long as the test; each example begins with them in step and ends so."""

    family: ClassVar[Family]

    @initialize()
    def begin(self) -> None:
        self.primary = self.family.primary
        self.heal()
        self.replid = self.name_of(self.primary)
        self.number = 0
        self.ledger: dict[str, int] = {}  # key -> the number that was acknowledged last under a guarantee that holds
        self.promised: dict[str, int] = {}  # the same for what only the primary promised

    @property
    def replicas(self) -> list[Server]:
        return [server for server in self.family.servers if server is not self.primary]

    def link(self, server: Server) -> Proxy:
        """Return the proxy through which a server copies the primary."""
        return self.family.proxies[[one for one in self.family.servers if one is not self.primary].index(server)]

    # --- writes ---------------------------------------------------------------------------------------------------------------------

    @rule(lines=st.lists(st.sampled_from(WRITES), min_size=1, max_size=12), key=st.sampled_from(KEYS))
    def write(self, lines: list[str], key: str) -> None:
        """Some writes of every kind."""
        self.number += 1
        with contextlib.suppress(Disconnected):
            commands = [line_words(line.format(key=key, n=self.number)) for line in lines]
            self.primary.client().pipeline(commands)

    @rule(which=REPLICAS, key=st.sampled_from(KEYS))
    def look(self, which: int, key: str) -> None:
        """Someone reads at a replica, which keeps in memory what it had to find out for that."""
        with contextlib.suppress(Disconnected):
            self.replicas[which].client().pipeline([line_words(line.format(key=key)) for line in LOOKS])

    @rule(count=st.integers(50, 400))
    def write_much(self, count: int) -> None:
        """So much that segments are full and trimmed, and checkpoints made."""
        with contextlib.suppress(Disconnected):
            self.primary.client().pipeline([("SET", f"much{number % 50}", "x" * 700) for number in range(count)])

    @rule(key=st.sampled_from(KEYS))
    def promise(self, key: str) -> None:
        """A write that only the primary acknowledges."""
        self.number += 1
        if self.primary.client().call("SET", f"{key}:own", self.number).value == b"OK":
            self.promised[f"{key}:own"] = self.number

    @rule(key=st.sampled_from(KEYS))
    def wait(self, key: str) -> None:
        """A write that a replica has, says WAIT."""
        self.number += 1
        client = self.primary.client()
        client.call("SET", f"{key}:wait", self.number)
        if client.call("WAIT", 1, 100).value >= 1:
            self.ledger[f"{key}:wait"] = self.number
        else:
            self.ledger.pop(f"{key}:wait", None)  # it may be there or not

    @rule(key=st.sampled_from(KEYS))
    def safe(self, key: str) -> None:
        """A write under synchronous-replicas 1."""
        self.number += 1
        name = f"{key}:safe"
        control(self.primary).call("CONFIG", "SET", "synchronous-replicas", 1)
        self.ledger.pop(name, None)
        try:
            with RawClient(self.primary.port, timeout_seconds=0.3) as client:
                if client.call("SET", name, self.number).value == b"OK":
                    self.ledger[name] = self.number
        except Disconnected:
            pass  # nobody had it in time
        control(self.primary).call("CONFIG", "SET", "synchronous-replicas", 0)

    # --- links ----------------------------------------------------------------------------------------------------------------------

    @rule(which=REPLICAS, how=st.sampled_from(["cut", "cut_once", "stall", "slow", "heal", "heal"]))
    def disturb(self, which: int, how: str) -> None:
        """Something happens to a link, or is over."""
        proxy = self.family.proxies[which]
        if how == "slow":
            proxy.slow(50_000)
        else:
            getattr(proxy, how)()

    @rule(which=REPLICAS, size_bytes=st.integers(0, 100_000))
    def cut_after(self, which: int, size_bytes: int) -> None:
        """A link will break in the middle of something."""
        self.family.proxies[which].cut_after(size_bytes)

    # --- servers --------------------------------------------------------------------------------------------------------------------

    @rule(which=REPLICAS, orderly=st.booleans())
    def restart_replica(self, which: int, orderly: bool) -> None:
        """A replica dies, or ends in order, and starts."""
        server = self.replicas[which]
        if not orderly:
            server.kill9()
        server.restart()
        self.follow(server)

    @rule()
    def restart_primary(self) -> None:
        """The primary dies and starts: it has whatever it had acknowledged."""
        self.primary.kill9()
        self.primary.start()
        lead(self.primary)
        self.replid = self.name_of(self.primary)
        self.check_ledger(self.promised)

    @rule(which=REPLICAS)
    def stop_for_a_while(self, which: int) -> None:
        """A replica's machine stands still while much is written."""
        server = self.replicas[which]
        os.kill(server.pid, signal.SIGSTOP)
        try:
            self.write_much(200)
        finally:
            os.kill(server.pid, signal.SIGCONT)

    @rule(comes_back=st.booleans())
    def take_over(self, comes_back: bool) -> None:
        """The primary is killed; the replica that has more of the log is the primary from now on."""
        old = self.primary
        old.kill9()
        if not any(self.name_of(server) == self.replid for server in self.replicas):
            old.start()  # nobody has seen what it has: there is no one to take its place
            lead(old)
            self.replid = self.name_of(old)
            return
        for proxy in self.family.proxies:
            proxy.cut()
        wait_for(lambda: not any(map(is_linked, map(control, self.replicas))), "the replicas to see it")
        best = max(self.replicas, key=self.history)
        lead(best)
        self.become(best, old)
        self.promised.clear()
        if comes_back:
            old.start()
            self.follow(old)
        else:
            old.start()
            follow(old, 1)  # it finds nobody, until all is healed

    @rule()
    def fail_over(self) -> None:
        """FAILOVER: whatever was acknowledged is there."""
        old = self.primary
        if control(old).call("FAILOVER", "TIMEOUT", 300).value != b"OK":
            return
        wait_for(lambda: info(control(old))["master_failover_state"] == "no-failover", "the failover to end")
        if client_role(control(old))[0] == b"slave":
            new = next(server for server in self.replicas if client_role(control(server))[0] == b"master")
            self.become(new, old)
            self.follow(old)
            self.check_ledger(self.promised)

    # --- what all of that needs ---------------------------------------------------------------------------------------------------------

    def name_of(self, server: Server) -> str:
        """Return the name of a server's history."""
        return info(control(server))["master_replid"]

    def history(self, server: Server) -> tuple[bool, int]:
        """Return what makes one replica better than another: that it has the primary's history, and how much of it."""
        return self.name_of(server) == self.replid, offset(control(server))

    def become(self, new: Server, old: Server) -> None:
        """Take note of who is the primary, and let the others copy it."""
        self.primary = new
        self.replid = self.name_of(new)
        for proxy in self.family.proxies:
            proxy.cut_once()
            proxy.target_port = new.port
        for server in self.replicas:
            if server is not old:
                self.follow(server)

    def follow(self, server: Server) -> None:
        """Let a server copy the primary, through its proxy."""
        follow(server, self.link(server).port)

    def heal(self) -> None:
        """Make everything good, and look."""
        for server in self.family.servers:
            assert server.pid is not None, f"it has ended by itself{server.log_tail()}"
        for proxy in self.family.proxies:
            proxy.target_port = self.primary.port
            proxy.heal()
        if client_role(control(self.primary))[0] != b"master":
            lead(self.primary)
        for server in self.replicas:
            self.follow(server)
        control(self.primary).call("DEL", *(f"{key}:v" for key in KEYS))  # none may expire between two looks
        check_same(self.primary, *self.replicas)

    def check_ledger(self, ledger: dict[str, int]) -> None:
        """What was acknowledged is there."""
        client = control(self.primary)
        for key, number in ledger.items():
            assert client.call("GET", key).value == b"%d" % number, (key, number)

    def teardown(self) -> None:
        """Once healed, all have the same, and whatever was acknowledged."""
        if not hasattr(self, "ledger"):
            return
        self.heal()
        self.check_ledger(self.ledger)
        self.check_ledger(self.promised)
        self.family.primary, self.family.replicas = self.primary, self.replicas


def test_machine_of_replicas():
    """Whatever happens in whatever order: equal digests, clean checks, and nothing lost that was acknowledged."""
    is_fuzz = settings.default is not None and settings.default.max_examples > 100
    chosen = settings(
        phases=(Phase.explicit, Phase.reuse, Phase.generate),
        derandomize=not is_fuzz,
        max_examples=100 if is_fuzz else EXAMPLES,
        stateful_step_count=40 if is_fuzz else STEPS,
    )
    with Family(2, *OPTIONS) as family:

        class Bound(Machine):
            pass

        Bound.family = family
        run_state_machine_as_test(Bound, settings=chosen)
