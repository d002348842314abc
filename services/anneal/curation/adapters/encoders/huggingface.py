"""Any encoder that `transformers` can load, in this process: mean of the last layer, as sentence encoders are trained.

Mean pooling over the tokens: Reimers and Gurevych 2019 (Sentence-BERT), arXiv:1908.10084, section 3.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anneal.curation.domain.encoders import HuggingFace, normalised
from anneal.curation.domain.errors import EncoderChanged, EncoderUnusable

BATCH_TOKENS = 16_384
"""Most tokens in one forward pass, padding included; what is set where there are more is memory, not vectors."""
_CHARACTERS_PER_TOKEN = 16
"""Of a text no more than this many characters per token is tokenised: what follows would be cut anyway."""


@dataclass(slots=True)
class HuggingFaceEncoder:
    """Loads its model when it is first used.

    Attributes:
        spec: what the order names.
        folders: folders below which models may be read.
    """

    spec: HuggingFace
    folders: Sequence[str] = ()
    _loaded: _Loaded | None = None
    _lock: Any = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        if self.spec.is_folder:
            path = Path(self.spec.model).resolve()
            if not any(path.is_relative_to(Path(folder).resolve()) for folder in self.folders):
                raise EncoderUnusable(
                    f"{self.spec.model} is not below a folder that encoders may be read from; the operator sets them "
                    "(ANNEAL_CURATION__ENCODER__FOLDERS)",
                    folder=self.spec.model,
                )

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy in another process loads the model by itself."""
        return HuggingFaceEncoder, (self.spec, tuple(self.folders))

    @property
    def name(self) -> str:
        """The model's name."""
        return self.spec.model

    @property
    def dimension(self) -> int:
        """Numbers per vector: the model's hidden size."""
        return self._model().dimension

    @property
    def key(self) -> str:
        """The model by its commit, or a folder by its content, and what is read of a text."""
        return f"huggingface:{self._model().identity}:{self.spec.prefix!r}:{self.spec.max_tokens}"

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of unit length, shape (texts, dimension); zeros for empty texts.

        Raises:
            EncoderUnusable: torch or transformers is not installed here, or the model cannot be loaded.
            EncoderChanged: the model has another dimension than the order says.
        """
        model = self._model()
        vectors = np.zeros((len(texts), model.dimension), dtype=np.float32)
        limit = self.spec.max_tokens * _CHARACTERS_PER_TOKEN
        shown = {row: self.spec.prefix + text[:limit] for row, text in enumerate(texts) if text.strip()}
        # Texts of one length together, so that little is padding.
        order = sorted(shown, key=lambda row: (len(shown[row]), row))
        rows = max(1, BATCH_TOKENS // model.max_tokens)
        for first in range(0, len(order), rows):
            batch = order[first : first + rows]
            with self._lock:
                vectors[batch] = model.pooled([shown[row] for row in batch])
        return normalised(vectors)

    def _model(self) -> _Loaded:
        with self._lock:
            if self._loaded is None:
                loaded = _load(self.spec)
                if self.spec.dimension not in (0, loaded.dimension):
                    raise EncoderChanged(
                        f"{self.spec.model} gives vectors of {loaded.dimension} numbers, the order says "
                        f"{self.spec.dimension}: set the dimension it has, or 0",
                        dimension=str(loaded.dimension),
                        expected=str(self.spec.dimension),
                    )
                self._loaded = loaded
            return self._loaded


@dataclass(frozen=True, slots=True)
class _Loaded:
    model: Any
    tokenizer: Any
    max_tokens: int
    identity: str

    @property
    def dimension(self) -> int:
        return int(self.model.config.hidden_size)

    def pooled(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The mean over each text's tokens, shape (texts, dimension)."""
        import torch

        with torch.inference_mode():
            tokens = self.tokenizer(
                list(texts), padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
            ).to(self.model.device)
            hidden_BTD = self.model(**tokens).last_hidden_state.float()
            mask_BT1 = tokens["attention_mask"].unsqueeze(-1).float()
            pooled_BD = (hidden_BTD * mask_BT1).sum(1) / mask_BT1.sum(1).clamp(min=1)
        made: NDArray[np.float32] = pooled_BD.cpu().numpy()
        return made


def _load(spec: HuggingFace) -> _Loaded:
    try:
        import torch
        from transformers import AutoModel, AutoTokenizer
    except ImportError as error:
        raise EncoderUnusable(
            f"{error.name} is not installed where this job runs, so it cannot load {spec.model}: install torch and "
            'transformers there, or name the encoder {"kind": "hashing"}, which needs nothing, or {"kind": "endpoint"}',
            package=str(error.name),
        ) from error
    given: dict[str, Any] = {"trust_remote_code": False}
    given |= {"local_files_only": True} if spec.is_folder else {"revision": spec.revision}
    try:
        tokenizer = AutoTokenizer.from_pretrained(spec.model, **given)
        model = AutoModel.from_pretrained(spec.model, use_safetensors=True, **given)
    except (OSError, ValueError, KeyError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise EncoderUnusable(f"the encoder {spec.model} cannot be loaded: {said}", model=spec.model) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    limits = (spec.max_tokens, getattr(model.config, "max_position_embeddings", None), tokenizer.model_max_length)
    commit = getattr(model.config, "_commit_hash", None) or spec.revision
    identity = _digest(Path(spec.model)) if spec.is_folder else f"{spec.model}@{commit}"
    return _Loaded(model, tokenizer, min(limit for limit in limits if limit), identity)


def _digest(folder: Path) -> str:
    """Of the files a model is made of: names and content."""
    state = blake2b(digest_size=16)
    for path in sorted([*folder.glob("*.json"), *folder.glob("*.safetensors"), *folder.glob("*.txt")]):
        state.update(path.name.encode())
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                state.update(block)
    return state.hexdigest()
