"""Bytes become text by evidence, or are refused with the place of the first bad one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anneal.ingestion.adapters.encodings import decode
from anneal.ingestion.domain.errors import UndecodableText

TEXT = "Größe und Maß: 12 €, naïve façade. "


@pytest.mark.parametrize(
    ("encoding", "name"),
    [("utf-8-sig", "utf-8-sig"), ("utf-16", "utf-16"), ("utf-32", "utf-32")],
)
def test_a_mark_tells_the_encoding_and_is_no_text(encoding: str, name: str) -> None:
    decoded = decode(TEXT.encode(encoding))
    assert (decoded.text, decoded.encoding, decoded.evidence) == (TEXT, name, "bom")


def test_utf8_comes_before_what_is_declared() -> None:
    decoded = decode(TEXT.encode(), "cp1252")
    assert (decoded.text, decoded.evidence) == (TEXT, "utf-8")


def test_a_declared_charset_comes_before_a_guess() -> None:
    decoded = decode(TEXT.encode("cp1252"), "windows-1252")
    assert (decoded.text, decoded.encoding, decoded.evidence) == (TEXT, "cp1252", "declared")


def test_a_guess_is_recorded_as_one() -> None:
    decoded = decode((TEXT * 20).encode("cp1252"))
    assert decoded.evidence == "guessed"
    assert "façade" in decoded.text


@pytest.mark.parametrize("declared", ["x-nonsense", "hex", "rot13", "undefined"])
def test_what_is_declared_and_no_encoding_of_text_counts_for_nothing(declared: str) -> None:
    assert decode((TEXT * 20).encode("cp1252"), declared).evidence == "guessed"


@pytest.mark.parametrize(
    ("data", "declared", "byte_offset"),
    [
        (b"abc \xff def", "utf-8", 4),
        (b"abc \xff def", "UTF8", 4),
        (b"\xef\xbb\xbfabc \xff", None, 7),
        ("Maß für Maß ".encode() + b"\xff\xfe", None, 15),
    ],
)
def test_bytes_that_say_they_are_unicode_and_are_not_are_refused_with_their_place(
    data: bytes, declared: str | None, byte_offset: int
) -> None:
    with pytest.raises(UndecodableText, match=f"byte {byte_offset} is not utf-8") as refused:
        decode(data, declared)
    assert refused.value.byte_offset == byte_offset


def test_half_a_character_of_utf16_is_refused() -> None:
    with pytest.raises(UndecodableText) as refused:
        decode("ab".encode("utf-16-le").join([b"\xff\xfe", b"\x00"]))
    assert refused.value.byte_offset == 6


@pytest.mark.parametrize(
    ("label", "text", "encoding"),
    [
        ("iso-8859-1", "“Basic” costs 10 € \u2013 see…", "cp1252"),
        ("US-ASCII", "the owner\u2019s", "cp1252"),
        (" Latin1 ", "naïve", "cp1252"),
        ("iso-8859-9", "“İstanbul”", "cp1254"),
        ("gb2312", "朱镕基", "gb18030"),
        ("GBK", "汉字", "gb18030"),
        ("Shift_JIS", "①髙", "cp932"),
        ("x-sjis", "日本", "cp932"),
        ("ks_c_5601-1987", "똠방", "cp949"),
        ("euc-kr", "똠방", "cp949"),
        ("big5", "香港嘅", "big5hkscs"),
        ("tis-620", "ไทย…", "cp874"),
        ("macintosh", "café", "mac_roman"),
        ("x-cp1251", "Привет", "cp1251"),
    ],
)
def test_labels_mean_what_they_mean_to_a_browser(label: str, text: str, encoding: str) -> None:
    decoded = decode(text.encode(encoding), label)
    assert (decoded.text, decoded.evidence) == (text, "declared")


def test_bytes_that_windows_1252_leaves_open_are_controls() -> None:
    assert decode(b"a\x81b\x93c\x94", "latin1").text == "a\x81b“c”"


def test_a_page_cannot_declare_utf16_without_its_mark() -> None:
    with pytest.raises(UndecodableText, match="is not utf-8"):
        decode(b"<p>\xff</p>", "utf-16")


@pytest.mark.parametrize(
    ("text", "encoding", "name"),
    [
        ("你好\uff0c世界。", "gbk", "gb18030"),
        ("question,answer\n天气怎么样\uff1f,很好。\n", "gbk", "gb18030"),
        ("這是一個測試文件", "big5", "big5hkscs"),
        ("これはテストです。", "shift_jis", "cp932"),
        ("Größe und Maß: 12 €, naïve façade.", "cp1252", "cp1252"),
        ("He said “it\u2019s fine” \u2013 in a café", "cp1252", "cp1252"),
    ],
)
def test_few_bytes_are_guessed_where_one_encoding_makes_text_of_them(text: str, encoding: str, name: str) -> None:
    decoded = decode(text.encode(encoding))
    assert (decoded.text, decoded.encoding, decoded.evidence) == (text, name, "guessed")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Привет мир", "cp1251"),
        ("Γειά \u03c3\u03bf\u03c5", "cp1253"),
        ("zażółć gęślą jaźń", "cp1250"),
        ("안녕", "euc-kr"),
        ("שלום", "cp1255"),
    ],
)
def test_few_bytes_that_may_be_anything_are_refused_and_never_another_text(text: str, encoding: str) -> None:
    with pytest.raises(UndecodableText, match="too few to tell") as refused:
        decode(text.encode(encoding))
    assert text.encode(encoding)[refused.value.byte_offset] > 0x7F


@given(st.text(st.characters(codec="gb2312"), min_size=1, max_size=12), st.sampled_from(["gb2312", "gbk"]))
def test_a_guess_on_few_chinese_characters_is_right_or_refused(text: str, encoding: str) -> None:
    frequent = "".join(c for c in text if 0xB0 <= c.encode("gb2312")[0] <= 0xD7)
    try:
        decoded = decode(("问\uff1a" + frequent + "答\uff1a很好。").encode(encoding))
    except UndecodableText:
        return
    assert decoded.text == "问\uff1a" + frequent + "答\uff1a很好。"
