"""FAILOVER to somebody who does not answer, or otherwise than he should: there are never two who take writes.

How it goes with servers that do is in `test_replication_roles`.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, BinaryIO

import pytest

from tests.client import pack
from tests.replicas import client_role, control, info, wait_for
from tests.servers import Lmdbredis
from tests.several import _readable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Server


def state(server: Server) -> str:
    """Return how a server says that its failover stands."""
    return info(control(server))["master_failover_state"]


class Target:
    """A port where somebody answers as a replica that is told to take over: OK to everything but PSYNC. One thread."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(
            answers
        )  # to one PSYNC each, then the connection is closed; the last one to all that follow
        self.asked: list[list[bytes]] = []  # each PSYNC that came
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                with sock, contextlib.suppress(OSError), sock.makefile("rb") as file:
                    self._serve(sock, file)

    def _serve(self, sock: socket.socket, file: BinaryIO) -> None:
        while line := file.readline():
            words = [file.read(int(file.readline()[1:]) + 2)[:-2] for _ in range(int(line[1:]))]
            if words[0] == b"PSYNC":
                self.asked.append(words)
                sock.sendall(self.answers[min(len(self.asked), len(self.answers)) - 1])
                return
            sock.sendall(b"+PONG\r\n" if words[0] == b"PING" else b"+OK\r\n")

    def close(self) -> None:
        """End it."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


@contextlib.contextmanager
def handing_over(*answers: bytes) -> Iterator[tuple[Lmdbredis, Target]]:
    """Yield a primary that has begun to hand over to a target with these answers."""
    target = Target(*answers)
    try:
        with Lmdbredis() as primary, primary.connect() as replica:
            primary.client().call("SET", "k", "v")
            replica.call("REPLCONF", "listening-port", target.port, "capa", "lmdbredis")
            replica.send(pack(("PSYNC", "?", -1)))
            wait_for(lambda: "state=online" in info(control(primary)).get("slave0", ""), "it to be a replica")
            replica.send(pack(("REPLCONF", "ACK", 1 << 40)))
            assert control(primary).call("FAILOVER").value == b"OK"
            wait_for(lambda: target.asked, "the target to be asked")
            yield primary, target
    finally:
        target.close()


LOST = b""  # the connection breaks before the answer
BROKEN_OFF = b"+FULLRESYNC %b 2000 %b 1000 0\r\n$100\r\nlog" % (b"a" * 40, b"b" * 40)


@pytest.mark.parametrize("answers", [(BROKEN_OFF, LOST), (LOST, BROKEN_OFF)])
def test_failover_that_was_accepted_stays(answers: tuple[bytes, ...]):
    """When the target has said that it goes on, this server is a replica, also if the link breaks in the middle of the snapshot."""
    with handing_over(*answers) as (primary, target):
        wait_for(lambda: len(target.asked) > 3, "it to be asked again")
        assert client_role(control(primary))[0] == b"slave"
        assert state(primary) == "no-failover"
        assert primary.client().call("SET", "k", "w").value.startswith(b"READONLY")
        assert [words[-1] == b"FAILOVER" for words in target.asked[:4]] == [True, answers[0] == LOST, False, False]


def test_failover_whose_answer_is_lost():
    """Whoever was asked to take over, and did not answer, may have done so: this server asks again, and takes no writes, until ABORT."""
    with handing_over(LOST, b"-BUSY a script is running\r\n", LOST) as (primary, target), primary.connect() as client:
        wait_for(lambda: len(target.asked) > 3, "it to be asked again")
        assert all(words[-1] == b"FAILOVER" for words in target.asked)
        assert client_role(control(primary))[0] == b"slave"
        assert state(primary) == "failover-in-progress"
        client.send(pack(("SET", "k", "w")))
        assert not _readable(client, 0.05)
        assert control(primary).call("FAILOVER", "ABORT").value == b"OK"
        assert client.read()[0].value == b"OK"
        assert client_role(control(primary))[0] == b"master"


@pytest.mark.parametrize(
    "answers",
    [(b"-BUSY a script is running\r\n",), (LOST, b"-NOMASTERLINK Can't SYNC while not connected with my master\r\n")],
)
def test_failover_that_is_refused(answers: tuple[bytes, ...]):
    """An error to the first question, or a replica's word to a later one, tells that nobody has taken over: all is as before."""
    with handing_over(*answers) as (primary, target):
        wait_for(lambda: state(primary) == "no-failover", "it to be over")
        assert client_role(control(primary))[0] == b"master"
        assert primary.client().call("SET", "k", "w").value == b"OK"
        assert len(target.asked) == len(answers)
