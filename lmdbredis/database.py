"""One database: a key's life, whatever its type.

Theory. A key is one row in `keys`; its cell is the value of a short string, or the head of a collection: an id, before all
rows of the collection, and its count. Ids are never reused, so a collection of any size is deleted, overwritten or renamed
by touching one row, and the rows that lose their head are left to the reclaimer through `garbage`.

Laws:

1. A key exists if its row exists and its time has not come. Whoever finds an expired key deletes it first (`Keyspace.may_expire`
   is False where another decides: then it is only hidden).
2. A collection without elements does not exist: `Database.changed` deletes a key whose count has become 0, but for streams,
   which may be empty.
3. Counts are exact at every moment: keys, keys with a TTL, the sum of their times, the elements of each collection.
4. What happens to a key is told, in order, while somebody wants the news (see `news`).
5. An entry whose count is 0 has no rows of elements any more, but for a stream. Who drops a collection with all its rows says `clear`.

It knows rows, not what the elements of a type are; no reply, no option.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lmdbredis import format as fmt
from lmdbredis.cache import ADMIT_EVERY, VALUE_BYTES_MAX
from lmdbredis.entry import Entry
from lmdbredis.errors import WRONG_TYPE, ReplyError
from lmdbredis.format import HAS_EXPIRE, NAME_BYTES_MAX, PLAIN_STRING, STREAM, STRING, STRING_CHUNKS, TYPE_MASK
from lmdbredis.news import News, What
from lmdbredis.ranks import BLOCK_ROWS
from lmdbredis.table import Row, after_prefix

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from lmdbredis.keyspace import Keyspace

TYPE_NAMES: Final = {
    fmt.STRING: b"string",
    fmt.STRING_CHUNKS: b"string",
    fmt.LIST: b"list",
    fmt.SET: b"set",
    fmt.ZSET: b"zset",
    fmt.HASH: b"hash",
    fmt.STREAM: b"stream",
}

Found = bytes | Entry

# The first byte of the cell of a short string that expires, and whose key is short.
_VOLATILE_STRING: Final = STRING | HAS_EXPIRE


class Database:
    """One numbered database: the keys of the keyspace it leads to."""

    def __init__(self, keyspace: Keyspace, number: int) -> None:
        self.keyspace = keyspace
        self.number = number
        self.id = 0  # of the keyspace, u32
        self.prefix = b""  # before all row keys of the keyspace
        self.keys = 0
        self.volatile = 0  # keys with a TTL
        self.expire_sum_ms = 0  # of their times
        self.flags = 0
        self.is_dirty = False  # the numbers above are not in their meta row yet

    # --- finding ------------------------------------------------------------------------------------------------------------

    def row_key(self, key: bytes) -> bytes:
        """Return the key of the row of `key`."""
        return self.prefix + (key if len(key) <= NAME_BYTES_MAX else fmt.stored_name(key))

    def find(self, key: bytes) -> Found | None:
        """Return a string's cell or a collection's entry, None if there is no such key. O(log n)."""
        row_key = self.prefix + (key if len(key) <= NAME_BYTES_MAX else fmt.stored_name(key))
        keyspace = self.keyspace
        found: Found | None = keyspace.cache.get(row_key)
        if found is None:
            found = self._load(row_key, key)
            if found is None:
                return None
        if type(found) is bytes:
            if found[0] < HAS_EXPIRE:
                return found
            expire_at_ms = fmt.unpack_u64(found, 1)
        else:
            expire_at_ms = found.expire_at_ms  # type: ignore[union-attr]
        if expire_at_ms and expire_at_ms <= keyspace.now_ms:
            if keyspace.may_expire:
                self._remove(row_key, key, found, What.EXPIRED)
                keyspace.expired_keys += 1
            return None
        return found

    def _load(self, row_key: bytes, key: bytes) -> Found | None:
        """Return what stands in the row, expired or not, None if there is no row; the hot layer may take it up."""
        keyspace = self.keyspace
        cell = keyspace.keys.get(row_key)
        if cell is None:
            return None
        kind = cell[0] & TYPE_MASK
        if kind == STRING or kind == STRING_CHUNKS:  # noqa: PLR1714, SIM109 -- twice as fast as `in`
            self._admit(row_key, cell)
            return cell
        entry = self._decode(row_key, key, cell)
        keyspace.cache.put(row_key, entry)
        return entry

    def _admit(self, row_key: bytes, cell: bytes) -> None:
        """Let the hot layer take up one in `ADMIT_EVERY` of the strings that were read from LMDB."""
        keyspace = self.keyspace
        keyspace.loads += 1
        if not keyspace.loads % ADMIT_EVERY and cell[0] & TYPE_MASK == STRING and len(cell) <= VALUE_BYTES_MAX:
            keyspace.cache.put(row_key, cell)

    def read(self, key: bytes) -> Found | None:
        """As `find`, for a command that only reads: counts a hit or a miss."""
        found = self.find(key)
        if found is None:
            self._missed(key)
        else:
            self.keyspace.hits += 1
        return found

    def open(self, key: bytes, kind: int) -> Entry | None:
        """Return the collection to read, None if there is no such key. Raises WRONGTYPE."""
        found = self.read(key)
        if found is None:
            return None
        if type(found) is bytes or found.kind != kind:  # type: ignore[union-attr]
            raise ReplyError(WRONG_TYPE)
        return found  # type: ignore[return-value]

    def edit(self, key: bytes, kind: int) -> Entry | None:
        """Return the collection to change, None if there is no such key. Raises WRONGTYPE."""
        found = self.find(key)
        if found is None:
            return None
        if type(found) is bytes or found.kind != kind:  # type: ignore[union-attr]
            raise ReplyError(WRONG_TYPE)
        return found  # type: ignore[return-value]

    def read_string(self, key: bytes) -> bytes | None:
        """Return a string's cell to read, None if there is no such key. Raises WRONGTYPE."""
        row_key = self.prefix + (key if len(key) <= NAME_BYTES_MAX else fmt.stored_name(key))
        keyspace = self.keyspace
        found = keyspace.cache.get(row_key)
        if found is None:
            found = keyspace.keys.get(row_key)
            if found is None:
                self._missed(key)
                return None
            self._admit(row_key, found)
        if found.__class__ is bytes and found[0] == STRING:  # the common case, without a call more
            keyspace.hits += 1
            return found
        found = self.read(key)
        if found is None or type(found) is bytes:
            return found
        raise ReplyError(WRONG_TYPE)

    def read_strings(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """As `read_string` for each key, but the calls are paid once. Raises WRONGTYPE if one of them is of another type."""
        keyspace, prefix = self.keyspace, self.prefix
        row_keys = [prefix + (key if len(key) <= NAME_BYTES_MAX else fmt.stored_name(key)) for key in keys]
        cells: list[bytes | None] = list(map(keyspace.cache.get, row_keys))
        missing = [row_key for row_key, cell in zip(row_keys, cells, strict=True) if cell is None]
        if missing:
            loaded = keyspace.keys.get_many(missing)
            some = slice(-keyspace.loads % ADMIT_EVERY, None, ADMIT_EVERY)
            keyspace.loads += len(missing)
            for row_key, cell in zip(missing[some], loaded[some], strict=True):
                if cell is not None and cell[0] & TYPE_MASK == STRING and len(cell) <= VALUE_BYTES_MAX:
                    keyspace.cache.put(row_key, cell)
            coming = iter(loaded)
            cells = [next(coming) if cell is None else cell for cell in cells]
        keyspace.misses += (misses := cells.count(None))
        if misses and What.MISSED in keyspace.kinds:
            keyspace.news += [
                News(What.MISSED, self, key) for key, cell in zip(keys, cells, strict=True) if cell is None
            ]
        odd = 0
        for at, cell in enumerate(cells):
            if cell is not None and (cell.__class__ is not bytes or cell[0] != STRING):  # may be expired, or no string
                cells[at] = self.read_string(keys[at])
                odd += 1
        keyspace.hits += len(cells) - misses - odd
        return cells

    def edit_string(self, key: bytes) -> bytes | None:
        """Return a string's cell to change, None if there is no such key. Raises WRONGTYPE."""
        found = self.find(key)
        if found is None or type(found) is bytes:
            return found
        raise ReplyError(WRONG_TYPE)

    def _decode(self, row_key: bytes, key: bytes, cell: bytes) -> Entry:
        ident, count, flags, first, last = fmt.unpack_head(cell)
        entry = Entry(row_key, key, cell[0] & TYPE_MASK, ident)
        entry.count, entry.flags, entry.first, entry.last = count, flags, first, last
        if entry.kind == STREAM:
            entry.deleted, entry.added, entry.groups = fmt.unpack_stream_head(cell)
        entry.expire_at_ms = fmt.expire_of(cell)
        return entry

    # --- making and changing ----------------------------------------------------------------------------------------------------

    def create(self, key: bytes, kind: int) -> Entry:
        """Create an empty collection under a key that does not exist; the caller adds to it and says `changed`."""
        row_key = self.row_key(key)
        entry = Entry(row_key, key, kind, self.keyspace.next_id())
        self.keyspace.cache.put(row_key, entry)
        self.keyspace.dirty[row_key] = entry
        self.keyspace.keys.put(row_key, b"")  # stands in for the head, so that the directory can count it
        self._key_added(row_key, key)
        return entry

    def edit_or_create(self, key: bytes, kind: int) -> Entry:
        """Return the collection to change, a new one if there is no such key. Raises WRONGTYPE."""
        return self.edit(key, kind) or self.create(key, kind)

    def changed(self, entry: Entry) -> None:
        """Take note that an entry was changed; a collection that has become empty, whose rows are gone by now, is deleted."""
        if self.keyspace.wants_writes:
            self._tell(What.CHANGED, entry.key)
        if entry.count or entry.kind == STREAM:
            self.keyspace.dirty[entry.row_key] = entry
        else:
            self._remove(entry.row_key, entry.key, entry)

    def head_changed(self, entry: Entry) -> None:
        """As `changed`, for a stream of which there is not more than before: whoever waits for it has nothing to find."""
        self.replaced(entry)
        self.keyspace.dirty[entry.row_key] = entry

    def clear(self, entry: Entry) -> None:
        """Delete a collection with all its elements, whose rows are left to the reclaimer. O(log n)."""
        if self.keyspace.wants_writes:
            self._tell(What.CHANGED, entry.key)
        self._remove(entry.row_key, entry.key, entry)

    def replaced(self, entry: Entry) -> None:
        """Take note that elements were replaced, and that their number is what it was: only for the news."""
        if self.keyspace.wants_writes:
            self._tell(What.REPLACED, entry.key)

    def put_string(self, key: bytes, value: bytes, expire_at_ms: int = 0) -> None:
        """Let `key` be the short string `value`, whatever it was before. O(log n)."""
        row_key = self.prefix + (key if len(key) <= NAME_BYTES_MAX else fmt.stored_name(key))
        keyspace = self.keyspace
        if expire_at_ms or len(key) > NAME_BYTES_MAX:
            cell = fmt.pack_string(value, expire_at_ms, fmt.whole_if_long(key))
        else:
            cell = PLAIN_STRING + value
        old: Found | None = keyspace.cache.get(row_key)
        if old is None:
            old = keyspace.keys.exchange(row_key, cell)
        else:
            keyspace.keys.put(row_key, cell)
            if len(cell) <= VALUE_BYTES_MAX:
                keyspace.cache.put(row_key, cell)
            else:
                keyspace.cache.drop(row_key)
        if old is None:
            self._key_added(row_key, key)
        elif type(old) is not bytes or old[0] != STRING:
            self._overwrite(row_key, key, old)
        if keyspace.wants_writes:
            self._tell(What.CHANGED, key)
        if expire_at_ms:
            self._expiry_added(row_key, key, expire_at_ms)

    def put_strings(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """As `put_string` for each key and value in turn, none of them long and none to expire; the calls are paid once."""
        keyspace, prefix = self.keyspace, self.prefix
        held, rows = keyspace.cache.get, list[Row]()
        for key, value in pairs:
            if held(row_key := prefix + key) is None and not keyspace.wants_writes:
                rows.append((row_key, PLAIN_STRING + value))
            else:
                self.put_string(key, value)
        new = []
        for (row_key, _), old in zip(rows, keyspace.keys.exchange_many(rows), strict=True):
            if old is None:
                new.append(row_key[4:])
            elif old[0] != STRING:
                self._overwrite(row_key, row_key[4:], old)
        if new:
            self._keys_added(new)

    def create_string(self, key: bytes, value: bytes) -> None:
        """Let `key`, which does not exist, be the short string `value`. O(log n)."""
        row_key = self.prefix + (key if len(key) <= NAME_BYTES_MAX else fmt.stored_name(key))
        self.keyspace.keys.put(
            row_key, PLAIN_STRING + value if len(key) <= NAME_BYTES_MAX else fmt.pack_string(value, 0, key)
        )
        self._key_added(row_key, key)
        if self.keyspace.wants_writes:
            self._tell(What.CHANGED, key)

    def put_cell(self, key: bytes, cell: bytes) -> None:
        """Replace the cell of an existing string: same expiry, and the same id if it is in chunks."""
        self._put_cell(self.prefix + (key if len(key) <= NAME_BYTES_MAX else fmt.stored_name(key)), cell)
        if self.keyspace.wants_writes:
            self._tell(What.CHANGED, key)

    def _put_cell(self, row_key: bytes, cell: bytes) -> None:
        self.keyspace.keys.put(row_key, cell)
        if len(cell) <= VALUE_BYTES_MAX:
            self.keyspace.cache.replace(row_key, cell)
        else:
            self.keyspace.cache.drop(row_key)

    def put_chunks_head(self, key: bytes, ident: int, length: int, expire_at_ms: int = 0) -> None:
        """Let `key` be the long string whose chunks stand under `ident`, whatever it was before."""
        row_key, whole = self.row_key(key), fmt.whole_if_long(key)
        keyspace = self.keyspace
        old: Found | None = keyspace.cache.get(row_key) or keyspace.keys.get(row_key)
        keyspace.cache.drop(row_key)
        keyspace.keys.put(
            row_key, fmt.pack_cell(STRING_CHUNKS, fmt.pack_chunks_head(ident, length), expire_at_ms, whole)
        )
        if old is None:
            self._key_added(row_key, key)
        else:
            self._overwrite(row_key, key, old)
        if keyspace.wants_writes:
            self._tell(What.CHANGED, key)
        if expire_at_ms:
            self._expiry_added(row_key, key, expire_at_ms)

    # --- deleting ---------------------------------------------------------------------------------------------------------------

    def delete(self, key: bytes) -> bool:
        """Delete a key; tell whether it was there. O(log n), whatever its size."""
        found = self.find(key)
        if found is None:
            return False
        self._remove(self.row_key(key), key, found)
        return True

    def expire(self, key: bytes) -> None:
        """Delete a key that is there, because its time has come, or is said to have come. O(log n), whatever its size."""
        found = self.find(key)
        if found is not None:
            self._remove(self.row_key(key), key, found, What.EXPIRED)

    def _remove(self, row_key: bytes, key: bytes, found: Found, what: What = What.DELETED) -> None:
        """Delete the row and everything that belongs to it."""
        if self.keyspace.wants_news:
            self._tell(what, key)
        self._release(row_key, found)
        self._delete_row(row_key)

    def _delete_row(self, row_key: bytes) -> None:
        """Delete the row of a key, and count it no more."""
        self.keyspace.keys.delete(row_key)
        self.keyspace.cache.drop(row_key)
        self.keys -= 1
        self.is_dirty = True
        if self.flags & fmt.COUNTED:
            self.keyspace.ranks.open(self.keyspace.keys, self.prefix).discard(row_key[4:])

    def _overwrite(self, row_key: bytes, key: bytes, old: Found) -> None:
        """Give up what stood in a row that is written over. If its time had come, it was not there any more: the key is new."""
        keyspace = self.keyspace
        expire_at_ms = self.expire_at(old)
        if expire_at_ms and expire_at_ms <= keyspace.now_ms:
            keyspace.expired_keys += 1
            if keyspace.wants_news:
                self._tell(What.EXPIRED, key)
                self._tell(What.NEW, key)
        self._release(row_key, old)

    def _release(self, row_key: bytes, found: Found) -> None:
        """Give up what belongs to a cell besides its row: its expiry, and the rows of its collection, if it has any (law 5)."""
        if type(found) is bytes:
            expire_at_ms = fmt.expire_of(found)
            if found[0] & TYPE_MASK == STRING_CHUNKS:
                self.keyspace.discard_id(fmt.unpack_chunks_head(found)[0], STRING_CHUNKS)
            elif found[0] & TYPE_MASK != STRING:
                self.keyspace.discard_id(fmt.unpack_head(found)[0], found[0] & TYPE_MASK)
        else:
            assert isinstance(found, Entry)
            expire_at_ms = found.expire_at_ms
            self.keyspace.dirty.pop(row_key, None)
            if found.count or found.kind == STREAM or found.flags & fmt.COUNTED:
                self.keyspace.discard_id(found.id, found.kind)
        if expire_at_ms:
            self._expiry_removed(row_key, expire_at_ms)

    def _key_added(self, row_key: bytes, key: bytes) -> None:
        """Count a new key whose row has been put."""
        self.keys += 1
        self.is_dirty = True
        keyspace = self.keyspace
        if keyspace.wants_writes:
            self._tell(What.NEW, key)
        if self.flags & fmt.COUNTED:
            keyspace.ranks.open(keyspace.keys, self.prefix).add(row_key[4:])
        elif self.keys > BLOCK_ROWS:
            self.flags |= fmt.COUNTED
            keyspace.ranks.build(keyspace.keys, self.prefix)

    def _keys_added(self, suffixes: list[bytes]) -> None:
        """As `_key_added` for each of some keys, of which nobody wants the news."""
        self.keys += len(suffixes)
        self.is_dirty = True
        keyspace = self.keyspace
        if self.flags & fmt.COUNTED:
            keyspace.ranks.open(keyspace.keys, self.prefix).add_many(suffixes)
        elif self.keys > BLOCK_ROWS:
            self.flags |= fmt.COUNTED
            keyspace.ranks.build(keyspace.keys, self.prefix)

    # --- news: see `news` ---------------------------------------------------------------------------------------------------

    def _tell(self, what: What, key: bytes, source: tuple[Database, bytes] | None = None) -> None:
        """Tell who wants the news; the caller has looked that somebody wants any."""
        keyspace = self.keyspace
        if (
            what in keyspace.kinds
            or (self.number, key) in keyspace.waited
            or source is not None
            or (what == What.ALL and keyspace.wants_writes)
        ):
            keyspace.news.append(News(what, self, key, source))

    def _missed(self, key: bytes) -> None:
        """Take note of a key that was to be read and is not there."""
        self.keyspace.misses += 1
        if self.keyspace.wants_news:
            self._tell(What.MISSED, key)

    # --- expiry --------------------------------------------------------------------------------------------------------------------

    def expire_at(self, found: Found) -> int:
        """Return when what was found expires, in ms since the epoch; 0 = never."""
        return fmt.expire_of(found) if type(found) is bytes else found.expire_at_ms  # type: ignore[union-attr]

    def set_expiry(self, key: bytes, found: Found, expire_at_ms: int) -> None:
        """Let what was found under `key` expire at `expire_at_ms`; 0 = never."""
        row_key = self.row_key(key)
        old_ms = self.expire_at(found)
        if old_ms:
            self._expiry_removed(row_key, old_ms)
        if isinstance(found, Entry):
            found.expire_at_ms = expire_at_ms
            self.keyspace.dirty[row_key] = found
        else:
            whole = fmt.whole_if_long(key)
            self._put_cell(
                row_key, fmt.pack_cell(found[0] & TYPE_MASK, found[fmt.body_offset(found) :], expire_at_ms, whole)
            )
        if expire_at_ms:
            self._expiry_added(row_key, key, expire_at_ms)
        elif self.keyspace.wants_writes:
            self._tell(What.PERSISTED, key)

    def _expiry_added(self, row_key: bytes, key: bytes, expire_at_ms: int) -> None:
        self._put_expiry(fmt.pack_u64(expire_at_ms) + row_key, fmt.whole_if_long(key))
        if self.keyspace.wants_writes:
            self._tell(What.EXPIRY, key)
        self.volatile += 1
        self.expire_sum_ms += expire_at_ms
        self.is_dirty = True

    def _put_expiry(self, expires_key: bytes, whole: bytes) -> None:
        keyspace = self.keyspace
        keyspace.expires.put(expires_key, whole)
        if expires_key < keyspace.due.horizon:
            keyspace.due.add(expires_key)

    def _expiry_removed(self, row_key: bytes, expire_at_ms: int) -> None:
        keyspace, expires_key = self.keyspace, fmt.pack_u64(expire_at_ms) + row_key
        keyspace.expires.delete(expires_key)
        if expires_key < keyspace.due.horizon:
            keyspace.due.discard(expires_key)
        self.volatile -= 1
        self.expire_sum_ms -= expire_at_ms
        self.is_dirty = True

    def expire_rows(self, expires_keys: Sequence[bytes]) -> None:
        """Delete the keys whose rows in `expires` these are, and whose time has come. A row that is not there is of no account.

        For short strings, of which nobody wants the news, the calls are paid once.
        """
        keyspace, plain = self.keyspace, list[bytes]()
        cells = keyspace.keys.get_many([expires_key[8:] for expires_key in expires_keys])
        for expires_key, cell in zip(expires_keys, cells, strict=True):
            if cell and cell[0] == _VOLATILE_STRING and cell[1:9] == expires_key[:8] and not keyspace.wants_news:
                plain.append(expires_key)
            elif (whole := keyspace.expires.get(expires_key)) is not None:
                self.find(whole or expires_key[12:])  # law 1
        if not plain:
            return
        row_keys = [expires_key[8:] for expires_key in plain]
        keyspace.expires.delete_many(plain)
        keyspace.keys.delete_many(row_keys)
        for row_key in row_keys:
            keyspace.cache.drop(row_key)
        keyspace.expired_keys += len(plain)
        self.keys -= len(plain)
        self.volatile -= len(plain)
        self.expire_sum_ms -= sum(map(fmt.unpack_u64, plain))
        self.is_dirty = True
        if self.flags & fmt.COUNTED:
            directory = keyspace.ranks.open(keyspace.keys, self.prefix)
            directory.discard_many([row_key[4:] for row_key in row_keys])

    # --- many keys --------------------------------------------------------------------------------------------------------------------

    def rename(self, key: bytes, new_key: bytes, target: Database) -> None:
        """Move an existing key to another name or database, over whatever stands there. O(log n)."""
        found = self.find(key)
        assert found is not None
        keyspace = self.keyspace
        row_key = self.row_key(key)
        expire_at_ms = self.expire_at(found)
        target.delete(new_key)
        new_row_key, whole = target.row_key(new_key), fmt.whole_if_long(new_key)
        if isinstance(found, Entry):
            moved: Found = Entry(new_row_key, new_key, found.kind, found.id)
            assert isinstance(moved, Entry)
            moved.be_like(found)
            moved.expire_at_ms = expire_at_ms
            target.keyspace.dirty[new_row_key] = moved
            target.keyspace.cache.put(new_row_key, moved)
            target.keyspace.keys.put(new_row_key, b"")
        else:
            target.keyspace.keys.put(
                new_row_key, fmt.pack_cell(found[0] & TYPE_MASK, found[fmt.body_offset(found) :], expire_at_ms, whole)
            )
            target.keyspace.cache.drop(new_row_key)
        target._key_added(new_row_key, new_key)
        if keyspace.wants_writes:
            target._tell(What.MOVED, new_key, (self, key))
        if expire_at_ms:
            target._put_expiry(fmt.pack_u64(expire_at_ms) + new_row_key, whole)
            target.volatile += 1
            target.expire_sum_ms += expire_at_ms
            self._expiry_removed(row_key, expire_at_ms)
        self.keyspace.dirty.pop(row_key, None)
        self._delete_row(row_key)

    def scan(self, start: bytes, prefix: bytes, rows_max: int) -> tuple[list[tuple[bytes, bytes]], bytes | None]:
        """Visit up to `rows_max` keys from `start` on that begin with `prefix`, in the order of their rows.

        Returns ([(key, cell)], where to go on), None at the end. `start` is empty or was returned before; keys that have
        expired are left out. Long prefixes are cut where stored names are. O(log n + rows_max).
        """
        keyspace = self.keyspace
        keyspace.write_back()
        low = self.prefix + prefix[: fmt.PREFIX_BYTES]
        high = after_prefix(low)
        rows = keyspace.keys.take(max(self.prefix + start, low), rows_max + 1)
        following = None
        if len(rows) > rows_max and rows[-1][0] < high:
            following = rows[-1][0][4:]
        found = []
        for row_key, cell in rows[:rows_max]:
            if row_key >= high:
                break
            expire_at_ms = fmt.expire_of(cell)
            if not expire_at_ms or expire_at_ms > keyspace.now_ms:
                found.append((self.name_of(row_key, cell), cell))
        return found, following

    def name_of(self, row_key: bytes, cell: bytes) -> bytes:
        """Return the key that a row stands for; of a long key's row that is gone (`cell` is empty), what is left of it."""
        return row_key[4:] if len(row_key) < fmt.LONG_NAME_BYTES + 4 or not cell else fmt.whole_of(cell)

    def select(self, index: int) -> tuple[bytes, bytes]:
        """Return (key, cell) of the key number `index` in row order, expired or not. O(log n)."""
        self.keyspace.write_back()
        rows = self.keyspace.ranks.take(
            self.keyspace.keys, self.prefix, index, 1, counted=bool(self.flags & fmt.COUNTED)
        )
        row_key, cell = rows[0]
        return self.name_of(row_key, cell), cell

    def flush(self) -> None:
        """Delete every key: the number leads to a new keyspace, the old one is garbage. O(1)."""
        if self.keys:
            if self.keyspace.wants_writes:
                self._tell(What.ALL, b"")
            self.keyspace.discard_keyspace(self)
            self.lead_to(self.keyspace.new_keyspace(), b"")
            self.keyspace.databases_changed = True

    def lead_to(self, ident: int, row: bytes) -> None:
        """Lead to the keyspace `ident`, whose meta row is `row` (empty for a new one)."""
        self.id = ident
        self.prefix = fmt.pack_u32(ident)
        self.keys, self.volatile, self.expire_sum_ms, self.flags = fmt.unpack_keyspace(row) if row else (0, 0, 0, 0)
        self.is_dirty = not row


def kind_of(found: Any) -> int:
    """Return the type number of what `Database.find` returned."""
    return found[0] & TYPE_MASK if type(found) is bytes else found.kind
