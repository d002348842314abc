"""A sequence classifier of transformers: texts become its outputs, the same ones for the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anneal.curation.domain.errors import ModelUnfit, NotInstalled
from anneal.curation.domain.model_settings import Classifier

UNKNOWN_LENGTH = 1_000_000
"""Tokenizers that know no limit say a number beyond this."""
MAX_CHARACTERS_PER_TOKEN = 100
"""Longer on average are only tokens of repeated marks: what has more characters is too long without being tokenized."""


class SequenceClassifier:
    """The model and its tokenizer, loaded once. No code of the model's is run, and no pickled weights are read.

    Attributes:
        tokenizer: the model's.
        labels: names of its outputs, in order.
        is_multi_label: whether its outputs are independent of each other.
        max_tokens: longest input.
    """

    def __init__(self, step: str, settings: Classifier) -> None:
        """Load the model.

        Args:
            step: name of the step, for messages.
            settings: which model, and how it runs.

        Raises:
            NotInstalled: torch or transformers are not there.
            ModelUnfit: it cannot be read, has no trained head, or no such limit.
        """
        torch, transformers = _libraries(step)
        from huggingface_hub.errors import StrictDataclassError
        from safetensors import SafetensorError

        self._torch, self._settings = torch, settings
        where: dict[str, Any] = {"revision": settings.revision} if settings.revision else {}
        try:
            self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(settings.name, **where)
            model, loading = transformers.AutoModelForSequenceClassification.from_pretrained(
                settings.name,
                dtype=getattr(torch, settings.dtype),
                use_safetensors=True,
                output_loading_info=True,
                **where,
            )
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, StrictDataclassError) as error:
            raise ModelUnfit(f"{settings.name} cannot be read as a classifier: {error}", model=settings.name) from error
        # Absent weights would be filled in at random, and what is random looks like a score.
        if loading["missing_keys"]:
            missing = ", ".join(sorted(loading["missing_keys"])[:5])
            raise ModelUnfit(f"{settings.name} has no trained head: {missing} are not there", model=settings.name)
        self.tokenizer.padding_side = "right"
        config = model.config
        self.labels: list[str] = [config.id2label[place] for place in range(config.num_labels)]
        self.is_multi_label = getattr(config, "problem_type", None) == "multi_label_classification"
        self.max_tokens = _limit(settings, self.tokenizer, config)
        pad = getattr(config.get_text_config(), "pad_token_id", None)
        # Without a padding token, or with another than the tokenizer's, the model would read padding as text.
        can_pad = pad is not None and pad == self.tokenizer.pad_token_id
        self._batch_rows = settings.batch_rows if can_pad else 1
        self._model: Any = model.to(_device(torch, settings)).eval()

    @property
    def max_characters(self) -> int:
        """A longer text counts as one of more than `max_tokens` tokens."""
        return self.max_tokens * MAX_CHARACTERS_PER_TOKEN

    def outputs(
        self, texts: Sequence[str], *, special_tokens: bool, truncate: bool
    ) -> list[NDArray[np.float64] | None]:
        """The outputs for each text, shape (labels,); None where it is empty or, without `truncate`, too long.

        Args:
            texts: what is read.
            special_tokens: whether the tokenizer adds its own; a chat template has written them already.
            truncate: whether the beginning of a long text stands for it.
        """
        found: list[NDArray[np.float64] | None] = [None] * len(texts)
        encoded: dict[int, dict[str, list[int]]] = {}
        for place, text in enumerate(texts):
            if not truncate and len(text) > self.max_characters:
                continue
            tokens = self.tokenizer(
                text[: self.max_characters],
                add_special_tokens=special_tokens,
                truncation=truncate,
                max_length=self.max_tokens if truncate else None,
                verbose=False,
            )
            if 0 < len(tokens["input_ids"]) <= self.max_tokens:
                encoded[place] = dict(tokens)
        # Rows of about one length together: less padding.
        places = sorted(encoded, key=lambda place: (len(encoded[place]["input_ids"]), place))
        for start in range(0, len(places), self._batch_rows):
            some = places[start : start + self._batch_rows]
            for place, output in zip(some, self._forward([encoded[place] for place in some]), strict=True):
                found[place] = output
        return found

    def _forward(self, rows: Sequence[dict[str, list[int]]]) -> NDArray[np.float64]:
        if len(rows) > 1:
            inputs = self.tokenizer.pad(list(rows), padding=True, return_tensors="pt")
        else:
            inputs = {name: self._torch.tensor([values]) for name, values in rows[0].items()}
        with self._torch.inference_mode():
            logits = self._model(**{name: value.to(self._model.device) for name, value in inputs.items()}).logits
        outputs: NDArray[np.float64] = logits.float().cpu().numpy().astype(np.float64)
        return outputs


def _libraries(step: str) -> tuple[Any, Any]:
    try:
        import torch
        import transformers
    except ModuleNotFoundError as error:
        raise NotInstalled(
            f"the step {step} needs torch and transformers, and {error.name} is not installed where the job runs: "
            "install both, as `pip install 'anneal[training]'` does, or use an image that has them",
            step=step,
            library=str(error.name),
        ) from error
    return torch, transformers


def _limit(settings: Classifier, tokenizer: Any, config: Any) -> int:
    said = (tokenizer.model_max_length, getattr(config.get_text_config(), "max_position_embeddings", None))
    known = [int(limit) for limit in said if limit is not None and 0 < limit < UNKNOWN_LENGTH]
    wanted = settings.max_tokens
    if not known and wanted is None:
        raise ModelUnfit(f"{settings.name} does not say how long its input may be: set max_tokens", model=settings.name)
    if known and wanted is not None and wanted > min(known):
        raise ModelUnfit(f"{settings.name} takes {min(known)} tokens, not {wanted}", model=settings.name)
    return min(known) if wanted is None else wanted


def _device(torch: Any, settings: Classifier) -> str:
    has_gpu = bool(torch.cuda.is_available())
    if settings.device == "cuda" and not has_gpu:
        raise ModelUnfit("device is cuda, and there is no GPU where the job runs", model=settings.name)
    return "cpu" if settings.device == "cpu" or not has_gpu else "cuda"
