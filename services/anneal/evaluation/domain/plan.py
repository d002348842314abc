"""What one evaluation is about: who is asked, what, and whom it is compared with."""

from __future__ import annotations

from dataclasses import dataclass

from anneal.evaluation.domain.samples import AnswerFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A base model, alone or with an adapter.

    Attributes:
        name: resource name of the model or the adapter version.
        digest: digest of the model's or the adapter's files.
        base_digest: digest of the base model's files.
        base_name: resource name of the base model.
        dataset_versions: what it was trained on.
    """

    name: str
    digest: str
    base_digest: str
    base_name: str
    dataset_versions: tuple[str, ...] = ()

    @property
    def adapter_digest(self) -> str:
        """Digest of the adapter; empty for the bare base."""
        return "" if self.digest == self.base_digest else self.digest

    def base(self) -> Target:
        """The base model alone."""
        return Target(
            name=self.base_name, digest=self.base_digest, base_digest=self.base_digest, base_name=self.base_name
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One benchmark and how it is asked.

    Attributes:
        benchmark: resource name.
        dataset_digest: digest of the manifest that holds its rows.
        split: the split of it.
        metrics: what is measured, keys of `METRICS`.
        max_tokens: longest answer in tokens.
        answer_format: how answers are compared.
    """

    benchmark: str
    dataset_digest: str
    split: str
    metrics: tuple[str, ...]
    max_tokens: int
    answer_format: AnswerFormat
