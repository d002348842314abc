"""Datasets of the Hugging Face Hub: only data files, at one revision; nothing of the repository is run."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from anneal.ingestion.domain.errors import HubUnreachable, NothingToIngest

PATTERNS = ("*.parquet", "*.jsonl", "*.json", "*.csv", "*.arrow")
_NOT_ROWS = frozenset({"dataset_infos.json", "dataset_dict.json", "state.json", "config.json"})


def download(hub_id: str, folder: Path) -> list[tuple[Path, str]]:
    """The data files of `owner/name` or `owner/name@revision`: local path and path in the repository, by name.

    Raises:
        HubUnreachable: the Hub does not answer or does not give it.
        NothingToIngest: the repository holds no data files.
    """
    repository, _, revision = hub_id.partition("@")
    try:
        root = Path(
            snapshot_download(
                repository,
                repo_type="dataset",
                revision=revision or None,
                local_dir=folder,
                allow_patterns=list(PATTERNS),
            )
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        text = str(error).strip().splitlines()[0][:300]
        raise HubUnreachable(f"the Hub did not give {hub_id}: {text}", hub_id=hub_id) from error
    found = sorted(path for pattern in PATTERNS for path in root.rglob(pattern) if ".cache" not in path.parts)
    files = [(path, path.relative_to(root).as_posix()) for path in found if path.name not in _NOT_ROWS]
    if not files:
        raise NothingToIngest(f"{hub_id} holds no Parquet, JSON, CSV or Arrow file", hub_id=hub_id)
    return files
