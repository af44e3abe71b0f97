"""Hostile input against the real process: what is no request, too much of it, half of it, and clients that do not behave.

The promise in every test is the same: a clear error or a cut connection for the one who misbehaves, memory that follows what was
really sent, and for everybody else right answers, soon (`Bystander`). Where Redis has an answer, the oracle is asked for it.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import struct
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Self

import pytest

from lmdbredis.server import Connection
from tests.client import Disconnected, RawClient, pack
from tests.servers import Lmdbredis, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

WAIT_SECONDS_MAX = 15.0
WORK_SECONDS_MAX = 0.25  # of a processor, that the server may work for others while a bystander waits for an answer
MEGABYTE = 1 << 20
SLACK_BYTES = 12 * MEGABYTE  # what a process may hold besides
KEPT_BYTES = (
    32 * MEGABYTE
)  # what the C library keeps for the next time after large blocks were freed (its trim threshold), and the slack


@pytest.fixture
def server(ours: Server) -> Server:
    """Our server, empty."""
    if ours.name != "lmdbredis":
        pytest.skip("of our server only")
    return ours


@pytest.fixture
def limited() -> Iterator[Callable[..., Lmdbredis]]:
    """Start servers of one's own with options; each must end in order and without a complaint in its log."""
    started: list[Lmdbredis] = []

    def start(*options: str) -> Lmdbredis:
        started.append(Lmdbredis(*options).start())
        return started[-1]

    yield start
    for one in started:
        status, text = one.end(signal.SIGTERM), one.log_path.read_text()
        one.stop()

        assert status == 0
        assert "Traceback" not in text, text


class Bystander:
    """A client that goes on asking while others misbehave; leaving it fails unless every answer was right, and soon.

    Soon is told by the processor's time that the server used between question and answer: a machine that has others to serve
    lengthens the wait, and not the work. An answer that does not come at all ends the client: its patience is the socket's.
    """

    def __init__(self, server: Server, work_seconds_max: float = WORK_SECONDS_MAX) -> None:
        self.server = server
        self.client = server.connect()
        self.work_seconds_max = work_seconds_max
        self.most_work_seconds = 0.0
        self.answers = 0
        self.wrong: list[object] = []
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        while not self.ended.is_set() and not self.wrong:
            worked_seconds = cpu_seconds(self.server)
            try:
                replies = self.client.pipeline([("INCR", "bystander"), ("ECHO", self.answers)])
            except Disconnected as error:
                self.wrong.append(error)
                return
            self.most_work_seconds = max(self.most_work_seconds, cpu_seconds(self.server) - worked_seconds)
            self.answers += 1
            if [reply.value for reply in replies] != [self.answers, b"%d" % (self.answers - 1)]:
                self.wrong += replies
            self.ended.wait(0.002)

    def __enter__(self) -> Self:
        self.client.call("DEL", "bystander")
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        wait_until(lambda: self.answers > 3 or self.wrong)
        self.ended.set()
        self.thread.join(WAIT_SECONDS_MAX)
        self.client.close()
        if kind is None:
            assert self.wrong == []
            assert self.most_work_seconds < self.work_seconds_max


def wait_until(condition: Callable[[], object]) -> None:
    """Return when the condition holds; fail when it does not in time."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def cpu_seconds(server: Server) -> float:
    """Return the processor's time that the process has used, in hundredths."""
    words = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def memory_bytes(server: Server) -> int:
    """Return what the process holds of its own, the data file's pages not counted."""
    return int(re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{server.pid}/status").read_text())[1]) * 1024


def clients_of(server: Server) -> int:
    """Return how many connections the server has, the one that asks among them."""
    return int(re.search(rb"connected_clients:(\d+)", server.client().call("INFO", "clients").value)[1])


def is_closed(client: RawClient) -> bool:
    """Tell whether the server has closed the connection; drops what came."""
    try:
        client.socket.settimeout(0.001)
        while client.socket.recv(MEGABYTE):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def reset(sock: socket.socket) -> None:
    """Close a socket as a crashed client would: with a reset."""
    with contextlib.suppress(OSError):  # closed already
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


# --- what is no request -------------------------------------------------------------------------------------------------------

BROKEN = {
    "too many words": b"*2147483648\r\n",
    "a negative length": b"*1\r\n$-5\r\n",
    "a bulk too long": b"*2\r\n$4\r\nECHO\r\n$536870913\r\n",
    "a bulk of 2**64": b"*1\r\n$18446744073709551616\r\n",
    "nested": b"*1\r\n*1\r\n$4\r\nPING\r\n",
    "nested deep": b"*1\r\n" * 10_000,
    "an integer": b"*2\r\n$4\r\nECHO\r\n:1\r\n",
    "a simple string": b"*1\r\n+PING\r\n",
    "a null": b"*1\r\n_\r\n",
    "a map": b"*1\r\n%1\r\n",
    "inline over the limit": b"x" * 70_000,
    "a count over the limit": b"*" + b"1" * 70_000,
    "a length over the limit": b"*1\r\n$" + b"1" * 70_000,
    "zeros": bytes(70_000),
    "open quotes": b"SET k 'v\r\nPING\r\n",
    "a web page's request": b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nFLUSHALL\r\n",
    "another": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: x\r\n\r\n",
    "its words as bulks": b"*1\r\n$5\r\nhOsT:\r\n*1\r\n$4\r\nPING\r\n",
}  # fmt: skip
TOLD_NOTHING = {"a web page's request", "another", "its words as bulks"}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_request_closes_the_connection(ours: Server, oracle: Server, name: str):
    """The oracle's last words, byte for byte, whatever the pieces that it comes in; then the end."""
    seen = []
    for one in (ours, oracle):
        for size in (len(BROKEN[name]),) if name in TOLD_NOTHING else (len(BROKEN[name]), 1000, 7):
            with one.connect() as client:
                client.send(pack(["SET", "k", "v"]))
                assert client.read_raw_reply() == b"+OK\r\n"
                with contextlib.suppress(OSError):  # it need not listen to the end
                    for at in range(0, len(BROKEN[name]), size):
                        client.socket.sendall(BROKEN[name][at : at + size])
                seen.append(read_to_the_end(client))

    assert len(set(seen)) == 1
    assert name in TOLD_NOTHING or seen[0].startswith(b"-ERR Protocol error: ")
    assert [one.client().call("GET", "k").value for one in (ours, oracle)] == [b"v", b"v"]


def test_a_web_page_is_told_nothing(limited: Callable[..., Lmdbredis]):
    """Who speaks HTTP is cut off with a warning in the log, before the password is asked for as well."""
    server = limited("--requirepass", "secret")
    with server.connect() as client:
        client.send(b"POST /flushall HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")

        assert client.read_until_closed() == b""
        assert "# Possible SECURITY ATTACK detected." in server.log_path.read_text()


def test_odd_names(ours: Server, oracle: Server):
    """Names in any case are the command, empty ones are none, and long or binary ones are shown cut short."""
    commands = [
        (b"sEt", b"k", b"v"), (b"GeT", b"k"), (b"", ), (b"", b"a"), (b"", b"", b""), (b"get", b""), (b"set", b"", b""), (b"GET", b""),
        (b"x" * MEGABYTE, b"y" * MEGABYTE), (b"\r\n+OK\r\n", b"\r\n-ERR no\r\n"), (b"\x00\xff", b"\x00"), (b"GET\x00", b"k"),
        (b"GET ", b"k"), (b" GET", b"k"), (b"COMMAND", b""), (b"CONFIG", b"x" * 1000), (b"CONFIG", b"\r\n"), (b"HSET", b"", b"", b""),
        (b"HGET", b"", b""), (b"GET" * 100,), (b"ECHO", b"\r\n" * 5000), ("P\u0130ng".encode(),), ("\u017fet".encode(), b"a", b"b"),
    ]  # fmt: skip
    with ours.connect() as mine, oracle.connect() as theirs:
        for words in commands:
            assert mine.exchange([words]) == theirs.exchange([words]), words[:2]


# --- half of a request --------------------------------------------------------------------------------------------------------


def test_promises_cost_nothing(limited: Callable[..., Lmdbredis]):
    """Two hundred clients who announce 2,147,483,647 words, or 512 MB each, make the server reserve nothing."""
    server = limited()
    before = memory_bytes(server)
    with Bystander(server), contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(200)]
        for at, client in enumerate(clients):
            client.send(
                (
                    b"*2147483647\r\n",
                    b"*2147483647\r\n$536870912\r\n",
                    b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\nab",
                )[at % 3]
            )
        wait_until(lambda: clients_of(server) == len(clients) + 2)

        assert memory_bytes(server) - before < SLACK_BYTES
        assert not any(is_closed(client) for client in clients)


def test_strangers_may_promise_little(limited: Callable[..., Lmdbredis]):
    """Before the password ten words of 16 KB are the limit, and a stranger's half request is bounded by that."""
    server = limited("--requirepass", "secret")
    for data, text in (
        (b"*11\r\n", b"unauthenticated multibulk length"),
        (b"*2\r\n$4\r\nAUTH\r\n$16385\r\n", b"unauthenticated bulk length"),
    ):
        with server.connect() as client:
            client.send(data)

            assert client.read_until_closed() == b"-ERR Protocol error: " + text + b"\r\n"


def test_a_stranger_who_does_not_read(limited: Callable[..., Lmdbredis]):
    """Who has not given the password is cut off once the socket takes no more of what he is told."""
    server = limited("--requirepass", "secret")
    with server.connect() as stranger:
        with contextlib.suppress(Disconnected):
            for _ in range(2000):
                stranger.send(pack(["SET", "x", 5]) * 1000)
        wait_until(lambda: is_closed(stranger))
    with server.connect() as client:
        assert client.call("AUTH", "secret").value == b"OK"
        assert b"client_output_buffer_limit_disconnections:1\r\n" in client.call("INFO", "stats").value


def test_a_million_halves(limited: Callable[..., Lmdbredis]):
    """A million pieces of requests that never end are held as they came: memory follows the bytes that were sent.

    To look at a million pieces takes about a second; if all have come when the server looks, a bystander waits for that.
    """
    server = limited()
    piece = b"$1\r\na\r\n"
    before = memory_bytes(server)
    with Bystander(server, work_seconds_max=10 * WORK_SECONDS_MAX), contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(200)]
        for client in clients:
            client.send(b"*1000000\r\n")
        for _ in range(10):
            for client in clients:
                client.send(piece * 500)
        sent_bytes = 1_000_000 * len(piece)
        wait_until(lambda: held_bytes(server) == sent_bytes + len(clients) * len(b"*1000000\r\n"))

        assert memory_bytes(server) - before < 2 * sent_bytes + SLACK_BYTES
    wait_until(lambda: clients_of(server) == 1)
    assert held_bytes(server) == 0


def held_bytes(server: Server) -> int:
    """Return how many bytes of unfinished requests the server holds."""
    return sum(map(int, re.findall(rb" qbuf=(\d+)", server.client().call("CLIENT", "LIST").value)))


def test_half_a_huge_bulk(limited: Callable[..., Lmdbredis]):
    """Of a bulk of 500 MB memory holds what has come of it, and gives it back when the client goes."""
    server = limited()
    before, sent_bytes = memory_bytes(server), 64 * MEGABYTE
    with Bystander(server):
        with server.connect() as client:
            client.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500000000\r\n")
            for _ in range(sent_bytes // MEGABYTE):
                client.send(bytes(MEGABYTE))
            wait_until(lambda: held_bytes(server) > sent_bytes)

            assert memory_bytes(server) - before < 1.3 * sent_bytes + SLACK_BYTES
        wait_until(lambda: memory_bytes(server) - before < KEPT_BYTES)
    assert server.client().call("EXISTS", "k").value == 0


def test_a_thousand_clients_leave_in_mid_request(limited: Callable[..., Lmdbredis]):
    """Connections that end at once or in the middle of a request, in order or by reset, leave nothing behind."""
    server = limited()
    before, files = memory_bytes(server), len(list(Path(f"/proc/{server.pid}/fd").iterdir()))
    with Bystander(server):
        for at in range(1000):
            sock = socket.create_connection(("127.0.0.1", server.port))
            if at % 3:
                sock.sendall(pack(["SET", f"k{at}", b"v" * 3000])[: at % 3 * 1000])
            if at % 2:
                reset(sock)
            else:
                sock.close()
        wait_until(lambda: clients_of(server) == 2)
    assert memory_bytes(server) - before < SLACK_BYTES
    assert server.client().call("DBSIZE").value == 1
    assert len(list(Path(f"/proc/{server.pid}/fd").iterdir())) <= files + 2
    assert "Traceback" not in server.log_path.read_text()


def test_a_slow_sender(server: Server):
    """A hundred clients who send byte by byte are all answered in the end."""
    data = pack(["SET", "k", "a b"]) + b"GET k\r\n"
    with Bystander(server), contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(100)]
        for byte in data:
            for client in clients:
                client.send(bytes([byte]))
        for client in clients:
            assert [client.read_raw_reply() for _ in range(2)] == [b"+OK\r\n", b"$3\r\na b\r\n"]


# --- too much -----------------------------------------------------------------------------------------------------------------


def test_a_client_that_does_not_read(limited: Callable[..., Lmdbredis]):
    """Past the hard limit of unread output a client is cut off at once, past the soft limit after its time; memory comes back."""
    server = limited("--client-output-buffer-limit", "normal 32mb 4mb 1")
    server.client().call("SET", "big", bytes(MEGABYTE))
    before = memory_bytes(server)
    with Bystander(server), server.connect() as patient, server.connect() as greedy, server.connect() as modest:
        patient.send(pack(["GET", "big"]) * 20)
        modest.send(pack(["GET", "big"]) * 2)
        began = time.monotonic()
        greedy.send(pack(["GET", "big"]) * 60)
        wait_until(lambda: clients_of(server) == 4)
        assert time.monotonic() - began < 1
        wait_until(lambda: clients_of(server) == 3)
        assert time.monotonic() - began > 1

        assert is_closed(greedy)
        assert is_closed(patient)
        assert [len(modest.read()[0].value) for _ in range(2)] == [MEGABYTE] * 2
        assert modest.call("PING").value == b"PONG"
        wait_until(lambda: memory_bytes(server) - before < KEPT_BYTES)
    assert server.log_path.read_text().count("closed for overcoming of output buffer limits.") == 2


def test_a_pipeline_of_large_replies(limited: Callable[..., Lmdbredis]):
    """Large replies are made one at a time: the limit cuts off who does not read before they fill memory, and nobody waits."""
    server = limited("--client-output-buffer-limit", "normal 32mb 0 0")
    server.client().call("SET", "big", bytes(8 * MEGABYTE))
    server.client().call("RPUSH", "l", *[bytes(100_000)] * 80)
    peak = before = memory_bytes(server)
    for words in (["GET", "big"], ["LRANGE", "l", 0, -1], ["GETRANGE", "big", 0, -1]):
        with Bystander(server), server.connect() as greedy:
            greedy.send(pack(words) * 1000)
            while clients_of(server) > 2:
                peak = max(peak, memory_bytes(server))
        peak = max(peak, memory_bytes(server))
    assert peak - before < 5 * 32 * MEGABYTE


def test_a_query_past_its_limit(limited: Callable[..., Lmdbredis]):
    """Who sends more of an unfinished request than client-query-buffer-limit is cut off; a long pipeline is no such thing."""
    server = limited("--client-query-buffer-limit", "1mb")
    with Bystander(server), server.connect() as client, server.connect() as other:
        other.send(pack(["ECHO", bytes(1000)]) * 3000)
        for _ in range(3000):
            assert len(other.read()[0].value) == 1000
        with contextlib.suppress(Disconnected):
            client.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3000000\r\n" + bytes(2_000_000))
        wait_until(lambda: is_closed(client))
        assert other.call("EXISTS", "k").value == 0
    assert "Closing client that reached max query buffer length" in server.log_path.read_text()


def test_a_transaction_past_its_limit(limited: Callable[..., Lmdbredis]):
    """What is queued counts, too: a transaction does not grow without end."""
    server = limited("--client-query-buffer-limit", "1mb")
    with Bystander(server), server.connect() as client, server.connect() as other:
        assert other.pipeline([("MULTI",), *[("SET", "k", bytes(100_000))] * 9, ("EXEC",)])[-1].plain() == [b"OK"] * 9
        client.call("MULTI")
        with contextlib.suppress(Disconnected):
            for _ in range(60):
                client.call("SET", "lost", bytes(100_000))
        wait_until(lambda: is_closed(client))
        assert other.call("EXISTS", "lost").value == 0


def test_requests_that_wait_past_their_limit(limited: Callable[..., Lmdbredis]):
    """What comes behind a request that waits counts, too: who sends more of that than the limit is cut off, and counted."""
    server = limited("--client-query-buffer-limit", "1mb")
    with Bystander(server), server.connect() as client, server.connect() as other:
        other.send(pack(["BLPOP", "l", 0]) + pack(["ECHO", bytes(100_000)]) * 5)
        with contextlib.suppress(Disconnected):
            client.send(pack(["BLPOP", "none", 0]))
            for _ in range(100):
                client.send(pack(["ECHO", bytes(100_000)]))
        wait_until(lambda: is_closed(client))
        with server.connect() as third:
            third.call("RPUSH", "l", "x")
            assert b"client_query_buffer_limit_disconnections:1\r\n" in third.call("INFO", "stats").value
        assert other.read()[0].plain() == [b"l", b"x"]
        assert [len(other.read()[0].value) for _ in range(5)] == [100_000] * 5


def test_what_clients_have_said_is_not_kept(limited: Callable[..., Lmdbredis]):
    """The last request of an idle client, and the options of refused XADDs, do not stay in memory."""
    server = limited()
    before = memory_bytes(server)
    with contextlib.ExitStack() as stack:
        for _ in range(6):  # larger blocks than the C library keeps
            client = stack.enter_context(server.connect())
            client.call("XADD", "s", bytes(40 * MEGABYTE), "*", "a", "b")
            client.call("ECHO", bytes(40 * MEGABYTE))
        wait_until(lambda: memory_bytes(server) - before < 2 * KEPT_BYTES)


def test_a_long_pipeline_and_a_bystander(server: Server):
    """A hundred thousand commands in one send are all answered, and nobody else waits for them."""
    with Bystander(server), server.connect() as client:
        client.send(b"".join(pack(["SET", f"k{n}", n]) for n in range(100_000)))
        client.send(b"".join(pack(["GET", f"k{n}"]) for n in range(100_000)))

        assert receive(client, 100_000 * 5) == b"+OK\r\n" * 100_000
        answers = b"".join(b"$%d\r\n%d\r\n" % (len(str(n)), n) for n in range(100_000))
        assert receive(client, len(answers)) == answers


def test_a_million_commands_before_reading(server: Server):
    """A client that sends a million commands before it reads any reply gets them all: neither side waits for the other."""
    with Bystander(server), server.connect(timeout_seconds=60) as client:
        client.send(pack(["INCR", "n"]) * 1_000_000)
        answers = b"".join(b":%d\r\n" % n for n in range(1, 1_000_001))

        assert receive(client, len(answers)) == answers


def receive(client: RawClient, size_bytes: int) -> bytes:
    """Return that many bytes, exactly."""
    data = bytearray()
    while len(data) < size_bytes:
        data += client.socket.recv(min(MEGABYTE, size_bytes - len(data)))
    return bytes(data)


def test_a_request_of_many_words(server: Server):
    """Half a million words in one request are one command."""
    words = ["EXISTS", *["k"] * 500_000]
    server.client().call("SET", "k", "v")
    with server.connect() as client:
        client.send(pack(words))

        assert client.read()[0].value == 500_000


def test_an_idle_client(limited: Callable[..., Lmdbredis]):
    """With a timeout, who says nothing for so long is cut off, and who says something is not, be it slowly."""
    server = limited("--timeout", "1")
    with server.connect() as idle, server.connect() as half, server.connect() as slow, Bystander(server):
        half.send(b"*2\r\n$4\r\nECHO")
        data = pack(["ECHO", "x" * 1000])
        sent = 0

        def both_are_cut_off() -> bool:
            nonlocal sent
            slow.send(data[sent : sent + 1])
            sent += 1
            return is_closed(idle) and is_closed(half)

        wait_until(both_are_cut_off)
        slow.send(data[sent:])
        assert slow.read()[0].value == b"x" * 1000


# --- leaving early ------------------------------------------------------------------------------------------------------------


def test_quit_in_a_pipeline(ours: Server, oracle: Server):
    """QUIT amid ten thousand commands: what is before it is done and answered, what is after it is not even begun."""
    seen = []
    for one in (ours, oracle):
        with one.connect() as client:
            client.send(pack(["INCR", "n"]) * 5000 + pack(["QUIT"]) + pack(["INCR", "n"]) * 5000)
            seen.append(read_to_the_end(client))

    assert seen[0] == seen[1] == b"".join(b":%d\r\n" % n for n in range(1, 5001)) + b"+OK\r\n"
    assert [one.client().call("GET", "n").value for one in (ours, oracle)] == [b"5000"] * 2


def read_to_the_end(client: RawClient) -> bytes:
    """Return all that comes; a reset instead of an end is an end too, for whoever still had something to say."""
    data = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while part := client.socket.recv(MEGABYTE):
            data += part
    return bytes(data)


def test_leaving_in_mid_reply(limited: Callable[..., Lmdbredis]):
    """Clients that go away while their replies are on the way cost nothing afterwards."""
    server = limited()
    server.client().call("SET", "big", bytes(4 * MEGABYTE))
    before = memory_bytes(server)
    with Bystander(server):
        for at in range(40):
            client = server.connect()
            client.send(pack(["GET", "big"]) * 3)
            client.socket.recv(1000)
            if at % 2:
                reset(client.socket)
            client.close()
        wait_until(lambda: clients_of(server) == 2)
    wait_until(lambda: memory_bytes(server) - before < KEPT_BYTES)
    assert "Traceback" not in server.log_path.read_text()


def test_a_half_closed_client_is_answered(server: Server):
    """Who says that nothing more will come, as `nc` does, still gets the replies to what came."""
    for count in (1, 20_000):
        with server.connect() as client:
            client.send(pack(["PING"]) * count)
            client.socket.shutdown(socket.SHUT_WR)

            assert client.read_until_closed() == b"+PONG\r\n" * count


def test_killed_in_mid_pipeline(server: Server):
    """CLIENT KILL ends a connection whose requests and replies are on the way, and nobody gets what was meant for it."""
    with Bystander(server):
        for _ in range(30):
            with server.connect() as victim, server.connect() as killer:
                ident = victim.call("CLIENT", "ID").value
                victim.send(pack(["ECHO", b"x" * 1000]) * 3000)

                assert killer.call("CLIENT", "KILL", "ID", ident).value == 1
                wait_until(lambda: is_closed(victim))
    assert "Traceback" not in server.log_path.read_text()


def test_replies_of_a_lost_connection_go_nowhere(tmp_path: Path):
    """A reply that waits for a sync while its client leaves must not reach the file or client that has the number next."""
    forgotten = []
    connection = Connection(SimpleNamespace(forget=forgotten.append))
    connection.session = SimpleNamespace()
    with (tmp_path / "f").open("wb") as file:
        connection._fd = file.fileno()
        connection.connection_lost(None)
        connection.send(b"secret")

    assert (tmp_path / "f").read_bytes() == b""
    assert forgotten == [connection.session]


# --- noise --------------------------------------------------------------------------------------------------------------------

HARMLESS = [
    ["SET", "noise", "v"], ["GET", "noise"], ["LPUSH", "l:noise", "a", "b"], ["LPOP", "l:noise"], ["HSET", "h:noise", "f", "v"],
    ["ZADD", "z:noise", "1.5", "a"], ["ZRANGE", "z:noise", "0", "-1"], ["SADD", "s:noise", "a"], ["SPOP", "s:noise"],
    ["EXPIRE", "noise", "100"], ["SCAN", "0", "MATCH", "*noise", "COUNT", "10"], ["CLIENT", "LIST"], ["INFO"], ["COMMAND", "INFO", "GET"],
    ["ECHO", "x" * 5000], ["SETRANGE", "noise", "100000", "x"], ["HELLO", "3"], ["HELLO", "2"], ["CLIENT", "REPLY", "SKIP"],
]  # fmt: skip
ALPHABET = (b"*", b"$", b"\r\n", b"\n", b"-1", b"0", b"3", b"GET", b"'", b'"', b" ", b":", b"\0", b"2147483647", b"536870912")  # fmt: skip


def noise(chance: random.Random) -> bytes:
    """Return bytes that are nothing, nearly requests, or requests with some bytes changed, lost or doubled."""
    kind = chance.randrange(4)
    if kind == 0:
        return chance.randbytes(chance.randrange(1, 3000))
    if kind == 1:
        return b"".join(chance.choices(ALPHABET, k=chance.randrange(1, 200)))
    data = bytearray(b"".join(pack(chance.choice(HARMLESS)) for _ in range(chance.randrange(1, 30))))
    for _ in range(chance.randrange(kind * 2 - 3)):  # often none
        at = chance.randrange(len(data))
        data[at : at + chance.randrange(3)] = chance.choice((b"", b"\r", b"\n", b"9", chance.randbytes(2)))
    return bytes(data)


def test_fuzz_beside_a_good_client(server: Server):
    """Noise on fifty connections at once: the process lives, and a good client gets right answers all the while.

    The invariant: whatever came before, a new connection is always welcome.
    """
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    clients: list[RawClient] = []
    with contextlib.ExitStack() as stack, Bystander(server) as bystander:
        stack.callback(lambda: [client.close() for client in clients])
        before = clients_of(server)
        clients += [server.connect() for _ in range(50)]
        deadline = time.monotonic() + 4
        while time.monotonic() < deadline:
            at = chance.randrange(len(clients))
            with contextlib.suppress(Disconnected):
                clients[at].send(noise(chance))
            if is_closed(clients[at]) or chance.random() < 0.05:
                if chance.random() < 0.5:
                    reset(clients[at].socket)
                clients[at].close()
                clients[at] = server.connect()
        for client in clients:
            client.close()
        wait_until(lambda: clients_of(server) <= before)
    assert bystander.answers > 100, f"seed {seed}"
    assert "Traceback" not in server.log_path.read_text(), f"seed {seed}"
    assert server.client().call("PING").value == b"PONG"
