"""The object store: everything large, written once, named by digest, never overwritten.

Layout: `blobs/<first 2 hex digits>/<64 hex digits>` holds the bytes with that SHA-256. A folder is stored as a *tree*:
a JSON blob that lists its files with digest and size; the tree's digest is the digest of that JSON. `records/...`
holds what is named otherwise: the registry's self-descriptions in `records/<kind>/...`, and the work of operations that
did not succeed, weights in `records/trainings/...` and answers in `records/answers/...`; `probes/...`, for a moment,
what a process writes to see that it can.

Whatever the store fails with is raised as one of the refusals in `store_faults`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import mmap
import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, GenericError, NotFoundError
from obstore.store import LocalStore, from_url

from anneal.kit.digests import canonical_json, digest_of_bytes, digest_of_file, hex_of
from anneal.kit.errors import Invalid, Missing, NotYet
from anneal.kit.settings import Misconfigured
from anneal.kit.store_faults import StoreFault, StoreFull, StoreThrottled, is_silent, store_fault
from anneal.kit.store_options import checked_options

TREE_FORMAT = "anneal-tree/1"
TIMEOUTS = {"timeout": "24h", "read_timeout": "30s"}
"""The library ends every request after 30 s by default, also one that is still sending a large blob: bound the silence
between two reads instead."""


class BlobMissing(Missing):
    """The store has no bytes with that digest."""

    reason = "BLOB_MISSING"


class BlobDamaged(NotYet):
    """The stored bytes do not have the digest they are named by."""

    reason = "BLOB_DAMAGED"


def tree_bytes(files: Mapping[str, Mapping[str, Any]]) -> bytes:
    """The blob that lists a tree's files, path -> `{digest, size_bytes}`; its digest is the tree's."""
    return canonical_json({"format": TREE_FORMAT, "files": files})


def safe_relative_path(path: str, field: str = "path") -> str:
    """The path itself, when it stays below its root.

    Raises:
        Invalid: it is empty, absolute, holds `..`, a backslash, a NUL or an empty segment.
    """
    parts = path.split("/")
    if not path or "\\" in path or "\0" in path or any(part in ("", ".", "..") for part in parts) or len(path) > 1024:
        raise Invalid.field(field, f"{path[:200]!r} is not a relative path below its root")
    return path


class Store:
    """Blobs and trees in a local folder or in S3, GCS or Azure, with a local cache of trees.

    Every write is durable when it returns and is idempotent: the same bytes have the same name.
    """

    def __init__(
        self,
        url: str,
        cache: Path,
        options: Mapping[str, Any] | None = None,
        *,
        on_fault: Callable[[StoreFault], None] = lambda _: None,
    ) -> None:
        """Open a store.

        Args:
            url: a folder, or `s3://bucket/prefix`, `gs://...`, `az://...`.
            cache: local folder for materialized trees.
            options: configuration of the object store, such as `endpoint`; a folder has none.
            on_fault: called with each refusal of the store, from any thread.

        Raises:
            Misconfigured: the URL or an option means nothing.
        """
        self.url = url
        self.cache = cache
        self._options = dict(options or {})
        self._on_fault = on_fault
        self._probe_key = f"probes/{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        if "://" in url and not url.startswith("file://"):
            self._backend: Any = _open(url, checked_options(url, self._options))
        else:
            if self._options:
                named = ", ".join(sorted(self._options))
                raise Misconfigured(f"ANNEAL_STORE__OPTIONS: {url} is a folder and has no options: leave out {named}")
            root = Path(url.removeprefix("file://")).absolute()
            _make_folder(root, "ANNEAL_STORE__URL")
            self._backend = LocalStore(prefix=root, mkdir=True)
        _make_folder(cache, "ANNEAL_DATA_DIR")

    def __reduce__(self) -> tuple[type[Store], tuple[str, Path, Mapping[str, Any]]]:
        return Store, (self.url, self.cache, self._options)

    @staticmethod
    def _key(digest: str) -> str:
        name = hex_of(digest)
        return f"blobs/{name[:2]}/{name}"

    # -- blobs ---------------------------------------------------------------------------------------------------

    def put_bytes(self, data: bytes | memoryview) -> str:
        """Store bytes; returns their digest."""
        digest = digest_of_bytes(data)
        self._create(self._key(digest), data)
        return digest

    def put_file(self, path: Path) -> str:
        """Store a file by streaming it; returns its digest."""
        digest = digest_of_file(path)
        self._create(self._key(digest), path)
        return digest

    def _create(self, key: str, data: bytes | memoryview | Path) -> None:
        try:
            if not isinstance(data, Path):
                self._put(key, data, mode="create")
            elif not self._has(key):
                # In parts: with `create` the library reads the whole file into memory. The name is the content.
                self._put(key, data)
        except AlreadyExistsError:
            return

    def _put(self, key: str, data: bytes | memoryview | Path, **options: Any) -> None:
        with self._asking():
            try:
                obstore.put(self._backend, key, data, **options)
            except GenericError as error:
                if f"(os error {errno.ENOSPC})" in str(error):  # obstore keeps no number
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.url) from error
                raise

    def _get(self, key: str) -> Any:
        with self._asking():
            return obstore.get(self._backend, key)

    def _has(self, key: str) -> bool:
        with self._asking():
            try:
                obstore.head(self._backend, key)
            except (FileNotFoundError, NotFoundError):
                return False
            except BaseError as error:
                if not is_silent(error):
                    raise
                obstore.get(self._backend, key)  # whose answer, other than that to HEAD, names the cause
        return True

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Turn what the library raises into a refusal; an object that is not there and one that is are passed on."""
        try:
            yield
        except BaseException as error:  # obstore panics as no Exception
            fault = store_fault(error, self.url)
            if fault is None:
                raise
            self._on_fault(fault)
            raise fault from error

    def probe(self) -> None:
        """Write, list, read and delete an object that is this process's own.

        A store that is full, or asks for fewer requests, passes: it is there, and what it has can be read.

        Raises:
            StoreFault: it does not answer, or does not allow one of them.
        """
        key = self._probe_key
        try:
            self._put(key, b"anneal")
            with self._asking():
                next(iter(obstore.list(self._backend, prefix="probes")), None)
            self._get(key).bytes()
            with self._asking():
                obstore.delete(self._backend, key)
        except (StoreFull, StoreThrottled):
            return
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise

    def exists(self, digest: str) -> bool:
        """Whether the bytes with this digest are there."""
        key = self._key(digest)
        if self._has(key):
            return True
        try:
            self._get(key)  # its answer tells a missing object from a missing bucket, which that to HEAD does not
        except (FileNotFoundError, NotFoundError):
            return False
        return True

    def get_bytes(self, digest: str) -> bytes:
        """The bytes with this digest, verified.

        Raises:
            BlobMissing: there are none.
            BlobDamaged: the stored bytes have another digest.
        """
        try:
            with self._asking():
                data = bytes(obstore.get(self._backend, self._key(digest)).bytes())
        except (FileNotFoundError, NotFoundError):
            raise BlobMissing(f"the store has nothing under {digest}", digest=digest) from None
        if digest_of_bytes(data) != digest:
            raise BlobDamaged(f"the bytes stored under {digest} have another digest", digest=digest)
        return data

    def map_bytes(self, digest: str, *, verified: bool = False) -> mmap.mmap | bytes:
        """The bytes with this digest, verified; mapped, not read, where the store is a folder.

        Args:
            digest: of the bytes.
            verified: this process has verified them before, and mapping them need not do it again.

        Raises:
            BlobMissing: there are none.
            BlobDamaged: the stored bytes have another digest.
        """
        if not isinstance(self._backend, LocalStore):
            return self.get_bytes(digest)
        path = Path(self.url.removeprefix("file://")) / self._key(digest)
        try:
            with path.open("rb") as file:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError):  # an empty file cannot be mapped; what else is wrong, reading it says
            return self.get_bytes(digest)
        if not verified and digest_of_bytes(data) != digest:
            raise BlobDamaged(f"the bytes stored under {digest} have another digest", digest=digest)
        return data

    def stream(self, digest: str) -> Iterator[bytes]:
        """The bytes with this digest in pieces, not verified.

        Raises:
            BlobMissing: there are none.
        """
        try:
            result = self._get(self._key(digest))
        except (FileNotFoundError, NotFoundError):
            raise BlobMissing(f"the store has nothing under {digest}", digest=digest) from None
        pieces = iter(result.stream())
        while True:
            with self._asking():
                piece = next(pieces, None)
            if piece is None:
                return
            yield bytes(piece)

    def download(self, digest: str, target: Path) -> None:
        """Write the bytes with this digest to a file, verified, whole or not at all.

        Raises:
            BlobMissing: there are none.
            BlobDamaged: the stored bytes have another digest.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=target.parent, prefix=".partial-")
        state = hashlib.sha256()
        try:
            with os.fdopen(handle, "wb") as file:
                for piece in self.stream(digest):
                    state.update(piece)
                    file.write(piece)
            if "sha256:" + state.hexdigest() != digest:
                raise BlobDamaged(f"the bytes stored under {digest} have another digest", digest=digest)
            Path(partial).replace(target)
        finally:
            Path(partial).unlink(missing_ok=True)

    # -- trees ---------------------------------------------------------------------------------------------------

    def put_tree(self, folder: Path) -> str:
        """Store a folder's files, links not followed; returns the tree's digest."""
        files = {}
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                name = path.relative_to(folder).as_posix()
                files[name] = {"digest": self.put_file(path), "size_bytes": path.stat().st_size}
        return self.put_bytes(tree_bytes(files))

    def extend_tree(self, digest: str, files: Mapping[str, bytes]) -> str:
        """Store a tree that has these files beside those of another one; returns its digest.

        Raises:
            BlobMissing: there is no such tree.
        """
        listed = self.tree(digest)
        for name, data in files.items():
            listed[name] = {"digest": self.put_bytes(data), "size_bytes": len(data)}
        return self.put_bytes(tree_bytes(listed))

    def tree(self, digest: str) -> dict[str, dict[str, Any]]:
        """The files of a tree: path -> `{digest, size_bytes}`.

        Raises:
            BlobMissing: there is no such tree.
            Invalid: the blob is not a tree.
        """
        try:
            value = json.loads(self.get_bytes(digest))
            if value["format"] != TREE_FORMAT:
                raise KeyError("format")
            return dict(value["files"])
        except (ValueError, KeyError, TypeError):
            raise Invalid.field("digest", f"{digest} is not a tree of files") from None

    def materialize(self, digest: str) -> Path:
        """A verified local copy of a tree, kept in the cache; safe to call from several processes at once.

        Raises:
            BlobMissing: the tree or one of its files is not there.
            BlobDamaged: a file has another digest than the tree says.
        """
        target = self.cache / "trees" / hex_of(digest)
        if target.is_dir():
            return target
        files = self.tree(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=".partial-"))
        try:
            for name, entry in files.items():
                self.download(entry["digest"], partial / PurePosixPath(safe_relative_path(name)))
            try:
                partial.replace(target)
            except OSError:
                if not target.is_dir():  # another process was faster; anything else is real
                    raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return target

    # -- whole and durable ---------------------------------------------------------------------------------------

    def is_whole(self, digest: str) -> bool:
        """Read a blob and say whether its bytes have its digest.

        A damaged one is deleted: nobody can use it, and the right bytes can be stored under its name again.
        """
        state = hashlib.sha256()
        try:
            for piece in self.stream(digest):
                state.update(piece)
        except BlobMissing:
            return False
        if "sha256:" + state.hexdigest() == digest:
            return True
        with self._asking():
            obstore.delete(self._backend, self._key(digest))
        return False

    def is_whole_tree(self, digest: str) -> bool:
        """`is_whole` of a tree and of every file in it."""
        if not self.is_whole(digest):
            return False
        return all([self.is_whole(entry["digest"]) for entry in self.tree(digest).values()])

    def flush(self, digests: Iterable[str]) -> None:
        """Write blobs to the disk, where the store is a folder: a power cut keeps what was flushed.

        Raises:
            OSError: one of them is not there, or the disk fails.
        """
        for digest in digests:
            self._flush(self._key(digest))

    def _flush(self, key: str) -> None:
        if not isinstance(self._backend, LocalStore):
            return
        path = Path(self.url.removeprefix("file://")).absolute()
        for place in (path / key, *(path / parent for parent in PurePosixPath(key).parents)):
            handle = os.open(place, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    # -- records -------------------------------------------------------------------------------------------------

    def put_record(self, path: str, value: Any) -> None:
        """Write a self-description under `records/<path>.json`; the only objects that may be replaced."""
        key = self._record_key(path)
        self._put(key, canonical_json(value))
        self._flush(key)

    @staticmethod
    def _record_key(path: str) -> str:
        return f"records/{safe_relative_path(path)}.json"

    def record(self, path: str) -> Any:
        """The record under a path; None where there is none.

        Raises:
            ValueError: it is not JSON.
        """
        with self._asking():
            try:
                data = bytes(obstore.get(self._backend, self._record_key(path)).bytes())
            except (FileNotFoundError, NotFoundError):
                return None
        return json.loads(data)

    def delete_record(self, path: str) -> None:
        """Delete a record; one that is not there stays so."""
        with self._asking(), contextlib.suppress(FileNotFoundError, NotFoundError):
            obstore.delete(self._backend, self._record_key(path))

    def records(self, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """Every record under a prefix: path without `.json`, value."""
        start = f"records/{prefix}".rstrip("/")
        batches = iter(obstore.list(self._backend, prefix=start))
        while True:
            with self._asking():
                batch = next(batches, None)
            if batch is None:
                return
            for entry in batch:
                path = str(entry["path"])
                with self._asking():
                    value = json.loads(bytes(obstore.get(self._backend, path).bytes()))
                yield path.removeprefix("records/").removesuffix(".json"), value


def _open(url: str, options: dict[str, Any]) -> Any:
    try:
        return from_url(url, **{**options, "client_options": {**TIMEOUTS, **options.get("client_options", {})}})
    except BaseException as error:  # obstore panics, as no Exception, at what it does not expect
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        named = ", ".join(sorted(options)) or "none"
        lines = str(error).strip().splitlines()
        why = lines[0][:300] if lines else type(error).__name__
        raise Misconfigured(f"ANNEAL_STORE: {url} cannot be opened with the options {named}: {why}") from None


def _make_folder(folder: Path, setting: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Misconfigured(f"{setting}: cannot make the folder {folder}: {error.strerror}") from None
