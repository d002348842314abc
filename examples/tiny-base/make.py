"""Make the base model `anneal-tiny`: tokenizer, random weights, then Anneal's own `full` method over raw text.

Run it again on the same folder after an interruption: it goes on from the last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tarfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from anneal.curation.domain.steps.split import place_of
from anneal.ingestion.adapters.parsers import html
from anneal.training.adapters.checkpoint_folder import CheckpointFolder
from anneal.training.domain.loop import Loop, StepDone
from anneal.training.domain.methods import METHODS
from anneal.training.domain.objectives import OBJECTIVES
from anneal.training.domain.packing import pack
from anneal.training.domain.samples import fit_to_context
from anneal.training.domain.spec import TrainingSpec
from anneal.training.domain.world import Alone

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHATML = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ '<|im_start|>assistant\n' }}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True, slots=True)
class Phase:
    """One run over rows of raw text."""

    name: str
    spec: TrainingSpec
    rows: list[dict[str, str]]
    validation_share: float


def is_left_out(uri: str, rule: dict[str, Any]) -> bool:
    """Whether a page may come into a test set."""
    return uri.startswith(rule["pages"]) and place_of(rule["seed"], uri) < rule["below"]


def pages(archive: Path) -> Iterator[Any]:
    """The parsed pages of the corpus, in the order of their names."""
    with tarfile.open(archive) as tar:
        for member in sorted(tar.getmembers(), key=lambda m: m.name):
            file = tar.extractfile(member) if member.isfile() and member.name.endswith(".html") else None
            if file is not None:
                yield html.parse(file.read(), member.name)


def corpus_pages(corpus: dict[str, Any], folder: Path) -> tuple[list[Any], list[str]]:
    """The pages to learn from, and the names of those that were left out."""
    every = list(pages(folder / corpus["archive"]))
    left_out = [page.uri for page in every if is_left_out(page.uri, corpus["leave_out"])]
    return [page for page in every if page.uri not in left_out], left_out


def rows(read: list[Any], repeat: dict[str, int]) -> list[dict[str, str]]:
    """Rows of raw text: every page, and every short entry several times in a row."""
    found = []
    for page in read:
        found.append({"id": page.uri, "text": page.text})
        for span in page.spans:
            entry = page.text[span.start : span.end].strip()
            if 40 <= len(entry) <= repeat["max_characters"]:
                found.append({"id": f"{page.uri}#{span.name}", "text": "\n\n".join([entry] * repeat["times"])})
    return found


def make_tokenizer(texts: list[str], vocab_size: int, context: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with ChatML's tokens and template."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHATML
    return tokenizer


def untrained(tokenizer: PreTrainedTokenizerFast, shape: dict[str, Any], seed: int) -> LlamaForCausalLM:
    """A model with random weights."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        bos_token_id=None,
        eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"),
        pad_token_id=tokenizer.pad_token_id,
        **shape,
    )
    return LlamaForCausalLM(config)


def train_phase(model: Any, tokenizer: PreTrainedTokenizerFast, phase: Phase, folder: Path) -> dict[str, Any]:
    """Train one phase in place; returns what a model card wants to know of it."""
    spec, start = phase.spec, time.time()
    made = OBJECTIVES[spec.objective](tokenizer, context_tokens=spec.context_tokens).samples(phase.rows)
    samples = fit_to_context(made, context_tokens=spec.context_tokens, overlong=spec.overlong).kept
    held = {row["id"] for row in phase.rows if place_of("validation", row["id"]) < phase.validation_share}
    parts = [[s for s in samples if (s.row_id in held) is wanted] for wanted in (False, True)]
    packed, validation = (pack(part, context_tokens=spec.context_tokens) for part in parts)
    num_tokens = sum(len(s) for s in parts[0])
    print(f"{phase.name}: {len(phase.rows)} rows, {num_tokens} tokens, {len(packed)} packed", flush=True)

    def report(event: Any) -> None:
        if not isinstance(event, StepDone):
            print(f"step {event.step}: validation loss {event.loss:.4f}", flush=True)
        elif event.step % 20 == 0:
            print(f"step {event.step}/{event.num_steps} loss {event.loss:.4f} {time.time() - start:.0f} s", flush=True)

    fingerprint = json.dumps([asdict(spec), num_tokens], sort_keys=True)
    loop = Loop(
        model=model,
        spec=spec,
        rows=packed,
        validation=validation,
        pad_id=tokenizer.pad_token_id,
        world=Alone(),
        report=report,
        checkpoints=CheckpointFolder(folder / phase.name, fingerprint=fingerprint),
    )
    progress = loop.run()
    return {"tokens": num_tokens, "steps": progress.step, "validation_loss": progress.best_loss, "spec": asdict(spec)}


def main() -> None:
    """Read the recipe, train phase after phase, and leave the finished model in `<folder>/model`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("folder", type=Path)
    told = parser.parse_args()
    recipe = yaml.safe_load(told.recipe.read_text())
    read, left_out = corpus_pages(recipe["corpus"], told.recipe.parent)
    phases = [
        Phase(
            f"phase-{number}",
            TrainingSpec(**recipe["training"], **phase["training"]),
            rows(read, phase["repeat_entries"]),
            recipe["validation_share"],
        )
        for number, phase in enumerate(recipe["phases"], start=1)
    ]
    spec = phases[0].spec
    tokenizer = make_tokenizer(
        [row["text"] for row in phases[0].rows], **recipe["tokenizer"], context=spec.context_tokens
    )
    model = METHODS[spec.method](spec).wrap(untrained(tokenizer, recipe["model"], spec.seed))
    notes = {"parameters": sum(p.numel() for p in model.parameters()), "pages": len(read), "left_out": left_out}
    notes["phases"] = [train_phase(model, tokenizer, phase, told.folder) for phase in phases]
    target = told.folder / "model"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    METHODS[spec.method](spec).save(model, target, base_name="")
    tokenizer.save_pretrained(target)
    (told.folder / "notes.json").write_text(json.dumps(notes, indent=1))


if __name__ == "__main__":
    main()
