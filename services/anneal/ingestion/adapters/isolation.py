"""Parsers in a process of their own: what hangs, grows or crashes there costs one document.

The process is started at the first document and stays. It is given one document at a time, and is replaced after one
that took too long, took too much memory, or ended it. Its answers are JSON, so that a parser taken over by a hostile
file has no way to run code here.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, BinaryIO

from anneal.ingestion.domain.documents import Page, ParsedDocument, Section, Span
from anneal.ingestion.domain.errors import UndecodableText, UnreadableDocument
from anneal.kit.tied import tied

_LENGTH = struct.Struct(">Q")
_START_S = 120.0
_STEP_S = 0.5
_MIB = 1 << 20
_READ = 1 << 20
_OBJECTS_PER_COLLECTION = 200_000

OnWait = Callable[[], None]


class ParserProcess:
    """Parses documents in a child of this process; `close` ends it."""

    def __init__(self, *, max_seconds: float, max_memory_bytes: int, on_wait: OnWait = lambda: None) -> None:
        """Make it; nothing is started before the first document.

        Args:
            max_seconds: longest time for one document.
            max_memory_bytes: most memory of the child.
            on_wait: called again and again while a document is parsed; what it raises ends the child.
        """
        self._max_seconds, self._max_memory_bytes = max_seconds, max_memory_bytes
        self._on_wait = on_wait
        self._child: subprocess.Popen[bytes] | None = None

    def parse(self, media_type: str, data: bytes, uri: str) -> ParsedDocument:
        """Parse one document, whose media type is in the table of parsers.

        Raises:
            UndecodableText: no encoding fits.
            UnreadableDocument: its parser refused it, took too long or too much memory, or ended.
        """
        try:
            child = self._started()
            self._send(child, media_type.encode(), uri.encode("utf-8", errors="surrogatepass"), data)
            answer = self._answer(child, self._max_seconds)
        except TimeoutError:
            self.close()
            raise UnreadableDocument(
                f"parsing took longer than {self._max_seconds:g} s; split the document, or allow more "
                "(ingestion.max_parse_seconds)",
                reason="too_slow",
            ) from None
        except (EOFError, BrokenPipeError):
            raise self._ended() from None
        except BaseException:
            self.close()
            raise
        return _decoded(answer)

    def close(self) -> None:
        """End the child."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            command = tied([sys.executable, "-m", __name__, str(self._max_memory_bytes)])
            self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            try:
                self._answer(self._child, _START_S)
            except (EOFError, TimeoutError):
                child = self._child
                self.close()
                raise RuntimeError(f"the parsers' process did not start: exit code {child.returncode}") from None
        return self._child

    def _send(self, child: subprocess.Popen[bytes], *values: bytes) -> None:
        assert child.stdin is not None
        for value in values:
            child.stdin.write(_LENGTH.pack(len(value)))
            child.stdin.write(value)
        child.stdin.flush()

    def _answer(self, child: subprocess.Popen[bytes], seconds: float) -> dict[str, Any]:
        """The child's next answer.

        Raises:
            TimeoutError: it takes longer.
            EOFError: the child ended.
        """
        assert child.stdout is not None
        until, held = time.monotonic() + seconds, bytearray()
        wanted = _LENGTH.size
        while True:
            self._on_wait()
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            if not select.select([child.stdout], [], [], min(left, _STEP_S))[0]:
                continue
            piece = os.read(child.stdout.fileno(), _READ)
            if not piece:
                raise EOFError
            held += piece
            if len(held) >= _LENGTH.size:
                wanted = _LENGTH.size + _LENGTH.unpack_from(held)[0]
            if len(held) >= wanted > _LENGTH.size:
                answer: dict[str, Any] = json.loads(held[_LENGTH.size : wanted])
                return answer

    def _ended(self) -> UnreadableDocument:
        assert self._child is not None
        code = self._child.wait()
        self.close()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return UnreadableDocument(
            f"the parser ended with {how}: the file is damaged or hostile, or needs more than "
            f"{self._max_memory_bytes // _MIB} MiB of memory (ingestion.max_parse_memory_bytes)",
            reason="parser_crashed",
        )


@contextmanager
def parser_process(*, max_seconds: float, max_memory_bytes: int, on_wait: OnWait) -> Iterator[ParserProcess]:
    """A process of parsers that ends with the block."""
    process = ParserProcess(max_seconds=max_seconds, max_memory_bytes=max_memory_bytes, on_wait=on_wait)
    try:
        yield process
    finally:
        process.close()


def _encoded(document: ParsedDocument) -> dict[str, Any]:
    value = {field.name: getattr(document, field.name) for field in fields(document)}
    for name in ("sections", "spans", "pages"):
        value[name] = [each.to_dict() for each in value[name]]
    return value


def _decoded(answer: dict[str, Any]) -> ParsedDocument:
    if "undecodable" in answer:
        raise UndecodableText(answer["undecodable"], byte_offset=answer["byte_offset"])
    if "unreadable" in answer:
        raise UnreadableDocument(answer["unreadable"], reason=answer["reason"])
    value = answer["document"]
    value["sections"] = tuple(Section(**section) for section in value["sections"])
    value["spans"] = tuple(Span(**{**span, "params": tuple(span["params"])}) for span in value["spans"])
    value["pages"] = tuple(Page(**page) for page in value["pages"])
    return ParsedDocument(**value)


def _parsed(media_type: str, data: bytes, uri: str, max_memory_bytes: int) -> dict[str, Any]:
    """One document, or why there is none, as JSON."""
    from anneal.ingestion.adapters.parsers import PARSERS

    try:
        return {"document": _encoded(PARSERS[media_type](data, uri))}
    except UndecodableText as error:
        return {"undecodable": str(error), "byte_offset": error.byte_offset}
    except UnreadableDocument as error:
        return {"unreadable": str(error), "reason": error.reason}
    except MemoryError:
        cause = f"parsing needs more than {max_memory_bytes // _MIB} MiB of memory (ingestion.max_parse_memory_bytes)"
        return {"unreadable": cause, "reason": "too_much_memory"}
    except (ValueError, RecursionError, LookupError) as error:
        return {"unreadable": f"{type(error).__name__}: {error}", "reason": "unreadable"}


def _main() -> None:
    """Answer documents until the parent closes the pipe. What libraries print goes to standard error."""
    max_memory_bytes = int(sys.argv[1])
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    from anneal.ingestion.adapters import parsers  # noqa: F401 - before the limit, so that it counts documents only

    resource.setrlimit(resource.RLIMIT_AS, (max_memory_bytes, max_memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # The trees of a document are large and all alive: looking for garbage while they grow takes a third of the time.
    gc.freeze()
    gc.set_threshold(_OBJECTS_PER_COLLECTION, 10, 10)
    _write(answers, {})
    while (media_type := _field(sys.stdin.buffer)) is not None:
        uri, data = _field(sys.stdin.buffer), _field(sys.stdin.buffer)
        if uri is None or data is None:
            return
        name = uri.decode("utf-8", errors="surrogatepass")
        _write(answers, _parsed(media_type.decode(), data, name, max_memory_bytes))


def _write(answers: BinaryIO, answer: dict[str, Any]) -> None:
    data = json.dumps(answer).encode()
    answers.write(_LENGTH.pack(len(data)) + data)
    answers.flush()


def _field(file: BinaryIO) -> bytes | None:
    head = file.read(_LENGTH.size)
    return file.read(_LENGTH.unpack(head)[0]) if len(head) == _LENGTH.size else None


if __name__ == "__main__":
    _main()
