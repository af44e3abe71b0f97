"""Words and numbers: what a client's word is worth, and how a number is written, exactly as Redis reads and writes them.

Laws:

1. An integer has one spelling: ``0``, or an optional minus and digits without leading zeros, in 64 bits (Redis's
   ``string2ll``). So ``b"%d" % parse_int(word) == word`` for every word that parses.
2. A float is a decimal that a double can hold, or infinity by name: no blank, no NaN, no overflow, no underflow to zero,
   and no hexadecimal (Redis 7.2 still takes ``0x10``; Valkey 9.1 does not).
3. Doubles are written with the fewest digits that give the same double back, whole ones without a fraction. Redis means
   to, but its Grisu2 misses the fewest for one double in 400 (81.2434984 becomes 81.24349839999999): not imitated, it
   would cost ten times as much, and both read back as the same double. So do -1873229168204097.2
   and .3, of which Redis writes the other one.

Not known here: who asked, and what the number is for.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import Final

from lmdbredis.errors import ReplyError

INTEGER_MIN: Final = -(2**63)
INTEGER_MAX: Final = 2**63 - 1

_DECIMAL: Final = re.compile(rb"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?").fullmatch
_INFINITY: Final = re.compile(rb"[+-]?inf(?:inity)?", re.IGNORECASE).fullmatch
_HEXADECIMAL: Final = re.compile(  # strtold's, which only INCRBYFLOAT still asks
    rb"[+-]?0x(?:[0-9a-f]+\.?[0-9a-f]*|\.[0-9a-f]+)(?:p[+-]?[0-9]+)?", re.IGNORECASE
).fullmatch
_NONZERO: Final = re.compile(rb"[^eE]*[1-9]").match  # has the part before the exponent a digit that counts
_PLAIN_INTEGER_MAX: Final = 2.0**62  # up to here Redis writes a whole double with the digits of an integer


def parse_int(word: bytes) -> int | None:
    """Return the 64-bit integer `word` spells, None if it spells none. O(1): long words are refused unread."""
    if len(word) > 20:
        return None
    try:
        number = int(word)
    except ValueError:
        return None
    # int() also takes blanks, "+", "_" and leading zeros; only the one spelling comes back the same.
    return number if b"%d" % number == word and INTEGER_MIN <= number <= INTEGER_MAX else None


def parse_float(word: bytes) -> float | None:
    """Return the double `word` spells, None if it spells none or one beyond a double's range. O(len(word))."""
    if _DECIMAL(word):
        number = float(word)
        if number - number != 0 or (number == 0 and _NONZERO(word)):
            return None  # strtod's ERANGE: overflow to infinity, underflow to zero
        return number
    if _INFINITY(word):
        return float(word)

    return None


_UNSIGNED: Final = re.compile(rb"[ \t-\r]*([+-]?)([0-9]+)").fullmatch
_U64: Final = (1 << 64) - 1
_SURELY_U64_DIGITS: Final = 19
_ENTRY_ID_BYTES_MAX: Final = 127


def _parse_unsigned(word: bytes) -> int | None:
    """Return the u64 `word` spells as C's strtoull reads it, which wraps what is negative; but ``-1`` and its like spell none."""
    found = _UNSIGNED(word)
    if found is None or (found[1] == b"-" and parse_int(word) is not None):
        return None
    number = int(found[2])
    if number > _U64:
        return None
    return -number & _U64 if found[1] == b"-" else number


def parse_entry_id(word: bytes, sequence: int, *, ends: bool) -> int | None:
    """Return the id of a stream's entry that `word` spells, ms << 64 | seq, None if it spells none.

    Without a sequence number it is completed by `sequence`. With `ends`, ``-`` and ``+`` are the least and the greatest id.
    """
    first, _, second = word.partition(b"-")
    if len(first) <= _SURELY_U64_DIGITS >= len(second) and first.isdigit() and second.isdigit():  # as servers write it
        return int(first) << 64 | int(second)
    if len(word) > _ENTRY_ID_BYTES_MAX:
        return None
    word = word.partition(b"\0")[0]
    if word in {b"-", b"+"}:
        return None if not ends else 0 if word == b"-" else _U64 << 64 | _U64
    first, dash, second = word.partition(b"-")
    ms = _parse_unsigned(first)
    seq = _parse_unsigned(second) if dash else sequence
    return None if ms is None or seq is None else ms << 64 | seq


def format_entry_id(entry_id: int) -> bytes:
    """Return an id as Redis writes it: ``1526919030474-55``."""
    return b"%d-%d" % (entry_id >> 64, entry_id & _U64)


_FEW_ZEROS: Final = 1e8  # a whole number below has less than eight zeros


def format_float(number: float) -> bytes:
    """Return `number` as Redis writes it in replies: ``3.3``, ``17``, ``-0``, ``1e+21``, ``1.5e-9``, ``inf``, ``nan``."""
    if number - number != 0:
        return b"nan" if number != number else b"inf" if number > 0 else b"-inf"  # noqa: PLR0124 - NaN is that
    if -_PLAIN_INTEGER_MAX <= number <= _PLAIN_INTEGER_MAX and number.is_integer():
        return b"%d" % number if number else (b"-0" if str(number)[0] == "-" else b"0")
    text = repr(number)  # the fewest digits, as Redis; only where the point and the exponent go differs
    if len(text) <= 8 and "e" not in text:
        return text.encode()

    return _place_point(text)


def format_digits(number: float) -> bytes:
    """Return `number` as Redis's fpconv writes it: as `format_float`, but a whole number with eight zeros or more has an exponent."""
    if abs(number) < _FEW_ZEROS or number - number != 0:
        return format_float(number)
    return _place_point(repr(number))


def _place_point(text: str) -> bytes:
    """Return the number that Python writes as `text` the way Redis's fpconv writes it.

    With the digits d and the value d * 10^power, it is an exponent unless the number is whole and less than eight zeros
    follow, or has fewer than seven decimals, or its first digit stands less than four places from the point.
    """
    sign, text = ("-", text[1:]) if text[0] == "-" else ("", text)
    mantissa, _, exponent = text.partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    power = int(exponent or 0) - len(fraction)
    stripped = digits.rstrip("0")
    power += len(digits) - len(stripped)
    digits = stripped
    first = power + len(digits) - 1  # the first digit counts for 10^first

    if power >= 0 and abs(first) < len(digits) + 7:
        shown = digits + "0" * power
    elif power < 0 and (power > -7 or abs(first) < 4):
        padded = digits.rjust(1 - power, "0")
        shown = f"{padded[:power]}.{padded[power:]}"
    else:
        shown = digits[0] + ("." if len(digits) > 1 else "") + digits[1:] + f"e{first:+d}"

    return (sign + shown).encode()


# --- long doubles --------------------------------------------------------------------------------------------------------------

_MANTISSA_BITS: Final = 64  # of an x87 long double, in which Redis adds
_FRACTION_DIGITS: Final = 17
_TOP_MAX: Final = 1 << 14  # a long double is less than 2^this,
_TOP_MIN: Final = -16445  # and one that is not less than half of 2^this does not become zero
_LONG_DOUBLE_CHARS_MAX: Final = 5 * 1024 - 1  # of a word; Redis writes up to 4952
_EXPONENT_MAX: Final = 10_300  # beyond it no such number of digits brings a number back into a long double's range
_EXPONENT_DIGITS_MAX: Final = 6
_AT_ONCE_DIGITS_MAX: Final = 4000  # int refuses more than 4300

_LongDouble = tuple[int, int]  # mantissa * 2^exponent


def add_floats(old: bytes, increment: bytes, not_float: str, not_finite: str) -> bytes:
    """Return the sum of two words as INCRBYFLOAT and HINCRBYFLOAT compute and write it.

    They add in 80-bit long doubles and print with ``%.17Lf``, trailing zeros removed; Python has no such type, so the two
    roundings are done on integers. Raises ReplyError(`not_float`, `not_finite`).
    """
    one, other = _long_double(old, not_float), _long_double(increment, not_float)
    if isinstance(one, float) or isinstance(other, float):
        raise ReplyError(not_finite)
    least = min(one[1], other[1])
    mantissa, exponent = _nearest((one[0] << one[1] - least) + (other[0] << other[1] - least), 1)
    exponent += least
    if _top(mantissa, exponent) > _TOP_MAX:
        raise ReplyError(not_finite)
    scaled = abs(mantissa) * 10**_FRACTION_DIGITS
    scaled = scaled << exponent if exponent >= 0 else _divide(scaled, 1 << -exponent)
    sign = "-" if mantissa < 0 and scaled else ""
    digits = str(Decimal(scaled)).rjust(
        _FRACTION_DIGITS + 1, "0"
    )  # str of an int would refuse the 4950 digits there may be
    whole, fraction = digits[:-_FRACTION_DIGITS], digits[-_FRACTION_DIGITS:].rstrip("0")
    text = f"{whole}.{fraction}" if fraction else whole
    return (sign + text).encode()


def long_double(word: bytes, not_float: str) -> Fraction | float:
    """Return the long double a word spells; a float for the infinities. Raises ReplyError."""
    number = _long_double(word, not_float)
    return number if isinstance(number, float) else number[0] * Fraction(2) ** number[1]


def _long_double(word: bytes, not_float: str) -> _LongDouble | float:
    """As `long_double`. What it costs is bounded by `_LONG_DOUBLE_CHARS_MAX`: a quarter of a millisecond."""
    if len(word) > _LONG_DOUBLE_CHARS_MAX:
        raise ReplyError(not_float)
    if _DECIMAL(word):
        number = _decimal(word)
    elif _HEXADECIMAL(word):
        number = _hexadecimal(word)
    elif _INFINITY(word):
        return float(word)
    else:
        raise ReplyError(not_float)
    if number is None or (number[0] and not _TOP_MIN <= _top(*number) <= _TOP_MAX):  # strtold's ERANGE
        raise ReplyError(not_float)
    return number


def _decimal(word: bytes) -> _LongDouble | None:
    """Return the long double nearest to a decimal, None if it is far beyond them all."""
    mantissa, _, power = word.lower().partition(b"e")
    whole, _, fraction = mantissa.partition(b".")
    digits = whole + fraction
    number = int(digits[:_AT_ONCE_DIGITS_MAX])
    if rest := digits[_AT_ONCE_DIGITS_MAX:]:
        number = number * 10 ** len(rest) + (-int(rest) if digits[:1] == b"-" else int(rest))
    exponent = _exponent(power) - len(fraction)
    if not number:
        return 0, 0
    if abs(exponent) > _EXPONENT_MAX:
        return None
    return _nearest(number * 10**exponent, 1) if exponent >= 0 else _nearest(number, 10**-exponent)


def _hexadecimal(word: bytes) -> _LongDouble:
    """Return the long double nearest to a hexadecimal."""
    digits, _, power = word.lower().partition(b"p")
    whole, _, fraction = digits.partition(b".")
    mantissa, exponent = _nearest(int(whole + fraction, 16), 1)
    return mantissa, exponent + _exponent(power) - 4 * len(fraction)


def _exponent(word: bytes) -> int:
    """Return the number that the digits of an exponent spell, 0 without any; one beyond all bounds for too many digits."""
    digits = word.lstrip(b"+-").lstrip(b"0")[:_EXPONENT_DIGITS_MAX]
    return int(word[:1].replace(b"+", b"") + digits) if word[:1] == b"-" and digits else int(digits or b"0")


def _top(mantissa: int, exponent: int) -> int:
    """Return the least power of two that is more than a number's absolute value."""
    return mantissa.bit_length() + exponent


def _nearest(numerator: int, denominator: int) -> _LongDouble:
    """Return the number nearest to a fraction with a mantissa of 64 bits, ties to even."""
    exponent = numerator.bit_length() - denominator.bit_length() - _MANTISSA_BITS
    if exponent < 0 and denominator == 1:
        return numerator, 0
    if abs(numerator) << max(-exponent, 0) >= denominator << _MANTISSA_BITS + max(exponent, 0):
        exponent += 1
    mantissa = _divide(abs(numerator) << max(-exponent, 0), denominator << max(exponent, 0))
    return -mantissa if numerator < 0 else mantissa, exponent


def _divide(numerator: int, denominator: int) -> int:
    """Return the integer nearest to a fraction that is not negative, ties to even."""
    quotient, rest = divmod(numerator, denominator)
    return quotient + (rest * 2 > denominator or (rest * 2 == denominator and quotient & 1))
