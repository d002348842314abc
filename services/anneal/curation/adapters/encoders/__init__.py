"""The encoders that orders can name; the one place that makes them."""

from __future__ import annotations

from anneal.curation.adapters.encoders.endpoint import EndpointEncoder
from anneal.curation.adapters.encoders.huggingface import HuggingFaceEncoder
from anneal.curation.domain.encoders import Encoder, EncoderSpec, Endpoint, HuggingFace
from anneal.curation.domain.hashing_encoder import HashingEncoder
from anneal.curation.settings import EncoderOptions


def encoder_of(spec: EncoderSpec, options: EncoderOptions) -> Encoder:
    """The encoder that a setting names. Nothing is loaded or asked before its first use.

    Args:
        spec: what the order names.
        options: what the operator allows.

    Raises:
        EncoderUnusable: the folder of its model is not allowed, or the variable of its key is not set.
    """
    if isinstance(spec, HuggingFace):
        return HuggingFaceEncoder(spec, folders=options.folders)
    if isinstance(spec, Endpoint):
        return EndpointEncoder(spec, timeout_s=options.timeout_s, attempts=options.attempts, away_s=options.away_s)
    return HashingEncoder(spec.dimension)
