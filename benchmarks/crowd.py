"""Many connections in one process of their own: what redis-benchmark cannot do.

    python -m benchmarks.crowd hold PORT CLIENTS < one JSON line, then lines
    python -m benchmarks.crowd trip PORT CLIENTS < one JSON line

`hold` opens connections, sends each of them one request or none, and waits: subscribers, blocked clients, idle ones. It
counts the bytes that come, which is all it does with them, so that it can take hundreds of megabytes a second; for
every line on its standard input it prints how many bytes came, and when the first and the last one. The line `send`
makes each connection send another request first. Twelve zeros in a request become the connection's number.

`trip` is a closed loop. Each connection sends its next request when the replies to the last are whole; what they
must be is known to the byte for requests of the kind `fixed`, or is read for the kind `work`, which takes entries of
a stream in a group and acknowledges those it got.

How many trips a second it could make is its rate over the part of a core that it used: what it would reach if the
server took no time. A benchmark shows that figure, and the part of a core that the server used, beside its results.

Rules: no thread, no event loop but epoll; every process ends when its standard input does; times are CLOCK_MONOTONIC,
which all processes of a machine share.
"""

import argparse
import base64
import gc
import itertools
import json
import resource
import select
import socket
import subprocess
import sys
import time
from types import TracebackType
from typing import Any, Self

import hiredis

from benchmarks.client import pack
from benchmarks.load import Load
from benchmarks.machine import ROOT

RECEIVE_BYTES = 1 << 20
SILENCE_S = 30.0  # a server that lets everybody wait so long has failed
CONNECT_AT_ONCE = 100  # below the smallest backlog that servers listen with


# --- in the process ------------------------------------------------------------------------------------------------


def _raise_descriptors() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _connect(port: int) -> socket.socket:
    one = socket.create_connection(("127.0.0.1", port), SILENCE_S)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one


def _read_exactly(one: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = one.recv(count - len(data))
        if not part:
            reason = f"closed by the server after {data!r}"
            raise ConnectionError(reason)
        data += part
    return data


def _say(figures: dict[str, Any]) -> None:
    print(json.dumps(figures), flush=True)


def _numbered(request: bytes, number: int) -> bytes:
    return request.replace(b"0" * 12, b"%012d" % number)


def _gather(port: int, clients: int, request: bytes, greeting_bytes: int) -> dict[int, socket.socket]:
    """Open connections, a backlog's worth at a time, and have each greeted."""
    connections = {}
    for first in range(0, clients, CONNECT_AT_ONCE):
        opened = [_connect(port) for _ in range(min(CONNECT_AT_ONCE, clients - first))]
        for number, one in enumerate(opened, first):
            one.sendall(_numbered(request, number))
        for one in opened:
            _read_exactly(one, greeting_bytes)
            one.setblocking(False)
            connections[one.fileno()] = one
    return connections


def _hold(port: int, clients: int, request: bytes, greeting_bytes: int, later: bytes) -> None:
    """Open, greet, report; see the module's docstring."""
    connections = _gather(port, clients, request, greeting_bytes)
    poll = select.epoll()
    for descriptor in connections:
        poll.register(descriptor, select.EPOLLIN)
    poll.register(sys.stdin, select.EPOLLIN)
    _say({"ready": len(connections)})
    buffer = bytearray(RECEIVE_BYTES)
    received, closed, first_at, last_at = 0, 0, 0.0, 0.0
    while True:
        for descriptor, _ in poll.poll():
            one = connections.get(descriptor)
            if one is None:
                line = sys.stdin.readline()
                if not line:
                    return
                if line == "send\n":
                    for number, each in enumerate(connections.values()):
                        each.sendall(_numbered(later, number))
                times = {"first_at": first_at, "last_at": last_at, "cpu_s": time.process_time()}
                _say({"received": received, "closed": closed, **times})
                continue
            try:
                count = one.recv_into(buffer)
            except ConnectionError:
                count = 0
            last_at = time.monotonic()
            first_at = first_at or last_at
            received += count
            if not count:
                closed += 1
                poll.unregister(descriptor)


class _Fixed:
    """Requests that are ready packed, replies that are known to the byte: nothing is parsed."""

    def __init__(self, requests: list[bytes], reply: bytes) -> None:
        self.requests = itertools.cycle(requests)
        self.reply = reply
        self.seen = b""

    def begin(self) -> bytes:
        return next(self.requests)

    def feed(self, data: bytes) -> bytes:
        """Take a part of the replies; return the next request, empty while replies are missing."""
        data = self.seen + data
        if len(data) < len(self.reply) and data[:1] != b"-":
            self.seen = data
            return b""
        if data != self.reply:
            reason = f"unexpected reply {data[:200]!r}"
            raise RuntimeError(reason)
        self.seen = b""
        return next(self.requests)


class _Work:
    """One member of a stream's group: takes `pipeline` entries, one to a command, then acknowledges each by a command."""

    def __init__(self, name: str, pipeline: int) -> None:
        self.pipeline = pipeline
        self.take = pack("XREADGROUP", "GROUP", "group", name, "COUNT", 1, "STREAMS", "stream", ">") * pipeline
        self.reader = hiredis.Reader()
        self.replies: list[Any] = []
        self.taking = True

    def begin(self) -> bytes:
        return self.take

    def feed(self, data: bytes) -> bytes:
        """As above."""
        self.reader.feed(data)
        while (reply := self.reader.gets()) is not False:
            self.replies.append(reply)
        if len(self.replies) < self.pipeline:
            return b""
        replies, self.replies = self.replies, []
        if self.taking:
            try:
                request = b"".join(pack("XACK", "stream", "group", reply[0][1][0][0]) for reply in replies)
            except TypeError:
                reason = f"no entry was left, or an error: {replies[0]!r}"
                raise RuntimeError(reason) from None
        elif replies != [1] * self.pipeline:
            reason = f"an entry that was not pending was acknowledged: {replies!r}"
            raise RuntimeError(reason)
        else:
            request = self.take
        self.taking = not self.taking
        return request


def _trip(port: int, drivers: list[_Fixed] | list[_Work], trips: int) -> None:
    """Make so many trips over as many connections as there are drivers; print when and how long."""
    poll = select.epoll()
    lanes = {}
    for driver in drivers:
        one = _connect(port)
        lanes[one.fileno()] = [one, driver, 0]
        poll.register(one, select.EPOLLIN)
    times_ns = []
    done, sent = 0, len(lanes)
    clock = time.perf_counter_ns
    begin, cpu_begin = time.monotonic(), time.process_time()
    for lane in lanes.values():
        lane[2] = clock()
        lane[0].sendall(lane[1].begin())
    while done < sent:
        events = poll.poll(SILENCE_S)
        if not events:
            reason = f"no reply in {SILENCE_S} s, after {done} trips"
            raise TimeoutError(reason)
        for descriptor, _ in events:
            lane = lanes[descriptor]
            one, driver, sent_at = lane
            data = one.recv(RECEIVE_BYTES)
            if not data:
                reason = "closed by the server"
                raise ConnectionError(reason)
            if request := driver.feed(data):
                now = clock()
                times_ns.append(now - sent_at)
                done += 1
                if sent < trips:
                    sent += 1
                    lane[2] = now
                    one.sendall(request)
    seconds = time.monotonic() - begin
    times_ns.sort()
    _say(
        {
            "trips": done,
            "seconds": seconds,
            "cpu": (time.process_time() - cpu_begin) / seconds,
            "latency_ms": {
                name: times_ns[min(int(len(times_ns) * share), len(times_ns) - 1)] / 1e6
                for name, share in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0))
            },
        }
    )


def main() -> None:
    """Do what the command line and the first line of the standard input say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("role", choices=("hold", "trip"))
    parser.add_argument("port", type=int, nargs="?", default=0)
    parser.add_argument("clients", type=int, nargs="?", default=1)
    options = parser.parse_args()
    spec = json.loads(sys.stdin.readline())
    gc.disable()
    _raise_descriptors()
    if options.role == "hold":
        requests = [base64.b64decode(spec[name]) for name in ("request", "later")]
        _hold(options.port, options.clients, requests[0], spec["greeting_bytes"], requests[1])
    elif spec["kind"] == "work":
        _trip(
            options.port,
            [_Work(f"member{number}", spec["pipeline"]) for number in range(options.clients)],
            spec["trips"],
        )
    else:
        requests = [base64.b64decode(request) for request in spec["requests"]]
        reply = base64.b64decode(spec["reply"])
        # everybody begins somewhere else, so that no key is everybody's at the same moment
        step = max(1, len(requests) // options.clients)
        shifted = [requests[number * step :] + requests[: number * step] for number in range(options.clients)]
        _trip(options.port, [_Fixed(one, reply) for one in shifted], spec["trips"])


# --- in the benchmark ----------------------------------------------------------------------------------------------


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _launch(spec: dict[str, Any], *words: object) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "benchmarks.crowd", *map(str, words)]
    process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdin is not None
    process.stdin.write(json.dumps(spec) + "\n")
    process.stdin.flush()
    return process


class _Process:
    """One of the processes above as a context manager."""

    def __init__(self, spec: dict[str, Any], *words: object) -> None:
        self.spec, self.words = spec, words

    def __enter__(self) -> Self:
        self.process = _launch(self.spec, *self.words)
        self.first = self._line()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate()

    def _line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            reason = f"crowd {self.words} ended with {self.process.wait()}"
            raise RuntimeError(reason)
        return json.loads(line)


class Held(_Process):
    """`clients` connections that have sent `request`, had `greeting_bytes` in answer, and wait inside the block."""

    def __init__(
        self, port: int, clients: int, request: bytes = b"", greeting_bytes: int = 0, later: bytes = b""
    ) -> None:
        spec = {"request": _text(request), "greeting_bytes": greeting_bytes, "later": _text(later)}
        super().__init__(spec, "hold", port, clients)

    def send_later(self) -> None:
        """Let each send the later request; returns when all have."""
        self._ask("send\n")

    def report(self) -> dict[str, Any]:
        """`received` bytes, `closed` connections, `first_at` and `last_at` on the clock of time.monotonic(), `cpu_s` used."""
        return self._ask("\n")

    def _ask(self, line: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(line)
        self.process.stdin.flush()
        return self._line()

    def wait_for(self, received: int, limit_s: float = SILENCE_S, pause_s: float = 0.01) -> dict[str, Any]:
        """Wait until so many bytes have come in all. Raises RuntimeError where connections are lost, or time is over."""
        deadline = time.monotonic() + limit_s
        while (report := self.report())["received"] < received:
            if report["closed"] or time.monotonic() > deadline:
                reason = f"{report} of {received} bytes after {limit_s} s at most"
                raise RuntimeError(reason)
            time.sleep(pause_s)
        return report


def _run_trips(port: int, clients: int, spec: dict[str, Any]) -> dict[str, Any]:
    process = _launch(spec, "trip", port, clients)
    try:
        text, _ = process.communicate(timeout=600)
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        reason = f"crowd trip ended with {process.returncode}"
        raise RuntimeError(reason)
    return json.loads(text)


def _load(title: str, clients: int, commands_per_trip: float, done: dict[str, Any]) -> Load:
    words = ["python", "-m", "benchmarks.crowd", "trip", "PORT", str(clients), f"# {title}"]
    commands = round(done["trips"] * commands_per_trip)
    return Load(words, commands, commands / done["seconds"], done["latency_ms"], client_cpu=done["cpu"])


def fixed(
    port: int, title: str, requests: list[bytes], reply: bytes, *, trips: int, clients: int, counted: int = 1
) -> Load:
    """Trips of ready packed requests; each counts as `counted` in the figures."""
    spec = {"kind": "fixed", "requests": list(map(_text, requests)), "reply": _text(reply), "trips": trips}
    return _load(title, clients, counted, _run_trips(port, clients, spec))


def work(port: int, title: str, *, entries: int, clients: int, pipeline: int) -> Load:
    """Take and acknowledge so many entries of `stream` in `group`; a command is one of either. Latency is a trip's."""
    spec = {"kind": "work", "pipeline": pipeline, "trips": 2 * entries // pipeline}
    return _load(title, clients, pipeline, _run_trips(port, clients, spec))


if __name__ == "__main__":
    main()
