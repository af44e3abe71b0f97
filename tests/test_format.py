"""The on-disk format: golden vectors for every layout, as bytes that were written down once and must never change.

A vector that fails means that stores written before cannot be read any more. Then either the change is a mistake, or it needs
a new FORMAT_VERSION and code that reads both.
"""

from __future__ import annotations

import doctest
import math
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmdbredis import control_file
from lmdbredis import format as fmt
from lmdbredis.errors import StorageError

LONG = bytes(range(256)) * 2  # 512 bytes: a long name

# (what was packed, its bytes). The names say which layout of the docstring it is.
GOLDEN = {
    "cell: string": (fmt.pack_string(b"hello"), "01 68656c6c6f"),
    "cell: empty string": (fmt.pack_string(b""), "01"),
    "cell: string with expiry": (fmt.pack_string(b"v", 1_700_000_000_000), "81 0000018bcfe56800 76"),
    "cell: string of a long key": (fmt.pack_string(b"v", 0, b"KEY"), "41 00000003 4b4559 76"),
    "cell: string, expiry and long key": (fmt.pack_string(b"v", 1, b"KEY"), "c1 0000000000000001 00000003 4b4559 76"),
    "cell: string in chunks": (
        fmt.pack_cell(fmt.STRING_CHUNKS, fmt.pack_chunks_head(7, 100_000)),
        "07 0000000000000007 00000000000186a0",
    ),
    "cell: list": (
        fmt.pack_head(fmt.LIST, 3, 2, fmt.UNEVEN, 1 << 63, (1 << 63) + (1 << 20)),
        "02 0000000000000003 0000000000000002 02 8000000000000000 8000000000100000",
    ),
    "cell: set": (fmt.pack_head(fmt.SET, 4, 300, fmt.COUNTED), "03 0000000000000004 000000000000012c 01"),
    "cell: zset": (fmt.pack_head(fmt.ZSET, 5, 1, fmt.SIGNED_ZERO), "04 0000000000000005 0000000000000001 04"),
    "cell: hash with expiry": (
        fmt.pack_head(fmt.HASH, 6, 9, 0, expire_at_ms=255),
        "85 00000000000000ff 0000000000000006 0000000000000009 00",
    ),
    "cell: stream with expiry": (
        fmt.pack_stream_head(8, 2, (5 << 64) + 1, (6 << 64) + 2, 7, 9, 3, expire_at_ms=255),
        (
            "86 00000000000000ff 0000000000000008 0000000000000002 00 0000000000000005 0000000000000001"
            "0000000000000006 0000000000000002 0000000000000000 0000000000000007 0000000000000009 0000000000000003"
        ),
    ),
    "stream: entry": (fmt.pack_entry((b"name", b"\0\xff")), "92 c404 6e616d65 c402 00ff"),
    "stream: id": (fmt.pack_entry_id((1526919030474 << 64) + 55), "00000163837766ca 0000000000000037"),
    "stream: group": (
        fmt.pack_group(11, (5 << 64) + 1, fmt.UNKNOWN, 2, 3, b""),
        "000000000000000b 0000000000000005 0000000000000001 ffffffffffffffff 0000000000000002 0000000000000003",
    ),
    "stream: long-named group": (
        fmt.pack_group(11, 0, 4, 0, 0, LONG),
        "000000000000000b 0000000000000000 0000000000000000 0000000000000004 0000000000000000 0000000000000000"
        + LONG.hex(),
    ),
    "stream: consumer": (
        fmt.pack_consumer(12, 1000, 999, 2, b""),
        "000000000000000c 00000000000003e8 00000000000003e7 0000000000000002",
    ),
    "stream: consumer never active, long-named": (
        fmt.pack_consumer(12, 1000, fmt.UNKNOWN, 0, LONG),
        "000000000000000c 00000000000003e8 ffffffffffffffff 0000000000000000" + LONG.hex(),
    ),
    "stream: pending": (fmt.pack_pending(12, 1000, 2), "000000000000000c 00000000000003e8 0000000000000002"),
    "hash: field": (fmt.pack_field(b"f", b"value"), "00 76616c7565"),
    "hash: long field": (fmt.pack_field(LONG, b"v"), "40 00000200" + LONG.hex() + "76"),
    "long name": (fmt.stored_name(LONG), LONG[:465].hex() + "43d6c8c9d71d2bf482bc9fdcb35a5496"),
    "score 1.5": (fmt.sortable(1.5), "bff8000000000000"),
    "score -1.5": (fmt.sortable(-1.5), "4007ffffffffffff"),
    "score inf": (fmt.sortable(math.inf), "fff0000000000000"),
    "score -inf": (fmt.sortable(-math.inf), "000fffffffffffff"),
    "score -0.0": (fmt.sortable(-0.0), "8000000000000000"),
    "zset: score": (fmt.pack_f64(-0.0), "8000000000000000"),
    "meta: keyspace": (
        fmt.pack_keyspace(1000, 2, 3_400_000_000_000, fmt.COUNTED),
        "00000000000003e8 0000000000000002 0000000000000000 000003179fcad000 01",
    ),
    "meta: keyspace, a sum beyond u64": (
        fmt.pack_keyspace(1, 1, (1 << 64) + 5, 0),
        "0000000000000001 0000000000000001 0000000000000001 0000000000000005 00",
    ),
    "meta: databases": (fmt.pack_databases({0: 0, 15: 300}), "82 00 00 0f cd012c"),
    "segment": (
        fmt.pack_segment_header(0x1000),
        "4c5257414c0d0a00 00000001 0000000000001000 96d9d4bf 0000000000000000",
    ),
    "record": (
        fmt.pack_record_header(b"x", 64, 32, 1000, 0) + b"x",
        "00000001 8fe20a35 0000000000000040 0000000000000020 00000000000003e8 00 78",
    ),
    "CONTROL": (
        control_file.pack(control_file.Control("a" * 40, "b" * 40, 7, 1000, 12, bytes(range(136)))),
        "4c524354524c0d0a 00000001"
        + "61" * 40
        + "62" * 40
        + "0000000000000007 00000000000003e8 000000000000000c"
        + bytes(range(136)).hex()
        + "f8bf0911",
    ),
    "write set": (
        fmt.pack_write_set({fmt.KEYS: {b"\0\0\0\0k": b"\x01v"}, fmt.SETS: {b"m": None}}),
        "82 01 81 c405 000000006b c402 0176 04 81 c401 6d c0",
    ),
}


def _hex(text: str) -> bytes:
    return bytes.fromhex(text.replace(" ", ""))


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name: str):
    """Every layout packs to the bytes that stand in stores already."""
    packed, expected = GOLDEN[name]

    assert packed.hex() == _hex(expected).hex()


def test_numbers():
    """Numbers that stand on disk keep their meaning: a changed one would read old stores as something else."""
    names = {
        0: b"meta", 1: b"keys", 2: b"expires", 3: b"hash", 4: b"set", 5: b"list", 6: b"zset", 7: b"zset.score", 8: b"chunks",
        9: b"counts", 10: b"garbage", 11: b"stream", 12: b"stream.groups", 13: b"stream.consumers", 14: b"stream.pending",
        15: b"stream.owned",
    }  # fmt: skip

    assert names == {number: fmt.TABLE_NAMES[number] for number in names}
    assert (1, 2, 3, 4, 5, 7) == (fmt.STRING, fmt.LIST, fmt.SET, fmt.ZSET, fmt.HASH, fmt.STRING_CHUNKS)
    assert (6, 8, 9) == (fmt.STREAM, fmt.GROUP, fmt.CONSUMER)
    assert (1, 2, 4) == (fmt.COUNTED, fmt.UNEVEN, fmt.SIGNED_ZERO)
    assert (0x40, 0x80, 8160) == (fmt.HAS_WHOLE, fmt.HAS_EXPIRE, fmt.CHUNK_BYTES)
    assert (480, 465, 481) == (fmt.NAME_BYTES_MAX, fmt.PREFIX_BYTES, fmt.LONG_NAME_BYTES)
    assert (b"version", b"lsn", b"next_id", b"next_keyspace", b"databases", b"keyspace:") == (
        fmt.META_VERSION, fmt.META_LSN, fmt.META_NEXT_ID, fmt.META_NEXT_KEYSPACE, fmt.META_DATABASES, fmt.META_KEYSPACE,
    )  # fmt: skip


def test_doctests():
    """The examples in the specification are true."""
    failed, tried = doctest.testmod(fmt)

    assert (failed, tried > 5) == (0, True)


# --- what was packed comes back --------------------------------------------------------------------------------------------

U64 = st.integers(0, (1 << 64) - 1)
NAMES = st.binary(max_size=600) | st.integers(478, 484).map(lambda size: b"k" * size)


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_scores_sort(a: float, b: float):
    """Packed scores compare as scores do, come back equal, one by one and many at a time."""
    assert (a < b, a == b) == (fmt.sortable(a) < fmt.sortable(b), fmt.sortable(a) == fmt.sortable(b))
    assert (a, b) == (fmt.unsortable(fmt.sortable(a)), fmt.unsortable(fmt.sortable(b)))
    assert (a, b) == fmt.unsortables(fmt.sortable(a) + fmt.sortable(b))


@given(NAMES, NAMES)
def test_names(a: bytes, b: bytes):
    """Different names are stored differently, long and short never meet, and a row's key never passes LMDB's 511 bytes."""
    stored = fmt.stored_name(a)

    assert (a == b) == (stored == fmt.stored_name(b))
    assert (len(a) > fmt.NAME_BYTES_MAX) == (len(stored) == fmt.LONG_NAME_BYTES) == bool(fmt.whole_if_long(a))
    assert len(bytes((fmt.SCORES,)) + bytes(8) + bytes(8) + stored) <= 511  # the longest: a block of a sorted set


@given(st.sampled_from([fmt.LIST, fmt.SET, fmt.ZSET, fmt.HASH]), U64, U64, st.integers(0, 7), U64, U64, U64, NAMES)
def test_heads(kind: int, ident: int, count: int, flags: int, first: int, last: int, expire_at_ms: int, key: bytes):
    """A collection's cell gives back what was packed, whatever stands before its body."""
    cell = fmt.pack_head(
        kind, ident, count, flags, first, last, expire_at_ms=expire_at_ms, whole=fmt.whole_if_long(key)
    )
    ends = (first, last) if kind == fmt.LIST else (0, 0)

    assert (ident, count, flags, *ends) == fmt.unpack_head(cell)
    assert (expire_at_ms, fmt.whole_if_long(key)) == (fmt.expire_of(cell), fmt.whole_of(cell))
    assert fmt.HEAD_BYTES[kind] == len(cell) - fmt.body_offset(cell)


U128 = st.integers(0, fmt.ENTRY_ID_MAX)
I64 = st.integers(-1, (1 << 63) - 1)


@given(U64, U64, U128, U128, U128, U64, U64, U64, NAMES)
def test_stream_heads(ident, count, first, last, deleted, added, groups, expire_at_ms, key):
    """A stream's cell gives back what was packed, whatever stands before its body."""
    cell = fmt.pack_stream_head(
        ident, count, first, last, deleted, added, groups, expire_at_ms=expire_at_ms, whole=fmt.whole_if_long(key)
    )

    assert (ident, count, 0, first, last) == fmt.unpack_head(cell)
    assert (deleted, added, groups) == fmt.unpack_stream_head(cell)
    assert (expire_at_ms, fmt.whole_if_long(key)) == (fmt.expire_of(cell), fmt.whole_of(cell))
    assert fmt.HEAD_BYTES[fmt.STREAM] == len(cell) - fmt.body_offset(cell)


@given(U64, U128, I64, U64, U64, NAMES)
def test_groups_and_consumers(ident, last, number, pending, consumers, name):
    """Rows of groups, consumers and pending entries give back what was packed."""
    whole = fmt.whole_if_long(name)
    group, consumer = (ident, last, number, pending, consumers, whole), (ident, pending, number, consumers, whole)

    assert group == fmt.unpack_group(fmt.pack_group(*group))
    assert consumer == fmt.unpack_consumer(fmt.pack_consumer(*consumer))
    assert (ident, pending, consumers) == fmt.unpack_pending(fmt.pack_pending(ident, pending, consumers))


@given(st.lists(st.binary(max_size=300), min_size=2, max_size=40), U128, U128)
def test_entries(words, one, other):
    """An entry's words come back as they were; packed ids compare as ids do."""
    assert words == fmt.unpack_entry(fmt.pack_entry(words))
    assert (one < other) == (fmt.pack_entry_id(one) < fmt.pack_entry_id(other))
    assert one == fmt.unpack_entry_id(b"8 bytes." + fmt.pack_entry_id(one))


@given(NAMES, st.binary(max_size=100))
def test_fields(field: bytes, value: bytes):
    """A hash field's row gives back the value, and the field if it is long."""
    row = fmt.pack_field(field, value)

    assert (value, fmt.whole_if_long(field)) == (fmt.field_value(row), fmt.field_whole(row))


@given(
    st.dictionaries(
        st.integers(0, 10), st.dictionaries(st.binary(max_size=20), st.none() | st.binary(max_size=20)), max_size=4
    )
)
def test_write_sets(write_set: dict[int, dict[bytes, bytes | None]]):
    """A write set comes back as it was."""
    assert write_set == fmt.unpack_write_set(fmt.pack_write_set(write_set))


# --- what cannot be read ---------------------------------------------------------------------------------------------------


def test_control_damaged():
    """A CONTROL with any byte changed, or cut off anywhere, is refused with a text that says what to do."""
    content = control_file.pack(control_file.Control("a" * 40, lsn=5, txnid=7, meta_body=bytes(136)))
    assert control_file.unpack(content).txnid == 7

    broken = [content[:size] for size in range(len(content))] + [content + b"\0"]
    broken += [
        content[:at] + bytes((content[at] ^ 1,)) + content[at + 1 :] for at in range(len(content)) if not 8 <= at < 12
    ]
    for one in broken:
        with pytest.raises(StorageError, match="CONTROL is damaged"):
            control_file.unpack(one)


def test_newer_versions():
    """What a newer version wrote is refused by name, before anything else is believed."""
    control = bytearray(control_file.pack(control_file.Control("a" * 40, meta_body=bytes(136))))
    control[8:12] = (fmt.FORMAT_VERSION + 1).to_bytes(4, "big")
    with pytest.raises(StorageError, match=r"CONTROL has format version 2.*Use a newer lmdbredis"):
        control_file.unpack(bytes(control))

    segment = bytearray(fmt.pack_segment_header(0))
    segment[8:12] = (fmt.FORMAT_VERSION + 1).to_bytes(4, "big")
    segment[20:24] = zlib.crc32(segment[:20]).to_bytes(4, "big")
    with pytest.raises(StorageError, match="WAL segment has format version 2"):
        fmt.unpack_segment_header(bytes(segment))


def test_segment_header_torn():
    """A segment's header with any byte changed or cut off is no header."""
    head = fmt.pack_segment_header(1 << 40)
    assert fmt.unpack_segment_header(head) == 1 << 40

    torn = [head[:size] for size in range(len(head))]
    torn += [head[:at] + bytes((head[at] ^ 0xFF,)) + head[at + 1 :] for at in range(24)]

    assert [None] * len(torn) == [fmt.unpack_segment_header(one) for one in torn]


def test_meta_pages():
    """The two meta pages that show a snapshot: its own with its number, the other numbered one lower, both marked as such."""
    body = bytearray(136)
    body[0:8] = (0xBEEFC0DE).to_bytes(4, "little") + (1).to_bytes(4, "little")
    body[24:28] = (4096).to_bytes(4, "little")
    body[120:128] = (9).to_bytes(8, "little")
    for txnid in (6, 7):
        body[128:136] = txnid.to_bytes(8, "little")
        pages = control_file.meta_pages(bytes(body))

        assert [0, 4096] == [offset for offset, _ in pages]
        numbers = [control_file.meta_txnid(page[16:]) for _, page in pages]
        assert numbers == ([6, 5] if txnid == 6 else [6, 7])
        assert all(control_file.meta_body_is_valid(page[16:]) and page[10:12] == b"\x08\0" for _, page in pages)
        assert [0, 1] == [int.from_bytes(page[:8], "little") for _, page in pages]
        assert (4096, 40960) == (control_file.meta_page_bytes(bytes(body)), control_file.meta_file_bytes(bytes(body)))
