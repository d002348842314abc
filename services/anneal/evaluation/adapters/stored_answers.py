"""Answers of an evaluation that could not ask the rest: the same evaluation, asked for again, goes on from there."""

from __future__ import annotations

from anneal.kit import names
from anneal.kit.digests import hex_of
from anneal.kit.store import BlobDamaged, BlobMissing, Store

FORMAT = "anneal-answers/1"


class StoredAnswers:
    """The answers to one set of questions in one project, in the object store."""

    def __init__(self, store: Store, project: str, fingerprint: str) -> None:
        """Name them; `fingerprint` is the digest of everything that the answers depend on."""
        self._store = store
        self._path = f"answers/{names.last_id(project)}/{hex_of(fingerprint)}"

    def read(self) -> bytes:
        """The lines of an answer log; empty where there are none, or none that are whole."""
        try:
            record = self._store.record(self._path)
            if record is None or record["format"] != FORMAT:
                return b""
            return self._store.get_bytes(record["log"])
        except (ValueError, KeyError, TypeError, BlobMissing, BlobDamaged):
            return b""

    def write(self, lines: bytes) -> None:
        """Store the lines of an answer log instead of those from before."""
        log = self._store.put_bytes(lines)
        self._store.flush([log])
        self._store.put_record(self._path, {"format": FORMAT, "log": log})

    def delete(self) -> None:
        """Forget them: a later evaluation asks everything anew, such as a newer engine."""
        self._store.delete_record(self._path)
