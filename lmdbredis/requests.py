r"""Requests: the bytes of a socket into lists of words.

A request is an array of bulk strings, ``*2\r\n$3\r\nGET\r\n$1\r\nk\r\n``, or a line of words for a human at a telnet
(*inline*). Two parsers give the same answer:

- `PlainRequestParser` is the specification: it reads one line or one bulk at a time, keeps the bytes of an unfinished
  request as they came, and never looks at a byte twice to find out where something ends.
- `RequestParser` is what the server runs. Nearly every chunk that a socket gives holds whole requests written in the one
  way clients write them, so it guesses that, and *proves* the guess; what does not prove itself, and every unfinished
  request, goes to the specification.

Laws:

1. Texts of errors, and what is an error, are those of valkey-server 9.1 (which, unlike Redis 7.2, looks at the CR LF
   behind every length and every bulk).
2. How the stream is cut into chunks changes nothing.
3. A promise costs nothing: neither ``*2147483647`` nor ``$536870912`` allocates; what is held is what was sent.

Not known here: sockets, sessions, commands, replies.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

from lmdbredis.errors import (
    BAD_BULK_LENGTH,
    BAD_CRLF,
    BAD_MULTIBULK_LENGTH,
    BAD_QUOTES,
    BIG_BULK_LINE,
    BIG_INLINE,
    BIG_MULTIBULK_LINE,
    NO_DOLLAR,
    STRANGER_BULK,
    STRANGER_MULTIBULK,
    shown,
)
from lmdbredis.words import parse_int

BULK_BYTES_MAX: Final = 512 * 1024 * 1024  # Redis's default for proto-max-bulk-len
LINE_BYTES_MAX: Final = 64 * 1024  # an inline request, or the line of a length, must end within
ARGUMENTS_MAX: Final = 2**31 - 1  # since Redis 7 whatever fits an int: a promise costs nothing
STRANGER_ARGUMENTS_MAX: Final = 10
STRANGER_BULK_BYTES_MAX: Final = 16 * 1024

Request = list[bytes]

_STAR, _DOLLAR, _LF = b"*$\n"
_CRLF: Final = b"\r\n"


class PlainRequestParser:
    """The specification in plain Python: incremental, exact, linear in the bytes fed.

    Of an unfinished request it keeps the bytes and four integers; arguments are cut out when the last one is whole
    (kept as objects, a million arguments of two bytes would weigh seven times what was sent).
    """

    __slots__ = ("_buffer", "_left", "_scanned", "_searched", "_wanted", "authenticated", "bulk_bytes_max", "error")

    def __init__(self, *, authenticated: bool = True, bulk_bytes_max: int = BULK_BYTES_MAX) -> None:
        self.authenticated = authenticated  # False: the far lower limits for strangers
        self.bulk_bytes_max = bulk_bytes_max  # settable at any time, as proto-max-bulk-len is
        self.error: str | None = None  # once set, the stream is broken for good
        self._buffer = bytearray()  # begins where the unfinished request begins
        self._left = 0  # its arguments still to come; 0: not known yet
        self._scanned = 0  # its bytes that are done with: the next line begins here
        self._searched = 0  # its bytes in which no end of line was found
        self._wanted = 0  # below this many of its bytes nothing can be done

    @property
    def buffered_bytes(self) -> int:
        """Bytes held of requests that are not complete. O(1)."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Request]:
        """Take the next bytes of the stream, return the requests they complete, in order. O(len(data)), amortised.

        No request is empty. When the stream breaks, `error` is the text of the error reply, the requests before the
        break are still returned, and every later call returns []. While `authenticated` is False, a request beyond a
        stranger's limits waits if this call returns requests before it, since one of them may be AUTH: run them, set
        `authenticated`, then ``feed(b"")`` goes on.
        """
        if self.error is not None:
            return []
        self._buffer += data
        if len(self._buffer) < self._wanted:
            return []
        requests: list[Request] = []
        start = 0
        while end := self._read_one(start, requests):
            start = end
        del self._buffer[:start]  # O(1): a bytearray gives up its head without moving the rest

        return requests

    def _read_one(self, start: int, requests: list[Request]) -> int:
        """Read the request at `start`, append it unless it is empty, return its end; 0 if unfinished or broken."""
        if start >= len(self._buffer):
            return 0
        if self._left or self._buffer[start] == _STAR:
            end = self._read_multibulk(start, requests)
        else:
            end = self._read_inline(start, requests)
        if end:
            self._left = self._scanned = self._searched = self._wanted = 0
        elif self.error is not None:
            self._buffer.clear()

        return end

    def _read_inline(self, start: int, requests: list[Request]) -> int:
        buffer, stop = self._buffer, start + LINE_BYTES_MAX + 1
        searched = start + self._searched
        end = buffer.find(b"\n", searched, stop)
        nul = buffer.find(b"\0", searched, stop if end < 0 else end)
        if end < 0 or nul >= 0:  # Redis looks with strchr: behind a NUL it never sees the end
            if len(buffer) >= stop:
                return self._break(BIG_INLINE)
            self._searched = (len(buffer) if nul < 0 else nul) - start
            return 0
        words = split_inline(bytes(buffer[start:end]).removesuffix(b"\r"))
        if words is None:
            return self._break(BAD_QUOTES)
        if words:
            requests.append(words)

        return end + 1

    def _read_multibulk(self, start: int, requests: list[Request]) -> int:
        at = start + self._scanned
        left, resumed = self._left, self._left > 0
        if not resumed:
            line_end = self._find_line_end(start, at, BIG_MULTIBULK_LINE)
            if line_end < 0 or (count := self._read_count(at, line_end, bool(requests))) is None:
                return 0
            at = line_end + 2
            if count <= 0:
                return at
            left = count

        buffer, total = self._buffer, len(self._buffer)
        arguments: Request = []
        while left:
            line_end = self._find_line_end(start, at, BIG_BULK_LINE)
            if line_end < 0 or (length := self._read_length(at, line_end, bool(requests))) is None:
                break
            end = line_end + 2 + length
            if total < end + 2:
                self._wanted = end + 2 - start
                break
            if buffer[end : end + 2] != _CRLF:
                self._break(BAD_CRLF)
                break
            if not resumed:
                arguments.append(_cut(buffer, line_end + 2, end))
            at = end + 2
            left -= 1
        else:
            requests.append(_cut_all(buffer, start, at) if resumed else arguments)
            return at

        self._left, self._scanned = left, at - start
        return 0

    def _find_line_end(self, start: int, at: int, too_big: str) -> int:
        """Return where the CR of the line at `at` is, if a byte follows it; else -1, and perhaps `error` is set."""
        buffer, stop = self._buffer, at + LINE_BYTES_MAX + 1
        end = buffer.find(b"\r", max(at, start + self._searched), stop)
        if 0 <= end < len(buffer) - 1:
            return end
        if end < 0 and len(buffer) >= stop:
            self._break(too_big)
        self._searched = (len(buffer) if end < 0 else end) - start

        return -1

    def _read_count(self, at: int, line_end: int, after_others: bool) -> int | None:
        """Return the number of arguments the line at `at` announces; None if it breaks the stream or must wait."""
        if self._buffer[line_end + 1] != _LF:
            return self._refuse(BAD_CRLF)
        count = parse_int(bytes(self._buffer[at + 1 : line_end]))
        if count is None or count > ARGUMENTS_MAX:
            return self._refuse(BAD_MULTIBULK_LENGTH)
        if count > STRANGER_ARGUMENTS_MAX and not self.authenticated:
            return None if after_others else self._refuse(STRANGER_MULTIBULK)

        return count

    def _read_length(self, at: int, line_end: int, after_others: bool) -> int | None:
        """Return the length of the bulk the line at `at` announces; None if it breaks the stream or must wait."""
        buffer = self._buffer
        if buffer[at] != _DOLLAR:
            return self._refuse(
                NO_DOLLAR % (shown(bytes(buffer[at : at + 1])) or "\0")
            )  # the byte itself, even that one
        if buffer[line_end + 1] != _LF:
            return self._refuse(BAD_CRLF)
        length = parse_int(bytes(buffer[at + 1 : line_end]))
        if length is None or not 0 <= length <= self.bulk_bytes_max:
            return self._refuse(BAD_BULK_LENGTH)
        if length > STRANGER_BULK_BYTES_MAX and not self.authenticated:
            return None if after_others else self._refuse(STRANGER_BULK)

        return length

    def _break(self, text: str) -> int:
        self.error = text
        return 0

    def _refuse(self, text: str) -> int | None:
        self.error = text
        return None


def _cut(buffer: bytearray, start: int, end: int) -> bytes:
    """Return a slice as bytes, copied once: worth a memoryview when it is long."""
    if end - start < 4096:
        return bytes(buffer[start:end])
    with memoryview(buffer) as view:
        return bytes(view[start:end])


def _cut_all(buffer: bytearray, start: int, stop: int) -> Request:
    """Return the arguments of the whole and valid request that lies from `start` to `stop`. O(arguments) and copies."""
    arguments: Request = []
    at = buffer.find(b"\r", start) + 2
    while at < stop:
        line_end = buffer.find(b"\r", at)
        end = line_end + 2 + int(buffer[at + 1 : line_end])
        arguments.append(_cut(buffer, line_end + 2, end))
        at = end + 2

    return arguments


# Inline requests: Redis's sdssplitargs.

_BLANKS: Final = b" \t\n\r\v\f"  # what may stand between words (isspace in C)
_WORD_ENDS: Final = b" \t\n\r\0"  # what ends a word; \v and \f do not
_HEX: Final = frozenset(b"0123456789abcdefABCDEF")
_ESCAPES: Final = {ord("n"): 10, ord("r"): 13, ord("t"): 9, ord("b"): 8, ord("a"): 7}
_DOUBLE, _SINGLE, _BACKSLASH, _X = b"\"'\\x"


def split_inline(line: bytes) -> Request | None:
    r"""Return the words of `line` as a shell would, with ``"\n\x41"`` and ``'it\'s'``; None if a quote stays open.

    As Valkey 9.1 does it: quotes may begin and end inside a word, and a backslash that has only one byte behind it in
    the line escapes nothing. Unlike Valkey 9.1, which loses every 0xFF of a line, all bytes are kept. O(len(line)).
    """
    if not (b'"' in line or b"'" in line or b"\v" in line or b"\f" in line or b"\0" in line):
        return line.split()
    words: Request = []
    position, end = 0, len(line)
    while True:
        while position < end and line[position] in _BLANKS:
            position += 1
        if position == end:
            return words
        word = bytearray()
        while position < end and line[position] not in _WORD_ENDS:
            byte = line[position]
            if byte in (_DOUBLE, _SINGLE):
                position = _read_quoted(line, position, word)
                if not position:
                    return None
            else:
                word.append(byte)
                position += 1
        words.append(bytes(word))
        position += position < end  # the byte that ended the word


def _read_quoted(line: bytes, position: int, word: bytearray) -> int:
    """Append what the quote at `position` encloses to `word`, return the position after it; 0 if it stays open."""
    quote, end = line[position], len(line)
    position += 1
    while position < end:
        byte = line[position]
        if byte == quote:
            return position + 1
        escaped = line[position + 1] if byte == _BACKSLASH and position + 2 < end else -1
        if escaped < 0 or (quote == _SINGLE and escaped != _SINGLE):
            word.append(byte)
            position += 1
        elif (
            escaped == _X
            and quote == _DOUBLE
            and position + 3 < end
            and _HEX.issuperset(line[position + 2 : position + 4])
        ):
            word.append(int(line[position + 2 : position + 4], 16))
            position += 4
        else:
            word.append(_ESCAPES.get(escaped, escaped) if quote == _DOUBLE else escaped)
            position += 2

    return 0


# The fast parser.

_HEADS: Final = [b"$%d" % length for length in range(4097)]  # how the length of a short word must be written
_LONG_BYTES: Final = 2000  # split() passes 1 byte a nanosecond; from here on it is worth asking whether to
_LONG_LINE_BYTES: Final = 900  # lines of more than this on the average are cheaper to jump over than to look through
_WORDS: Final = {b"*%d" % count: 2 * count for count in range(1, 1025)}  # lines that belong to a first line


class RequestParser(PlainRequestParser):
    """What the server runs: the requests and errors of `PlainRequestParser`, several times faster.

    The guess: a chunk, split at every CR LF, is ``*2 $3 GET $1 k *2 ...``. The proof: its words have the lengths that the
    lines before them say, in the one canonical spelling, so no CR LF was inside a word and every line is where it must
    be. Whatever comes after the last request so proved (a word with a CR LF in it, half a request, an inline request,
    an attack) has not been touched and goes to the specification.

    hiredis was the first choice for pipelines, and is slower: it is quick to parse (0.13 us a request), but it takes
    much that is not a request (``+OK``, ``*1`` in ``*1``, a bulk without its CR LF), so that proving costs more than
    parsing, and it allocates for promises.
    """

    __slots__ = ()

    def feed(self, data: bytes) -> list[Request]:
        """As `PlainRequestParser.feed`. One GET of 37 bytes costs 0.4 us, each of sixteen 0.3 us."""
        if self._buffer or not self.authenticated or self.error is not None or len(data) > self.bulk_bytes_max:
            return self._feed_carefully(data)
        if len(data) > _LONG_BYTES:
            return self._feed_long(data)
        lines = data.split(_CRLF)
        last = lines.pop()  # what no CR LF ended
        try:
            # A lone GET, SET or HSET, written out: a third cheaper than the loop below.
            count = len(lines)
            if count == 5:
                star, head1, word1, head2, word2 = lines
                if star == b"*2" and head1 == _HEADS[len(word1)] and head2 == _HEADS[len(word2)] and not last:
                    return [[word1, word2]]
            elif count == 7:
                star, head1, word1, head2, word2, head3, word3 = lines
                if (
                    star == b"*3"
                    and head1 == _HEADS[len(word1)]
                    and head2 == _HEADS[len(word2)]
                    and head3 == _HEADS[len(word3)]
                    and not last
                ):
                    return [[word1, word2, word3]]
            elif count == 9:
                star, head1, word1, head2, word2, head3, word3, head4, word4 = lines
                if (
                    star == b"*4"
                    and head1 == _HEADS[len(word1)]
                    and head2 == _HEADS[len(word2)]
                    and head3 == _HEADS[len(word3)]
                    and head4 == _HEADS[len(word4)]
                    and not last
                ):
                    return [[word1, word2, word3, word4]]
            elif count == 3:
                star, head1, word1 = lines
                if star == b"*1" and head1 == _HEADS[len(word1)] and not last:
                    return [[word1]]
        except IndexError:
            pass  # a word is longer than the table

        return self._feed_lines(lines, last)

    def _feed_long(self, data: bytes) -> list[Request]:
        """As `feed`, for a chunk in which looking for every CR LF may cost more than parsing."""
        head = data.split(_CRLF, 6)
        if (
            len(head) == 7
            and head[0] == b"*3"
            and head[1] == b"$%d" % len(head[2])
            and head[3] == b"$%d" % len(head[4])
        ):
            value = head[6]  # SET with one long value is proved by its ends, whatever is in between
            if head[5] == b"$%d" % (len(value) - 2) and value.endswith(_CRLF):
                return [[head[2], head[4], value[:-2]]]
        if len(data) > data.count(b"\r") * _LONG_LINE_BYTES:
            return PlainRequestParser.feed(self, data)
        lines = data.split(_CRLF)

        return self._feed_lines(lines, lines.pop())

    def _feed_lines(self, lines: list[bytes], last: bytes) -> list[Request]:
        """Return the requests in `lines`, which a CR LF ended each, and in `last`, which none did."""
        requests: list[Request] = []
        add = requests.append
        coming = iter(lines)
        try:
            for star in coming:
                if star == b"*2":
                    head1, word1, head2, word2 = next(coming), next(coming), next(coming), next(coming)
                    if head1 != _HEADS[len(word1)] or head2 != _HEADS[len(word2)]:
                        break
                    add([word1, word2])
                elif star == b"*3":
                    head1, word1, head2, word2, head3, word3 = islice(coming, 6)
                    if head1 != _HEADS[len(word1)] or head2 != _HEADS[len(word2)] or head3 != _HEADS[len(word3)]:
                        break
                    add([word1, word2, word3])
                elif star == b"*4":
                    head1, word1, head2, word2, head3, word3, head4, word4 = islice(coming, 8)
                    if (
                        head1 != _HEADS[len(word1)]
                        or head2 != _HEADS[len(word2)]
                        or head3 != _HEADS[len(word3)]
                        or head4 != _HEADS[len(word4)]
                    ):
                        break
                    add([word1, word2, word3, word4])
                else:
                    count = _WORDS[star]
                    both = list(islice(coming, count))
                    words = both[1::2]
                    if len(both) != count or both[::2] != [_HEADS[len(word)] for word in words]:
                        break
                    add(words)
            else:
                return requests + PlainRequestParser.feed(self, last) if last else requests
        except (IndexError, KeyError, ValueError, StopIteration):
            pass  # a long word, no first line, or half a request

        proved = sum(2 * len(request) + 1 for request in requests)
        return requests + PlainRequestParser.feed(self, _CRLF.join([*lines[proved:], last]))

    def _feed_carefully(self, data: bytes) -> list[Request]:
        """Let the specification complete the unfinished request, then go on with the rest of the chunk as usual."""
        if self.error is not None or not self._buffer or not self.authenticated:
            return PlainRequestParser.feed(self, data)
        self._buffer += data
        if len(self._buffer) < self._wanted:
            return []
        requests: list[Request] = []
        end = self._read_one(0, requests)
        if not end:
            return requests
        with memoryview(self._buffer) as view:
            rest = bytes(view[end:])
        self._buffer.clear()

        return requests + self.feed(rest) if rest else requests
