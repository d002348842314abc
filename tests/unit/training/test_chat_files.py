"""What a base model is given at import: a template, variables, special tokens; and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from anneal.kit.digests import digest_of_file
from anneal.training.describing import describe_model, license_of
from anneal.training.domain.base_model import open_base_model
from anneal.training.domain.chat_files import ChatGiven, added_tokens, library_template, template_kwargs
from anneal.training.domain.errors import BaseUnusable
from anneal.training.domain.model_files import TEMPLATES, origin_of
from anneal.training.giving import give
from tests.fixtures.base_models import write_model

STOPS = {"chatml": "<|im_end|>", "gemma": "<end_of_turn>", "llama3": "<|eot_id|>", "phi3": "<|end|>"}
TURNS = [
    {"role": "user", "content": "First question"},
    {"role": "assistant", "content": "First answer"},
    {"role": "user", "content": "Second question"},
    {"role": "assistant", "content": "Second answer"},
]
SYSTEM = {"role": "system", "content": "Be short."}


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A base model without a chat template."""
    return write_model(tmp_path / "bare", "llama", template=None)


def refused(folder: Path, **given: Any) -> BaseUnusable:
    with pytest.raises(BaseUnusable) as caught:
        give(folder, ChatGiven(**given))
    return caught.value


def digests(folder: Path) -> dict[str, str]:
    return {path.name: digest_of_file(path) for path in sorted(folder.iterdir())}


def test_a_model_without_a_template_is_described_as_such(bare: Path) -> None:
    assert describe_model(bare)["chat_template"] is None


@pytest.mark.parametrize("name", TEMPLATES)
def test_each_template_of_the_library_writes_turns_that_begin_with_their_prompt(name: str, bare: Path) -> None:
    give(bare, ChatGiven(template_name=name, special_tokens=tuple({STOPS.get(name, "<|im_end|>")})))
    tokenizer = AutoTokenizer.from_pretrained(bare)
    stop = STOPS.get(name, tokenizer.eos_token)
    for start in ([], [SYSTEM]):
        rows = [*start, *TURNS]
        whole = tokenizer.apply_chat_template(rows, tokenize=False)
        for turn in (i for i, m in enumerate(rows) if m["role"] == "assistant"):
            prompt = tokenizer.apply_chat_template(rows[:turn], tokenize=False, add_generation_prompt=True)
            after = tokenizer.apply_chat_template(rows[: turn + 1], tokenize=False)
            assert after.startswith(prompt)
            assert whole.startswith(after)
            assert after[len(prompt) :].strip() == rows[turn]["content"] + stop
        assert all(message["content"] in whole for message in rows)
    with pytest.raises(Exception, match=f"the template {name} has no role tool"):
        tokenizer.apply_chat_template([*TURNS, {"role": "tool", "content": "x"}], tokenize=False)


def test_every_template_of_the_folder_can_be_named() -> None:
    folder = Path(__file__).parents[3] / "services" / "anneal" / "training" / "chat_templates"
    assert sorted(TEMPLATES) == sorted(path.stem for path in folder.glob("*.jinja"))
    assert all(name in (folder / "README.md").read_text() for name in TEMPLATES)


def test_a_given_template_is_part_of_the_files_and_of_nothing_else(bare: Path) -> None:
    before = digests(bare)
    done = give(bare, ChatGiven(template_name="chatml"))
    after = digests(bare)
    assert after.pop("chat_template.jinja")
    assert after == before
    assert done == ["chat template given: chatml"]
    assert describe_model(bare)["chat_template"] == library_template("chatml")


def test_nothing_given_changes_nothing(bare: Path) -> None:
    before = digests(bare)
    assert give(bare, ChatGiven()) == []
    assert digests(bare) == before


def test_variables_are_kept_beside_the_tokenizer(tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}{{ '<|im_start|>' ~ m.role ~ '\n' ~ (style if m.role == 'user' else '') ~ m.content }}"
        "{{ '<|im_end|>\n' }}{% endfor %}"
    )
    folder = write_model(tmp_path / "base", "llama", template=None)
    assert "style" in str(refused(folder, template_text=template)), "a variable that nobody gives"
    give(folder, ChatGiven(template_text=template, template_kwargs={"style": "kurz: "}))
    assert json.loads((folder / "anneal_chat.json").read_text()) == {"template_kwargs": {"style": "kurz: "}}
    assert template_kwargs(folder) == {"style": "kurz: "}
    assert json.loads(describe_model(folder)["template_kwargs"]) == {"style": "kurz: "}
    give(folder, ChatGiven(template_kwargs={"depth": 2}))
    assert template_kwargs(folder) == {"style": "kurz: ", "depth": 2}, "what was there stays"


def test_one_of_several_templates_is_chosen(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "base", "llama", template=None)
    path = folder / "tokenizer_config.json"
    named = [{"name": n, "template": library_template(n).replace("chatml has", n)} for n in ("chatml", "zephyr")]
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": named}))
    with pytest.raises(BaseUnusable, match=r"several chat templates \(chatml, zephyr\): choose one"):
        describe_model(folder)
    error = refused(folder, template_choice="tools")
    assert "it has chatml, zephyr" in str(error)
    give(folder, ChatGiven(template_choice="zephyr"))
    assert describe_model(folder)["chat_template"] == named[1]["template"]
    assert "chat_template" not in json.loads(path.read_text())


@pytest.mark.parametrize(
    ("template", "cause", "text"),
    [
        ("{{ messages[0].content }}", "chat_template", "answer"),
        ("{% for m in messages %}{{ m.content }}{% endfor %}", "stop_token", "writes nothing"),
        ("{% for m in messages %}{{ m.content ~ '<|stop|>' }}{% endfor %}", "stop_token", "<|stop|>"),
        ("{{ raise_exception('system text needed') }}", "chat_template", "system text needed"),
        ("{{ bos_token }}{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}", "chat_template", "bos_token"),
        ("{% for m in messages %}{{ m.nobody.gives }}{% endfor %}", "chat_template", "nobody"),
    ],
)
def test_a_template_that_cannot_work_is_refused(template: str, cause: str, text: str, bare: Path) -> None:
    error = refused(bare, template_text=template)
    assert error.facts["cause"] == cause
    assert text in str(error)


def test_a_template_of_another_family_lacks_its_stop_token(bare: Path) -> None:
    error = refused(bare, template_name="llama3")
    assert error.facts["cause"] == "stop_token"
    assert "<|eot_id|>" in str(error)


def test_a_template_of_the_model_that_is_no_jinja_is_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "base", "llama", template="{% for m in messages %}{{ m.content }}")
    with pytest.raises(BaseUnusable, match="no Jinja template"):
        describe_model(folder)


def test_what_is_wrong_without_any_file_is_named() -> None:
    given = ChatGiven(
        template_name="chatmol",
        template_text="{% if %}",
        template_kwargs={"messages": []},
        special_tokens=(" x", "<a>", "<a>"),
    )
    fields = [field for field, _ in given.violations()]
    assert fields == ["template_name", "template_text", "template_kwargs", "special_tokens", "special_tokens"]


def test_special_tokens_get_rows_of_their_own_and_the_same_files_every_time(tmp_path: Path) -> None:
    folders = [write_model(tmp_path / name, "llama") for name in ("one", "two")]
    before = open_base_model(folders[0]).load(torch.float32)
    for folder in folders:
        give(folder, ChatGiven(special_tokens=("<|tool|>", "<|im_end|>")))
    assert digests(folders[0]) == digests(folders[1])
    base = open_base_model(folders[0])
    ids = base.tokenizer("a<|tool|>b", add_special_tokens=False)["input_ids"]
    new = base.tokenizer.convert_tokens_to_ids("<|tool|>")
    assert ids.count(new) == 1
    assert "<|tool|>" not in base.tokenizer.decode(ids, skip_special_tokens=True)
    model = base.load(torch.float32)
    old, rows = before.get_input_embeddings().weight, model.get_input_embeddings().weight
    assert rows.shape[0] == len(base.tokenizer) == old.shape[0] + 1
    assert torch.equal(rows[: old.shape[0]], old), "what the model knew is as it was"
    assert torch.allclose(rows[new], old.mean(dim=0), atol=1e-6)
    assert model.get_output_embeddings().weight.shape[0] == rows.shape[0]
    assert added_tokens(folders[0]) == ("<|tool|>",), "and not the one that was there"
    assert describe_model(folders[0])["special_tokens"] == ["<|tool|>"]


def test_weights_keep_the_type_that_they_are_stored_in(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "base", "llama")
    open_base_model(folder).load(torch.float32).to(torch.bfloat16).save_pretrained(folder)
    assert describe_model(folder)["storage_dtype"] == "bfloat16"
    give(folder, ChatGiven(special_tokens=("<|tool|>",)))
    assert describe_model(folder)["storage_dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("card", "licence", "expected"),
    [
        ("---\nlicense: apache-2.0\ntags: [a]\n---\n# Model\n", None, "apache-2.0"),
        ("---\nlicense: other\nlicense_name: llama3\n---\n", "The text\n", "llama3"),
        ("---\nlicense: [mit, cc-by-4.0]\n---\n", None, "mit, cc-by-4.0"),
        ("# No front matter\n", "\n  MIT License\n\nCopyright", "LICENSE: MIT License"),
        ("---\nlicense: {broken\n---\n", None, ""),
        (None, None, ""),
    ],
)
def test_the_licence_of_a_model(tmp_path: Path, card: str | None, licence: str | None, expected: str) -> None:
    for name, text in (("README.md", card), ("LICENSE", licence)):
        if text is not None:
            (tmp_path / name).write_text(text)
    assert license_of(tmp_path) == expected


def test_a_folder_of_the_hubs_cache_is_called_by_id_and_commit(tmp_path: Path) -> None:
    assert origin_of(tmp_path / "models--acme--small-1b" / "snapshots" / "0a1b2c") == "acme/small-1b@0a1b2c"
    assert origin_of(tmp_path / "snapshots") == "snapshots"
