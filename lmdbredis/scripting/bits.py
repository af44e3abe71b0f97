"""The arithmetic of the library bit: numbers as 32 bits with a sign.

In Python, since Lua 5.1 has no operators for bits: a crossing costs less than a dozen of its instructions. Arguments have been
found to be numbers (bit.lua); nothing here raises, for no number.
"""

from __future__ import annotations

from functools import reduce
from math import frexp
from operator import and_, or_, xor
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_MASK: Final = 0xFFFFFFFF
# Added to a number, it brings the lowest 32 bits of its integer part to the end of the double's mantissa: so the original does it, and
# so are numbers rounded and cut that are no 32-bit integers.
_BIAS: Final = 6755399441055744.0


def _bits(number: float) -> int:
    """Return a number's 32 bits, without a sign."""
    if number.__class__ is int and -(1 << 51) < number < 1 << 51:
        return int(number) & _MASK
    mantissa, _ = frexp(number + _BIAS)
    if mantissa - mantissa != 0:  # infinity, or no number
        return 0
    return int(abs(mantissa) * (1 << 53)) & _MASK


def _signed(bits: int) -> int:
    return bits - (1 << 32) if bits & 0x80000000 else bits


def _fold(operator: Callable[[int, int], int]) -> Callable[..., int]:
    def fold(*numbers: float) -> int:
        return _signed(reduce(operator, map(_bits, numbers)))

    return fold


def _shift(work: Callable[[int, int], int]) -> Callable[[float, float], int]:
    def shift(number: float, by: float) -> int:
        return _signed(work(_bits(number), _bits(by) & 31) & _MASK)

    return shift


def _tohex(number: float, digits: float) -> bytes:
    """Return the last digits in hexadecimal, in capitals if there are to be a negative number of them."""
    count = _signed(_bits(digits))
    template = b"%08X" if count < 0 else b"%08x"
    wanted = min(abs(count), 8)
    return (template % _bits(number))[8 - wanted :]


FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "tobit": lambda number: _signed(_bits(number)),
    "bnot": lambda number: _signed(~_bits(number) & _MASK),
    "band": _fold(and_),
    "bor": _fold(or_),
    "bxor": _fold(xor),
    "lshift": _shift(lambda bits, by: bits << by),
    "rshift": _shift(lambda bits, by: bits >> by),
    "arshift": _shift(lambda bits, by: _signed(bits) >> by),
    "rol": _shift(lambda bits, by: bits << by | bits >> 32 - by),
    "ror": _shift(lambda bits, by: bits >> by | bits << 32 - by),
    "bswap": lambda number: _signed(int.from_bytes(_bits(number).to_bytes(4, "little"), "big")),
    "tohex": _tohex,
}
