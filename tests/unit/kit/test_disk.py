"""Which failures a full disk has caused, and what a person reads then."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

import pytest
from obstore.exceptions import GenericError

from anneal.kit import disk
from anneal.kit.disk import full_disk
from anneal.kit.store import Store


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    error.__cause__ = cause
    return error


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "error",
    [FULL, OSError(errno.EDQUOT, "quota"), raised(RuntimeError("a library"), FULL), ExceptionGroup("both", [FULL])],
)
def test_a_full_disk_is_found_behind_what_it_caused(error: BaseException, tmp_path: Path) -> None:
    refusal = full_disk(error, tmp_path)
    assert refusal is not None
    assert refusal.reason == "DISK_FULL"
    assert refusal.facts["path"] == str(tmp_path)


def test_sqlite_says_it_in_its_own_way(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "small.db")
    db.execute("PRAGMA max_page_count=2")
    db.execute("CREATE TABLE t (x)")
    with pytest.raises(sqlite3.OperationalError) as full:
        db.execute("INSERT INTO t VALUES (zeroblob(100000))")
    db.close()
    assert full_disk(full.value, tmp_path) is not None


def test_other_failures_are_none(tmp_path: Path) -> None:
    for error in (RuntimeError("No space left on device"), OSError(errno.EACCES, "denied")):
        assert full_disk(error, tmp_path) is None


def test_any_failure_on_a_disk_without_room_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "NO_ROOM_BYTES", 1 << 62)
    refusal = full_disk(RuntimeError("unexpected pos 576 vs 534"), tmp_path / "not" / "yet")
    assert refusal is not None
    assert str(tmp_path) in str(refusal)


def test_the_store_says_a_full_disk_as_the_system_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path / "store"), tmp_path / "cache")

    def full(*_: object, **__: object) -> None:
        # What obstore 0.12 raised on a full tmpfs.
        raise GenericError("Unable to copy data to file: No space left on device (os error 28)\n\nDebug source: ...")

    monkeypatch.setattr("obstore.put", full)
    with pytest.raises(OSError, match="No space left") as error:
        store.put_bytes(b"x")
    assert error.value.errno == errno.ENOSPC
