"""The work: docstrings of every Python file installed beside this interpreter, as datasets and as a Parquet file."""

from __future__ import annotations

import ast
import json
import os
import string
import sysconfig
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from anneal.kit.datasets import DatasetReader, DatasetWriter
from anneal.kit.records import conversation, document, document_id, to_table
from anneal.kit.store import Store

CHUNK = 5_000
THRESHOLD = 0.8
NGRAM = 5
KEYWORDS = ("deprecated", "lorem ipsum", "todo", "fixme", "as an ai language model", "click here", "subscribe now")
MIN_WORDS, MAX_WORDS = 3, 2_000


@dataclass(frozen=True, slots=True)
class Made:
    """A file of rows and the same rows as a dataset.

    Attributes:
        parquet: file with the columns `n` and `text`.
        digest: manifest of the documents.
        asked: manifest of the same texts as answers of conversations.
        rows: how many.
        size_bytes: of the texts.
    """

    parquet: str
    digest: str
    asked: str
    rows: int
    size_bytes: int


def store_of(folder: Path) -> Store:
    """The store of the benchmark."""
    return Store(str(folder / "store"), folder / "cache")


def rooms(folder: Path) -> Path:
    """Where runs leave their files until the benchmark is over."""
    return folder / "rooms"


@contextmanager
def room(folder: Path) -> Iterator[Path]:
    """A folder for a run, whose files are emptied after it but not removed.

    ext4 does not use a removed file's place again for some minutes, and looks past all such whenever a file is made: so
    what one run removed would slow the next.
    """
    rooms(folder).mkdir(exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=rooms(folder)))
    try:
        yield made
    finally:
        for path in made.rglob("*"):
            if path.is_file():
                os.truncate(path, 0)


def docstrings() -> Iterator[tuple[str, str]]:
    """File and docstring of every module, class and function, in a fixed order."""
    root = Path(sysconfig.get_path("purelib"))
    for folder in (root, Path(sysconfig.get_path("stdlib"))):
        for file in sorted(folder.rglob("*.py")):
            if folder != root and "site-packages" in file.parts:
                continue
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    tree = ast.parse(file.read_bytes())
            except (SyntaxError, ValueError, RecursionError, OSError):
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    text = ast.get_docstring(node)
                    if text:
                        yield str(file.relative_to(folder)), text.encode("utf-8", "replace").decode()


def prepared(folder: Path, name: str, rows: Iterable[tuple[str, str]]) -> Made:
    """Rows written once below a folder; found there the next time."""
    record = folder / f"{name}.json"
    if not record.exists():
        made = _write(folder, name, iter(rows))
        record.write_text(json.dumps(asdict(made)), encoding="utf-8")
    return Made(**json.loads(record.read_text(encoding="utf-8")))


def _write(folder: Path, name: str, rows: Iterator[tuple[str, str]]) -> Made:
    store = store_of(folder)
    documents, conversations = DatasetWriter(store, "document"), DatasetWriter(store, "conversation")
    path = folder / f"{name}.parquet"
    found, size = 0, 0
    schema = pa.schema([("n", pa.string()), ("text", pa.string())])
    with pq.ParquetWriter(path, schema, compression="zstd") as parquet:
        while chunk := list(islice(rows, CHUNK)):
            texts = [text for _, text in chunk]
            numbers = [str(found + n) for n in range(len(chunk))]
            parquet.write_table(pa.table({"n": numbers, "text": texts}, schema))
            documents.add(to_table("document", [document(text, uri=file) for file, text in chunk]))
            conversations.add(to_table("conversation", [_asked(file, text) for file, text in chunk]))
            found += len(chunk)
            size += sum(len(text.encode()) for text in texts)
            print(f"  {name}: {found:,} rows", end="\r", flush=True)
    print()
    asked = conversations.finish(rows_in=found).digest
    return Made(str(path), documents.finish(rows_in=found).digest, asked, found, size)


def _asked(file: str, text: str) -> dict[str, object]:
    turns = [{"role": "user", "content": f"What does {file} say?"}, {"role": "assistant", "content": text}]
    return conversation(turns, source=file)


def grown(folder: Path, name: str, made: Made, times: int) -> Made:
    """The rows again and again, each time in another alphabet: what repeats does so within its own time only."""
    record = folder / f"{name}.json"
    if record.exists():
        return Made(**json.loads(record.read_text(encoding="utf-8")))
    writer = DatasetWriter(store_of(folder), "document")
    found, size = 0, 0
    for time in range(times):
        for batch in DatasetReader(store_of(folder), made.digest).batches():
            named = zip(batch.column("uri").to_pylist(), batch.column("text").to_pylist(), strict=True)
            texts = [text for _, text in in_alphabet(named, time)]
            columns = {name: batch.column(name) for name in batch.schema.names}
            columns |= {"text": pa.array(texts), "id": pa.array([document_id(text) for text in texts])}
            writer.add(pa.table(columns))
            found += len(texts)
            size += sum(len(text.encode()) for text in texts)
        print(f"  {name}: {found:,} rows", end="\r", flush=True)
    print()
    grown = Made("", writer.finish(rows_in=found).digest, "", found, size)
    record.write_text(json.dumps(asdict(grown)), encoding="utf-8")
    return grown


def in_alphabet(rows: Iterable[tuple[str, str]], number: int) -> Iterator[tuple[str, str]]:
    """Files and texts in another alphabet: one of 26, in which a to z stand that many places on."""
    small, large = string.ascii_lowercase, string.ascii_uppercase
    other = str.maketrans(small + large, "".join(case[number:] + case[:number] for case in (small, large)))
    for file, text in rows:
        yield file, text.translate(other)


def held_out(folder: Path, made: Made, count: int) -> Path:
    """Texts that stand for benchmark items: of every n-th row the last words, as many texts as asked for."""
    path = folder / f"items-{count}.parquet"
    if not path.exists():
        texts = pq.read_table(made.parquet, columns=["text"]).column("text").to_pylist()
        step = max(len(texts) // count, 1)
        items = [" ".join(text.split()[-40:]) + f" item number {n}" for n, text in enumerate(texts[::step][:count])]
        pq.write_table(pa.table({"text": items}), path)
    return path
