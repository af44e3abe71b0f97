"""Scripts as texts: their shebang line, and those that are known by the SHA1 of their text.

Laws: a script that SCRIPT LOAD brought stays until SCRIPT FLUSH; of those that only EVAL brought, the `EVALUATED_MAX` used last
stay. None outlives the process.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from lmdbredis import errors
from lmdbredis.errors import ReplyError, shown
from lmdbredis.requests import split_inline

if TYPE_CHECKING:
    from collections.abc import Iterator

EVALUATED_MAX: Final = 500  # as Redis
_OWN_BYTES: Final = 400  # about what a script takes beside its text, before it is compiled
_FLAGS: Final = frozenset((b"no-writes", b"allow-oom", b"allow-stale", b"no-cluster", b"allow-cross-slot-keys"))
_FLAGS_OPTION: Final = b"flags="


class Script:
    """One script."""

    __slots__ = ("allows_stale", "body", "compiled", "has_flags", "is_loaded", "no_writes", "sha", "text")

    def __init__(self, text: bytes) -> None:
        """Read the shebang line. Raises ReplyError."""
        self.text = text
        self.sha = hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()
        self.is_loaded = False  # by SCRIPT LOAD
        self.has_flags = text.startswith(b"#!")
        flags = _read_shebang(text) if self.has_flags else frozenset()
        self.no_writes = b"no-writes" in flags
        self.allows_stale = b"allow-stale" in flags
        # Without the first line, but with its end: the lines keep their numbers.
        self.body = text[text.index(b"\n") :] if self.has_flags else text
        self.compiled: Any = None  # what the runtime made of it

    @property
    def says_it_writes(self) -> bool:
        """Tell whether the first line says what the script may do, and not that it writes nothing."""
        return self.has_flags and not self.no_writes

    @property
    def size_bytes(self) -> int:
        """Return about how much memory it takes."""
        return len(self.text) + _OWN_BYTES


def _read_shebang(text: bytes) -> frozenset[bytes]:
    """Return the flags that the first line names. Raises ReplyError: for a flag before it looks at the engine, as Redis."""
    first, separator, _ = text.partition(b"\n")
    if not separator or b"\0" in first:
        raise ReplyError(errors.SHEBANG_WITHOUT_END)
    words = split_inline(first)
    if words is None:
        raise ReplyError(errors.SHEBANG_UNREADABLE)
    flags: set[bytes] = set()
    for word in words[1:]:
        if not word.startswith(_FLAGS_OPTION):
            raise ReplyError(errors.SHEBANG_OPTION % shown(word))
        named = word.removeprefix(_FLAGS_OPTION)
        for flag in named.split(b",") if named else ():
            if flag not in _FLAGS:
                raise ReplyError(errors.SHEBANG_FLAG % shown(flag))
            flags.add(flag)
    engine = words[0].removeprefix(b"#!")
    if engine.lower() != b"lua":
        raise ReplyError(errors.SHEBANG_ENGINE % shown(engine))
    return frozenset(flags)


class Scripts:
    """All scripts that are known."""

    def __init__(self) -> None:
        self._by_text: dict[bytes, Script] = {}
        self._by_sha: dict[bytes, Script] = {}
        self._evaluated: dict[bytes, Script] = {}  # by text; those that may go, the one used last at the end

    def __len__(self) -> int:
        return len(self._by_sha)

    def __iter__(self) -> Iterator[Script]:
        return iter(self._by_sha.values())

    def of_text(self, text: bytes) -> Script | None:
        """Return the script with this text, if it is known."""
        found = self._by_text.get(text)
        if found is not None and not found.is_loaded:
            del self._evaluated[text]
            self._evaluated[text] = found
        return found

    def of_sha(self, sha: bytes) -> Script | None:
        """Return the script with this SHA1, in any case of letters, if it is known."""
        found = self._by_sha.get(sha) or self._by_sha.get(sha.lower())
        if found is not None and not found.is_loaded:
            del self._evaluated[found.text]
            self._evaluated[found.text] = found
        return found

    def add(self, script: Script) -> None:
        """Keep one more, which may go when too many have come since it was used."""
        self._by_text[script.text] = self._by_sha[script.sha] = self._evaluated[script.text] = script
        if len(self._evaluated) > EVALUATED_MAX:
            oldest = next(iter(self._evaluated.values()))
            del self._evaluated[oldest.text], self._by_text[oldest.text], self._by_sha[oldest.sha]

    def keep(self, script: Script) -> None:
        """Keep one until all are flushed."""
        script.is_loaded = True
        self._evaluated.pop(script.text, None)

    @property
    def size_bytes(self) -> int:
        """Return about how much memory the texts take."""
        return sum(script.size_bytes for script in self._by_sha.values())
