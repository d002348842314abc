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
            record = json.loads(line)
            logprobs = record["answer"]["reference_logprobs"]
            record["answer"]["reference_logprobs"] = None if logprobs is None else tuple(logprobs)
            self._answers[record["key"]] = Answer(**record["answer"])
            end += len(line)
        self._file.truncate(end)
        self._file.seek(0, 2)

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, key: str) -> Answer | None:
        """The answer under a key, if it has come."""
        return self._answers.get(key)

    def add(self, key: str, answer: Answer) -> None:
        """Keep an answer; it is out of this process's hands when this returns."""
        self._answers[key] = answer
        line = json.dumps({"key": key, "answer": asdict(answer)}, ensure_ascii=False, allow_nan=False) + "\n"
        self._file.write(line.encode("utf-8", errors="surrogatepass"))
        self._file.flush()

    def __enter__(self) -> AnswerLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
