"""A base model's folder on this machine: which of its files are sent, and what is refused before anything is."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from anneal.cli.client import Client
from anneal.cli.uploads import Measured, measure, send
from anneal.kit.digests import digest_of_bytes
from anneal.kit.errors import Invalid
from anneal.kit.store import tree_bytes
from anneal.training.domain.errors import BaseUnusable
from anneal.training.domain.model_files import (
    INDEX,
    choose_files,
    is_gguf,
    missing_shards,
    origin_of,
    what_is_missing,
    why_left_out,
)
from anneal.v1 import training_service_pb2 as training

OnProgress = Callable[[int, int, str], None]
"""Given bytes that are done, bytes in all, and what is being done."""


class ModelFolderRefused(Invalid):
    """The folder holds no base model that can be imported, or leads out of itself; nothing was sent."""

    reason = BaseUnusable.reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The files of a folder that make up a model.

    Attributes:
        folder: links resolved.
        files: name -> the file itself.
        left_out: what is not sent, each with the reason in parentheses.
    """

    folder: Path
    files: Mapping[str, Path]
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A folder whose files were read once.

    Attributes:
        chosen: which they are.
        measured: name -> size and digest.
        digest: what the model will have once it is imported; of a GGUF file, which is converted, that file's own.
    """

    chosen: Chosen
    measured: Mapping[str, Measured]
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploaded:
    """What sending came to: the files of the request, and how many bytes and files went over the wire."""

    files: training.ModelFiles
    sent_files: tuple[str, ...]
    sent_bytes: int


def choose(folder: Path) -> Chosen:
    """Choose the files of a base model, of a folder or of one GGUF file.

    A link is followed where it stays in the folder. In a snapshot of the Hub's cache all files are links into the
    model's own part of the cache; these are followed, too.

    Raises:
        ModelFolderRefused: it is no folder of a model, lacks a file, or a file of it is a link that leads elsewhere.
        OSError: it cannot be read.
    """
    folder = folder.resolve()
    if folder.is_file():
        return Chosen(folder=folder.parent, files={folder.name: _file(folder, folder.parent)}, left_out=())
    names = sorted(path.name for path in folder.iterdir())
    chosen = choose_files([name for name in names if not (folder / name).is_dir()])
    files, left_out = {}, []
    for name in names:
        path = folder / name
        if path.is_dir():
            left_out.append(f"{name}/ (a folder)")
        elif name not in chosen:
            left_out.append(f"{name} ({why_left_out(name, chosen)})")
        else:
            files[name] = _file(path, _root_of(folder))
    if missing := what_is_missing(files, names):
        raise ModelFolderRefused(f"{folder}: {missing}{_hint(folder)}", folder=str(folder))
    if INDEX in files and (absent := missing_shards(files, _weight_map(files[INDEX]))):
        raise ModelFolderRefused(f"{folder} lacks {', '.join(absent[:5])}, which {INDEX} names", folder=str(folder))
    return Chosen(folder=folder, files=files, left_out=tuple(left_out))


def read(chosen: Chosen, on_progress: OnProgress) -> Read:
    """Read every file once, for its digest and the model's.

    Raises:
        FileChanged: a file changed meanwhile.
        OSError: one cannot be read.
    """
    total = sum(path.stat().st_size for path in chosen.files.values())
    measured, done = {}, 0
    for name, path in chosen.files.items():
        start = done
        measured[name] = measure(path, lambda at, _: on_progress(start + at, total, f"reading {name}"))  # noqa: B023
        done += measured[name].size_bytes
    packed = next((name for name in measured if is_gguf(name)), None)
    if packed is not None:
        return Read(chosen=chosen, measured=measured, digest=measured[packed].digest)
    listed = {name: {"digest": m.digest, "size_bytes": m.size_bytes} for name, m in measured.items()}
    return Read(chosen=chosen, measured=measured, digest=digest_of_bytes(tree_bytes(listed)))


def upload(client: Client, model: Read, on_progress: OnProgress) -> Uploaded:
    """Send the files that the server has not got; a file that was cut off goes on where it stopped.

    Raises:
        FileChanged: a file is another one than was read.
        grpc.RpcError: the server refused, or was away for long.
    """
    files = training.ModelFiles(origin=origin_of(model.chosen.folder)[:256])
    total = sum(m.size_bytes for m in model.measured.values())
    done, sent_bytes, sent_files = 0, 0, []
    for name, file in model.measured.items():
        if file.size_bytes:  # an empty file cannot be uploaded, and its digest says all
            start = done
            sent = send(
                client.ingestion,
                client.parent,
                file,
                name,
                lambda at, _: on_progress(start + at, total, f"sending {name}"),  # noqa: B023
            )
            sent_bytes += sent.sent_bytes
            sent_files += [name] if sent.sent_bytes else []
        done += file.size_bytes
        files.files.add(path=name, digest=file.digest)
    return Uploaded(files=files, sent_files=tuple(sent_files), sent_bytes=sent_bytes)


def _root_of(folder: Path) -> Path:
    """What links of a folder's files may lead into."""
    is_snapshot = folder.parent.name == "snapshots" and folder.parents[1].name.startswith("models--")
    return folder.parents[1] if is_snapshot else folder


def _file(path: Path, root: Path) -> Path:
    real = path.resolve()
    if not real.is_relative_to(root):
        raise ModelFolderRefused(
            f"{path} is a link that leads out of the folder; put the file itself there", folder=str(path.parent)
        )
    if not real.is_file():
        what = "a link to a file that is not there" if path.is_symlink() else "no regular file"
        raise ModelFolderRefused(f"{path} is {what}", folder=str(path.parent))
    if real.stat().st_size == 0 and (path.name == "config.json" or path.suffix == ".safetensors" or is_gguf(path.name)):
        raise ModelFolderRefused(f"{path} is empty", folder=str(path.parent))
    return real


def _weight_map(index: Path) -> dict[str, str]:
    try:
        return dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
    except (ValueError, KeyError, TypeError):
        raise ModelFolderRefused(f"{index} is damaged: it holds no JSON with a `weight_map`") from None


def _hint(folder: Path) -> str:
    """Where the model may be instead."""
    below = sorted(path.parent.relative_to(folder).as_posix() for path in folder.glob("snapshots/*/config.json"))
    below = below or sorted(path.parent.name for path in folder.glob("*/config.json"))
    return f" (one is in {', '.join(below[:3])})" if below else ""
