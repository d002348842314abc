"""Which files make up a base model: what is taken of a folder, and what has to be among it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

PATTERNS = ("*.safetensors", "*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt", "README.md", "LICENSE*")
"""Names of the files of a base model that are taken; nothing that is pickled, and no code."""
LEFT_OUT = ("consolidated*.safetensors",)
"""Names among them that are not: the same weights again, in the layout of their maker's own library."""
TEMPLATES = ("alpaca", "chatml", "gemma", "llama3", "mistral", "phi3", "zephyr")
"""Names of the templates in `chat_templates/`, which a base model can be given."""
GGUF = ".gguf"
"""Ending of a file in llama.cpp's format, which holds a whole model and is converted when it is imported."""
BESIDE_GGUF = ("README.md", "LICENSE*")
"""Names of the files that are taken beside a GGUF file; configuration and tokenizer are in it."""
URI_SCHEMES = ("s3://", "gs://", "az://")
"""Beginnings of the URIs of object stores that models are read from."""
INDEX = "model.safetensors.index.json"
"""Names the weights of each file where a model has more than one."""

_OTHER_FORMATS: Mapping[str, str] = {
    ".bin": "pickled",
    ".pt": "pickled",
    ".pth": "pickled",
    ".ckpt": "pickled",
    ".pkl": "pickled",
    ".gguf": "llama.cpp's format",
    ".ggml": "llama.cpp's format",
    ".h5": "Keras' format",
    ".msgpack": "Flax' format",
    ".onnx": "ONNX",
    ".nemo": "NeMo's format",
    ".mlmodel": "Core ML's format",
}
"""Ending of a file that may hold weights, and what it is called."""


def origin_of(folder: Path) -> str:
    """What a model's folder is called: `owner/name@commit` in the Hub's cache, else its name."""
    if folder.parent.name == "snapshots" and folder.parents[1].name.startswith("models--"):
        return f"{folder.parents[1].name.removeprefix('models--').replace('--', '/')}@{folder.name}"
    return folder.name


def is_taken(name: str) -> bool:
    """Whether a file of this name, directly in the model's folder, belongs to a base model."""
    if "/" in name or "\\" in name or "\0" in name or name in ("", ".", ".."):
        return False
    return any(fnmatchcase(name, p) for p in PATTERNS) and not any(fnmatchcase(name, p) for p in LEFT_OUT)


def is_gguf(name: str) -> bool:
    """Whether a file of this name, directly in the model's folder, is in llama.cpp's format."""
    return name.lower().endswith(GGUF) and not set(name) & {"/", "\\", "\0"}


def choose_files(names: Collection[str]) -> list[str]:
    """The files that make up the base model: those of safetensors, or else a GGUF file with its card and licence.

    Where there are several GGUF files, all are in it, and `what_is_missing` asks for one.
    """
    taken = sorted(name for name in names if is_taken(name))
    packed = sorted(name for name in names if is_gguf(name))
    if not packed or any(name.endswith(".safetensors") for name in taken):
        return taken
    return [*packed, *(name for name in taken if any(fnmatchcase(name, pattern) for pattern in BESIDE_GGUF))]


def why_left_out(name: str, chosen: Collection[str] = ()) -> str:
    """Why a file that is not taken is not, in a few words.

    Args:
        name: the file.
        chosen: the files that are taken.
    """
    ending = name[name.rfind(".") :].lower() if "." in name else ""
    if is_taken(name) and any(is_gguf(one) for one in chosen):
        return "the GGUF file holds its own"
    if ending in _OTHER_FORMATS:
        kind = _OTHER_FORMATS[ending]
        return f"{kind}, never loaded" if kind == "pickled" else f"{kind}, not safetensors"
    if ending == ".py":
        return "code, never run"
    if any(fnmatchcase(name, p) for p in LEFT_OUT):
        return "the same weights in another layout"
    return "no file of a base model"


def what_is_missing(names: Collection[str], others: Collection[str] | None = None) -> str:
    """What a folder lacks to be a base model, in one line; empty when it lacks nothing.

    Args:
        names: the files that are taken.
        others: the files and folders beside them; None where they are not known.
    """
    packed = sorted(name for name in names if is_gguf(name))
    if len(packed) == 1:
        return ""
    if packed:
        more = f" and {len(packed) - 10} more" if len(packed) > 10 else ""
        return f"there are {len(packed)} GGUF files ({', '.join(packed[:10])}{more}): name the one to import"
    if "config.json" not in names:
        return "there is no config.json, so this is no folder of a model that transformers can load, and no GGUF file"
    if any(name.endswith(".safetensors") for name in names):
        return ""
    if others is None:
        return "there is no *.safetensors file, and weights in other formats are not taken"
    held = [f"{name} ({why_left_out(name)})" for name in sorted(others) if _is_weights(name)]
    if not held:
        return "there is no *.safetensors file, and no weights in another format"
    return f"there is no *.safetensors file but {', '.join(held)}; convert it: save_pretrained of transformers"


def missing_shards(names: Collection[str], weight_map: Mapping[str, str]) -> list[str]:
    """The files that the index of a model's weights names and that are not there."""
    return sorted(set(weight_map.values()) - set(names))


def _is_weights(name: str) -> bool:
    return "." in name and name[name.rfind(".") :].lower() in _OTHER_FORMATS
