"""Which LoRA adapters may reach the engine: one check for serving, before it loads one, and training, before it starts.

The engine answers with whatever it is given: a NaN becomes text, a wrong base becomes nonsense, and some shapes end
it. So everything is checked before, from names, shapes and configuration alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from anneal.kit.engine.models import EngineModel
from anneal.kit.errors import NotYet

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks vLLM has room sizes for (`LoRAConfig.max_lora_rank`)."""
MAX_RANK = 32
"""Highest rank of an adapter where the settings say nothing else."""

_TENSOR = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
"""As PEFT saves them. With its name of the adapter inside, `lora_A.default.weight`, vLLM loads nothing."""

_OUTSIDE_LAYERS = ("lm_head", "embed_tokens", "embed_out", "wte")
"""Modules with one row per token of the vocabulary: engines treat them apart, and ours lets no adapter change them."""

_ABSORBED = ("kv_b_proj",)
"""Modules of multi-head latent attention whose weights the engine folds into others when it starts: an adapter on them
would change the prompt's computation and not the answer's."""

_EXPERTS = re.compile(r"(^|\.)experts(\.|$)")
_SENSES = re.compile(
    r"(^|\.)(vision_tower|vision_model|vision_encoder|visual|audio_tower|audio_model|speech_encoder"
    r"|multi_modal_projector|mm_projector|embed_vision|embed_audio|connector|aligner)(\.|$)"
)
"""Parts of a model that read images or sound. The engine leaves adapters on them out of its answers."""
_ROUTERS = ("gate", "router", "shared_expert_gate")
"""Last segments of the layers that choose among the experts of a mixture."""

_MAX_ALPHA = 10_000
_UNSERVED = (
    "use_dora",
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "layer_replication",
    "trainable_token_indices",
)
"""Kinds of LoRA that PEFT trains and the engine does not serve."""


class AdapterRefused(NotYet):
    """The adapter failed a check, so it does not reach the engine. The fact `cause` says which check."""

    reason = "ADAPTER_REFUSED"


@dataclass(frozen=True, slots=True)
class TensorFacts:
    """What a check needs to know of one tensor."""

    name: str
    shape: tuple[int, ...]
    finite: bool
    nonzero: bool


@dataclass(frozen=True, slots=True)
class AdapterFacts:
    """What a check needs to know of an adapter's files.

    Attributes:
        files: names of its files.
        config: `adapter_config.json`; None when there is none.
        tensors: the tensors of `adapter_model.safetensors`; None when there is no such file.
        base_digest: digest of the base it was trained on, as its files say; None when they do not.
    """

    files: Sequence[str]
    config: Mapping[str, Any] | None
    tensors: Sequence[TensorFacts] | None
    base_digest: str | None


@dataclass(frozen=True, slots=True)
class AdapterShape:
    """An adapter that passed.

    Attributes:
        rank: rank of the update.
        alpha: the update is multiplied by alpha / rank.
        targets: last segments of the modules it changes, sorted.
    """

    rank: int
    alpha: float
    targets: tuple[str, ...]


def check_adapter(
    digest: str,
    facts: AdapterFacts,
    *,
    base_digest: str,
    base_layers: Mapping[str, tuple[int, int]],
    max_rank: int,
    engine_model: EngineModel | None = None,
) -> AdapterShape:
    """Decide whether an adapter may be loaded over a base.

    Args:
        digest: the adapter, for the message.
        facts: what its files hold.
        base_digest: the base it is asked for.
        base_layers: the base's linear layers: module path -> (outputs, inputs).
        max_rank: highest rank the engine has room for.
        engine_model: what the engine knows of the base's architecture; None compares names as they are.

    Raises:
        AdapterRefused: it may not; the fact `cause` is one of `pickle`, `no_safetensors`, `no_config`, `base_unknown`,
            `base`, `method`, `rank`, `alpha`, `targets`, `shape`, `not_finite`, `no_effect`.
    """
    refuse = _Refuser(digest)
    config, tensors = _check_files(facts, refuse)
    if facts.base_digest is None:
        refuse("base_unknown", "its files do not say which base model it was trained on")
    if facts.base_digest != base_digest:
        refuse("base", f"it was trained on {facts.base_digest}, not on {base_digest}")
    rank, alpha = _check_config(config, max_rank, refuse)
    modules = _pair_tensors(tensors, refuse)
    _check_targets(config.get("target_modules"), modules, refuse)
    name_of = engine_model.name_of if engine_model is not None else str
    layers = {name_of(name): shape for name, shape in base_layers.items()}
    for module, sides in modules.items():
        layer = layers.get(name_of(module))
        last = module.split(".")[-1]
        if _EXPERTS.search(module) or last in _ROUTERS:
            refuse("targets", f"{module} belongs to the experts of a mixture, on which no adapter is served")
        if _SENSES.search(module):
            refuse("targets", f"{module} reads images or sound, and only adapters on the language model are served")
        if last in _ABSORBED:
            refuse("targets", f"{module} is folded into other weights by the engine, so no adapter may change it")
        if layer is None or last in _OUTSIDE_LAYERS:
            refuse("targets", f"{module} is no linear layer of the base that an adapter may change")
        outputs, inputs = layer
        want = {"A": (rank, inputs), "B": (outputs, rank)}
        for side, shape in want.items():
            if sides[side].shape != shape:
                refuse("shape", f"{sides[side].name} has shape {sides[side].shape}, and {shape} fits rank and base")
    bad = [t.name for t in tensors if not t.finite]
    if bad:
        refuse("not_finite", f"{bad[0]} holds values that are not finite ({len(bad)} tensors do)")
    if not any(sides["A"].nonzero and sides["B"].nonzero for sides in modules.values()):
        refuse("no_effect", "every update is zero, so it would answer exactly as the base does")
    return AdapterShape(rank, alpha, tuple(sorted({module.split(".")[-1] for module in modules})))


class _Refuser:
    """Raises with the adapter's name in front, so that each check is one line."""

    def __init__(self, digest: str) -> None:
        self._digest = digest

    def __call__(self, cause: str, why: str) -> NoReturn:
        raise AdapterRefused(f"adapter {self._digest}: {why}", cause=cause, adapter=self._digest)


def adaptable_names(base_layers: Iterable[str]) -> list[str] | None:
    """The last segments of a mixture's layers that adapters may change; None for a base that is no mixture.

    An engine that is told them leaves the experts as they are: vLLM computes experts with room for adapters by kernels
    of GPUs only, and on a CPU it would end at the first request, with or without an adapter.
    """
    names = list(base_layers)
    if not any(_EXPERTS.search(name) for name in names):
        return None
    last = {name.rsplit(".", 1)[-1] for name in names if not _EXPERTS.search(name)}
    return sorted(last - {*_OUTSIDE_LAYERS, *_ABSORBED, *_ROUTERS})


def _check_files(facts: AdapterFacts, refuse: _Refuser) -> tuple[Mapping[str, Any], Sequence[TensorFacts]]:
    pickles = [name for name in facts.files if name.endswith((".bin", ".pt", ".pth", ".ckpt", ".pkl"))]
    if pickles:
        refuse("pickle", f"{pickles[0]} is a pickle, which can run code when it is read; only safetensors are loaded")
    if facts.tensors is None:
        refuse("no_safetensors", "it has no readable adapter_model.safetensors")
    if facts.config is None:
        refuse("no_config", "it has no readable adapter_config.json")
    return facts.config, facts.tensors


def _check_config(config: Mapping[str, Any], max_rank: int, refuse: _Refuser) -> tuple[int, float]:
    if config.get("peft_type") != "LORA":
        refuse("method", f"its peft_type is {config.get('peft_type')!r}, and only LORA is served")
    for key in _UNSERVED:
        if config.get(key):
            refuse("method", f"its {key} is set, which the engine does not serve")
    if config.get("target_parameters"):
        refuse("method", "it changes the experts of a mixture (target_parameters), which the engine does not serve")
    if config.get("bias", "none") != "none":
        refuse("method", f"its bias is {config['bias']!r}, and the engine serves only adapters that leave biases alone")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= max_rank:
        refuse("rank", f"its rank is {rank!r}, and the engine has room for 1 to {max_rank}")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha <= _MAX_ALPHA:
        refuse("alpha", f"its lora_alpha is {alpha!r}, which is not above 0 and at most {_MAX_ALPHA}")
    return rank, float(alpha)


def _pair_tensors(tensors: Sequence[TensorFacts], refuse: _Refuser) -> dict[str, dict[str, TensorFacts]]:
    modules: dict[str, dict[str, TensorFacts]] = {}
    for tensor in tensors:
        match = _TENSOR.fullmatch(tensor.name)
        if match is None:
            refuse("targets", f"tensor {tensor.name[:200]!r} is not a LoRA factor of a linear layer")
        sides = modules.setdefault(match["module"], {})
        if match["side"] in sides:
            refuse("targets", f"tensor {tensor.name[:200]!r} comes twice")
        sides[match["side"]] = tensor
    if not modules:
        refuse("no_effect", "it holds no tensors")
    for module, sides in modules.items():
        if len(sides) != 2:
            refuse("shape", f"{module} has only one of its two factors")
    return modules


def _check_targets(targets: Any, modules: Iterable[str], refuse: _Refuser) -> None:
    """The configuration names what the tensors hold, all of it and nothing else."""
    if isinstance(targets, str) and targets:
        return  # "all-linear" or a pattern; a stranger's pattern is never run, since some never end
    if not isinstance(targets, list) or not targets or not all(isinstance(one, str) for one in targets):
        refuse("targets", f"its target_modules is {str(targets)[:80]!r}, which names no modules")
    unused = set(targets)
    for module in modules:
        hits = {one for one in targets if module == one or module.endswith(f".{one}")}
        if not hits:
            refuse("targets", f"it changes {module}, which its target_modules does not name")
        unused -= hits
    if unused:
        refuse("targets", f"its target_modules names {min(unused)}, for which it has no tensors")
