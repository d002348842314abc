"""Documents that are zip archives (docx, epub): told apart by content, opened within limits, their XML checked.

Only members that are asked for are expanded, and only as far as the archive's own directory says they go; what that
adds up to is bounded before the first byte is.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from lxml import etree

from anneal.ingestion.adapters.libraries import reading_with
from anneal.ingestion.domain.errors import UnreadableDocument
from anneal.ingestion.domain.limits import DocumentLimits

DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
EPUB = "application/epub+zip"
OTHER = "application/octet-stream"
"""A package of a kind that no parser reads, such as a spreadsheet."""
OLE_MARK = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
ZIP_MARK = b"PK\x03\x04"

_LIMITS = DocumentLimits()
_SUFFIXES = {".docx": DOCX, ".docm": DOCX, ".dotx": DOCX, ".epub": EPUB}
_BROKEN = (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, NotImplementedError, OSError)
_OPEN_DOCUMENT = b"application/vnd.oasis.opendocument"


def package_type(file: BinaryIO, name: str) -> str | None:
    """Return the media type of a document that is a zip archive; None where it is an archive of files.

    One whose directory is damaged is what its name says.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            names = set(archive.namelist())
            mark = archive.read("mimetype")[:100].strip() if "mimetype" in names and _is_small(archive) else b""
    except (*_BROKEN, ValueError, LookupError, RuntimeError):
        return _SUFFIXES.get(Path(name).suffix.lower())
    if mark == EPUB.encode() or "META-INF/container.xml" in names:
        return EPUB
    if mark.startswith(_OPEN_DOCUMENT):
        return OTHER
    if "[Content_Types].xml" in names:
        return DOCX if any(each.startswith("word/") for each in names) else OTHER
    return None


def is_document(path: Path, name: str) -> bool:
    """Whether a zip archive is one document rather than an archive of files."""
    with path.open("rb") as file:
        if file.read(len(ZIP_MARK)) != ZIP_MARK:
            return False
        return package_type(file, name) is not None


def _is_small(archive: zipfile.ZipFile) -> bool:
    return archive.getinfo("mimetype").file_size < 1000


class Package:
    """An open document; members are read whole."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self.names = frozenset(archive.namelist())

    def read(self, name: str) -> bytes:
        """Return a member.

        Raises:
            UnreadableDocument: it is missing or damaged.
        """
        try:
            return self._archive.read(name)
        except KeyError:
            raise UnreadableDocument(f"the file lacks its member {name[:200]!r}") from None
        except (*_BROKEN, RuntimeError) as error:
            raise UnreadableDocument(f"the member {name[:200]!r} is damaged: {error}") from error

    def xml(self, name: str) -> etree._Element:
        """Return a member as a tree without entities.

        Raises:
            UnreadableDocument: it is missing, damaged, no XML, declares entities, or is nested too deep.
        """
        return checked_xml(self.read(name), name)


@contextmanager
def opened(data: bytes) -> Iterator[Package]:
    """Open a document within limits.

    Raises:
        UnreadableDocument: it is damaged, encrypted, or expands to more than it may.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (*_BROKEN, ValueError) as error:
        raise UnreadableDocument(f"the file is damaged: {error}") from error
    with archive:
        _check(archive)
        yield Package(archive)


def _check(archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    if len(members) > _LIMITS.max_members:
        raise _bomb(f"it has {len(members)} members, more than {_LIMITS.max_members}")
    total = sum(member.file_size for member in members)
    if total > _LIMITS.max_expanded_bytes:
        raise _bomb(f"it expands to {total} bytes, more than {_LIMITS.max_expanded_bytes}")
    for member in members:
        if member.flag_bits & 1:
            raise UnreadableDocument(
                f"its member {member.filename[:200]!r} is encrypted; save it without a password", reason="encrypted"
            )
        expands = member.file_size > _LIMITS.max_ratio * max(member.compress_size, 1)
        if expands and member.file_size > _LIMITS.ratio_slack_bytes:
            raise _bomb(f"its member {member.filename[:200]!r} expands more than {_LIMITS.max_ratio:g} times")


def _bomb(cause: str) -> UnreadableDocument:
    return UnreadableDocument(f"the file is no honest document: {cause}", reason="expands_too_much")


def checked_xml(data: bytes, name: str) -> etree._Element:
    """Parse XML without entities, external files and deep nesting.

    Raises:
        UnreadableDocument: it is no XML, declares entities, or is nested too deep.
    """
    with reading_with(f"lxml: {name[:200]}", etree.LxmlError):
        parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True)
        root = etree.fromstring(data, parser)
    check_entities(root, name)
    return root


def check_entities(root: etree._Element, name: str) -> None:
    """Refuse a document type that declares entities: nothing honest needs one, and they can expand without end.

    Raises:
        UnreadableDocument: it declares some, or its elements are nested deeper than the limit.
    """
    declared = root.getroottree().docinfo.internalDTD
    if declared is not None and any(True for _ in declared.iterentities()):
        raise UnreadableDocument(f"{name[:200]!r} declares XML entities, which are not read", reason="hostile_xml")
    depth = 0
    for event, _ in etree.iterwalk(root, events=("start", "end")):
        depth += 1 if event == "start" else -1
        if depth > _LIMITS.max_depth:
            raise UnreadableDocument(
                f"{name[:200]!r} is nested deeper than {_LIMITS.max_depth} elements", reason="hostile_xml"
            )
