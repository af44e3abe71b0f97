"""Blocking: what a command raises that has nothing to give yet.

A handler that blocks raises `Wait` before its first write. Whoever runs it decides what waiting means: in a script, as in a
transaction, nobody can wait, so the answer is what the client would get when its time is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


class Wait(Exception):
    """A request waits for keys."""

    def __init__(self, keys: Sequence[bytes], kind: Any, timeout_ms: int, nothing: Any, words: Sequence[bytes]) -> None:
        super().__init__(nothing)
        self.keys = keys
        self.kind = kind  # of collection that may come
        self.timeout_ms = timeout_ms  # 0: for ever
        self.nothing = nothing  # the reply when nothing came
        self.words = words  # the request, to be run again
