"""A base model in an object store: which URIs may be read, and reading them with the credentials of the environment.

Nothing that a store answers is quoted: its errors may hold keys, signatures and query strings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, PreconditionError, UnauthenticatedError
from obstore.store import from_url

from anneal.kit.digests import digest_of
from anneal.kit.errors import Invalid
from anneal.training.domain.model_files import URI_SCHEMES, choose_files, is_gguf
from anneal.training.errors import (
    ModelUriChanged,
    ModelUriDenied,
    ModelUriMissing,
    ModelUriNotAllowed,
    ModelUriUnreachable,
)

READ_BYTES = 8 << 20
"""One request's share of an object, so that no request takes longer than the store's library waits (30 s)."""
RETRIES: Any = {
    "max_retries": 4,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {"init_backoff": timedelta(milliseconds=200), "max_backoff": timedelta(seconds=5), "base": 2},
}
_URI = re.compile(rf"({'|'.join(URI_SCHEMES)})([A-Za-z0-9][A-Za-z0-9._-]{{1,254}})((?:/[^/?#%\\\x00-\x1f]+)*)/?")
_ALIASES = {"s3a": "s3", "adl": "az", "azure": "az", "abfs": "az", "abfss": "az"}
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,64})</Code>")


@dataclass(frozen=True, slots=True)
class ModelObject:
    """An object that belongs to the model."""

    name: str
    size_bytes: int
    etag: str


def check_uri(uri: str, allowed: Sequence[str], store_url: str) -> str:
    """The URI without a slash at its end.

    Args:
        uri: what a caller names.
        allowed: prefixes of URIs that may be read; `s3://` is every bucket.
        store_url: the system's own store, which is never read this way: its objects belong to all projects.

    Raises:
        Invalid: it is no URI of an object store.
        ModelUriNotAllowed: it is below none of the prefixes, or overlaps the system's own store.
    """
    matched = _URI.fullmatch(uri)
    if matched is None or any(segment in (".", "..") for segment in matched[3].split("/")):
        wanted = ", ".join(f"{scheme}bucket/prefix" for scheme in URI_SCHEMES)
        # A wrong one may hold a key: it is not repeated.
        raise Invalid.field("uri", f"is none of {wanted}, without user, query, `%`, `.` and `..`")
    whole = uri.rstrip("/")
    if not any(_is_below(whole, prefix) for prefix in allowed):
        raise ModelUriNotAllowed(
            f"{whole} is not below a prefix that models may be imported from; the operator sets them "
            "(training.model_uris)",
            uri=whole,
        )
    own = _place(store_url)
    here = "".join(matched.groups())
    if own and (_is_below(here, own) or _is_below(own, here)):
        raise ModelUriNotAllowed(f"{whole} is in the system's own store; copy the model to another place", uri=whole)
    return whole


def _is_below(uri: str, prefix: str) -> bool:
    return uri == prefix.rstrip("/") or uri.startswith(prefix.rstrip("/") + "/")


def _place(store_url: str) -> str:
    """The store's URL as callers would write it: `scheme://bucket/prefix`; empty for a local folder."""
    parts = urlsplit(store_url)
    scheme, host, path = _ALIASES.get(parts.scheme, parts.scheme), parts.hostname or "", parts.path.strip("/")
    if scheme in ("abfs", "abfss", "az") and "@" in parts.netloc:
        host = parts.netloc.partition("@")[0]  # abfss://container@account.host/prefix
    if scheme == "https":
        first, _, rest = path.partition("/")
        if host.endswith((".blob.core.windows.net", ".dfs.core.windows.net", ".fabric.microsoft.com")):
            scheme, host, path = "az", first, rest
        elif host.endswith((".amazonaws.com", ".r2.cloudflarestorage.com")):
            by_path = host.startswith("s3.") or host.endswith(".r2.cloudflarestorage.com")
            scheme, host, path = ("s3", first, rest) if by_path else ("s3", host.partition(".")[0], path)
    if f"{scheme}://" not in URI_SCHEMES:
        return ""
    return f"{scheme}://{host}/{path}".rstrip("/")


def _object(name: str, listed: Any) -> ModelObject:
    return ModelObject(name, int(listed["size"]), str(listed["e_tag"] or listed["last_modified"]))


class ModelUri:
    """A folder of an object store, or a GGUF file in one, opened as this process's environment says."""

    def __init__(self, uri: str) -> None:
        """Open it; nothing is asked yet.

        Raises:
            ModelUriUnreachable: the environment does not say how to reach it.
        """
        self.uri = uri
        folder, _, last = uri.rpartition("/")
        self._only = last if is_gguf(last) else ""
        scheme = uri.partition(":")[0]
        try:
            self._store = from_url(folder if self._only else uri, retry_config=RETRIES)
        except (BaseError, ValueError, OSError):
            needed = {"s3": "AWS_*", "gs": "GOOGLE_*", "az": "AZURE_*, the account's name among them"}[scheme]
            raise ModelUriUnreachable(
                f"{uri} cannot be opened: the environment of training's jobs lacks what it takes ({needed}; "
                "launcher.env and launcher.env_from_secrets)",
                uri=uri,
            ) from None

    def find(self) -> tuple[list[ModelObject], list[str]]:
        """The objects directly below the URI that belong to a model, and the names of what else is there.

        Of a URI that names a GGUF file, that file alone.

        Raises:
            ModelUriMissing: there is no such bucket, no such file, or nothing below the URI.
            ModelUriDenied: the credentials may not list it.
            ModelUriUnreachable: the store does not answer, or fails.
        """
        if self._only:
            return [self._find_file(self._only)], []
        try:
            listed = obstore.list_with_delimiter(self._store)
        except (BaseError, OSError) as error:
            raise self._refusal(error, "listed") from None
        # Paths are given from the bucket's root on by some versions of the library, and from the prefix on by others.
        objects = {str(o["path"]).rpartition("/")[2]: o for o in listed["objects"]}
        folders = [f"{path.rstrip('/').rpartition('/')[2]}/" for path in map(str, listed["common_prefixes"])]
        chosen = choose_files(objects)
        found = [_object(name, o) for name, o in sorted(objects.items()) if name in chosen]
        if not objects and not folders:
            raise ModelUriMissing(f"there is nothing below {self.uri}/", uri=self.uri)
        return found, sorted([*(name for name in objects if name and name not in chosen), *folders])

    def _find_file(self, name: str) -> ModelObject:
        try:
            return _object(name, obstore.head(self._store, name))
        except (BaseError, OSError) as error:
            raise self._refusal(error, "read", name) from None

    def fetch(self, found: Sequence[ModelObject], scratch: Path, on_bytes: Callable[[int], None]) -> Path:
        """Write the objects to a folder below `scratch`; what an attempt before fetched of the same ones stays.

        Args:
            found: what `find` gave.
            scratch: a folder that survives attempts.
            on_bytes: given the bytes of each part that was written; may raise to stop.

        Raises:
            ModelUriChanged: an object is another one than `find` saw.
            ModelUriMissing: an object is no longer there.
            ModelUriDenied: the credentials may not read it.
            ModelUriUnreachable: the store does not answer, or fails.
        """
        identity = digest_of([self.uri, [[f.name, f.size_bytes, f.etag] for f in found]])
        folder = scratch / f"fetched-{identity[7:23]}"
        partial = scratch / f"partial-{identity[7:23]}"
        folder.mkdir(parents=True, exist_ok=True)
        partial.mkdir(parents=True, exist_ok=True)
        for one in found:
            if (folder / one.name).exists():
                on_bytes(one.size_bytes)
                continue
            self._fetch_one(one, partial / one.name, on_bytes)
            (partial / one.name).replace(folder / one.name)
        return folder

    def _fetch_one(self, found: ModelObject, target: Path, on_bytes: Callable[[int], None]) -> None:
        options: Any = {"if_match": found.etag} if found.etag.startswith(('"', "W/")) else {}
        with target.open("ab") as file:
            start = file.tell()
            on_bytes(start)
            while start < found.size_bytes:
                end = min(start + READ_BYTES, found.size_bytes)
                try:
                    options["range"] = (start, end)
                    got = obstore.get(self._store, found.name, options=options)
                    data, size = bytes(got.bytes()), int(got.meta["size"])
                except (BaseError, OSError) as error:
                    raise self._refusal(error, "read", found.name) from None
                if size != found.size_bytes or len(data) != end - start:
                    raise self._changed(found.name)
                file.write(data)
                start = end
                on_bytes(len(data))

    def _place_of(self, name: str) -> str:
        return f"{self.uri}/{name}" if name and not self._only else self.uri

    def _changed(self, name: str) -> ModelUriChanged:
        return ModelUriChanged(f"{self._place_of(name)} changed while it was read; import it again", uri=self.uri)

    def _refusal(
        self, error: Exception, what: str, name: str = ""
    ) -> ModelUriChanged | ModelUriDenied | ModelUriMissing | ModelUriUnreachable:
        """An error of the store's library in our words: of its text only a status and an error code are used."""
        text = str(error)
        status = found[1] if (found := _STATUS.search(text)) else ""
        code = found[1] if (found := _CODE.search(text)) else ""
        where = self._place_of(name)
        shown = f" ({' '.join(part for part in (status, code) if part)})" if status else ""
        if isinstance(error, PreconditionError) or status == "412":
            return self._changed(name)
        if isinstance(error, PermissionDeniedError | UnauthenticatedError) or status in ("401", "403"):
            return ModelUriDenied(
                f"{where} may not be {what} with the credentials of training's jobs{shown}; give them the right, or "
                "other credentials (launcher.env_from_secrets)",
                uri=self.uri,
            )
        if isinstance(error, FileNotFoundError) or status == "404":
            bucket = self.uri.split("/")[2]
            no_bucket = code in ("NoSuchBucket", "ContainerNotFound") or not name
            return ModelUriMissing(f"there is no {f'bucket {bucket}' if no_bucket else where}{shown}", uri=self.uri)
        return ModelUriUnreachable(
            f"the store of {where} does not answer, or fails{shown}; see that training's jobs can reach it "
            "(endpoint and region in their environment, network policy)",
            uri=self.uri,
        )
