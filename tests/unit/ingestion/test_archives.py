"""Archives give their files in order, and are refused before they can hurt."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from anneal.ingestion.adapters.archives import is_archive, members
from anneal.ingestion.domain.errors import ArchiveRefused
from anneal.ingestion.domain.limits import ArchiveLimits

FILES = [("b/two.txt", b"two"), ("a.txt", b"one" * 1000), ("empty.txt", b"")]


def tar(files: list[tuple[str, bytes]], mode: str = "w", *more: tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info in more:
            archive.addfile(info)
    return out.getvalue()


def zipped(files: list[tuple[str, bytes]]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return out.getvalue()


def read(folder: Path, data: bytes, limits: ArchiveLimits | None = None) -> list[tuple[str, bytes]]:
    path = folder / "archive"
    path.write_bytes(data)
    assert is_archive(path)
    return list(members(path, limits or ArchiveLimits()))


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tar.xz", "tar.bz2", "zip", "two gzip streams"])
def test_files_come_in_the_archives_order(tmp_path: Path, kind: str) -> None:
    plain = tar(FILES)
    data = {
        "tar": plain,
        "tar.gz": gzip.compress(plain),
        "tar.xz": lzma.compress(plain),
        "tar.bz2": bz2.compress(plain),
        "zip": zipped(FILES),
        "two gzip streams": gzip.compress(plain[:700]) + gzip.compress(plain[700:]),
    }[kind]
    assert read(tmp_path, data) == FILES


def test_a_plain_file_is_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "plain"
    path.write_bytes(b"plain text, PK or not")
    assert not is_archive(path)


@pytest.mark.parametrize("make", [tar, zipped])
@pytest.mark.parametrize("name", ["../up.txt", "/root.txt", "a/../../b", "a//b", "a/./b", "a\\..\\b"])
def test_a_name_that_leaves_the_root_is_refused(tmp_path: Path, make: object, name: str) -> None:
    assert callable(make)
    with pytest.raises(ArchiveRefused, match="leaves the archive's root"):
        read(tmp_path, make([(name, b"x")]))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("link")
    info.type, info.linkname = kind, "/etc/passwd"
    with pytest.raises(ArchiveRefused, match="'link' is a link or a device"):
        read(tmp_path, tar([], "w", info))


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(ArchiveRefused, match="'link' is a link"):
        read(tmp_path, out.getvalue())


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    data = bytearray(zipped([("a.txt", b"x")]))
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + at] |= 1
    with pytest.raises(ArchiveRefused, match="encrypted"):
        read(tmp_path, bytes(data))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("make", [tar, zipped])
def test_a_doubled_name_is_refused(tmp_path: Path, make: object) -> None:
    assert callable(make)
    with pytest.raises(ArchiveRefused, match="twice"):
        read(tmp_path, make([("a.txt", b"1"), ("a.txt", b"2")]))


@pytest.mark.parametrize("make", [tar, zipped])
@pytest.mark.parametrize(
    ("limits", "text"),
    [
        (ArchiveLimits(max_members=2), "more than 2 members"),
        (ArchiveLimits(max_member_bytes=2999), "larger than 2999 bytes"),
        (ArchiveLimits(max_depth=0), "deeper than 0 folders"),
        (ArchiveLimits(max_total_bytes=3000), "expands to more than 3000 bytes"),
    ],
)
def test_each_limit_is_kept(tmp_path: Path, make: object, limits: ArchiveLimits, text: str) -> None:
    assert callable(make)
    with pytest.raises(ArchiveRefused, match=text):
        read(tmp_path, make(FILES), limits)


@pytest.mark.parametrize("make", [tar, zipped])
def test_what_is_just_within_the_limits_is_read(tmp_path: Path, make: object) -> None:
    assert callable(make)
    limits = ArchiveLimits(max_members=3, max_member_bytes=3000, max_depth=1, max_total_bytes=20_480)
    assert read(tmp_path, make(FILES), limits) == FILES


@pytest.mark.parametrize("kind", ["gzip", "xz", "zip"])
def test_a_bomb_is_stopped_by_its_ratio(tmp_path: Path, kind: str) -> None:
    files = [(f"{index}.txt", b"\0" * 1_000_000) for index in range(3)]
    data = {"gzip": gzip.compress(tar(files)), "xz": lzma.compress(tar(files)), "zip": zipped(files)}[kind]
    with pytest.raises(ArchiveRefused, match="expands more than 50 times"):
        read(tmp_path, data, ArchiveLimits(max_ratio=50, ratio_slack_bytes=1_500_000))
    assert read(tmp_path, data, ArchiveLimits(max_ratio=50, ratio_slack_bytes=1 << 30)) == files


@pytest.mark.parametrize("kind", ["tar", "gzip", "xz", "zip"])
def test_a_cut_archive_is_refused(tmp_path: Path, kind: str) -> None:
    plain = tar(FILES)
    data = {"tar": plain[:2000], "gzip": gzip.compress(plain), "xz": lzma.compress(plain), "zip": zipped(FILES)}[kind]
    with pytest.raises(ArchiveRefused):
        read(tmp_path, data if kind == "tar" else data[: len(data) // 2])


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    data = bytearray(zipped([("a.txt", bytes(range(256)) * 20)]))
    data[60] ^= 0xFF
    with pytest.raises(ArchiveRefused, match="cannot be read"):
        read(tmp_path, bytes(data))
