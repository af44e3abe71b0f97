"""The on-disk format: the only place that packs bytes, and its only specification.

Laws: a number once written to disk is never reused or changed in meaning; every integer is big-endian, so that LMDB's
byte order is numeric order; whoever changes a layout raises `FORMAT_VERSION`, and a newer store is refused.

Sub-databases (`Table`, the number is what WAL records use)::

    0 meta        name                          see META_* below
    1 keys        keyspace u32, key*            cell (below)
    2 expires     expire_at_ms u64, keyspace u32, key*      the whole key if it is long, else empty
    3 hash        id u64, field*                cell: tag u8 [, whole u32 + bytes] , value
    4 set         id u64, member*               the whole member if it is long, else empty
    5 list        id u64, position u64          value
    6 zset        id u64, member*               score f64 [, the whole member if it is long]
    7 zset.score  id u64, score (sortable), member*         the whole member if it is long, else empty
    8 chunks      id u64, chunk number u32      at most CHUNK_BYTES of a long string; every chunk but the last is full
    9 counts      table u8, owner, first row    rows in the block u32: the order-statistics index (see `ranks`)
    10 garbage    id u64 | keyspace u32         kind u8: what is to be reclaimed (see `expiry`)
    11 stream     id u64, ms u64, seq u64       msgpack: an array of fields and values in turn
    12 stream.groups      id u64, group*        id u64 of the group [, ...: a group, below]
    13 stream.consumers   group id u64, consumer*       id u64 of the consumer [, ...: a consumer, below]
    14 stream.pending     group id u64, ms u64, seq u64 consumer id u64, delivered_ms u64, deliveries u64
    15 stream.owned       consumer id u64       the consumer's whole name
                  consumer id u64, ms u64, seq u64      empty: the entry is pending and this consumer's

``*`` LMDB keys end at 511 bytes, Redis's do not. A name of more than `NAME_BYTES_MAX` bytes is stored as its first
`PREFIX_BYTES` bytes and a 16-byte digest of the whole; the row's value then carries the whole bytes. Such a stored name
is the only one of `LONG_NAME_BYTES` bytes, so long and short never meet. Rows whose names share a prefix of `PREFIX_BYTES`
stand together, in digest order; whoever needs exact order sorts that group by the whole bytes (`datatypes.zsets_ranges`).

The cell of a key::

    | tag u8 | expire_at_ms u64, if tag & HAS_EXPIRE | length u32 + whole key, if tag & HAS_WHOLE | body |

    tag & 0x3f: the type          body
    STRING                        the value
    STRING_CHUNKS                 id u64, length u64
    SET, ZSET, HASH               id u64, count u64, flags u8
    LIST                          id u64, count u64, flags u8, first position u64, last position u64
    STREAM                        id u64, count u64, flags u8 (0), id of the first entry (0-0 if there is none), last id
                                  that was given, greatest id that was deleted, entries ever added u64, groups u64

The id of an entry is ms u64 and seq u64, in memory one number of 128 bits. Groups and consumers of a stream have ids of their
own, from the numbers that collections have, so that each of them can be left to the reclaimer whole::

    group      id u64, last id delivered, entries read i64 (-1 = not known), pending u64, consumers u64 [, whole name]
    consumer   id u64, seen_ms u64, active_ms i64 (-1 = never), pending u64 [, whole name]

>>> pack_string(b"hello").hex(" ")
'01 68 65 6c 6c 6f'
>>> pack_string(b"hello", expire_at_ms=5).hex(" ")
'81 00 00 00 00 00 00 00 05 68 65 6c 6c 6f'
>>> pack_head(HASH, 7, 2, 0).hex(" ")
'05 00 00 00 00 00 00 00 07 00 00 00 00 00 00 00 02 00'

>>> pack_stream_head(8, 1, (5 << 64) + 1, (5 << 64) + 1, 0, 3, 0)[:18].hex(" ")
'06 00 00 00 00 00 00 00 08 00 00 00 00 00 00 00 01 00'
>>> pack_entry([b"name", b"ann"]).hex(" ")
'92 c4 04 6e 61 6d 65 c4 03 61 6e 6e'
>>> pack_entry_id((5 << 64) + 1).hex()
'00000000000000050000000000000001'

Scores sort as bytes (sign flipped; negatives inverted; -0 and 0 are one)::

>>> [sortable(x).hex() for x in (-1.0, -0.0, 0.0, 1.0)]
['400fffffffffffff', '8000000000000000', '8000000000000000', 'bff0000000000000']
>>> unsortable(sortable(-1.5))
-1.5

A WAL segment is a header of `SEGMENT_HEADER_BYTES` bytes and then records, without gaps; its file is named by the lsn
of its first byte. After the last record come zeros (preallocated room) or the end of the file::

    segment | magic 8 | version u32 | base lsn u64 | crc u32 over the bytes before | zeros to 32 |
    record  | payload bytes u32 | crc u32 over all that follows | lsn u64 | synced lsn u64 | time_ms u64 | flags u8 | payload |

The lsn inside a record is its own address: stale bytes from elsewhere can never pass for a record. `synced lsn` is how far
the log was known to be on disk when the record was written: it tells a tail that a power cut tore (nobody was promised
those bytes) from damage to bytes that had been safe. The payload is msgpack: a map of sub-database number to a map of rows,
``nil`` for a row deleted. Under `NOTES` it may hold what rows cannot tell, for replicas: key events that one has asked for (class,
name, database number, key) and published messages (an empty class, channel, kind, message).

>>> pack_record_header(b"x", 64, 32, 1000, 0).hex()
'000000018fe20a350000000000000040000000000000002000000000000003e800'

The file CONTROL, and what is known of LMDB's own pages, stand in `control_file`.
"""

from __future__ import annotations

import struct
import zlib
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgpack

from lmdbredis.errors import NewerFormat

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FORMAT_VERSION: Final = 1

# --- sub-databases: numbers are on disk ---------------------------------------------------------------------------------

META: Final = 0
KEYS: Final = 1
EXPIRES: Final = 2
HASHES: Final = 3
SETS: Final = 4
LISTS: Final = 5
ZSETS: Final = 6
SCORES: Final = 7
CHUNKS: Final = 8
COUNTS: Final = 9
GARBAGE: Final = 10
STREAMS: Final = 11
GROUPS: Final = 12
CONSUMERS: Final = 13
PENDING: Final = 14
OWNED: Final = 15

TABLE_NAMES: Final = {
    META: b"meta",
    KEYS: b"keys",
    EXPIRES: b"expires",
    HASHES: b"hash",
    SETS: b"set",
    LISTS: b"list",
    ZSETS: b"zset",
    SCORES: b"zset.score",
    CHUNKS: b"chunks",
    COUNTS: b"counts",
    GARBAGE: b"garbage",
    STREAMS: b"stream",
    GROUPS: b"stream.groups",
    CONSUMERS: b"stream.consumers",
    PENDING: b"stream.pending",
    OWNED: b"stream.owned",
}

# --- names: long keys, fields and members ---------------------------------------------------------------------------------

NAME_BYTES_MAX: Final = 480
PREFIX_BYTES: Final = 465
LONG_NAME_BYTES: Final = PREFIX_BYTES + 16


def stored_name(name: bytes) -> bytes:
    """Return the form of `name` that stands inside an LMDB key: itself, or prefix and digest if it is long."""
    if len(name) <= NAME_BYTES_MAX:
        return name
    return name[:PREFIX_BYTES] + blake2b(name, digest_size=16).digest()


def whole_if_long(name: bytes) -> bytes:
    """Return what a row must carry so that `name` can be read back: nothing, or the whole of it if it is long."""
    return b"" if len(name) <= NAME_BYTES_MAX else name


# --- ids and small integers --------------------------------------------------------------------------------------------------

UnpackError = struct.error  # what unpacking raises for bytes that are too few

_U32: Final = struct.Struct(">I")
_U64: Final = struct.Struct(">Q")
_F64: Final = struct.Struct(">d")

pack_u32 = _U32.pack
pack_u64 = _U64.pack
pack_f64 = _F64.pack


def unpack_u64s(packed: bytes) -> tuple[int, ...]:
    """Return the u64s of one string of them all: a third of the time of one by one."""
    return struct.unpack(f">{len(packed) // 8}Q", packed)


def unpack_u32(row: bytes, at: int = 0) -> int:
    """Return the u32 at byte `at`."""
    return int(_U32.unpack_from(row, at)[0])


def unpack_u64(row: bytes, at: int = 0) -> int:
    """Return the u64 at byte `at`."""
    return int(_U64.unpack_from(row, at)[0])


def unpack_f64(row: bytes, at: int = 0) -> float:
    """Return the double at byte `at`."""
    return float(_F64.unpack_from(row, at)[0])


_SIGN: Final = 1 << 63
_ALL: Final = (1 << 64) - 1


def sortable(score: float) -> bytes:
    """Return 8 bytes whose order is the order of scores; -0.0 and 0.0 are equal. NaN has no place here."""
    if score >= 0:
        return _F64.pack(-(score + 0.0))  # the sign bit flipped
    (bits,) = _U64.unpack(_F64.pack(score))
    return _U64.pack(bits ^ _ALL)


def unsortable(packed: bytes) -> float:
    """Return the score that `sortable` packed (0.0 for -0.0)."""
    (bits,) = _U64.unpack(packed)
    return float(_F64.unpack(_U64.pack(bits ^ _SIGN if bits & _SIGN else bits ^ _ALL))[0])


def unsortables(packed: bytes) -> tuple[float, ...]:
    """Return the scores that `sortable` packed, from one string of them all: a third of the time of one by one."""
    count = len(packed) // 8
    bits = struct.unpack(f">{count}Q", packed)
    return struct.unpack(f">{count}d", struct.pack(f">{count}Q", *[b ^ _SIGN if b & _SIGN else b ^ _ALL for b in bits]))


# --- the cell of a key -------------------------------------------------------------------------------------------------------

STRING: Final = 1
LIST: Final = 2
SET: Final = 3
ZSET: Final = 4
HASH: Final = 5
STREAM: Final = 6
STRING_CHUNKS: Final = 7
GROUP: Final = 8  # of no key: what a stream's groups and their consumers are called in `garbage`
CONSUMER: Final = 9
ELEMENTS: Final = {LIST: LISTS, SET: SETS, ZSET: ZSETS, HASH: HASHES, STREAM: STREAMS}  # where elements stand

TYPE_MASK: Final = 0x3F
HAS_WHOLE: Final = 0x40
HAS_EXPIRE: Final = 0x80

COUNTED: Final = 0x01  # flags: rows of the collection are counted in `counts`
UNEVEN: Final = 0x02  # flags of a list: positions are not evenly spaced any more
SIGNED_ZERO: Final = 0x04  # flags of a sorted set: a score may be -0.0, which only `zset` tells from 0.0

CHUNK_BYTES: Final = 8160  # with its header a chunk fills two pages
INLINE_BYTES_MAX: Final = CHUNK_BYTES

_HEAD: Final = struct.Struct(">QQB")
_LIST_HEAD: Final = struct.Struct(">QQBQQ")
_CHUNKS_HEAD: Final = struct.Struct(">QQ")
_STREAM_HEAD: Final = struct.Struct(">QQB16s16s16sQQ")
HEAD_BYTES: Final = {
    LIST: _LIST_HEAD.size, SET: _HEAD.size, ZSET: _HEAD.size, HASH: _HEAD.size, STREAM: _STREAM_HEAD.size,
    STRING_CHUNKS: _CHUNKS_HEAD.size,
}  # fmt: skip

PLAIN_STRING: Final = bytes((STRING,))  # a string's cell without expiry is this byte and the value

pack_chunks_head = _CHUNKS_HEAD.pack


def pack_cell(kind: int, body: bytes, expire_at_ms: int = 0, whole: bytes = b"") -> bytes:
    """Return the cell of a key: type, expiry (0 = none), the whole key if it is long, and the body."""
    tag = kind
    middle = b""
    if expire_at_ms:
        tag |= HAS_EXPIRE
        middle = _U64.pack(expire_at_ms)
    if whole:
        tag |= HAS_WHOLE
        middle += _U32.pack(len(whole)) + whole
    return bytes((tag,)) + middle + body


def pack_string(value: bytes, expire_at_ms: int = 0, whole: bytes = b"") -> bytes:
    """Return the cell of a short string."""
    return pack_cell(STRING, value, expire_at_ms, whole)


def pack_head(
    kind: int,
    ident: int,
    count: int,
    flags: int,
    first: int = 0,
    last: int = 0,
    *,
    expire_at_ms: int = 0,
    whole: bytes = b"",
) -> bytes:
    """Return the cell of a collection that is no stream."""
    body = _LIST_HEAD.pack(ident, count, flags, first, last) if kind == LIST else _HEAD.pack(ident, count, flags)
    return pack_cell(kind, body, expire_at_ms, whole)


def pack_stream_head(
    ident: int, count: int, first: int, last: int, deleted: int, added: int, groups: int,
    *, expire_at_ms: int = 0, whole: bytes = b"",
) -> bytes:  # fmt: skip
    """Return the cell of a stream: three ids (the first entry's, the last given, the greatest deleted) and three counts."""
    ids = (pack_entry_id(first), pack_entry_id(last), pack_entry_id(deleted))
    return pack_cell(STREAM, _STREAM_HEAD.pack(ident, count, 0, *ids, added, groups), expire_at_ms, whole)


def body_offset(cell: bytes) -> int:
    """Return where the body of a key's cell begins."""
    at = 9 if cell[0] & HAS_EXPIRE else 1
    if cell[0] & HAS_WHOLE:
        at += 4 + unpack_u32(cell, at)
    return at


def expire_of(cell: bytes) -> int:
    """Return expire_at_ms of a key's cell, 0 if it has none."""
    return unpack_u64(cell, 1) if cell[0] & HAS_EXPIRE else 0


def whole_of(cell: bytes) -> bytes:
    """Return the whole long key that a key's cell carries, empty if the key is short."""
    if not cell[0] & HAS_WHOLE:
        return b""
    at = 9 if cell[0] & HAS_EXPIRE else 1
    return cell[at + 4 : at + 4 + unpack_u32(cell, at)]


def unpack_head(cell: bytes) -> tuple[int, int, int, int, int]:
    """Return (id, count, flags, first, last) of a collection's cell; first and last are 0 but for lists and streams."""
    at = body_offset(cell)
    if cell[0] & TYPE_MASK == STREAM:
        ident, count, flags, first, last, _, _, _ = _STREAM_HEAD.unpack_from(cell, at)
        return ident, count, flags, unpack_entry_id(first, 0), unpack_entry_id(last, 0)
    if cell[0] & TYPE_MASK == LIST:
        ident, count, flags, first, last = _LIST_HEAD.unpack_from(cell, at)
        return ident, count, flags, first, last
    ident, count, flags = _HEAD.unpack_from(cell, at)
    return ident, count, flags, 0, 0


def unpack_chunks_head(cell: bytes) -> tuple[int, int]:
    """Return (id, length in bytes) of a long string's cell."""
    ident, length = _CHUNKS_HEAD.unpack_from(cell, body_offset(cell))
    return ident, length


# --- hash values ----------------------------------------------------------------------------------------------------------------

PLAIN_FIELD: Final = b"\0"  # a short field's row value is this tag and the value; HAS_EXPIRE is kept for field TTLs


def pack_field(field: bytes, value: bytes) -> bytes:
    """Return the row value of a hash field."""
    if len(field) <= NAME_BYTES_MAX:
        return PLAIN_FIELD + value
    return bytes((HAS_WHOLE,)) + _U32.pack(len(field)) + field + value


def field_value(row: bytes) -> bytes:
    """Return the value in a hash field's row."""
    return row[1:] if row[0] == 0 else row[5 + unpack_u32(row, 1) :]


def field_whole(row: bytes) -> bytes:
    """Return the whole long field that a row carries, empty if the field is short."""
    return b"" if row[0] == 0 else row[5 : 5 + unpack_u32(row, 1)]


# --- streams -----------------------------------------------------------------------------------------------------------------------

ENTRY_ID_MAX: Final = (1 << 128) - 1
UNKNOWN: Final = -1  # of a group: how many entries it has read; of a consumer: when it was active

_GROUP: Final = struct.Struct(">Q16sqQQ")
_CONSUMER: Final = struct.Struct(">QQqQ")
_PENDING: Final = struct.Struct(">QQQ")
_pack_entry = msgpack.Packer(autoreset=True).pack


def pack_entry_id(entry_id: int) -> bytes:
    """Return the 16 bytes of an entry's id, whose order is the order of ids."""
    return entry_id.to_bytes(16, "big")


def unpack_entry_id(row_key: bytes, at: int = 8) -> int:
    """Return the id of an entry, from the key of a row that ends with it."""
    return int.from_bytes(row_key[at : at + 16], "big")


def pack_entry(words: Sequence[bytes]) -> bytes:
    """Return the row of a stream's entry: its fields and values in turn."""
    return bytes(_pack_entry(words))


def unpack_entry(row: bytes) -> list[bytes]:
    """Return the fields and values of an entry, in turn. Raises ValueError if the row is none."""
    words: list[bytes] = msgpack.unpackb(row, max_bin_len=RECORD_BYTES_MAX, max_array_len=RECORD_BYTES_MAX)
    return words


def unpack_stream_head(cell: bytes) -> tuple[int, int, int]:
    """Return (greatest id deleted, entries ever added, groups) of a stream's cell; `unpack_head` has the rest."""
    _, _, _, _, _, deleted, added, groups = _STREAM_HEAD.unpack_from(cell, body_offset(cell))
    return unpack_entry_id(deleted, 0), added, groups


def pack_group(ident: int, last: int, read: int, pending: int, consumers: int, whole: bytes) -> bytes:
    """Return the row of a group."""
    return _GROUP.pack(ident, pack_entry_id(last), read, pending, consumers) + whole


def unpack_group(row: bytes) -> tuple[int, int, int, int, int, bytes]:
    """Return (id, last id delivered, entries read, pending, consumers, the whole name if it is long)."""
    ident, last, read, pending, consumers = _GROUP.unpack_from(row)
    return ident, unpack_entry_id(last, 0), read, pending, consumers, row[_GROUP.size :]


def pack_consumer(ident: int, seen_ms: int, active_ms: int, pending: int, whole: bytes) -> bytes:
    """Return the row of a consumer."""
    return _CONSUMER.pack(ident, seen_ms, active_ms, pending) + whole


def unpack_consumer(row: bytes) -> tuple[int, int, int, int, bytes]:
    """Return (id, seen_ms, active_ms, pending, the whole name if it is long)."""
    ident, seen_ms, active_ms, pending = _CONSUMER.unpack_from(row)
    return ident, seen_ms, active_ms, pending, row[_CONSUMER.size :]


pack_pending = _PENDING.pack


def unpack_pending(row: bytes) -> tuple[int, int, int]:
    """Return (consumer id, delivered_ms, deliveries) of a pending entry."""
    consumer, delivered_ms, deliveries = _PENDING.unpack(row)
    return consumer, delivered_ms, deliveries


# --- meta rows ---------------------------------------------------------------------------------------------------------------------

META_VERSION: Final = b"version"  # u32
META_LSN: Final = b"lsn"  # u64: the log is in the rows up to here
META_NEXT_ID: Final = b"next_id"  # u64: ids from here on are unused
META_NEXT_KEYSPACE: Final = b"next_keyspace"  # u32: likewise for keyspaces
META_DATABASES: Final = b"databases"  # msgpack map: database number -> keyspace u32
META_KEYSPACE: Final = b"keyspace:"  # + u32: keys u64, keys with a TTL u64, sum of their expire_at_ms u128, flags u8

_KEYSPACE: Final = struct.Struct(">QQQQB")
KEYSPACE_BYTES: Final = _KEYSPACE.size


def pack_keyspace(keys: int, volatile: int, expire_sum_ms: int, flags: int) -> bytes:
    """Return the meta row that counts a keyspace's keys, its keys with a TTL, and the sum of their expiry times."""
    return _KEYSPACE.pack(keys, volatile, expire_sum_ms >> 64, expire_sum_ms & _ALL, flags)


def unpack_keyspace(row: bytes) -> tuple[int, int, int, int]:
    """Return (keys, volatile, expire_sum_ms, flags)."""
    keys, volatile, high, low, flags = _KEYSPACE.unpack(row)
    return keys, volatile, high << 64 | low, flags


def pack_databases(keyspaces: dict[int, int]) -> bytes:
    """Return the meta row that maps database numbers to keyspaces."""
    return bytes(msgpack.packb(keyspaces))


def unpack_databases(row: bytes) -> dict[int, int]:
    """Return database number -> keyspace."""
    return dict(msgpack.unpackb(row, strict_map_key=False))


# --- garbage kinds -------------------------------------------------------------------------------------------------------------------

GARBAGE_KEYSPACE: Final = 0  # the row's name is a keyspace u32
# any other kind is the type of the collection whose id is the row's name

# --- the log -----------------------------------------------------------------------------------------------------------------------------

SEGMENT_MAGIC: Final = b"LRWAL\r\n\0"
SEGMENT_HEADER_BYTES: Final = 32
RECORD_HEADER_BYTES: Final = 33
RECORD_BYTES_MAX: Final = (1 << 32) - 1
WANTS_SYNC: Final = 1  # a flag of a record: whoever gets it as a replica syncs its log, and says so

_SEGMENT: Final = struct.Struct(">8sIQ")
_RECORD: Final = struct.Struct(">IIQQQB")
_RECORD_TAIL: Final = struct.Struct(">QQQB")
_LENGTH_AND_CRC: Final = struct.Struct(">II")

NOTES: Final = 255  # the number of no sub-database

Rows = dict[bytes, bytes | None]
WriteSet = dict[int, Rows]
Note = tuple[
    str, bytes, int, bytes
]  # class of a key event, its name, database number, key; or "", channel, kind, message

_pack_write_set = msgpack.Packer(autoreset=True).pack


def pack_write_set(write_set: WriteSet, notes: Sequence[Note] = ()) -> bytes:
    """Return the payload of a record."""
    return bytes(_pack_write_set(write_set | {NOTES: notes} if notes else write_set))


def unpack_write_set(payload: bytes) -> WriteSet:
    """Return the rows of a record. Raises ValueError if the payload is no write set."""
    return unpack_payload(payload)[0]


def unpack_payload(payload: bytes) -> tuple[WriteSet, Sequence[Note]]:
    """Return (rows, notes) of a record. Raises ValueError if the payload is no write set."""
    unpacked: Any = msgpack.unpackb(
        payload, strict_map_key=False, max_bin_len=RECORD_BYTES_MAX, max_map_len=RECORD_BYTES_MAX,
        max_array_len=RECORD_BYTES_MAX,
    )  # fmt: skip
    if not isinstance(unpacked, dict):
        raise ValueError("the payload of a record is no map")  # noqa: TRY004 -- to the reader it is damage, like all the others
    return unpacked, unpacked.pop(NOTES, ())


def merge_payloads(payloads: Iterable[bytes]) -> tuple[WriteSet, list[Note]]:
    """Return (rows, notes) of several records that follow each other: of each row the last. Raises ValueError as `unpack_payload`."""
    merged: WriteSet = {}
    notes: list[Note] = []
    for payload in payloads:
        write_set, noted = unpack_payload(payload)
        notes += noted
        for number, rows in write_set.items():
            if number in merged:
                merged[number].update(rows)
            else:
                merged[number] = rows
    return merged, notes


def refuse_newer(version: int, what: str) -> None:
    """Raise NewerFormat if `version` is newer than this code."""
    if version > FORMAT_VERSION:
        text = f"{what} has format version {version}; this server knows versions up to {FORMAT_VERSION}. Use a newer lmdbredis"
        raise NewerFormat(text)


def pack_segment_header(base_lsn: int) -> bytes:
    """Return the first bytes of a segment."""
    head = _SEGMENT.pack(SEGMENT_MAGIC, FORMAT_VERSION, base_lsn)
    return (head + _U32.pack(zlib.crc32(head))).ljust(SEGMENT_HEADER_BYTES, b"\0")


def unpack_segment_header(head: bytes) -> int | None:
    """Return the base lsn; None if the header is torn. Raises StorageError for a newer format."""
    if (
        len(head) < SEGMENT_HEADER_BYTES
        or head[:8] != SEGMENT_MAGIC
        or _U32.unpack_from(head, 20)[0] != zlib.crc32(head[:20])
    ):
        return None
    _, version, base_lsn = _SEGMENT.unpack_from(head)
    refuse_newer(version, "WAL segment")
    return int(base_lsn)


def pack_record_header(payload: bytes, lsn: int, synced_lsn: int, time_ms: int, flags: int) -> bytes:
    """Return what stands before `payload` in a record at address `lsn`."""
    tail = _RECORD_TAIL.pack(lsn, synced_lsn, time_ms, flags)
    return _LENGTH_AND_CRC.pack(len(payload), zlib.crc32(payload, zlib.crc32(tail))) + tail


class RecordHeader(NamedTuple):
    """The header of a record, unpacked."""

    payload_bytes: int
    crc: int
    lsn: int
    synced_lsn: int
    time_ms: int
    flags: int


def unpack_record_header(head: bytes) -> RecordHeader:
    """Return the header of a record, from its `RECORD_HEADER_BYTES` bytes."""
    return RecordHeader(*_RECORD.unpack(head))


def record_is_whole(head: bytes, payload: bytes) -> bool:
    """Tell whether the record's crc is that of its bytes."""
    return bool(zlib.crc32(payload, zlib.crc32(head[8:])) == unpack_u32(head, 4))
