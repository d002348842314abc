"""Answers as they come, appended to a file that survives the job's process: what was asked is not asked again."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

from anneal.evaluation.domain.answers import Answer


class AnswerLog:
    """A file of JSON lines, one answer each; opened for one process at a time.

    A process that was killed in the middle of a line leaves it torn: it is cut off, and its question asked again.
    """

    def __init__(self, path: Path) -> None:
        self._answers: dict[str, Answer] = {}
        self._file = path.open("a+b")
        self._load()

    def _load(self) -> None:
        self._file.seek(0)
        end = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            key, answer = _decode(line)
            self._answers[key] = answer
            end += len(line)
        self._file.truncate(end)
        self._file.seek(0, 2)

    @property
    def lines(self) -> bytes:
        """Every answer, as another log takes it in."""
        return b"".join(_encode(key, answer) for key, answer in self._answers.items())

    def take_in(self, lines: bytes) -> int:
        """Add the answers of another log that are not here; returns how many there were."""
        taken = 0
        for key, answer in map(_decode, lines.splitlines()):
            if key not in self._answers:
                self.add(key, answer)
                taken += 1
        return taken

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, key: str) -> Answer | None:
        """The answer under a key, if it has come."""
        return self._answers.get(key)

    def add(self, key: str, answer: Answer) -> None:
        """Keep an answer; it is out of this process's hands when this returns."""
        self._answers[key] = answer
        self._file.write(_encode(key, answer))
        self._file.flush()

    def __enter__(self) -> AnswerLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _encode(key: str, answer: Answer) -> bytes:
    line = json.dumps({"key": key, "answer": asdict(answer)}, ensure_ascii=False, allow_nan=False) + "\n"
    return line.encode("utf-8", errors="surrogatepass")


def _decode(line: bytes) -> tuple[str, Answer]:
    record = json.loads(line.decode("utf-8", errors="surrogatepass"))
    logprobs = record["answer"]["reference_logprobs"]
    record["answer"]["reference_logprobs"] = None if logprobs is None else tuple(logprobs)
    return record["key"], Answer(**record["answer"])
