"""IngestDocuments and ImportDataset over a real channel: what comes out, what is quarantined, and every refusal."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import pytest_asyncio

from anneal.v1 import dataset_pb2
from anneal.v1 import ingestion_service_pb2 as pb
from anneal.v1 import registry_service_pb2 as registry_pb
from tests.fixtures.ingestion_house import House, chunk, header, refused, running
from tests.fixtures.packages import chapter, docx, epub, paragraph, zipped
from tests.fixtures.pdfs import Scan, lines, pdf

pytestmark = pytest.mark.asyncio(loop_scope="module")

INVALID, MISSING, NOT_YET = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
)
PARENT = "projects/p"
NOBODY = f"{PARENT}/uploads/nobody"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with running(tmp_path_factory.mktemp("orders")) as found:
        yield found


def ingest(*uploads: str, **other: Any) -> pb.IngestDocumentsRequest:
    return pb.IngestDocumentsRequest(**{"parent": PARENT, "dataset_id": "docs", "uploads": uploads, **other})


def imported(**other: Any) -> pb.ImportDatasetRequest:
    return pb.ImportDatasetRequest(**{"parent": PARENT, "dataset_id": "rows", **other})


async def quarantined(house: House, version: str, page_size: int) -> list[dict[str, Any]]:
    """The quarantined rows as anybody reads them: page by page from the registry."""
    rows: list[dict[str, Any]] = []
    token = ""
    while True:
        request = registry_pb.ReadRowsRequest(
            dataset_version=version,
            part=dataset_pb2.DatasetPart.DATASET_PART_QUARANTINED,
            page_size=page_size,
            page_token=token,
        )
        page = await house.registry.ReadRows(request)
        assert len(page.rows) <= page_size
        rows += [json.loads(row.json) for row in page.rows]
        token = page.next_page_token
        if not token:
            return rows


def tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


async def test_an_archive_becomes_documents_and_bad_files_are_told(house: House) -> None:
    files = {
        "a/page.html": b"<html><head><title>T</title></head><body><p>Some text here.</p></body></html>",
        "a/notes.md": "# Größe\n\ntext".encode(),
        "a/plain.txt": b"plain",
        "a/bad.txt": "Maß für Maß ".encode() + b"\xff\xfe",
        "a/tool.bin": b"\x7fELF\0\0",
        "a/empty.md": b" \n",
        "a/left.out": b"not wanted",
    }
    upload = await house.upload("site.tar.gz", tar(files))
    order = ingest(upload, include=["a/*.html", "a/*.md", "a/*.txt", "a/*.bin"], license="CC0-1.0")
    version = await house.version(await house.ingestion.IngestDocuments(order))
    assert version.name.startswith(f"{PARENT}/datasets/docs/versions/")
    assert (version.row_count, version.quarantined_row_count, version.input_row_count) == (3, 3, 6)
    rows = house.rows(version)
    assert [(row["uri"], row["title"], row["license"]) for row in rows] == [
        ("a/page.html", "T", "CC0-1.0"), ("a/notes.md", "Größe", "CC0-1.0"), ("a/plain.txt", "plain", "CC0-1.0")
    ]  # fmt: skip
    bad = await quarantined(house, version.name, page_size=2)
    assert [(row["file"], row["reason"], row["byte_offset"]) for row in bad] == [
        ("a/bad.txt", "invalid_encoding", 15), ("a/tool.bin", "unknown_media_type", 0), ("a/empty.md", "empty", 0)
    ]  # fmt: skip


async def test_chunks_know_their_document(house: House) -> None:
    text = "\n\n".join(f"Paragraph {index} says something of its own." for index in range(40))
    upload = await house.upload("long.txt", text.encode())
    whole = house.rows(await house.version(await house.ingestion.IngestDocuments(ingest(upload))))[0]
    chunking = pb.Chunking(max_characters=200, overlap_characters=40)
    rows = house.rows(await house.version(await house.ingestion.IngestDocuments(ingest(upload, chunking=chunking))))
    assert len(rows) > 5
    for index, row in enumerate(rows):
        place = json.loads(row["meta"])["chunk"]
        assert (place["document"], place["index"]) == (whole["id"], index)
        assert text[place["start"] : place["end"]] == row["text"]
        assert len(row["text"]) <= 200
        assert row["source"] == whole["source"] == "long.txt"


async def test_pages_books_and_word_files_become_documents_and_what_cannot_be_read_is_named(house: House) -> None:
    page = pdf([lines(["Opening hours", "", "We are open on weekdays."]), [Scan()]], info={"Author": "Ann"})
    files = {
        "hours.pdf": page,
        "rules.docx": docx([paragraph("Rules", "Heading1"), paragraph("Be on time.")]),
        "book.epub": epub({"a.xhtml": chapter("<h1>One</h1><p>Text.</p>")}),
        "scan.pdf": pdf([[Scan()]]),
        "secret.pdf": pdf([lines(["secret"])], password="open"),
        "bomb.docx": docx([], more={"word/media.xml": b" " * (9 << 20)}),
        "cut.epub": epub({})[:200],
        "sheet.xlsx": zipped({"[Content_Types].xml": "<a/>", "xl/a.xml": "<a/>"}),
    }
    upload = await house.upload("mixed.tar.gz", tar(files))
    version = await house.version(await house.ingestion.IngestDocuments(ingest(upload)))
    assert [row["uri"] for row in house.rows(version)] == ["hours.pdf", "rules.docx", "book.epub"]
    meta = json.loads(house.rows(version)[0]["meta"])
    assert (meta["properties"], [each["number"] for each in meta["pages"]]) == ({"author": "Ann"}, [1])
    assert meta["parsing"]["warnings"] == {"images_left_out": 1, "pages_without_text": 1}
    bad = await quarantined(house, version.name, page_size=9)
    assert [(row["file"], row["reason"]) for row in bad] == [
        ("scan.pdf", "no_text_layer"), ("secret.pdf", "encrypted"), ("bomb.docx", "expands_too_much"),
        ("cut.epub", "unreadable"), ("sheet.xlsx", "unknown_media_type"),
    ]  # fmt: skip


async def test_a_word_file_by_itself_is_one_document_and_its_chunks_know_their_heading(house: House) -> None:
    body = [paragraph("Rules", "Heading1"), *(paragraph(f"Rule {number} says what to do then.") for number in range(9))]
    upload = await house.upload("rules.docx", docx(body))
    chunking = pb.Chunking(max_characters=120, min_characters=60)
    rows = house.rows(await house.version(await house.ingestion.IngestDocuments(ingest(upload, chunking=chunking))))
    assert rows[0]["text"].startswith("# Rules\n\nRule 0 says")
    assert all(60 <= len(row["text"]) <= 120 for row in rows)
    assert all(json.loads(row["meta"])["chunk"]["headings"] == ["Rules"] for row in rows)


GOOD = {"messages": [{"role": "user", "content": "q é"}, {"role": "assistant", "content": "a"}], "n": 0}
BAD_LINES = [
    (b'{"messages": "\xff"}', "invalid_utf8"),
    (b'{"messages": [', "invalid_json"),
    (json.dumps({**GOOD, "x": "\ud800"}).encode(), "invalid_unicode"),
    (b'{"messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested_too_deep"),
    (b'{"messages": [{"role": "user", "content": "q"}]}', "no_assistant_turn"),
    (b'{"messages": [{"role": "robot", "content": "q"}]}', "unknown_role"),
    (b'{"messages": [{"role": "user", "content": ""}, {"role": "assistant", "content": ""}]}', "empty_answer"),
    (b"[1, 2]", "wrong_type"),
    (b'{"messages": "' + b"x" * (17 << 20) + b'"}', "line_too_long"),
]


async def test_bad_rows_are_found_again_at_their_byte(house: House) -> None:
    lines: list[bytes] = []
    for line, _ in BAD_LINES:
        lines += [json.dumps(GOOD).encode(), line]
    data = b"\n".join(lines)
    upload = await house.upload("rows.jsonl", data)
    version = await house.version(await house.ingestion.ImportDataset(imported(upload=upload)))
    assert (version.row_count, version.quarantined_row_count) == (len(BAD_LINES), len(BAD_LINES))
    bad = await quarantined(house, version.name, page_size=3)
    assert [row["reason"] for row in bad] == [reason for _, reason in BAD_LINES]
    for number, (row, (line, _)) in enumerate(zip(bad, BAD_LINES, strict=True)):
        assert data[row["byte_offset"] :].startswith(line + b"\n" if number < len(BAD_LINES) - 1 else line)
        assert (row["file"], row["line"]) == ("rows.jsonl", 2 * number + 2)
        assert line.decode("utf-8", errors="backslashreplace").startswith(row["raw"].rstrip("\n"))
        assert 0 < len(row["raw"]) <= 2000
        assert row["cause"]
    assert house.rows(version)[0]["messages"][0]["content"] == "q é"


async def test_a_bad_beginning_does_not_hide_the_format(house: House) -> None:
    data = b"{\n" * 120 + json.dumps(GOOD).encode()
    upload = await house.upload("late.jsonl", data)
    version = await house.version(await house.ingestion.ImportDataset(imported(upload=upload)))
    assert (version.row_count, version.quarantined_row_count) == (1, 120)


ALPACA = [
    {"instruction": "Add.", "input": "1 2", "output": "3"},
    {"instruction": "Greet.", "input": "", "output": "Hi"},
]


def parquet(rows: list[dict[str, Any]]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


def csv_text(rows: list[dict[str, Any]]) -> bytes:
    return "\n".join(["instruction,input,output", *(",".join(row.values()) for row in rows)]).encode()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("alpaca.jsonl", "\n".join(map(json.dumps, ALPACA)).encode()),
        ("alpaca.json", json.dumps(ALPACA, indent=1).encode()),
        ("alpaca.csv", csv_text(ALPACA)),
        ("alpaca.parquet", parquet(ALPACA)),
    ],
)
async def test_the_same_rows_come_out_of_every_container(house: House, name: str, data: bytes) -> None:
    upload = await house.upload(name, data)
    version = await house.version(await house.ingestion.ImportDataset(imported(upload=upload)))
    turns = [[message["content"] for message in row["messages"]] for row in house.rows(version)]
    assert turns == [["Add.\n1 2", "3"], ["Greet.", "Hi"]]


def jsonl(*rows: dict[str, Any]) -> bytes:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()


async def test_unknown_columns_are_kept_in_meta_whatever_their_type(house: House) -> None:
    table = pa.table(
        {
            "INSTRUCTION": ["Add 1 and 2.", "Greet."],
            "RESPONSE": ["3", "Hi"],
            "Topic": ["maths", None],
            "day": pa.array([0, 1], pa.date32()),
            "vector": [[0.5, float("nan")], []],
            "blob": [b"\x00\x01", b""],
        }
    )
    out = io.BytesIO()
    pq.write_table(table, out)
    upload = await house.upload("columns.parquet", out.getvalue())
    version = await house.version(await house.ingestion.ImportDataset(imported(upload=upload)))
    first, second = (json.loads(row["meta"]) for row in house.rows(version))
    assert first == {"Topic": "maths", "day": "1970-01-01", "vector": [0.5, None], "blob": "AAE="}
    assert "Topic" not in second


async def test_a_table_is_read_by_the_columns_that_the_order_names(house: House) -> None:
    data = b"stars,headline,review,by\n5,Bright,It lights the room.,Kim\n1,,Broken.,Lee\n"
    upload = await house.upload("reviews.csv", data)
    columns = {"prompt": "headline", "answer": "review"}
    version = await house.version(
        await house.ingestion.ImportDataset(imported(upload=upload, columns=columns, dataset_id="mapped"))
    )
    (row,) = house.rows(version)
    assert [turn["content"] for turn in row["messages"]] == ["Bright", "It lights the room."]
    assert json.loads(row["meta"]) == {"stars": "5", "by": "Kim"}
    (bad,) = house.rows(version, "quarantined")
    assert (bad["reason"], bad["raw"]) == ("empty_field", "1,,Broken.,Lee")
    labelled = {"prompt": "headline", "context": "by", "answer": "review", "label": "stars"}
    upload = await house.upload("labels.csv", data.replace(b"5,", b"true,").replace(b"1,,", b"false,Dim,"))
    order = imported(upload=upload, columns=labelled, dataset_id="labels")
    rows = house.rows(await house.version(await house.ingestion.ImportDataset(order)))
    assert [row["messages"][0]["content"] for row in rows] == ["Kim\n\nBright", "Lee\n\nDim"]
    assert [(row["chosen"] is None, row["rejected"] is None) for row in rows] == [(False, True), (True, False)]
    texts = imported(upload=upload, columns={"text": "review", "title": "headline"}, dataset_id="as-texts")
    rows = house.rows(await house.version(await house.ingestion.ImportDataset(texts)))
    assert [(row["title"], row["text"]) for row in rows] == [("Bright", "It lights the room."), ("Dim", "Broken.")]
    wrong = imported(upload=upload, columns={"prompt": "head", "answer": "review"}, dataset_id="labels")
    reason, said = await house.failed(await house.ingestion.ImportDataset(wrong))
    assert reason == "INVALID_REQUEST"
    assert "no row has the column 'head'; there are by, headline, review, stars" in said


async def test_placeholders_are_filled_or_asked_for(house: House) -> None:
    rows = [{"query": "Who?", "response": "I am {{NAME}} of {{ author }}.", "tag": "en"}]
    upload = await house.upload("self.jsonl", jsonl(*rows))
    reason, said = await house.failed(await house.ingestion.ImportDataset(imported(upload=upload)))
    assert (reason, "{{NAME}}" in said) == ("PLACEHOLDERS_MISSING", True)
    order = imported(upload=upload, placeholders={"name": "Lumi", "AUTHOR": "Lamp & Co", "CITY": "Rome"})
    version = await house.version(await house.ingestion.ImportDataset(order))
    assert house.rows(version)[0]["messages"][1]["content"] == "I am Lumi of Lamp & Co."
    mixed = jsonl(*rows, {"query": "How in Jinja?", "response": "Write `{{name}}` there."})
    upload = await house.upload("mixed.jsonl", mixed)
    version = await house.version(await house.ingestion.ImportDataset(imported(upload=upload, dataset_id="mixed")))
    assert [row["reason"] for row in house.rows(version, "quarantined")] == ["placeholder_unfilled"]
    assert house.rows(version)[0]["messages"][1]["content"] == "Write `{{name}}` there."


TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


@pytest.mark.parametrize(
    ("rows", "formats"),
    [
        ([{"prompt": "q", "completion": "a", "label": 1}], ("prompt_completion", "kto")),
        ([{"messages": TURNS, "conversations": TURNS}], ("openai", "sharegpt")),
        ([{"messages": TURNS, "prompt": "q", "chosen": "a", "rejected": "b"}], ("openai", "preference")),
        ([{"messages": TURNS}] * 4 + [{"prompt": "q", "chosen": "a", "rejected": "b"}] * 4, ("openai", "preference")),
    ],
)
async def test_where_two_formats_fit_that_is_asked(
    house: House, rows: list[dict[str, Any]], formats: tuple[str, ...]
) -> None:
    upload = await house.upload("two.jsonl", jsonl(*rows))
    reason, said = await house.failed(await house.ingestion.ImportDataset(imported(upload=upload)))
    assert reason == "FORMAT_AMBIGUOUS"
    assert all(name in said for name in formats)
    order = imported(upload=upload, format=formats[1], dataset_id=f"told-{formats[1]}")
    assert (await house.version(await house.ingestion.ImportDataset(order))).row_count


async def test_a_labelled_answer_is_never_learned_as_a_good_one(house: House) -> None:
    rows: list[dict[str, Any]] = [
        {"messages": [TURNS[0], {**TURNS[1], "content": f"a{n}"}], "label": n % 2 == 0} for n in range(4)
    ]
    upload = await house.upload("labels.jsonl", jsonl(*rows))
    version = await house.version(await house.ingestion.ImportDataset(imported(upload=upload, dataset_id="labelled")))
    assert version.kind == dataset_pb2.DATASET_KIND_PREFERENCE
    assert [row["chosen"] is not None for row in house.rows(version)] == [True, False, True, False]
    order = imported(upload=upload, format="openai", dataset_id="decided")
    version = await house.version(await house.ingestion.ImportDataset(order))
    assert (version.row_count, version.quarantined_row_count) == (2, 2)
    assert {row["reason"] for row in house.rows(version, "quarantined")} == {"unwanted_answer"}


async def test_nothing_is_published_unless_that_is_allowed_and_then_can_be_read(house: House) -> None:
    rows: list[dict[str, Any]] = [{"messages": [TURNS[0]]}] * 3
    rows += [{"messages": TURNS, "images": ["a.png"]}] * 2 + [{"messages": []}]
    upload = await house.upload("nothing.jsonl", jsonl(*rows))
    reason, said = await house.failed(await house.ingestion.ImportDataset(imported(upload=upload)))
    assert reason == "DATASET_EMPTY"
    counts = [said.index(one) for one in ("3 no_assistant_turn", "2 unsupported_content", "1 wrong_type")]
    assert counts == sorted(counts)
    assert "nothing.jsonl, line 1" in said
    order = imported(upload=upload, allow_empty=True, dataset_id="nothing")
    version = await house.version(await house.ingestion.ImportDataset(order))
    assert (version.row_count, version.quarantined_row_count) == (0, 6)
    bad = await quarantined(house, version.name, page_size=10)
    assert [json.loads(row["raw"]) for row in bad] == rows
    image = await house.upload("picture.bin", b"\x89PNG\0\1")
    version = await house.version(await house.ingestion.IngestDocuments(ingest(image, allow_empty=True)))
    assert (version.row_count, version.quarantined_row_count) == (0, 1)


async def test_a_flat_table_of_messages_becomes_conversations(house: House) -> None:
    rows: list[dict[str, Any]] = [
        {"message_id": "b", "parent_id": "a", "role": "assistant", "text": "Dry.", "lang": "en"},
        {"message_id": "a", "parent_id": None, "role": "prompter", "text": "How?", "lang": "en"},
        {"message_id": "z", "parent_id": "y", "role": "assistant", "text": "Lost.", "lang": "en"},
    ]
    upload = await house.upload("flat.jsonl", jsonl(*rows))
    version = await house.version(await house.ingestion.ImportDataset(imported(upload=upload, dataset_id="flat")))
    (row,) = house.rows(version)
    assert [turn["content"] for turn in row["messages"]] == ["How?", "Dry."]
    assert (json.loads(row["meta"]), json.loads(row["origin"])["imported"]["line"]) == ({"lang": "en"}, 2)
    (bad,) = house.rows(version, "quarantined")
    assert (bad["reason"], bad["line"], json.loads(bad["raw"])["message_id"]) == ("parent_missing", 3, "z")


async def test_a_blob_of_the_store_is_imported_as_documents(house: House) -> None:
    digest = house.host.store.put_bytes(b"one paragraph\n\nanother one\n")
    version = await house.version(
        await house.ingestion.ImportDataset(imported(blob=digest, license="MIT", dataset_id="texts"))
    )
    assert [(row["text"], row["license"]) for row in house.rows(version)] == [
        ("one paragraph", "MIT"), ("another one", "MIT")
    ]  # fmt: skip


async def test_a_repeated_order_is_answered_after_its_upload_is_gone(house: House) -> None:
    upload = await house.upload("brief.txt", b"here and gone")
    asked, read = str(uuid.uuid4()), str(uuid.uuid4())
    orders = (
        (house.ingestion.IngestDocuments, ingest(upload, request_id=asked), ingest(request_id=asked, uploads=[NOBODY])),
        (
            house.ingestion.ImportDataset,
            imported(upload=upload, request_id=read, dataset_id="texts"),
            imported(upload=NOBODY, request_id=read),
        ),
    )
    for call, order, _ in orders:
        await house.version(await call(order))
    shutil.rmtree(house.host.settings.data_dir / "uploads" / "p" / upload.rsplit("/", 1)[1])
    for call, order, other in orders:
        first = await call(order)
        assert first.done
        assert first.name == (await call(order)).name
        code, reason, _ = await refused(call(other))
        assert (code, reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


async def test_validate_only_starts_nothing(house: House) -> None:
    upload = await house.upload("valid.txt", b"text")
    for answer in (
        await house.ingestion.IngestDocuments(ingest(upload, validate_only=True)),
        await house.ingestion.ImportDataset(imported(upload=upload, validate_only=True)),
    ):
        assert (answer.name, answer.done) == ("", True)
    code, reason, _ = await refused(house.ingestion.IngestDocuments(ingest(NOBODY, validate_only=True)))
    assert (code, reason) == (MISSING, "UPLOAD_MISSING")


async def test_an_upload_that_is_not_there_or_not_whole_is_refused(house: House) -> None:
    sent = [header("half.txt", b"whole", "half"), chunk(0, b"wh")]
    await refused(house.ingestion.UploadDocuments(iter(sent)))
    for name, expected in (
        (NOBODY, (MISSING, "UPLOAD_MISSING")),
        (f"{PARENT}/uploads/half", (NOT_YET, "UPLOAD_INCOMPLETE")),
    ):
        code, reason, _ = await refused(house.ingestion.IngestDocuments(ingest(name)))
        assert (code, reason) == expected
        code, reason, _ = await refused(house.ingestion.ImportDataset(imported(upload=name)))
        assert (code, reason) == expected
    code, reason, _ = await refused(house.ingestion.ImportDataset(imported(blob="sha256:" + "0" * 64)))
    assert (code, reason) == (MISSING, "BLOB_MISSING")


@pytest.mark.parametrize(
    ("order", "field"),
    [
        (ingest(NOBODY, parent="p"), "parent"),
        (ingest(NOBODY, dataset_id="No_Id"), "dataset_id"),
        (ingest(), "uploads"),
        (ingest("projects/p/files/x"), "uploads[0]"),
        (ingest("projects/other/uploads/x"), "uploads[0]"),
        (ingest(NOBODY, media_type="image/png"), "media_type"),
        (ingest(NOBODY, chunking=pb.Chunking(max_characters=15)), "chunking.max_characters"),
        (ingest(NOBODY, chunking=pb.Chunking(max_characters=16, overlap_characters=16)), "chunking.overlap_characters"),
        (ingest(NOBODY, chunking=pb.Chunking(max_characters=101, min_characters=51)), "chunking.min_characters"),
        (ingest(NOBODY, chunking=pb.Chunking(max_characters=100, min_characters=-1)), "chunking.min_characters"),
        (imported(parent="p", upload=NOBODY), "parent"),
        (imported(dataset_id="", upload=NOBODY), "dataset_id"),
        (imported(), "from"),
        (imported(upload="projects/other/uploads/x"), "upload"),
        (imported(blob="md5:0"), "blob"),
        (imported(hub_id="no-owner"), "hub_id"),
        (imported(upload=NOBODY, format="latin"), "format"),
        (imported(upload=NOBODY, container="tar"), "container"),
        (imported(upload=NOBODY, columns={"prompt": "q"}), "columns"),
        (imported(upload=NOBODY, columns={"prompt": "q", "answer": ""}), "columns[answer]"),
        (imported(upload=NOBODY, columns={"question": "q", "answer": "a"}), "columns[question]"),
        (imported(upload=NOBODY, columns={"output": "q"}, format="sharegpt"), "columns[output]"),
        (imported(upload=NOBODY, placeholders={" ": "q"}), "placeholders"),
    ],
)
async def test_a_bad_order_names_its_field(house: House, order: Any, field: str) -> None:
    is_ingest = isinstance(order, pb.IngestDocumentsRequest)
    code, _, fields = await refused(
        (house.ingestion.IngestDocuments if is_ingest else house.ingestion.ImportDataset)(order)
    )
    assert (code, fields) == (INVALID, [field])


@pytest.mark.parametrize(
    ("name", "data", "order", "reason", "text"),
    [
        ("cut.parquet", parquet(ALPACA)[:-20], {}, "FILE_UNREADABLE", "cut.parquet is no Parquet file"),
        ("tool.bin", b"\x7fELF\0\0", {}, "FORMAT_UNKNOWN", "tool.bin is binary"),
        ("odd.jsonl", b'{"colour": "red"}\n', {}, "FORMAT_UNKNOWN", "the fields colour"),
        (
            "bad.jsonl",
            b"{\n{\n",
            {},
            "DATASET_EMPTY",
            "none of the first 2 rows could be read: 2 invalid_json (bad",
        ),
        ("none.jsonl", b"\n\n", {}, "DATASET_EMPTY", ""),
        ("wrong.jsonl", b'{"colour": "blue"}\n', {"format": "text"}, "DATASET_EMPTY", "1 were quarantined"),
    ],
)
async def test_an_import_that_cannot_be_made_says_why(
    house: House, name: str, data: bytes, order: dict[str, str], reason: str, text: str
) -> None:
    upload = await house.upload(name, data)
    found, said = await house.failed(await house.ingestion.ImportDataset(imported(upload=upload, **order)))
    assert found == reason
    assert text in said


async def test_a_hub_that_does_not_answer_is_told(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    operation = await house.ingestion.ImportDataset(imported(hub_id="nobody/nothing"))
    reason, said = await house.failed(operation)
    assert reason == "HUB_UNREACHABLE"
    assert "nobody/nothing" in said


@pytest.mark.parametrize(
    ("name", "data", "reason", "text"),
    [
        ("up.tar.gz", tar({"../up.txt": b"x"}), "ARCHIVE_REFUSED", "leaves the archive's root"),
        ("cut.tar.gz", tar({"a.txt": b"x" * 5000})[:60], "ARCHIVE_REFUSED", "cannot be read"),
        ("image.bin", b"\x89PNG\0\0", "DATASET_EMPTY", "1 were quarantined"),
    ],
    ids=lambda value: value if isinstance(value, str) else "data",  # an archive holds the time it was made at
)
async def test_documents_that_cannot_be_read_say_why(
    house: House, name: str, data: bytes, reason: str, text: str
) -> None:
    found, said = await house.failed(await house.ingestion.IngestDocuments(ingest(await house.upload(name, data))))
    assert found == reason
    assert text in said
