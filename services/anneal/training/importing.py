"""Imports a base model: where it may come from, what is checked before a job starts, how the job gets its files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anneal.kit.digests import digest_of_bytes, digest_of_file, hex_of
from anneal.kit.errors import Invalid
from anneal.kit.jobs.context import JobContext
from anneal.kit.store import BlobMissing, Store
from anneal.training.adapters.hub_models import check_hub_id, download
from anneal.training.adapters.model_uris import ModelUri, check_uri
from anneal.training.domain.errors import TrainingRefused
from anneal.training.domain.model_files import (
    BESIDE_GGUF,
    GGUF,
    PATTERNS,
    choose_files,
    is_gguf,
    is_taken,
    origin_of,
    what_is_missing,
    why_left_out,
)
from anneal.training.errors import (
    BaseModelUnusable,
    FolderNotAllowed,
    HubModelMissing,
    refusal_of,
)
from anneal.v1 import training_service_pb2 as pb

MAX_FILES = 1000
MAX_ORIGIN = 256
_EMPTY = digest_of_bytes(b"")
"""Of a file without a byte, which cannot be uploaded and need not be."""
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Fetched:
    """The files of a model in a folder of the job's own, and where they are from.

    Attributes:
        folder: the folder.
        origin: where they are from, as the model's record tells it.
        quantization: type of most numbers in the GGUF file that they were converted from; empty for safetensors.
        source_digest: digest of that file.
    """

    folder: Path
    origin: str
    quantization: str = ""
    source_digest: str = ""


def check_source(request: pb.ImportModelRequest, options: Any, store: Store) -> None:
    """Check where an import wants to read from, as far as that needs no file of the model.

    Args:
        request: the import.
        options: training's options.
        store: the system's own store.

    Raises:
        Invalid: no source is named, or it cannot be one.
        FolderNotAllowed: a folder that the settings do not allow.
        ModelUriNotAllowed: a URI that the settings do not allow, or the system's own store.
        BlobMissing: a file was not uploaded.
    """
    source = request.WhichOneof("from")
    if source == "folder":
        check_folder(request.folder, options.model_folders)
    elif source == "hub_id":
        check_hub_id(request.hub_id)
    elif source == "uri":
        check_uri(request.uri, options.model_uris, store.url)
    elif source == "files":
        check_files(request.files, store)
    else:
        raise Invalid.field("from", "one of `files`, `hub_id`, `uri` and `folder` is required")


def check_files(files: pb.ModelFiles, store: Store) -> None:
    """Check the files that a client has uploaded.

    Raises:
        Invalid: a name or a digest cannot be, or they make up no model; every wrong one is named.
        BlobMissing: the store has not got all of them.
    """
    violations: list[tuple[str, str]] = []
    seen: set[str] = set()
    for index, file in enumerate(files.files[: MAX_FILES + 1]):
        field = f"files.files[{index}]"
        if not is_taken(file.path) and not is_gguf(file.path):
            allowed = ", ".join((*PATTERNS, f"*{GGUF}"))
            violations.append((f"{field}.path", f"{file.path[:200]!r} is no file of a base model ({allowed})"))
        if file.path in seen:
            violations.append((f"{field}.path", f"{file.path[:200]!r} is named twice"))
        seen.add(file.path)
        try:
            hex_of(file.digest, f"{field}.digest")
        except Invalid as error:
            violations.extend(error.violations)
    if len(files.files) > MAX_FILES:
        violations.append(("files.files", f"holds {len(files.files)} files, more than {MAX_FILES}"))
    chosen = choose_files(seen)
    if missing := what_is_missing(chosen):
        violations.append(("files.files", missing))
    elif more := sorted(name for name in seen if name not in chosen and (is_taken(name) or is_gguf(name))):
        why = why_left_out(more[0], chosen)
        violations.append(("files.files", f"{', '.join(more[:5])} are not taken beside the model's file: {why}"))
    if len(files.origin) > MAX_ORIGIN:
        violations.append(("files.origin", f"has {len(files.origin)} characters, more than {MAX_ORIGIN}"))
    if violations:
        raise Invalid("; ".join(f"{field}: {text}" for field, text in violations[:5]), violations=violations)
    absent = [f for f in files.files if f.digest != _EMPTY and not store.exists(f.digest)]
    if absent:
        raise BlobMissing(
            f"the store has nothing of {', '.join(f.path for f in absent)}: upload it first (UploadDocuments)",
            digest=absent[0].digest,
        )


def fetch(ctx: JobContext, request: pb.ImportModelRequest) -> Fetched:
    """Get a model's files into the job's scratch folder; a GGUF file is converted there.

    Raises:
        Refusal: the source may not be read, is not there, or changes, or a GGUF file cannot be converted.
        Cancelled: the job was asked to stop.
    """
    fetched = _fetch(ctx, request)
    packed = next((path for path in sorted(fetched.folder.iterdir()) if is_gguf(path.name)), None)
    return fetched if packed is None else _converted(ctx, fetched, packed)


def _converted(ctx: JobContext, fetched: Fetched, packed: Path) -> Fetched:
    """The same model as safetensors, with a card that says what it was.

    Raises:
        Refusal: the file is damaged, or of a kind that is not read.
        Cancelled: the job was asked to stop.
    """
    from anneal.training.domain import gguf  # transformers, which takes seconds

    ctx.check()
    ctx.progress(0, None, "files", f"reading {packed.name}")
    digest = digest_of_file(packed)
    target = ctx.scratch / "converted"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    try:
        file = gguf.read_gguf(packed)
        stored = str(file.dtype).removeprefix("torch.")
        ctx.log(f"{packed.name} holds {file.architecture} as {file.quantization}; its weights are stored as {stored}")
        ctx.progress(0, None, "files", f"dequantising {packed.name}")
        gguf.convert(file, target)
    except TrainingRefused as error:
        raise refusal_of(error) from error
    beside = [path for path in fetched.folder.iterdir() if path != packed]
    for path in beside:
        shutil.copyfile(path, target / path.name)
    readme = target / "README.md"
    text = readme.read_text(encoding="utf-8", errors="replace") if readme.exists() else ""
    readme.write_text(gguf.card(file, digest, text), encoding="utf-8")
    shutil.rmtree(fetched.folder)
    return Fetched(target, fetched.origin, file.quantization, digest)


def _fetch(ctx: JobContext, request: pb.ImportModelRequest) -> Fetched:
    source, taken = request.WhichOneof("from"), ctx.scratch / "model"
    if source == "files":
        return Fetched(_fetch_files(ctx, request.files, taken), request.files.origin)
    if source == "uri":
        uri = check_uri(request.uri, ctx.options["model_uris"], ctx.store.url)
        return Fetched(_fetch_uri(ctx, uri), uri)
    if source == "folder":
        folder = check_folder(request.folder, ctx.options["model_folders"])
        root, origin = folder, origin_of(folder)
        if folder.is_file():
            kept = taken_alone(folder, taken)
            return Fetched(kept, origin)
    else:
        ctx.progress(0, None, "files", "downloading")
        folder, origin = _download(ctx, request.hub_id)
        root = folder.parents[1]  # the model's own part of the cache: its files are links into it
    ctx.check()
    ctx.progress(0, None, "files", "reading")
    only = check_hub_id(request.hub_id)[2] if source == "hub_id" else ""
    kept = collect(folder, taken, root, only)
    others = _others(folder, kept)
    _require([path.name for path in kept.iterdir()], others if source == "folder" else None, origin)
    _log_left_out(ctx, others, [path.name for path in kept.iterdir()])
    return Fetched(kept, origin)


def _download(ctx: JobContext, hub_id: str) -> tuple[Path, str]:
    name, revision, file = check_hub_id(hub_id)
    patterns = [file, *BESIDE_GGUF] if file else list(PATTERNS)
    ctx.log(f"of {name} only these files are fetched: {', '.join(patterns)}")
    folder, origin = download(name, revision, patterns)
    if file and not (folder / file).is_file():
        raise HubModelMissing(f"{origin} has no file {file}", hub_id=hub_id)
    if not file and not any(path.name.endswith(".safetensors") for path in folder.iterdir()):
        # No weights: the model may be there as GGUF.
        folder, origin = download(name, revision, [f"*{GGUF}", *BESIDE_GGUF], only_one=True)
    return folder, origin if not file else f"{origin}:{file}"


def _fetch_files(ctx: JobContext, files: pb.ModelFiles, target: Path) -> Path:
    """Copy uploaded files from the store, each checked; those that an attempt before copied stay."""
    target.mkdir(parents=True, exist_ok=True)
    wanted = {file.path: file.digest for file in files.files}
    for path in target.iterdir():
        if path.name not in wanted:
            path.unlink()
    for number, (name, digest) in enumerate(sorted(wanted.items())):
        ctx.check()
        ctx.progress(number, len(wanted), "files", f"reading {name}")
        path = target / name
        if digest == _EMPTY:
            path.write_bytes(b"")
        elif not path.exists() or digest_of_file(path) != digest:
            ctx.store.download(digest, path)
    return target


def _fetch_uri(ctx: JobContext, uri: str) -> Path:
    place = ModelUri(uri)
    ctx.progress(0, None, "MiB", f"listing {uri}")
    found, others = place.find()
    _require([one.name for one in found], others, uri)
    _log_left_out(ctx, others, [one.name for one in found])
    total, done = sum(one.size_bytes for one in found), 0

    def on_bytes(count: int) -> None:
        nonlocal done
        ctx.check()
        done += count
        ctx.progress(done // _MIB, max(1, total // _MIB), "MiB", f"reading {uri}")

    return place.fetch(found, ctx.scratch, on_bytes)


def _require(names: Sequence[str], others: Sequence[str] | None, where: str) -> None:
    """Refuse what is no model before its files are read.

    Raises:
        BaseModelUnusable: it lacks a file.
    """
    if missing := what_is_missing(names, others):
        raise BaseModelUnusable(f"{where}: {missing}", source=where)


def _others(source: Path, taken: Path) -> list[str]:
    """What a folder holds beside the files that were taken."""
    kept = {path.name for path in taken.iterdir()}
    return sorted(f"{p.name}/" if p.is_dir() else p.name for p in source.iterdir() if p.name not in kept)


def _log_left_out(ctx: JobContext, others: Sequence[str], kept: Sequence[str]) -> None:
    def why(name: str) -> str:
        if name.endswith("/"):
            return "a folder"
        known = why_left_out(name, kept)
        return "a link that leads out of the folder, or no file" if name in choose_files([*kept, name]) else known

    if others:
        named = ", ".join(f"{name} ({why(name)})" for name in others[:50])
        more = f" and {len(others) - 50} more" if len(others) > 50 else ""
        ctx.log(f"left out: {named}{more}", level="warning")


def check_folder(folder: str, allowed: Sequence[str]) -> Path:
    """The folder itself, or the GGUF file in one, links resolved.

    Raises:
        FolderNotAllowed: it is not below one of the allowed folders.
        Invalid: it is no folder and no GGUF file.
    """
    path = Path(folder).resolve()
    if not any(path.is_relative_to(Path(root).resolve()) for root in allowed):
        raise FolderNotAllowed(
            f"{folder} is not below a folder of the server that models may be imported from; the operator sets them "
            "(training.model_folders)",
            folder=folder,
        )
    if not path.is_dir() and not (path.is_file() and is_gguf(path.name)):
        raise Invalid.field("folder", f"{folder} is no folder, and no GGUF file")
    return path


def collect(source: Path, target: Path, root: Path, only: str = "") -> Path:
    """Copy the files that are taken; a link that leads out of `root` is left out.

    Args:
        source: the folder.
        target: a folder that is made anew.
        root: what links may lead into.
        only: the one GGUF file that is meant, where several may be there.
    """
    real = {path.name: path.resolve() for path in sorted(source.iterdir()) if not is_gguf(path.name) or not only}
    if only:
        real[only] = (source / only).resolve()
    within = {name: path for name, path in real.items() if path.is_file() and path.is_relative_to(root.resolve())}
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in choose_files(within):
        _link(within[name], target / name)
    return target


def taken_alone(file: Path, target: Path) -> Path:
    """Copy one file into a folder that is made anew."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    _link(file, target / file.name)
    return target


def _link(file: Path, target: Path) -> None:
    try:
        os.link(file, target)
    except OSError:  # another file system
        shutil.copyfile(file, target)
