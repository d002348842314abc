"""Dataset repositories of the Hub that are written: one commit has the rows, the card, and takes away the old rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from json import JSONDecodeError
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_download

from anneal.ingestion.adapters.hub import writing
from anneal.ingestion.domain.dataset_card import MARK
from anneal.ingestion.domain.errors import HubCardRefused, HubRepositoryForeign

_CARD = "README.md"
_DATA = "data/"
_MADE_BY_THE_HUB = frozenset({".gitattributes"})


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push made: the commit, and where people see it."""

    commit: str
    url: str


def push(name: str, branch: str | None, files: Mapping[str, Path], card: str, *, title: str, public: bool) -> Pushed:
    """Publish files and a card.

    Args:
        name: `owner/name`; created when missing.
        branch: created when missing; None is the repository's own.
        files: `path in the repository -> local file`, all below `data/`.
        card: text of the card.
        title: of the commit.
        public: whether a repository that is created is public.

    Raises:
        HubRepositoryForeign: the branch holds files that no push made.
        HubCardRefused: the Hub does not know the licence.
        HubDenied: the server may not write there.
        HubUnreachable: the Hub does not answer, or fails.
    """
    with writing(name):
        api = HfApi()
        api.create_repo(name, repo_type="dataset", private=not public, exist_ok=True)
        if branch is not None:
            api.create_branch(name, branch=branch, repo_type="dataset", exist_ok=True)
        before = set(api.list_repo_files(name, repo_type="dataset", revision=branch))
        _check_ours(name, branch, before)
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            CommitOperationAdd(path, str(local)) for path, local in sorted(files.items())
        ]
        operations.append(CommitOperationAdd(_CARD, card.encode()))
        stale = sorted(path for path in before - files.keys() if path.startswith(_DATA))
        operations += [CommitOperationDelete(path) for path in stale]
        try:
            done = api.create_commit(name, operations, commit_message=title, repo_type="dataset", revision=branch)
        except JSONDecodeError:
            raise
        except ValueError as error:
            said = " ".join(str(error).split())[:300]
            raise HubCardRefused(
                f"the Hub does not take the card of {name}: {said}; name a licence that it knows, or `other`",
                violations=[("license", said)],
            ) from error
        return Pushed(str(done.oid), f"{api.endpoint}/datasets/{name}")


def _check_ours(name: str, branch: str | None, files: set[str]) -> None:
    """Refuse to write over what somebody made by hand."""
    if not files - _MADE_BY_THE_HUB:
        return
    if _CARD in files:
        local = hf_hub_download(name, _CARD, repo_type="dataset", revision=branch)
        if MARK in Path(local).read_text(encoding="utf-8", errors="replace"):
            return
    raise HubRepositoryForeign(
        f"{name} holds files that no push made ({', '.join(sorted(files)[:5])}); name another repository, or a branch "
        "of its own (owner/name@branch)",
        hub_id=name,
    )
