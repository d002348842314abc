from __future__ import annotations

import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anneal.curation.domain.pii import PII_KINDS, PiiKind, find_pii, suspects_of
from anneal.curation.domain.steps.base import Removal, WrongSetting
from anneal.curation.domain.steps.pii_filter import PiiFilter
from anneal.curation.domain.steps.pii_mask import PiiMask
from anneal.kit.messages import plain_messages
from anneal.kit.records import DOCUMENT, PREFERENCE, conversation, document, preference
from tests.unit.curation.rows import Row, asked, batch_of, judged, reasons, said

# Put together here, so that no scanner takes a test for a leak.
JWT = ".".join(("eyJhbGciOiJIUzI1NiJ9", "eyJzdWIiOiIxMjM0NTY3ODkwIn0", "dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"))
KEY_BLOCK = "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n7bq98Zx/+Q==\n-----END RSA " + "PRIVATE KEY-----"
FOUND = [
    ("email", "jane.doe+news@mail.example.co.uk"),
    ("email", "a@example.com"),
    ("email", "müller@büro.example.org"),
    ("email", "x_y%z@sub-domain.museum"),
    ("phone", "+49 30 1234567"),
    ("phone", "+1 (415) 555-2671"),
    ("phone", "+442079460958"),
    ("phone", "(415) 555-2671"),
    ("phone", "415-555-2671"),
    ("phone", "415.555.2671"),
    ("card", "4111 1111 1111 1111"),
    ("card", "4111-1111-1111-1111"),
    ("card", "5555555555554444"),
    ("card", "3782 822463 10005"),
    ("card", "6011111111111117"),
    ("iban", "DE89 3704 0044 0532 0130 00"),
    ("iban", "GB82WEST12345698765432"),
    ("iban", "NO9386011117947"),
    ("iban", "FR14 2004 1010 0505 0001 3M02 606"),
    ("ip", "81.2.69.142"),
    ("ip", "142.250.74.78"),
    ("ip", "2001:4860:4860::8888"),
    ("ip", "2001:4860:4860:0:0:0:0:8844"),
    ("secret", "AKIA" + "IOSFODNN7EXAMPLE"),
    ("secret", "ghp_" + "a1B2c3D4e5F6" * 3),
    ("secret", "github_pat_" + "11ABCDEFG0abcdefghij_kl"),
    ("secret", "xoxb-" + "123456789012-abcdefGHIJ"),
    ("secret", "sk-" + "proj-abc123DEF456ghi789JKL"),
    ("secret", JWT),
    ("secret", KEY_BLOCK),
    ("address", "1600 Amphitheatre Parkway, Mountain View, CA 94043"),
    ("address", "12 High Street\nOxford OX1 4AB"),
    ("address", "Lindenstraße 77, 10117 Berlin"),
    ("address", "Hauptstr. 5a, D-80331 München"),
]
NOT_FOUND = [
    "version 1.2.3.4 and v8.8.8.8, Chrome/91.0.4472.124, lib==5.6.7.8",
    "see 3.1.3.6, section 14.3.2.1 and OID 1.3.6.1.4.1.311",
    "127.0.0.1, 10.0.0.5, 192.168.1.1, 192.0.2.7, 256.1.1.1, ::1, fe80::1",
    "std::vector, a::b, 12:34:56, 2024:01:02, de:ad:be:ef:00:01",
    "ISBN 978-3-16-148410-0, ISBN 0-306-40615-2, 9783161484100",
    "2024-01-02 03:04:05.678901, 1700000000000, 20240102030405, 2024-01-02T03:04:05+01:00",
    "d41d8cd98f00b204e9800998ecf8427e 4111111111111111a 0x4111111111111111",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "order 415-555-2671, order id 1234567890123456, invoice no. 415.555.2671",
    "4111 1111 1111 1112, 0.4111111111111111, 1234 5678 9012 3456, 4444444444444448444",
    "DE88 3704 0044 0532 0130 00, XX89370400440532013000, AB12 CDEF GHIJ",
    "git@github.com:org/repo.git, lodash@4.17.21, @decorator, user@localhost, a@b, x @ y.com",
    "123e4567-e89b-12d3-a456-426614174000",
    "sk-xxxxxxxxxxxxxxxxxxxxxxxx, sk-your-key-goes-right-here, sk-learn, ghp_short, AKIASHORT",
    "-----BEGIN PUBLIC KEY-----\nMIIEpAIBAAKCAQEA7bq98Zx\n-----END PUBLIC KEY-----",
    "eyJhbGciOiJIUzI1NiJ9 alone, eyJh.eyJz.x",
    "1e+10000000, x+12345678, +12345678.25, +1, +0100, 100-200-3000",
    "In 2010 Wall Street fell. 5 Way, 12 Angry Men, Route 66, page 12345 of Main Street",
    "der Weg 5 und Platz 12, die Straße 7",
    "1,234,567,890 and 12345678901234567890 and 3.14159265358979",
    "",
    "😀" * 10,
]


@pytest.mark.parametrize(("kind", "value"), FOUND)
def test_personal_data_is_found_where_it_stands(kind: PiiKind, value: str) -> None:
    for before, after in (("", ""), ("Please use ", " from now on."), ("(", ")"), ("« ", ", thanks")):
        text = f"{before}{value}{after}"
        assert [(one.kind, text[one.start : one.end]) for one in find_pii(text, PII_KINDS)] == [(kind, value)]
        assert suspects_of(pa.array([text, "x"], pa.large_string()), [kind]) == {0: [kind]}


@pytest.mark.parametrize("text", NOT_FOUND)
def test_look_alikes_are_left_alone(text: str) -> None:
    assert [(one.kind, text[one.start : one.end]) for one in find_pii(text, PII_KINDS)] == []


def test_a_label_makes_a_number_a_phone_number() -> None:
    text = "Tel.: 030 1234567, handy 0170/1234567, 030 1234567"
    assert [text[one.start : one.end] for one in find_pii(text, ["phone"])] == ["030 1234567", "0170/1234567"]


def test_the_filter_names_the_kind_and_tells_no_value() -> None:
    row = asked("Write to a@example.com or b@example.com.", "Call +49 30 1234567.")
    assert judged(PiiFilter(), row) == [Removal("pii_email", {"email": 2, "phone": 1})]
    assert reasons(PiiFilter(kinds=("phone",)), row, asked("x", "y")) == ["pii_phone", ""]
    assert reasons(PiiFilter(part="prompt", kinds=("phone",)), row) == [""]


@pytest.mark.parametrize("step", [PiiFilter, PiiMask])
@pytest.mark.parametrize("kinds", [(), ("email", "email")])
def test_kinds_are_named_once(step: type, kinds: tuple[PiiKind, ...]) -> None:
    with pytest.raises(WrongSetting, match="none is named, or one twice"):
        step(kinds=kinds)


def contents(step: PiiMask, *rows: Row) -> list[list[str]]:
    batch = batch_of(rows)
    masked = step.rewrite(batch)
    assert masked.schema == batch.schema
    masked.validate(full=True)
    assert [[turn["role"] for turn in row["messages"]] for row in masked.to_pylist()] == [
        [turn["role"] for turn in row["messages"]] for row in rows
    ]
    return [[turn["content"] for turn in row["messages"]] for row in masked.to_pylist()]


def test_masks_are_typed() -> None:
    texts = [f"use {value}!" for _, value in FOUND]
    masked = contents(PiiMask(), *(asked(text, "x") for text in texts))
    assert masked == [[f"use [{kind.upper()}]!", "x"] for kind, _ in FOUND]
    assert contents(PiiMask(kinds=("phone",)), asked("a@example.com", "+49 30 1234567")) == [
        ["a@example.com", "[PHONE]"]
    ]


def test_equal_values_of_a_row_get_equal_numbers() -> None:
    rows = (
        said(
            ("system", "Contact: a@example.com"),
            ("user", "b@example.com, A@Example.com and 81.2.69.142?"),
            ("assistant", "b@example.com +49 30 1234567 or +49-30-1234567"),
        ),
        asked("none", "b@example.com"),
    )
    assert contents(PiiMask(numbered=True), *rows) == [
        ["Contact: [EMAIL_1]", "[EMAIL_2], [EMAIL_1] and [IP_1]?", "[EMAIL_2] [PHONE_1] or [PHONE_1]"],
        ["none", "[EMAIL_1]"],
    ]


def test_rows_without_finds_come_back_as_they_are() -> None:
    batch = batch_of([asked("x", "v1.2.3.4"), said(), asked("", "")])
    assert PiiMask().rewrite(batch) is batch
    assert contents(PiiMask(), said(), asked("a@example.com", "")) == [[], ["[EMAIL]", ""]]


def test_nulls_and_slices_survive_masking() -> None:
    turns = [
        [{"role": "user", "content": None}, {"role": "assistant", "content": "a@example.com"}],
        None,
        [{"role": None, "content": "81.2.69.142"}],
    ]
    batch = batch_of([asked("x", "y")] * 4)
    column = pa.array([[], *turns], type=batch.schema.field("messages").type)
    batch = batch.set_column(1, batch.schema.field("messages"), column).slice(1)
    masked = PiiMask().rewrite(batch)
    masked.validate(full=True)
    found = masked.column("messages").to_pylist()
    assert [row and plain_messages(row) for row in found] == [
        [{"role": "user", "content": None}, {"role": "assistant", "content": "[EMAIL]"}],
        None,
        [{"role": None, "content": "[IP]"}],
    ]


def test_reasoning_names_and_calls_are_masked_and_calls_stay_json() -> None:
    arguments = '{"to": "a@example.com", "phone": +442079460958, "note": "call \\"me\\" at 415-555-2671", "n": 3}'
    call = {"id": "c", "name": "send", "arguments": arguments}
    answer = {"role": "assistant", "content": None, "reasoning": "It is a@example.com.", "tool_calls": [call]}
    result = {"role": "tool", "content": "sent to b@example.com", "name": "a@example.com", "tool_call_id": "c"}
    row = conversation([{"role": "user", "content": "Send it."}, answer, result], source="s")
    masked = PiiMask(numbered=True).rewrite(batch_of([asked("x", "y"), row])).to_pylist()
    turns = plain_messages(masked[1]["messages"])
    assert turns[1]["reasoning"] == "It is [EMAIL_2]."
    (sent,) = turns[1]["tool_calls"]
    assert json.loads(sent["arguments"]) == {
        "to": "[EMAIL_2]",
        "phone": "[PHONE_1]",
        "note": 'call "me" at [PHONE_2]',
        "n": 3,
    }
    assert (sent["id"], sent["name"], turns[2]["tool_call_id"]) == ("c", "send", "c")
    assert (turns[2]["content"], turns[2]["name"]) == ("sent to [EMAIL_1]", "[EMAIL_2]")
    assert plain_messages(masked[0]["messages"]) == asked("x", "y")["messages"]
    assert PiiFilter().judge(batch_of([row])) == {0: Removal("pii_email", {"email": 4, "phone": 2})}


def test_both_answers_of_a_preference_are_masked() -> None:
    sides = [[{"role": "assistant", "content": f"Ask {name}@example.com."}] for name in ("kim", "lee")]
    row = preference([{"role": "user", "content": "Who?"}], chosen=sides[0], rejected=sides[1], source="s")
    alone = preference([{"role": "user", "content": "Who?"}], chosen=None, rejected=sides[1], source="s")
    batch = pa.RecordBatch.from_pylist([row, alone], schema=PREFERENCE)
    both, one = PiiMask(numbered=True).rewrite(batch).to_pylist()
    assert [both[side][0]["content"] for side in ("chosen", "rejected")] == ["Ask [EMAIL_1].", "Ask [EMAIL_2]."]
    assert (one["chosen"], one["rejected"][0]["content"]) == (None, "Ask [EMAIL_1].")


def test_documents_are_masked_in_text_and_title() -> None:
    row = document("Mail a@example.com, b@example.com.", uri="a.html", title="From b@example.com")
    batch = pa.RecordBatch.from_pylist([row, document("x", uri="b.html")], schema=DOCUMENT)
    masked = PiiMask(numbered=True).rewrite(batch).to_pylist()
    assert (masked[0]["title"], masked[0]["text"]) == ("From [EMAIL_1]", "Mail [EMAIL_2], [EMAIL_1].")
    assert masked[1] == batch.to_pylist()[1]
    assert PiiFilter().judge(batch) == {0: Removal("pii_email", {"email": 2})}


PIECES = st.sampled_from(
    [*(value for _, value in FOUND), *NOT_FOUND, " ", "\n", "+", "1", "4", ".", "@", "-", "[", "a"]
)
TEXTS = st.lists(PIECES | st.text(max_size=5), max_size=12).map("".join)


@given(st.lists(TEXTS, max_size=4), st.booleans())
def test_masking_twice_is_masking_once(texts: list[str], numbered: bool) -> None:
    step = PiiMask(numbered=numbered)
    once = step.rewrite(batch_of([asked(text, "x") for text in texts]))
    assert step.rewrite(once).to_pylist() == once.to_pylist()
    assert PiiFilter().judge(once) == {}


@given(TEXTS)
def test_suspicion_misses_nothing(text: str) -> None:
    for kind in PII_KINDS:
        if find_pii(text, [kind]):
            assert suspects_of(pa.array([text], pa.large_string()), [kind]) == {0: [kind]}


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "piece", ["a", "a.", "1", "1 ", "a@", "+1", "A Way ", "-----BEGIN PRIVATE KEY-----\n", "1.", "Ab "]
)
def test_long_texts_are_judged_in_time(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    assert reasons(PiiFilter(), asked("x", f"{text} a@example.com"))[0].startswith("pii_")
