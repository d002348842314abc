"""Turns a GGUF file, llama.cpp's format, into a base model's folder: dequantised weights, configuration and tokenizer.

transformers reads the file and the `gguf` package unpacks its blocks. What those two would leave out without a word
(a rope scaling, a weight that maps to nothing) is refused here, since the model would compute otherwise than its file
says. Weights keep the file's own type where it holds plain numbers, and are float32 where it holds blocks: a block's
values are products of a scale and an offset, which half precision would round.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import torch
from gguf import GGMLQuantizationType, GGUFReader, quants
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers.integrations.gguf.reader import read_gguf_metadata
from transformers.integrations.gguf.utils import is_gguf_arch_supported
from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

from anneal.training.domain.errors import BaseUnusable

MAGIC = b"GGUF"
NOT_FOR_CHAT = frozenset({"general", "tokenizer", "t5", "umt5"})
"""Entries of transformers' list that are no architecture, or one with an encoder."""
_SPELLINGS = {"gpt-oss": "gpt_oss", "qwen2moe": "qwen2_moe", "qwen3moe": "qwen3_moe", "minimax-m2": "minimax_m2"}
_PLAIN = {
    GGMLQuantizationType.F32: torch.float32,
    GGMLQuantizationType.F16: torch.float16,
    GGMLQuantizationType.BF16: torch.bfloat16,
}
_SPLIT_NAME = re.compile(r"-\d{5}-of-\d{5}\.gguf$")
_NOT_READ = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
"""Weights that change every position's embedding and that transformers leaves out."""
_UNREADABLE = (OSError, ValueError, KeyError, IndexError, TypeError, OverflowError, MemoryError, struct.error)
"""What the two readers raise on a file that is damaged."""
_NOT_CONVERTED = (*_UNREADABLE, RuntimeError, NotImplementedError, ImportError, AttributeError)


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufFile:
    """A GGUF file whose header was read and can be converted.

    Attributes:
        path: the file.
        name: what it calls its model; empty where it does not.
        architecture: llama.cpp's name of it, such as `llama`.
        license: as it names it, such as `apache-2.0`; empty where it does not.
        quantization: type that most of its numbers have, such as `Q4_1`.
        tensor_types: how many tensors have which type.
        dtype: type that the dequantised weights are stored in.
    """

    path: Path
    name: str
    architecture: str
    license: str
    quantization: str
    tensor_types: dict[str, int]
    dtype: torch.dtype


def read_gguf(path: Path) -> GgufFile:
    """Read a file's header and check that it can be converted.

    Raises:
        BaseUnusable: it is damaged, one part of several, or of an architecture or a quantisation that cannot be read.
    """
    with path.open("rb") as file:
        if file.read(4) != MAGIC:
            raise BaseUnusable(f"{path.name} is no GGUF file: it does not begin with {MAGIC.decode()}", file=path.name)
    try:
        # This one reads strictly forward; the other could run through a damaged array for hours.
        metadata, _ = read_gguf_metadata(str(path))
        tensors = GGUFReader(path).tensors
    except _UNREADABLE as error:
        raise BaseUnusable(f"{path.name} is damaged or cut off: {_first_line(error)}", file=path.name) from error
    _check_whole(path, metadata)
    architecture = str(metadata["general.architecture"])
    _check_architecture(path, architecture, metadata, [tensor.name for tensor in tensors])
    numbers: Counter[GGMLQuantizationType] = Counter()
    types: Counter[str] = Counter()
    for tensor in tensors:
        numbers[tensor.tensor_type] += int(tensor.n_elements)
        types[tensor.tensor_type.name] += 1
    strange = sorted(kind.name for kind in numbers if kind not in _PLAIN and not hasattr(quants, kind.name))
    if not tensors or strange:
        why = f"is quantised as {', '.join(strange)}, which cannot be unpacked" if strange else "holds no weights"
        raise BaseUnusable(f"{path.name} {why}; take another file of this model", file=path.name)
    return GgufFile(
        path=path,
        name=str(metadata.get("general.name") or ""),
        architecture=architecture,
        license=str(metadata.get("general.license") or ""),
        quantization=max(numbers, key=lambda kind: numbers[kind]).name,
        tensor_types=dict(sorted(types.items())),
        dtype=_dtype_of(numbers),
    )


def _dtype_of(types: Counter[GGMLQuantizationType]) -> torch.dtype:
    """The half type where all are plain numbers and most are of it, since the rest are norms; else float32."""
    if any(kind not in _PLAIN for kind in types):
        return torch.float32
    return _PLAIN[max(types, key=lambda kind: types[kind])]


def _check_whole(path: Path, metadata: dict[str, Any]) -> None:
    count = int(metadata.get("split.count") or 0)
    if count > 1 or _SPLIT_NAME.search(path.name):
        raise BaseUnusable(
            f"{path.name} is one part of a model that is split over {count or 'several'} files; join them first "
            "(llama-gguf-split --merge FIRST OUTPUT)",
            file=path.name,
        )


def _check_architecture(path: Path, architecture: str, metadata: dict[str, Any], tensors: Sequence[str]) -> None:
    known = set(GGUF_SUPPORTED_ARCHITECTURES) - NOT_FOR_CHAT
    spelled = _SPELLINGS.get(architecture, architecture)
    if spelled not in known and not is_gguf_arch_supported(architecture):
        raise BaseUnusable(
            f"{path.name} is of the architecture {architecture}, which is not read from GGUF (read are: "
            f"{', '.join(sorted(known))}); import its safetensors files",
            file=path.name,
            architecture=architecture,
        )
    scaling = str(metadata.get(f"{architecture}.rope.scaling.type") or "none")
    left_out = [name for name in _NOT_READ if name in tensors]
    if scaling != "none" and spelled != "gpt_oss":
        left_out.append(f"rope scaling {scaling!r}")
    if left_out:
        raise BaseUnusable(
            f"{path.name} has {' and '.join(left_out)}, which would be left out, so that the model would compute "
            "otherwise; import its safetensors files",
            file=path.name,
        )


def convert(file: GgufFile, target: Path) -> None:
    """Write configuration, weights as safetensors, and tokenizer into an empty folder; the same file, the same bytes.

    Raises:
        BaseUnusable: the file lacks a weight, holds no tokenizer, or cannot be read after all.
    """
    source = {"pretrained_model_name_or_path": str(file.path.parent), "gguf_file": file.path.name}
    options: dict[str, Any] = {**source, "local_files_only": True}
    try:
        with _cached_reads():
            tokenizer = AutoTokenizer.from_pretrained(**options)
            model, report = AutoModelForCausalLM.from_pretrained(
                **options,
                config=AutoConfig.from_pretrained(**options),
                dtype=file.dtype,
                quantization_config=GgufConfig(dequantize=True),
                output_loading_info=True,
            )
    except _NOT_CONVERTED as error:
        raise BaseUnusable(
            f"{file.path.name} cannot be converted: {_first_line(error)}", file=file.path.name
        ) from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise BaseUnusable(
            f"{file.path.name} lacks {len(missing)} weights of its architecture: {', '.join(missing[:5])}",
            file=file.path.name,
        )
    # They say that the weights are packed, which they no longer are.
    model.hf_quantizer = None
    model.is_quantized = False
    model.config._name_or_path = ""
    vars(model.config).pop("_model_name_or_path", None)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


@contextmanager
def _cached_reads() -> Iterator[None]:
    """Let transformers open the file once, and build the map of names once.

    It opens the file for configuration, tokenizer and weights each, and builds the map anew for every module: 397 times
    for SmolLM2-135M, whose conversion took 23 s of processor time, and 9 s with both kept.
    """
    before: dict[str, Callable[..., Any]] = {
        "GGUFReader": gguf.GGUFReader,
        "get_tensor_name_map": gguf.get_tensor_name_map,
    }
    try:
        for name, function in before.items():
            setattr(gguf, name, cache(function))
        yield
    finally:
        for name, function in before.items():
            setattr(gguf, name, function)


def card(file: GgufFile, digest: str, readme: str) -> str:
    """The model's card: the one that came with the file, or one of its own, and how the weights were made.

    Args:
        file: what was converted.
        digest: of the file's bytes.
        readme: text of the card beside the file; empty where there is none.
    """
    front = f"---\nlicense: {file.license}\n---\n\n" if file.license else ""
    before = readme.rstrip() or f"{front}# {file.name or file.path.stem}"
    types = ", ".join(f"{count} of {name}" for name, count in file.tensor_types.items())
    rows = {
        "file": f"`{file.path.name}`",
        "file's digest": f"`{digest}`",
        "architecture": file.architecture,
        "quantisation": file.quantization,
        "tensors": types,
        "stored as": str(file.dtype).removeprefix("torch."),
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"{before}\n\n## Dequantised from GGUF by Anneal\n\n| What | Value |\n| --- | --- |\n{table}\n"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
