"""Datasets of the Hugging Face Hub: which data files a subset's splits have, at one commit, and the files themselves.

The `datasets` library says which files belong to which split, by the dataset card or by their names; nothing of the
repository is run. The rows are read by our own containers, so that a bad one costs itself and is named.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from json import JSONDecodeError
from pathlib import Path
from urllib.parse import unquote

from httpx2 import HTTPError
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from anneal.ingestion.domain.errors import (
    HubConfigUnknown,
    HubDatasetGated,
    HubDatasetMissing,
    HubDatasetUnsupported,
    HubDenied,
    HubUnreachable,
    NothingToIngest,
)
from anneal.kit.errors import Invalid

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_READ_BY_US = frozenset({"arrow", "csv", "json", "parquet", "text"})
_MAX_NAMED = 50


@dataclass(frozen=True, slots=True)
class HubDataset:
    """A subset of a dataset at one commit.

    Attributes:
        name: `owner/name`.
        files: `split -> paths of its data files`, in order.
    """

    name: str
    commit: str
    config: str
    files: Mapping[str, Sequence[str]]

    def fetch(self, path: str, folder: Path) -> Path:
        """Fetch one data file into a folder.

        Raises:
            HubDatasetGated: its owner has to let the caller in first.
            HubUnreachable: the Hub does not answer, or fails.
        """
        with _asking(self.name, self.commit):
            return Path(hf_hub_download(self.name, path, repo_type="dataset", revision=self.commit, local_dir=folder))


def check_hub_id(hub_id: str, field: str = "hub_id") -> tuple[str, str | None]:
    """Owner and name, and the revision.

    Raises:
        Invalid: it is not `owner/name` or `owner/name@revision`.
    """
    if not _HUB_ID.fullmatch(hub_id) or ".." in hub_id:
        raise Invalid.field(field, f"{hub_id[:200]!r} is not `owner/name` or `owner/name@revision`")
    name, _, revision = hub_id.partition("@")
    return name, revision or None


def open_dataset(hub_id: str, config: str, cache: Path) -> HubDataset:
    """Find the data files of a dataset.

    Args:
        hub_id: `owner/name` or `owner/name@revision`.
        config: the subset; empty takes the only or the default one.
        cache: a folder for what is fetched to find them.

    Raises:
        HubDatasetMissing: there is no such dataset or revision.
        HubDatasetGated: its owner has to let the caller in first.
        HubConfigUnknown: there is no such subset, or none is the default.
        HubDatasetUnsupported: it is no table of rows.
        HubUnreachable: the Hub does not answer, or fails.
        NothingToIngest: the repository holds no data files.
    """
    import datasets  # takes two seconds to import

    name, revision = check_hub_id(hub_id)
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False  # nobody else is told what is read
    with _asking(name, revision):
        api = HfApi()
        commit = str(api.dataset_info(name, revision=revision).sha)
        api.auth_check(name, repo_type="dataset")
        try:
            configs = datasets.get_dataset_config_names(name, revision=commit)
            default = datasets.get_dataset_default_config_name(name, revision=commit)
            chosen = _choose(name, config, configs, default)
            builder = datasets.load_dataset_builder(name, chosen, revision=commit, cache_dir=str(cache))
        except (datasets.exceptions.DataFilesNotFoundError, datasets.data_files.EmptyDatasetError) as error:
            raise NothingToIngest(f"{name} holds no data files", hub_id=hub_id) from error
        except JSONDecodeError:  # the Hub's answer, or a proxy's
            raise
        except (RuntimeError, ValueError) as error:  # a script, or a card that cannot be
            raise HubDatasetUnsupported(f"{name} cannot be read: {_first_line(error)}", hub_id=hub_id) from error
    kind = type(builder).__module__.rpartition(".")[2]
    if kind not in _READ_BY_US:
        raise HubDatasetUnsupported(
            f"{name} is of the kind {kind}, not a table of rows in Parquet, Arrow, JSON, CSV or text", hub_id=hub_id
        )
    found = builder.config.data_files or {}
    files = {str(split): [_path_of(url, name, commit) for url in urls] for split, urls in found.items()}
    return HubDataset(name, commit, chosen, files)


def _choose(name: str, config: str, configs: Sequence[str], default: str | None) -> str:
    known = ", ".join(configs[:_MAX_NAMED])
    if config and config not in configs:
        raise HubConfigUnknown(f"{name} has no subset {config!r}; it has {known}", violations=[("hub_config", known)])
    chosen = config or default or (configs[0] if len(configs) == 1 else "")
    if not chosen:
        cause = f"{name} has several subsets and none is the default; name one of {known}"
        raise HubConfigUnknown(cause, violations=[("hub_config", cause)])
    return chosen


def _path_of(url: str, name: str, commit: str) -> str:
    """The path in the repository of `hf://datasets/owner/name@commit/path`."""
    prefix = f"hf://datasets/{name}@{commit}/"
    if not url.startswith(prefix):
        raise HubDatasetUnsupported(f"{name} takes data from elsewhere, {url[:200]}, which is not read", hub_id=name)
    return unquote(url.removeprefix(prefix))


@contextmanager
def _asking(name: str, revision: str | None) -> Iterator[None]:
    """Turn what the Hub answers into refusals by name."""
    try:
        yield
    except GatedRepoError as error:
        raise HubDatasetGated(
            f"{name} is gated: ask for access at the Hub, and give the server a token (HF_TOKEN)", hub_id=name
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        is_revision = isinstance(error, RevisionNotFoundError)
        what = f"no revision {revision} of {name}" if is_revision else f"no dataset {name}"
        raise HubDatasetMissing(
            f"the Hub shows {what}; for a private one the server needs a token (HF_TOKEN)", hub_id=name
        ) from error
    except (HTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError, JSONDecodeError) as error:
        raise HubUnreachable(f"the Hub did not give {name}: {_first_line(error)}", hub_id=name) from error


@contextmanager
def writing(name: str) -> Iterator[None]:
    """Turn what the Hub answers to a writer into refusals by name."""
    try:
        with _asking(name, None):
            yield
    except (HubUnreachable, HubDatasetMissing) as error:
        cause = error.__cause__
        if isinstance(cause, HfHubHTTPError) and cause.response.status_code in (401, 403):
            raise HubDenied(
                f"the Hub does not let this server write {name}; give it a token that may (HF_TOKEN)", hub_id=name
            ) from error
        raise
    except RuntimeError as error:  # what the client makes of a broken upload
        if not isinstance(error.__cause__, HTTPError | OSError):
            raise
        raise HubUnreachable(f"the Hub did not take {name}: {_first_line(error)}", hub_id=name) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
