"""cjson, cmsgpack, struct and bit against the oracle: many values and every error text, and random ones by hypothesis.

Tables in what is compared are lists, or have one key: the order of a table's fields is Lua's own affair, and no text of a value tells it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

if TYPE_CHECKING:
    from tests.differential import Pair

VALUES = (
    "nil", "true", "false", "1", "-1", "1.5", "0", "-0", "1e300", "1e15", "123456789012345", "0.1", "1/3", "2^53", "1e-7", "'abc'", "''",
    r"'a\"b\\c/\1\127\n\255'", "{}", "{1,2,3}", "{1,nil,3}", "{a=1}", "{[1]=1,[2]=2,[4]=4}", "{[1]=1,[100]=2}", "{[1.5]=1}", "{[0]=1}",
    "{[-1]=1}", "{1,{2,{3}}}", "{a={b={c={}}}}", "0/0", "1/0", "-1/0", "function() end", "coroutine.create(function() end)", "cjson.null",
    "{cjson.null}", "{[true]=1}", "{[{}]=1}", "127", "128", "255", "256", "65535", "65536", "4294967295", "4294967296", "2^62", "2^63",
    "2^64", "-32", "-33", "-128", "-129", "-32768", "-32769", "-2147483648", "-2147483649", "-2^53", "-2^63", "-2^64", "1e38", "3.5e38",
    "1e-45", "1e-46", "1.4e-45", "5e-324", "1e308", "('x'):rep(31)", "('x'):rep(32)", "('x'):rep(255)", "('x'):rep(256)",
    "('x'):rep(65536)",
)  # fmt: skip
JSON = (
    "", "1", "-1", "1.5", "1e5", "1E+5", "1e", "1.", ".5", "-", "--1", "01", "0x10", "0x", "inf", "-inf", "nan", "NaN", "Infinity",
    "-Infinity", "true", "false", "null", "tru", "nul", "truex", '"a"', '"a', r'"\\u0041"', r'"\\u00e9"', r'"\\u20ac"',
    r'"\\ud83d\\ude00"', r'"\\ud83d"', r'"\\udc00"', r'"\\ud83d\\u0041"', r'"\\x"', r'"\\u12"', r'"\\n\\t\\b\\f\\r\\/"', r'"\1"', r'"\0"',
    "[]", "[1", "[1,", "[1,]", "[,]", "[1 2]", "[1,2]", "{}", "{", '{"a"', '{"a":', '{"a":1', '{"a":1,', '{"a":1,}', "{a:1}", "{1:1}",
    '{"a" 1}', '{"a":1 "b":2}', '{"a":1}x', " 1 ", " [ 1 , 2 ] ", "1 2", "1,2", "+1", "+", "i", "n", "t", "f", "x", "@", "]", "}", ":",
    ",", '"a"b', r"\n1", r"\0", r"1\0", r"[\0]", "1e400", "-0", "123456789012345678901234567890", "[1.5.5]", "[1e5e5]",
    '{"a":{"b":[1,{"c":null}]}}', r'"\255"', "1e-400", "[true,false,null]", "-01", "-nan", "-i", "infinityx", "nanx", "+inf", "[+1]", "1_",
    "[nan]", "[-]", "[tru]", r'"\\', r'"\\"', '{"a":1,"a":2}', '{"":1}',
)  # fmt: skip
PACKED = (
    r"\192", r"\193", r"\194", r"\195", r"\196\1a", r"\199\1\1a", r"\200", r"\212\1a", r"\202\63\128\0\0", r"\202\63",
    r"\203\63\240\0\0\0\0\0\0", r"\204\255", r"\205\255\255", r"\206\255\255\255\255", r"\207\255\255\255\255\255\255\255\255", r"\208\255",
    r"\209\255\255", r"\210\255\255\255\255", r"\211\255\255\255\255\255\255\255\255", r"\211\128\0\0\0\0\0\0\0", r"\217\1a", r"\218\0\1a",
    r"\219\0\0\0\1a", r"\219\255\255\255\255", r"\220\0\1\1", r"\221\0\0\0\1\1", r"\221\255\255\255\255", r"\222\0\1\1\2",
    r"\223\0\0\0\1\1\2", r"\144", r"\128", r"\145", r"\129\1", r"\129\192\1", r"\161", r"\161a", r"\224", r"\255", r"\127",
    r"\202\127\192\0\0", r"\202\127\128\0\0", r"\202\0\0\0\1", r"\203\0\0\0\0\0\0\0\1", r"\129\203\127\248\0\0\0\0\0\0\1",
)  # fmt: skip
NUMBERS = (
    "0", "1", "-1", "255", "2^31", "2^31-1", "-2^31", "2^32", "2^32-1", "1.5", "2.5", "-1.5", "0.5", "1e10", "-1e10", "2^51", "2^52",
    "2^53", "1e15", "1e300", "0/0", "1/0", "-1/0", "'5'", "'x'", "nil", "{}", "true",
)  # fmt: skip
FORMATS = (
    "b", "B", "h", "H", "l", "L", "T", "i", "I", "i1", "i3", "i8", "I16", "i32", "i33", "f", "d", "s", "c3", "c0", "x", ">i", "<i",
    ">!4bi", "!8bd", "!bd", "!3b", "!b", "i99999999999", "?", "z", ">H<H", "bbx", "b x", "c5", "s5", "i0", "I0", "!0i", "bi3", "!4bi3",
    "!16bd", ">l", ">f", ">d", "hhi", "!2bi", "xs", "=i",
)  # fmt: skip
SETTINGS = (
    "",
    "3",
    "0",
    "-1",
    "1.5",
    "'5'",
    "'x'",
    "{}",
    "nil",
    "3,4",
    "15",
    "true",
    "false",
    "'on'",
    "'off'",
    "'null'",
    "true,false",
)
MORE = {
    "cjson": [
        "return cjson.encode()", "return cjson.encode(1,2)", "return cjson.decode()", "return cjson.decode(1)", "return cjson.decode('1','2')",
        "return cjson.decode({})", "local t={} for i=1,1001 do t={t} end return cjson.encode(t)",
        "local t={} for i=1,1000 do t={t} end return #cjson.encode(t)", "return cjson.decode(string.rep('[',1001)..string.rep(']',1001))",
        "return type(cjson.decode(string.rep('[',1000)..string.rep(']',1000)))",
        "local a=cjson.new() a.encode_sparse_array(true) return a.encode({[100]=1})",
        "local a=cjson.new() a.encode_sparse_array(false,0) return a.encode({[20]=1})",
        "local a=cjson.new() a.encode_number_precision(3) return a.encode(1/3)",
        "local a=cjson.new() a.encode_invalid_numbers(true) return {a.encode(0/0),a.encode(1/0),a.encode(-1/0)}",
        "local a=cjson.new() a.encode_invalid_numbers('null') return {a.encode(0/0),a.encode(1/0),a.encode(-1/0)}",
        *(f"local a=cjson.new() a.decode_invalid_numbers(false) return tostring(a.decode('{text}'))" for text in ("nan", "0x10", "01", "-01", "-inf", "+1")),
        "local a=cjson.new() a.decode_max_depth(1) return a.decode('[[1]]')", "local a=cjson.new() a.encode_max_depth(1) return a.encode({{1}})",
        "return tostring(cjson.null)", "return type(cjson.null)", "return tostring(cjson.decode('null')==cjson.null)", "return {1,cjson.null,2}",
        "local t={} for k in pairs(cjson.new()) do t[#t+1]=k end table.sort(t) return t", "cjson.foo=1", "local c=cjson.new() c.x=1 return c.x",
        *(
            f"local ok,v=pcall(cjson.decode,'[{text}]') return tostring(ok and v[1] or v)"
            for text in ("0x1p4", "-0X1P-2", "0x1.8p1", "0x.8", "0x1.", "0x1p", "0x", "0x.", "+0x10", "0xg", "0x1p+4", "0xffffffffffffffffff")
        ),
        *(
            f"local t={{}} for _,k in ipairs({{{keys}}}) do t[k]=1 end return cjson.encode(t)"
            for keys in (
                "1700000000000", "2147483647", "2147483648", "4294967297", "1e300", "1/0", "1,2,3000000000", "3000000000,1,2",
                "3000000000,5", "1,3000000000,2,4000000000,3", "7,8,9,10,1e18", "3000000000,50", "2147483647,2147483648",
            )
        ),
        "local a=cjson.new() a.encode_sparse_array(false,0) return a.encode({[3000000000]=1})",
        "local ok,e=pcall(cjson.decode,'x') return e", "local ok,e=pcall(function() return cjson.decode('x') end) return e",
        *(
            f"local a=cjson.new() local x,y,z = a.encode_sparse_array({words}) return {{tostring(x),tostring(y),tostring(z)}}"
            for words in ("", "true", "true,3", "true,3,4", "false,0", "true,-1", "true,3,4,5", "'on'", "'x'", "nil,5", "{}", "true,{}", "1.5")
        ),
    ],
    "cmsgpack": [
        "return cmsgpack.pack()", "return cmsgpack.pack(1,2,'a',{1})", "return {cmsgpack.unpack(cmsgpack.pack(1,2,'a',{1,{2}}))}",
        "return cmsgpack.unpack()", "return cmsgpack.unpack('')", "return cmsgpack.unpack({})", "return cmsgpack.unpack(5)",
        *(f"return {{cmsgpack.unpack_one(cmsgpack.pack(1,2,3),{offset})}}" for offset in (0, 1, 2, 3, 4, -1)),
        *(f"return {{cmsgpack.unpack_limit(cmsgpack.pack(1,2,3),{words})}}" for words in ("2", "2,1", "-1", "0", "'x'", "nil", "5")),
        *(f"return {{cmsgpack.unpack_limit(cmsgpack.pack(1,2,3),{words})}}" for words in ("0,0", "0,1", "0,3", "0,4", "0,0.5", "0,-1")),
        "return cmsgpack.unpack_limit(cmsgpack.pack(1,2,3),0,1)", r"return {cmsgpack.unpack_limit('\1\193',0,1)}",
        "return {cmsgpack.unpack_limit('',0,0)}",
        "return {cmsgpack.unpack_limit(cmsgpack.pack(1,2,3))}", "return {cmsgpack.unpack_one()}", "return {cmsgpack.unpack_one('')}",
        "local t={} for i=1,20 do t={t} end return cmsgpack.pack(t)", "local t={} for i=1,20 do t={a=t} end return cmsgpack.pack(t)",
        "local t={1} t[1]=t return cmsgpack.pack(t)", "local t={} for i=1,70000 do t[i]=1 end return #cmsgpack.pack(t)",
        "return cmsgpack.pack({[2^60]=1})", "return cmsgpack.pack({['1']=1})", "return cmsgpack.pack({nil,2})",
    ],
    "bit": ["return bit.band(1,2,3,'x')", "return bit.band(15,7,3)", "return bit.bxor(1,2,4,8)", "return bit.bor()"],
    "struct": [
        r"return {struct.unpack('Bc0','\3abcdef')}", r"return {struct.unpack('Bc0','\9abcdef')}", r"return {struct.unpack('c0','\9abcdef')}",
        r"return {struct.unpack('bc0','\255abcdef')}", r"return {struct.unpack('sc0','3\0abcdef')}",
        *(f"return {{struct.unpack('b','abc',{offset})}}" for offset in ("2", "4", "0", "-1", "1.9", "'2'", "'x'")),
        "return struct.pack()", "return struct.pack('b')", "return struct.pack('c3','ab')", "return struct.pack('c0','ab')", "return struct.pack(5,1)",
        "return struct.pack('b','12')", "return struct.size()", "return struct.size('')", "return struct.unpack('b')", "return struct.pack('s',12)",
        "return struct.pack('c2147483647','a')", "return struct.pack('c2147483648','a')", "return struct.unpack('c2147483647','a')",
    ],
}  # fmt: skip
TEXTS = "for i=1,#r do r[i]=type(r[i])=='table' and cjson.encode(r[i]) or tostring(r[i]) end return {#r, r}"


def run(pair: Pair, texts: list[str]) -> None:
    """Run scripts on both servers."""
    pair.run([("EVAL", text, 0) for text in texts])


@pytest.mark.parametrize("library", MORE)
def test_more(pair: Pair, library: str):
    """Words of every kind, and what is set."""
    run(pair, MORE[library])


def test_json(pair: Pair):
    """Values into JSON and back, and what is no JSON; each setting with each word."""
    shown = "local r = {cjson.decode('%s')} if r[1] == cjson.null then r[1] = 'null' end " + TEXTS
    run(pair, [f"return cjson.encode({value})" for value in VALUES])
    run(pair, [shown.replace("%s", text) for text in JSON])
    names = (
        "encode_max_depth",
        "decode_max_depth",
        "encode_number_precision",
        "encode_keep_buffer",
        "encode_invalid_numbers",
    )
    run(
        pair,
        [
            f"return {{tostring(cjson.new().{name}({word}))}}"
            for name in (*names, "decode_invalid_numbers")
            for word in SETTINGS
        ],
    )


def test_pack(pair: Pair):
    """Values into MessagePack and back, and what is none."""
    run(
        pair,
        [
            f"local p = cmsgpack.pack({value}) return {{#p, p:sub(1, 40), tostring(cmsgpack.unpack(p)):sub(1, 5)}}"
            for value in VALUES
        ],
    )
    run(pair, [f"local r = {{cmsgpack.unpack('{text}')}} {TEXTS}" for text in PACKED])


def test_bit(pair: Pair):
    """Every operation on every kind of number."""
    run(
        pair,
        [
            f"return {{tostring(bit.{name}({one}))}}"
            for name in ("tobit", "bnot", "bswap", "tohex")
            for one in (*NUMBERS, "")
        ],
    )
    names = ("band", "bor", "bxor", "lshift", "rshift", "arshift", "rol", "ror", "tohex")
    others = ("0", "1", "31", "32", "33", "-1", "5.5", "0xF0F0F0F0", "nil", "'3'")
    run(
        pair,
        [f"return {{tostring(bit.{name}({one},{other}))}}" for name in names for one in NUMBERS for other in others],
    )


def test_struct(pair: Pair):
    """Every format, from every value and every kind of bytes."""
    values = (
        "1",
        "-1",
        "300",
        "1.5",
        "'abc'",
        r"'abcde\0fg'",
        "nil",
        "2^63",
        "-2^63",
        "2^64",
        "1e300",
        "-1e300",
        "0/0",
        "1/0",
        "0.1",
        "3.5e38",
        "1e-45",
        "{}",
    )
    data = (
        r"'\1\2\3\4\5\6\7\8\9\10\11\12\13\14\15\16'",
        r"'\255\254\253\252\251\250\249\248\247\246\0\244'",
        "''",
        r"'abc\0def'",
        r"('\200'):rep(40)",
    )
    run(pair, [f"return struct.pack('{form}',{value},{value},{value})" for form in FORMATS for value in values])
    run(pair, [f"local r = {{struct.unpack('{form}',{text})}} {TEXTS}" for form in FORMATS for text in data])
    run(pair, [f"return struct.size('{form}')" for form in FORMATS])


# --- random values ----------------------------------------------------------------------------------------------------------------

SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63),
    st.floats(),
    st.binary(max_size=40).map(lambda data: data.decode("latin-1")),
)
LISTS = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=8), max_leaves=20)


def lua(value: object) -> str:
    """Return a value as Lua writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return "'" + "".join(f"\\{ord(one):03d}" for one in value) + "'"
    if isinstance(value, list):
        return "{" + ",".join(map(lua, value)) + "}"
    if value != value:  # noqa: PLR0124 -- NaN is that
        return "(0/0)"
    if value in {float("inf"), float("-inf")}:
        return "(1/0)" if value > 0 else "(-1/0)"
    return f"({value!r})"


@given(st.lists(LISTS, min_size=1, max_size=10))
def test_fuzz_pack(pair: Pair, values: list[object]):
    """Whatever is packed is the same bytes, and comes back the same."""
    run(
        pair,
        [f"local p = cmsgpack.pack({lua(value)}) return {{p, cmsgpack.pack(cmsgpack.unpack(p))}}" for value in values],
    )


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=10))
def test_fuzz_unpack(pair: Pair, texts: list[bytes]):
    """Whatever bytes are unpacked, the same comes out, or the same error."""
    shown = "local r = {cmsgpack.unpack(ARGV[1])} for i = 1, #r do if type(r[i]) == 'table' then r[i] = #r[i] else r[i] = tostring(r[i]) end end return r"
    pair.run([("EVAL", shown, 0, text) for text in texts])


@given(st.lists(LISTS, min_size=1, max_size=10))
def test_fuzz_json(pair: Pair, values: list[object]):
    """Whatever is encoded is the same text, and comes back the same."""
    run(pair, [f"local t = cjson.encode({lua(value)}) return {{t, cjson.encode(cjson.decode(t))}}" for value in values])


@given(
    st.lists(
        st.one_of(st.text(alphabet='[]{}:,"\\ntfrue0123456789.eE+-axu \x00', max_size=20), LISTS.map(json.dumps)),
        min_size=1,
        max_size=10,
    )
)
def test_fuzz_json_texts(pair: Pair, texts: list[str]):
    """Whatever text is decoded, the same comes out, or the same error."""
    shown = "local r = cjson.decode(ARGV[1]) if type(r) == 'table' then return #r end return tostring(r)"
    pair.run([("EVAL", shown, 0, text) for text in texts])


@given(
    st.lists(
        st.tuples(st.text(alphabet="bBhHlLTiIfdsc0123456789<>!x ", max_size=8), SCALARS, SCALARS),
        min_size=1,
        max_size=10,
    )
)
def test_fuzz_struct(pair: Pair, packs: list[tuple[str, object, object]]):
    """Whatever is packed by whatever format is the same bytes, and comes back the same."""
    shown = "local p = struct.pack(ARGV[1], %s, %s, 1, 2, 3, 4, 5, 6) local r = {struct.unpack(ARGV[1], p)} " + TEXTS
    pair.run(
        [("EVAL", shown.replace("%s", lua(one), 1).replace("%s", lua(other), 1), 0, form) for form, one, other in packs]
    )
