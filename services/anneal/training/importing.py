"""Takes a base model in: which files may come, from where, and what is checked before it counts."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from anneal.kit.errors import Invalid
from anneal.training.errors import FolderNotAllowed, HubModelGated, HubModelMissing, HubUnreachable

PATTERNS = ("*.safetensors", "*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt", "README.md", "LICENSE*")
"""Names of the files of a base model that are taken; nothing that is pickled, and no code."""
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


def check_folder(folder: str, allowed: Sequence[str]) -> Path:
    """The folder itself, links resolved.

    Raises:
        FolderNotAllowed: it is not below one of the allowed folders.
        Invalid: it is no folder.
    """
    path = Path(folder).resolve()
    if not any(path.is_relative_to(Path(root).resolve()) for root in allowed):
        raise FolderNotAllowed(
            f"{folder} is not below a folder that models may be imported from; the operator sets them", folder=folder
        )
    if not path.is_dir():
        raise Invalid.field("folder", f"{folder} is no folder")
    return path


def check_hub_id(hub_id: str) -> tuple[str, str | None]:
    """Owner and name, and the revision.

    Raises:
        Invalid: it is not `owner/name` or `owner/name@revision`.
    """
    if not _HUB_ID.fullmatch(hub_id) or ".." in hub_id:
        raise Invalid.field("hub_id", f"{hub_id[:200]!r} is not `owner/name` or `owner/name@revision`")
    name, _, revision = hub_id.partition("@")
    return name, revision or None


def download(hub_id: str, cache: Path | None = None) -> tuple[Path, str]:
    """Fetch a model from the Hub; returns its folder and `owner/name@commit`.

    Args:
        hub_id: `owner/name` or `owner/name@revision`.
        cache: where files are kept; None is the Hub library's own place (`HF_HOME`), so that what this machine has is
            not fetched again, and is found where there is no network (`HF_HUB_OFFLINE`).

    Raises:
        HubModelMissing: the Hub has no such model or revision, or shows it to others only.
        HubModelGated: its owner has to let the caller in first.
        HubUnreachable: the Hub does not answer, or fails.
    """
    from httpx2 import HTTPError
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    name, revision = check_hub_id(hub_id)
    try:
        folder = Path(snapshot_download(name, revision=revision, cache_dir=cache, allow_patterns=list(PATTERNS)))
    except GatedRepoError as error:
        raise HubModelGated(
            f"{name} is gated: ask for access at the Hub, and give the server a token (HF_TOKEN)", hub_id=hub_id
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        what = f"no revision {revision} of {name}" if isinstance(error, RevisionNotFoundError) else f"no model {name}"
        raise HubModelMissing(
            f"the Hub shows {what}; for a private one the server needs a token (HF_TOKEN)", hub_id=hub_id
        ) from error
    except (HTTPError, OSError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise HubUnreachable(f"the Hub did not give {hub_id}: {said}", hub_id=hub_id) from error
    return folder, f"{name}@{folder.name}"


def collect(source: Path, target: Path, root: Path) -> Path:
    """Copy the files that are taken; a link that leads out of `root` is left out."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for pattern in PATTERNS:
        for path in sorted(source.glob(pattern)):
            real = path.resolve()
            if not real.is_file() or not real.is_relative_to(root.resolve()) or (target / path.name).exists():
                continue
            try:
                os.link(real, target / path.name)
            except OSError:  # another file system
                shutil.copyfile(real, target / path.name)
    return target
