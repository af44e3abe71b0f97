r"""Compiled Lua 5.1: the tail calls of library functions become plain calls.

Theory. In ``return redis.call(...)`` Lua gives the frame of the caller to the function called. In Redis that function is written in
C, and C functions get no frame that way, so an error there can still name the script's line. Ours are written in Lua. Therefore
a compiled script is changed before it is loaded: OP_TAILCALL becomes OP_CALL where the function was just read from a field, a
method or a global with one of the names given, unless of a table that the script has made. So a script's own recursion by tail
calls stays what it is; but not that of a method so named, ``return self:find(...)``, for nothing tells what `self` is.

The format, as ``string.dump`` writes it on this machine::

    header      12 bytes
    function    source: string; line, last line: i32; upvalues, parameters, vararg, stack: u8
                count: i32, instructions: u32 each
                count: i32, constants: a type byte and nothing (nil), a byte (boolean), 8 bytes (number), a string
                count: i32, functions
                count: i32, lines: i32 each; count: i32, locals: string, i32, i32; count: i32, upvalue names: string
    string      length with its closing NUL: u64, bytes; no bytes if the length is 0

An instruction, from its lowest bit: opcode 6, A 8, C 9, B 9; a global's name is the constant B and C together, a field's the
constant C - 256. After a CLOSURE, one MOVE or GETUPVAL for each upvalue says what it is; after a SETLIST with C = 0 comes the bare
number that was too large for C. What a register holds is followed in the order of the instructions, as if nothing jumped: a wrong
guess costs no more than a frame kept, or a line not known.

It trusts what it reads: it is only given what the compiler has just made from text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

_HEADER_BYTES: Final = 12
_MOVE, _GETUPVAL, _GETGLOBAL, _GETTABLE, _SETTABLE, _NEWTABLE, _SELF = 0, 4, 5, 6, 9, 10, 11
_CALL, _TAILCALL, _SETLIST, _CLOSURE = 28, 29, 34, 36
# Opcodes that write no register, or not register A as their only one: OP_SETGLOBAL, OP_SETUPVAL, OP_SETTABLE, OP_JMP, tests, OP_RETURN,
# OP_SETLIST, OP_CLOSE.
_WRITES_NOTHING: Final = frozenset({7, 8, 9, 22, 23, 24, 25, 26, 30, 34, 35})
_MADE: Final = b""  # the name of a table that the script has made
_NIL, _BOOLEAN, _NUMBER, _STRING = 0, 1, 3, 4


class _Chunk:
    """A compiled chunk and how far it has been read."""

    def __init__(self, data: bytes, names: Collection[bytes]) -> None:
        self.data = bytearray(data)
        self.names = names
        self.at = _HEADER_BYTES

    def integer(self, size_bytes: int) -> int:
        """Read a little-endian integer."""
        start = self.at
        self.at += size_bytes
        return int.from_bytes(self.data[start : self.at], "little")

    def string(self) -> bytes:
        """Read a string, without its NUL."""
        length = self.integer(8)
        start = self.at
        self.at += length
        return bytes(self.data[start : self.at - 1]) if length else b""

    def constant(self) -> bytes | None:
        """Read a constant; return it if it is a string."""
        kind = self.integer(1)
        if kind == _STRING:
            return self.string()
        self.at += {_NIL: 0, _BOOLEAN: 1, _NUMBER: 8}[kind]
        return None

    def function(self, upvalues: list[bytes | None]) -> None:
        """Read a function and those in it, and change their tail calls. `upvalues`: the names its upvalues were read by."""
        self.string()
        self.at += 12
        count = self.integer(4)
        code_at = self.at
        self.at += 4 * count
        constants = [self.constant() for _ in range(self.integer(4))]
        inner = self.change(range(code_at, code_at + 4 * count, 4), constants, upvalues)
        for number in range(self.integer(4)):
            self.function(inner.get(number, []))
        lines = self.integer(4)
        self.at += 4 * lines
        for _ in range(self.integer(4)):
            self.string()
            self.at += 8
        for _ in range(self.integer(4)):
            self.string()

    def change(
        self, code: range, constants: list[bytes | None], upvalues: list[bytes | None]
    ) -> dict[int, list[bytes | None]]:
        """Make the tail calls of library functions plain calls; return the upvalues' names of each inner function."""
        named: dict[int, bytes | None] = {}  # register -> the name that what it holds was read by
        inner: dict[int, list[bytes | None]] = {}
        captures: list[bytes | None] | None = None  # of the closure that has just been made
        places = iter(code)
        for at in places:
            instruction = int.from_bytes(self.data[at : at + 4], "little")
            opcode, register = instruction & 63, instruction >> 6 & 255
            name = None
            if opcode == _MOVE:
                name = named.get(instruction >> 23)
            elif opcode == _GETUPVAL:
                name = upvalues[instruction >> 23] if instruction >> 23 < len(upvalues) else None
            if captures is not None and opcode in {_MOVE, _GETUPVAL} and register == 0:
                captures.append(name)
                continue
            captures = None
            if opcode == _TAILCALL:
                if named.get(register) in self.names:
                    self.data[at] = self.data[at] & ~63 | _CALL
                continue
            if opcode == _GETGLOBAL:
                name = constants[instruction >> 14]
            elif opcode in {_GETTABLE, _SELF}:
                key = instruction >> 14 & 511
                name = constants[key - 256] if key >= 256 and named.get(instruction >> 23) != _MADE else None
            elif opcode == _NEWTABLE:
                name = _MADE
            elif opcode == _SETTABLE and named.get(instruction >> 14 & 511) in self.names:
                named[register] = None  # what is read from it may be a library's
            elif opcode == _SETLIST and not instruction >> 14 & 511:
                next(places)  # the number of its block
            elif opcode == _CLOSURE:
                captures = inner[instruction >> 14] = []
            if opcode not in _WRITES_NOTHING:
                named[register] = name
        return inner


def keep_frames(chunk: bytes, names: Collection[bytes]) -> bytes:
    """Return a compiled chunk in which calls of functions with these names keep their caller's frame. O(bytes)."""
    reader = _Chunk(chunk, names)
    reader.function([])
    return bytes(reader.data)
