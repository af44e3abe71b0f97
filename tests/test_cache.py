"""The hot layer: bounded in bytes, whatever it holds."""

from __future__ import annotations

from lmdbredis import format as fmt
from lmdbredis.cache import Cache
from lmdbredis.entry import Entry

SIZE_BYTES = 1 << 20


def _held_bytes(cache: Cache) -> int:
    """Return what the keys and cells that are held weigh by themselves."""
    return sum(len(held) if isinstance(held, bytes) else len(held.key) for _, held in cache.items())


def test_long_keys_count():
    """Entries of collections with long keys are evicted as soon as those of many with short ones."""
    cache = Cache(SIZE_BYTES)
    for number in range(300):
        row_key = b"%08d" % number
        cache.put(row_key, Entry(row_key, row_key * 2000, fmt.SET, number))
        cache.trim()
    assert 0 < _held_bytes(cache) < 2 * SIZE_BYTES


def test_strings_count():
    """Strings are evicted by what they weigh; what came last stays."""
    cache = Cache(SIZE_BYTES)
    for number in range(5000):
        cache.put(b"%08d" % number, b"x" * 1000)
        cache.trim()
    assert 0 < _held_bytes(cache) < 2 * SIZE_BYTES
    assert cache.get(b"%08d" % 4999) is not None
    assert cache.get(b"%08d" % 0) is None


def test_without_room():
    """With a size of 0 nothing is held after a batch."""
    cache = Cache(0)
    cache.put(b"k", b"v")
    assert cache.get(b"k") == b"v"
    cache.trim()
    assert not cache.items()
