"""Bytes become text by evidence, or are refused with the place of the first bad one."""

from __future__ import annotations

import pytest

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
