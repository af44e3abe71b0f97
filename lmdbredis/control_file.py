"""CONTROL, the file that says what is safe, and LMDB's meta pages, of which it holds one.

Theory. CONTROL is one fixed block that names the newest *synced* snapshot: its lsn, its LMDB txnid and a copy of its LMDB meta page
body, from which the snapshot can be restored whatever was committed after it (see `store`); and whose history it is::

    magic 8 | version u32 | replid 40 | replid2 40 | replid2 lsn u64 | lsn u64 | txnid u64 | meta page body 136 | crc u32

LMDB's data file (0.9, format 1) begins with two meta pages; a page's body stands 16 bytes into it: magic u32, version u32, address u64,
map size u64, two roots of 48 bytes, last page u64, txnid u64, in the machine's byte order. LMDB takes the page with the higher txnid.

With `format` the only room that packs bytes.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Final

from lmdbredis.errors import MORE_BY_CHECK, StorageError
from lmdbredis.format import FORMAT_VERSION, refuse_newer, unpack_u32

_U32: Final = struct.Struct(">I")
META_BODY_BYTES: Final = 136
META_BODY_OFFSET: Final = 16
META_PAGES: Final = 2
FIRST_BYTES: Final = 1 << 17  # of data.mdb: both meta pages, whatever the page size
_META_PAGE_BYTES: Final = 24  # where in the body things stand
_META_TREE: Final = struct.Struct("=8xQQQ")  # of a tree: flags and depth, then its branch, leaf and overflow pages
_META_TREES: Final = (24, 72)
_META_LAST_PAGE: Final = 120
_META_TXNID: Final = 128
_META_HEAD: Final = struct.Struct("=QHHHH")  # of a page: number, padding, flags, bounds
_META_FLAG: Final = 0x08  # a meta page
_META_MAGIC: Final = struct.Struct("=II")
_NATIVE_U64: Final = struct.Struct("=Q")
_NATIVE_U32: Final = struct.Struct("=I")
LMDB_MAGIC: Final = (0xBEEFC0DE, 1)

_CONTROL: Final = struct.Struct(">8sI40s40sQQQ136s")
_CONTROL_MAGIC: Final = b"LRCTRL\r\n"
NO_REPLID: Final = "0" * 40


@dataclass(frozen=True)
class Control:
    """What CONTROL says: the newest synced snapshot, and whose history it is."""

    replid: str  # 40 hex characters: this history
    replid2: str = NO_REPLID  # the history this one grew out of, up to replid2_lsn
    replid2_lsn: int = 0
    lsn: int = 0  # the synced snapshot holds the log up to here
    txnid: int = 0  # LMDB's number of that snapshot
    meta_body: bytes = b""  # LMDB's meta page body of that snapshot


def pack(control: Control) -> bytes:
    """Return the whole content of the file CONTROL."""
    head = _CONTROL.pack(
        _CONTROL_MAGIC, FORMAT_VERSION, control.replid.encode(), control.replid2.encode(),
        control.replid2_lsn, control.lsn, control.txnid, control.meta_body,
    )  # fmt: skip
    return head + _U32.pack(zlib.crc32(head))


def unpack(content: bytes) -> Control:
    """Return what CONTROL says. Raises StorageError if it is damaged, NewerFormat."""
    if len(content) >= 12 and content[:8] == _CONTROL_MAGIC:
        refuse_newer(unpack_u32(content, 8), "CONTROL")
    if (
        len(content) != _CONTROL.size + 4
        or content[:8] != _CONTROL_MAGIC
        or unpack_u32(content, _CONTROL.size) != zlib.crc32(content[:-4])
    ):
        text = (
            f"the file CONTROL is damaged{MORE_BY_CHECK}. To start from the newest state in data.mdb, move CONTROL away"
        )
        raise StorageError(text)
    _, _, replid, replid2, replid2_lsn, lsn, txnid, meta_body = _CONTROL.unpack_from(content)
    return Control(replid.decode(), replid2.decode(), replid2_lsn, lsn, txnid, meta_body)


def meta_page_bytes(body: bytes) -> int:
    """Return LMDB's page size, from a meta page body."""
    return int(_NATIVE_U32.unpack_from(body, _META_PAGE_BYTES)[0])


def meta_file_bytes(body: bytes) -> int:
    """Return how many bytes data.mdb has if every page of the snapshot is in it."""
    return int(_NATIVE_U64.unpack_from(body, _META_LAST_PAGE)[0] + 1) * meta_page_bytes(body)


def meta_tree_pages(body: bytes) -> int:
    """Return how many pages a snapshot's two innermost trees have: the list of free pages, and the names of sub-databases."""
    return sum(sum(_META_TREE.unpack_from(body, at)) for at in _META_TREES)


def meta_pages(body: bytes) -> list[tuple[int, bytes]]:
    """Return (offset, bytes) of the two meta pages that let data.mdb show the snapshot whose meta page body is `body`.

    LMDB takes the page with the higher txnid, and writes snapshot N to page N & 1: so the page that is not the snapshot's
    own has the same body, numbered one lower.
    """
    txnid = meta_txnid(body)
    pages = []
    for page in (0, 1):
        number = txnid if txnid & 1 == page else txnid - 1
        head = _META_HEAD.pack(page, 0, _META_FLAG, 0, 0)
        pages.append((page * meta_page_bytes(body), head + body[:_META_TXNID] + _NATIVE_U64.pack(number)))
    return pages


def meta_body_is_valid(body: bytes) -> bool:
    """Tell whether `body` is an LMDB 0.9 meta page body."""
    return len(body) == META_BODY_BYTES and _META_MAGIC.unpack_from(body) == LMDB_MAGIC


def meta_bodies(first: bytes, page_bytes: int = 0) -> list[bytes]:
    """Return those of the two meta page bodies that are some, from the first `FIRST_BYTES` of data.mdb.

    The page size is the first page's own word where the caller does not know it (0).
    """
    size = page_bytes or meta_page_bytes(first[META_BODY_OFFSET:].ljust(META_BODY_BYTES, b"\0"))
    bodies = (first[at : at + META_BODY_BYTES] for at in (META_BODY_OFFSET, size + META_BODY_OFFSET))
    return [body for body in bodies if meta_body_is_valid(body)]


def meta_txnid(body: bytes) -> int:
    """Return the txnid in an LMDB meta page body."""
    return int(_NATIVE_U64.unpack_from(body, _META_TXNID)[0])
