"""Blocking: what a command says that found nothing and may wait for more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


class Wait(Exception):
    """Nothing is there yet: the request is to be run again when one of the keys has changed."""

    def __init__(
        self, keys: Sequence[bytes], kind: int, timeout_ms: int, nothing: Any, words: list[bytes] | None = None
    ) -> None:
        super().__init__(keys)
        self.keys = keys
        self.kind = kind  # fmt.STREAM: what must stand at a key
        self.timeout_ms = timeout_ms  # 0 = for ever
        self.nothing = nothing  # the reply when the time is up, and wherever nobody may wait
        self.words = words  # the request to be run again; None: as it came
