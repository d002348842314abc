"""A base model of the Hugging Face Hub: how one is named, and fetching its files with the Hub's own library."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from anneal.kit.errors import Invalid
from anneal.training.domain.model_files import GGUF, LEFT_OUT, is_gguf, what_is_missing
from anneal.training.errors import BaseModelUnusable, HubModelGated, HubModelMissing, HubUnreachable

_HUB_ID = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?(?::([\w.-]+\.gguf))?", re.IGNORECASE)
HUB_FORMS = "`owner/name`, `owner/name@revision`, or either with `:FILE.gguf`"


def check_hub_id(hub_id: str) -> tuple[str, str | None, str]:
    """Owner and name, the revision, and the GGUF file that is meant; empty where none is named.

    Raises:
        Invalid: it is none of `HUB_FORMS`.
    """
    matched = _HUB_ID.fullmatch(hub_id)
    if matched is None or ".." in hub_id:
        raise Invalid.field("hub_id", f"{hub_id[:200]!r} is not {HUB_FORMS}")
    return matched[1], matched[2], matched[3] or ""


def download(
    name: str, revision: str | None, patterns: Sequence[str], *, only_one: bool = False, cache: Path | None = None
) -> tuple[Path, str]:
    """Fetch a model from the Hub; returns its folder and `owner/name@commit`.

    Args:
        name: `owner/name`.
        revision: a commit, a branch or a tag; None is the Hub's own choice.
        patterns: names of the files to fetch.
        only_one: fetch nothing where more than one GGUF file fits, but refuse and name them.
        cache: where files are kept; None is the Hub library's own place (`HF_HOME`), so that what this machine has is
            not fetched again, and is found where there is no network (`HF_HUB_OFFLINE`).

    Raises:
        BaseModelUnusable: there are several GGUF files, and only one is wanted.
        HubModelMissing: the Hub has no such model or revision, or shows it to others only.
        HubModelGated: its owner has to let the caller in first.
        HubUnreachable: the Hub does not answer, or fails.
    """
    from httpx2 import HTTPError
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.constants import HF_HUB_OFFLINE
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    hub_id = f"{name}@{revision}" if revision else name
    try:
        if only_one and not HF_HUB_OFFLINE:
            files = [file for file in HfApi().list_repo_files(name, revision=revision) if is_gguf(file)]
            if len(files) > 1:
                raise BaseModelUnusable(
                    f"{hub_id}: {what_is_missing(files)}, as hub:{hub_id}:FILE{GGUF}", source=hub_id
                )
        left_out = list(LEFT_OUT)
        given = snapshot_download(
            name, revision=revision, cache_dir=cache, allow_patterns=list(patterns), ignore_patterns=left_out
        )
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
    return Path(given), f"{name}@{Path(given).name}"
