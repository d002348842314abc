from __future__ import annotations

import pickle
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from anneal.curation.adapters import away
from anneal.curation.adapters.encoders import encoder_of
from anneal.curation.domain.encoders import Encoder, EncoderSpec, Endpoint, Hashing, HuggingFace
from anneal.curation.domain.errors import EncoderAway, EncoderChanged, EncoderUnusable
from anneal.curation.domain.hashing_encoder import HashingEncoder
from anneal.curation.domain.steps.base import WrongSetting
from anneal.curation.settings import EncoderOptions
from tests.fixtures.tiny_model import tokenizer
from tests.unit.curation.embedding_server import embedding_server

TEXTS = ["How do I reset my password?", "How can I reset my password?", "The invoice was paid last week."]


def vector(text: str) -> list[float]:
    return [float(len(text)), float(text.count("e")), 1.0, *[0.0] * 13]


def bert(folder: Path, seed: int = 0) -> Path:
    made: PreTrainedTokenizerFast = tokenizer(None)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(made),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        pad_token_id=made.pad_token_id,
    )
    BertModel(config).save_pretrained(folder)
    made.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bert(tmp_path_factory.mktemp("models") / "bert")


def local(folder: Path, **settings: Any) -> Encoder:
    return encoder_of(HuggingFace(model=str(folder), **settings), EncoderOptions(folders=(str(folder.parent),)))


def holds_what_encoders_promise(encoder: Encoder) -> None:
    vectors = encoder.encode([*TEXTS, "", " \n", TEXTS[0]])
    assert vectors.shape == (6, encoder.dimension)
    assert vectors.dtype.name == "float32"
    assert np.allclose(np.linalg.norm(vectors, axis=1), [1, 1, 1, 0, 0, 1], atol=1e-5)
    assert np.allclose(vectors[0], vectors[5], atol=1e-5)
    assert np.allclose(vectors[2], encoder.encode(TEXTS[2:])[0], atol=1e-5)
    assert encoder.encode([]).shape == (0, encoder.dimension)
    copy = pickle.loads(pickle.dumps(encoder))
    assert copy.key == encoder.key
    assert np.allclose(copy.encode(TEXTS), vectors[:3], atol=1e-5)


def test_hashing_holds_what_encoders_promise() -> None:
    holds_what_encoders_promise(HashingEncoder(64))


def test_huggingface_holds_what_encoders_promise(folder: Path) -> None:
    holds_what_encoders_promise(local(folder))


def test_an_endpoint_holds_what_encoders_promise() -> None:
    with embedding_server(vector) as server:
        holds_what_encoders_promise(encoder_of(Endpoint(base_url=server.base_url, model="m"), EncoderOptions()))


def test_hashing_is_the_same_on_every_machine() -> None:
    """The vectors are part of what version 1 means: another result needs another version in the key."""
    found = HashingEncoder(16).encode(["Straße 12, schön"])[0]
    expected = [
        0.0,
        0.0,
        0.20000000298023224,
        0.20000000298023224,
        0.20000000298023224,
        0.0,
        -0.20000000298023224,
        0.6000000238418579,
        0.0,
        0.0,
        -0.6000000238418579,
        0.0,
        0.20000000298023224,
        0.0,
        0.20000000298023224,
        0.20000000298023224,
    ]
    assert np.round(found, 4).tolist() == pytest.approx(expected, abs=1e-4)


def test_hashing_sees_alike_wording() -> None:
    vectors = HashingEncoder().encode(TEXTS)
    assert vectors[0] @ vectors[1] > 0.85
    assert abs(vectors[0] @ vectors[2]) < 0.2


def test_hashing_of_marks_other_scripts_and_long_rows() -> None:
    encoder = HashingEncoder()
    vectors = encoder.encode(["😀 😀", "你好世界 再见", "token " * 300_000, "x" * 1_200_000])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[2] @ encoder.encode(["token"])[0] > 0.999


def test_mean_pooling_is_that_of_the_tokens_alone(folder: Path) -> None:
    encoder = local(folder)
    model = BertModel.from_pretrained(folder).eval()
    tokens = PreTrainedTokenizerFast.from_pretrained(folder)(TEXTS[0], return_tensors="pt")
    with torch.inference_mode():
        mean = model(**tokens).last_hidden_state[0].mean(0).numpy()
    # Beside a longer text it is padded, and the padding must not count.
    assert np.allclose(encoder.encode([TEXTS[0], TEXTS[0] * 3])[0], mean / np.linalg.norm(mean), atol=1e-5)


def test_a_text_longer_than_the_model_reads_is_cut(folder: Path) -> None:
    assert np.isfinite(local(folder, max_tokens=512).encode(["word " * 5_000])).all()


def test_a_model_is_known_by_its_content(folder: Path, tmp_path: Path) -> None:
    other = bert(tmp_path / "bert", seed=1)
    assert local(folder).key != local(other).key
    assert local(folder).key != local(folder, prefix="query: ").key


def test_a_folder_has_to_be_allowed(folder: Path) -> None:
    spec = HuggingFace(model=str(folder))
    with pytest.raises(EncoderUnusable, match="ENCODER__FOLDERS"):
        encoder_of(spec, EncoderOptions())
    link = HuggingFace(model=f"{folder.parent}/../{folder.parent.name}x")
    with pytest.raises(EncoderUnusable, match="not below"):
        encoder_of(link, EncoderOptions(folders=(str(folder.parent),)))


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(EncoderUnusable, match="cannot be loaded"):
        local(tmp_path / "nothing").encode(["x"])


def test_without_transformers_the_refusal_says_what_works(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(EncoderUnusable, match='"hashing"'):
        local(folder).encode(["x"])


def test_another_dimension_than_the_order_says_is_refused(folder: Path) -> None:
    assert local(folder, dimension=32).dimension == 32
    with pytest.raises(EncoderChanged, match="32 numbers, the order says 64"):
        local(folder, dimension=64).encode(["x"])
    with (
        embedding_server(vector) as server,
        pytest.raises(EncoderChanged, match="16 numbers, not 64"),
    ):
        encoder_of(Endpoint(base_url=server.base_url, model="m", dimension=64), EncoderOptions()).encode(["x"])


def test_an_endpoint_that_changes_its_dimension_is_refused() -> None:
    with embedding_server(vector) as server:
        encoder = encoder_of(Endpoint(base_url=server.base_url, model="m"), EncoderOptions())
        encoder.encode(["x"])
        server.vector = lambda _: [1.0] * 8
        with pytest.raises(EncoderChanged, match="8 numbers, not 16"):
            encoder.encode(["x"])


def test_an_endpoint_is_asked_in_batches_with_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANNEAL_ENCODER_KEY_TEST", "secret")
    with embedding_server(vector) as server:
        spec = Endpoint(
            base_url=server.base_url,
            model="m",
            api_key_env="ANNEAL_ENCODER_KEY_TEST",
            request_rows=2,
            prefix="query: ",
            max_characters=5,
        )
        encoder = encoder_of(spec, EncoderOptions())
        encoder.encode(["aaaaaaaaa", "", "bb", "c"])
        assert [one["input"] for one in server.requests] == [["query: aaaaa", "query: bb"], ["query: c"]]
        assert server.keys == ["Bearer secret"] * 2
        assert b"secret" not in pickle.dumps(encoder)
        assert "secret" not in encoder.key + repr(encoder)
    monkeypatch.delenv("ANNEAL_ENCODER_KEY_TEST")
    with pytest.raises(EncoderUnusable, match="ANNEAL_ENCODER_KEY_TEST is not set"):
        encoder_of(spec, EncoderOptions())


def test_a_busy_endpoint_is_asked_again_when_it_says() -> None:
    with embedding_server(vector, (429, {"retry-after": "0.4"}), (500, {})) as server:
        encoder = encoder_of(Endpoint(base_url=server.base_url, model="m"), EncoderOptions())
        start = time.monotonic()
        assert encoder.encode(["x"]).any()
        assert (len(server.requests), time.monotonic() - start >= 0.4) == (3, True)


def test_after_the_last_attempt_the_endpoint_is_away() -> None:
    with embedding_server(vector, *[(503, {"retry-after": "0.01"})] * 2) as server:
        encoder = encoder_of(Endpoint(base_url=server.base_url, model="m"), EncoderOptions(attempts=2, away_s=0))
        with pytest.raises(EncoderAway, match=r"503: .*fault 503"):
            encoder.encode(["x"])
        assert len(server.requests) == 2
    with pytest.raises(EncoderAway, match="does not answer"):
        encoder_of(Endpoint(base_url=server.base_url, model="m"), EncoderOptions(attempts=1, away_s=0)).encode(["x"])


def test_an_endpoint_that_is_restarted_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(away, "PAUSE_S", 0.01)
    with embedding_server(vector, *[(503, {"retry-after": "0.01"})] * 9) as server:
        options = EncoderOptions(attempts=2, away_s=60)
        encoder = encoder_of(Endpoint(base_url=server.base_url, model="m"), options)
        assert pickle.loads(pickle.dumps(encoder)).away_s == 60
        assert encoder.encode(["x"]).any()
        assert len(server.requests) == 10


@pytest.mark.parametrize(("status", "headers"), [(400, {}), (302, {"location": "http://127.0.0.1:9/v1/embeddings"})])
def test_a_refusal_is_not_asked_again_and_no_redirect_is_followed(status: int, headers: dict[str, str]) -> None:
    with embedding_server(vector, (status, headers)) as server:
        encoder = encoder_of(Endpoint(base_url=server.base_url, model="m"), EncoderOptions())
        with pytest.raises(EncoderUnusable, match=str(status)):
            encoder.encode(["x"])
        assert len(server.requests) == 1


@pytest.mark.parametrize("said", [lambda _: [float("nan")], lambda _: [], lambda _: "text"])
def test_what_is_no_vector_is_refused(said: Callable[[str], Any]) -> None:
    with embedding_server(said) as server, pytest.raises(EncoderUnusable, match="gives no embeddings"):
        encoder_of(Endpoint(base_url=server.base_url, model="m"), EncoderOptions()).encode(["x"])


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Hashing(dimension=15), "dimension"),
        (lambda: Hashing(dimension=8193), "dimension"),
        (lambda: HuggingFace(model="../x"), "model"),
        (lambda: HuggingFace(model="a/b/c"), "model"),
        (lambda: HuggingFace(model="a/b", revision="x y"), "revision"),
        (lambda: HuggingFace(model="a/b", max_tokens=7), "max_tokens"),
        (lambda: Endpoint(base_url="http://x", model=" "), "model"),
        (lambda: Endpoint(base_url="http://user:word@x", model="m"), "base_url"),
        (lambda: Endpoint(base_url="http://x?key=word", model="m"), "base_url"),
        (lambda: Endpoint(base_url="http://x", model="m", api_key_env="HOME"), "api_key_env"),
        (lambda: Endpoint(base_url="http://x", model="m", max_characters=0), "max_characters"),
        (lambda: Endpoint(base_url="http://x", model="m", request_rows=2049), "request_rows"),
        (lambda: Endpoint(base_url="http://x", model="m", dimension=8), "dimension"),
    ],
)
def test_impossible_settings_are_refused(make: Callable[[], EncoderSpec], field: str) -> None:
    with pytest.raises(WrongSetting) as caught:
        make()
    assert caught.value.field == field
