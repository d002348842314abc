"""vLLM's `AsyncLLM` with many LoRA adapters, behind the words of the domain. Imported in the engine's process only.

vLLM keys its prefix cache by LoRA name, and an adapter's name here is its digest: blocks are shared only among
requests of the same adapter, also after it was unloaded and loaded again.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch._dynamo
import vllm
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.exceptions import VLLMClientError
from vllm.inputs.engine import tokens_input
from vllm.lora.request import LoRARequest
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from anneal.kit.chat.reasoning import ReasoningSplitter
from anneal.kit.engine.adapters import RANKS, adaptable_names
from anneal.kit.errors import Invalid
from anneal.serving.adapters.model_files import read_tensor_names
from anneal.serving.adapters.prompts import Prompts
from anneal.serving.domain.answers import (
    AdapterRef,
    Continuation,
    EngineInfo,
    Finish,
    Piece,
    Prompt,
    Scored,
    TokenScore,
)
from anneal.serving.domain.errors import EngineDown, PromptTooLong
from anneal.serving.domain.sampling import Sampling

_PR_SET_PDEATHSIG = 1


class VllmEngine:
    """One base model in vLLM."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        """Load the base and start the engine's core process.

        Args:
            options: `base` (folder), `digest`, `max_adapters`, `max_rank`, `max_sequences`, `max_batched_tokens`,
                `context_length` (0: the model's, as far as there is room), `kv_cache_bytes` (0: vLLM decides), `dtype`,
                `eager`, `tensor_parallel`.
        """
        on_cpu = current_platform.is_cpu()
        arguments = _engine_arguments(options, on_cpu=on_cpu)
        if on_cpu:
            # vLLM compiles its sampler at the first scored request; without a C++ compiler the engine ends there.
            torch._dynamo.config.disable = True
            current_platform.__class__.get_punica_wrapper = classmethod(
                lambda cls: "anneal.serving.adapters.cpu_lora.GroupedPunicaWrapper"
            )
            _compute_experts_without_adapters()
        config = arguments.create_engine_config()
        if on_cpu:
            # vLLM asks for `spawn` here, which imports everything a second time (17 s on 2 cores). Nothing in this
            # process has used OpenMP or started a thread that holds a lock, so the core may be forked.
            os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"
            os.register_at_fork(after_in_child=_die_with_parent)
        self._engine = AsyncLLM.from_vllm_config(config, disable_log_stats=False)
        self._tokenizer = self._engine.renderer.tokenizer
        self._prompts = Prompts(Path(options["base"]), self._tokenizer)
        self._context_length = int(config.model_config.max_model_len)
        self._vocabulary = int(config.model_config.get_vocab_size())
        self.info = EngineInfo(
            engine=f"vllm {vllm.__version__}",
            dtype=str(config.model_config.dtype).removeprefix("torch."),
            context_length=self._context_length,
            facts={
                "device": current_platform.device_type,
                "model_context_length": str(_context_length(Path(options["base"]))),
            },
        )

    @property
    def dead(self) -> bool:
        """Whether the core has ended."""
        return bool(self._engine.errored)

    def shutdown(self) -> None:
        """End the core process."""
        self._engine.shutdown(timeout=2.0)

    async def load(self, adapter: AdapterRef) -> None:
        """Put an adapter into the engine."""
        await self._engine.add_lora(_lora(adapter))

    async def unload(self, slot: int) -> None:
        """Take an adapter out of the engine."""
        await self._engine.remove_lora(slot)

    async def generate(
        self, prompt: Prompt, sampling: Sampling, adapter: AdapterRef | None, *, stream: bool, request_id: str
    ) -> AsyncGenerator[Piece]:
        """Write an answer, in pieces or as one piece. Closing the iterator ends the generation.

        Raises:
            PromptTooLong: no token fits after the prompt.
            Invalid: the engine cannot follow the JSON schema.
            EngineDown: the core ended.
        """
        rendered = self._prompts.render(prompt, adapter)
        ids = rendered.ids
        if len(ids) >= self._context_length:
            raise _too_long(len(ids), self._context_length)
        # JSON is asked for from the first token on, so there is no reasoning before it.
        splitter = None if sampling.schema is not None or sampling.json_object else rendered.splitter
        parameters = _sampling_parameters(sampling, rendered.stops, stream=stream)
        parameters.skip_special_tokens = splitter is None or not rendered.keeps_special
        async for output in self._run(ids, parameters, adapter, request_id):
            answer = output.outputs[0]
            scores = _answer_scores(answer, sampling.logprobs)
            finish = _finish(answer.finish_reason)
            reasoning, text = _split(splitter, answer.text, ended=finish is not None)
            yield Piece(text, len(answer.token_ids), finish, len(ids), scores, reasoning)

    async def score(
        self, context: Prompt, continuation: Continuation, adapter: AdapterRef | None, *, request_id: str
    ) -> Scored:
        """Log probabilities of a whole sequence, as the model itself gives them (no temperature).

        vLLM reads no prefix cache for a request with prompt log probabilities
        (`SamplingParams.skip_reading_prefix_cache`), so every token is computed.
        """
        ids, context_tokens = self._prompts.sequence(context, continuation, adapter)
        if len(ids) >= self._context_length:
            raise _too_long(len(ids), self._context_length)
        if not ids:
            raise Invalid.field("continuation", "there is no token to score")
        if max(ids) >= self._vocabulary:
            field = "continuation_ids" if continuation.ids else "token_ids.ids"
            raise Invalid.field(field, f"{max(ids)} is no token: the model knows {self._vocabulary}")
        parameters = SamplingParams(
            temperature=0.0, max_tokens=1, prompt_logprobs=0, detokenize=True, output_kind=RequestOutputKind.FINAL_ONLY
        )
        final = None
        async for output in self._run(ids, parameters, adapter, request_id):
            final = output
        if final is None or final.prompt_logprobs is None:
            raise EngineDown("the engine gave no log probabilities", retry_after_s=1.0)
        tokens = [TokenScore(ids[0], self._tokenizer.decode([ids[0]]), None)]
        for token_id, choices in zip(ids[1:], final.prompt_logprobs[1:], strict=True):
            choice = choices[token_id]
            tokens.append(TokenScore(token_id, choice.decoded_token or "", float(choice.logprob)))
        return Scored(tuple(tokens), context_tokens)

    async def _run(
        self, ids: Sequence[int], parameters: SamplingParams, adapter: AdapterRef | None, request_id: str
    ) -> AsyncGenerator[Any]:
        lora = None if adapter is None else _lora(adapter)
        rendered = tokens_input(list(ids))
        try:
            async for output in self._engine.generate(rendered, parameters, request_id, lora_request=lora):
                yield output
        except (VLLMClientError, ValueError) as error:  # the latter is how grammar compilers refuse a schema
            field = "sampling.json_schema" if parameters.structured_outputs else "sampling"
            raise Invalid.field(field, str(error)) from error
        except (EngineDeadError, EngineGenerateError) as error:
            raise EngineDown("the engine ended while it answered", retry_after_s=5.0) from error


def _engine_arguments(options: Mapping[str, Any], *, on_cpu: bool) -> AsyncEngineArgs:
    dtype = options["dtype"]
    if dtype == "auto" and on_cpu:
        dtype = "float32"
    optional: dict[str, Any] = {}
    if options["tensor_parallel"] > 1:
        optional["tensor_parallel_size"] = options["tensor_parallel"]
    if options["kv_cache_bytes"]:
        optional["kv_cache_memory_bytes"] = options["kv_cache_bytes"]
    # -1: the model's context, or as much of it as the keys and values of one sequence have room for. Without it vLLM
    # does not start a model whose context is longer than its room.
    optional["max_model_len"] = options["context_length"] or -1
    if targets := adaptable_names(read_tensor_names(Path(options["base"]))):
        optional["lora_target_modules"] = targets
    batched = options["max_batched_tokens"]
    if on_cpu:
        # In the core's own process: another worker process would double memory and start-up.
        optional["distributed_executor_backend"] = "uni"
        # On a CPU vLLM 0.32.0 dies of a seeded request whose prompt is computed in parts (`CPU Generator does not use
        # offset`), so every prompt is computed at once.
        optional["enable_chunked_prefill"] = False
        batched = max(batched, options["context_length"] or _context_length(Path(options["base"])))
    return AsyncEngineArgs(
        model=options["base"],
        served_model_name=options["digest"],
        dtype=dtype,
        load_format="safetensors",
        trust_remote_code=False,
        enable_lora=True,
        max_loras=options["max_adapters"],
        max_cpu_loras=options["max_adapters"],
        max_lora_rank=next(rank for rank in RANKS if rank >= options["max_rank"]),
        max_num_seqs=options["max_sequences"],
        max_num_batched_tokens=batched,
        enforce_eager=options["eager"] or on_cpu,
        enable_prefix_caching=True,
        seed=0,
        enable_log_requests=False,
        # A weak model would fill its answer with white space between the tokens of JSON.
        structured_outputs_config={"backend": "xgrammar", "disable_any_whitespace": True},
        **optional,
    )


def _context_length(base: Path) -> int:
    """The longest sequence a model was made for, as its config says; 0 when it does not."""
    config = json.loads((base / "config.json").read_text())
    said = {**config, **(config.get("text_config") or {})}
    return int(said.get("max_position_embeddings") or said.get("n_positions") or 0)


def _split(splitter: ReasoningSplitter | None, text: str, *, ended: bool) -> tuple[str, str]:
    """New reasoning and new content of a piece."""
    if splitter is None:
        return "", text
    reasoning, content = splitter.feed(text)
    if ended:
        more_reasoning, more_content = splitter.end()
        return reasoning + more_reasoning, content + more_content
    return reasoning, content


def _sampling_parameters(sampling: Sampling, stops: Sequence[int], *, stream: bool) -> SamplingParams:
    structured = None
    if sampling.schema is not None:
        structured = StructuredOutputsParams(json=dict(sampling.schema))
    elif sampling.json_object:
        structured = StructuredOutputsParams(json_object=True)
    return SamplingParams(
        n=1,
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        stop=list(sampling.stop),
        stop_token_ids=list(stops),
        seed=sampling.seed,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        logprobs=sampling.logprobs,
        structured_outputs=structured,
        output_kind=RequestOutputKind.DELTA if stream else RequestOutputKind.FINAL_ONLY,
    )


def _answer_scores(answer: Any, wanted: int | None) -> tuple[TokenScore, ...]:
    if wanted is None or not answer.logprobs:
        return ()
    scores = []
    for token_id, choices in zip(answer.token_ids, answer.logprobs, strict=True):
        ranked = sorted(choices.items(), key=lambda choice: -choice[1].logprob)[:wanted]
        top = tuple(TokenScore(i, c.decoded_token or "", float(c.logprob)) for i, c in ranked)
        chosen = choices[token_id]
        scores.append(TokenScore(token_id, chosen.decoded_token or "", float(chosen.logprob), top))
    return tuple(scores)


def _finish(reason: str | None) -> Finish | None:
    if reason is None:
        return None
    if reason in ("stop", "length"):
        return "stop" if reason == "stop" else "length"
    raise EngineDown(f"the engine ended the answer itself ({reason})", retry_after_s=1.0)


def _lora(adapter: AdapterRef) -> LoRARequest:
    return LoRARequest(lora_name=adapter.digest, lora_int_id=adapter.slot, lora_path=adapter.path)


def _too_long(tokens: int, room: int) -> PromptTooLong:
    why = f"the prompt has {tokens} tokens, and the model's context holds {room} with at least one token of answer"
    return PromptTooLong(why, violations=[("prompt", why)], tokens=str(tokens), context=str(room))


def _compute_experts_without_adapters() -> None:
    """Let a mixture's experts be computed by the kernels of CPUs.

    Where an engine takes adapters, vLLM 0.32.0 chooses kernels for experts that could take them, too, and it has such
    kernels for GPUs only: on a CPU the engine ends at its first request. Here no adapter changes experts
    (`lora_target_modules`, `check_adapter`).
    """
    from vllm.model_executor.layers.fused_moe.config import FusedMoEConfig

    FusedMoEConfig.is_lora_enabled = property(lambda _: False, lambda *_: None)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
