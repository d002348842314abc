"""Training's refusals in the kit's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from anneal.kit.errors import Conflict, Denied, Exists, Invalid, Missing, NotYet, Refusal
from anneal.training.domain.errors import BaseUnusable, SpecInvalid, TemplateMissing, TrainingRefused


class FolderNotAllowed(Denied):
    """The folder is not below one that the settings allow."""

    reason = "FOLDER_NOT_ALLOWED"


class HubUnreachable(NotYet):
    """The Hub does not answer, or fails."""

    reason = "HUB_UNREACHABLE"


class HubModelMissing(Missing):
    """The Hub has no such model or revision, or shows it to others only."""

    reason = "HUB_MODEL_MISSING"


class HubModelGated(Denied):
    """The model's owner has to let the caller in first."""

    reason = "HUB_MODEL_GATED"


class ModelUriNotAllowed(Denied):
    """The URI is not below one that the settings allow, or it is in the system's own store."""

    reason = "MODEL_URI_NOT_ALLOWED"


class ModelUriMissing(Missing):
    """There is no such bucket, or no file at that place."""

    reason = "MODEL_URI_MISSING"


class ModelUriDenied(Denied):
    """The credentials of training's jobs may not read it."""

    reason = "MODEL_URI_DENIED"


class ModelUriChanged(Conflict):
    """An object changed while it was read."""

    reason = "MODEL_URI_CHANGED"


class ModelUriUnreachable(NotYet):
    """The store of the URI does not answer, fails, or cannot be opened."""

    reason = "MODEL_URI_UNREACHABLE"


class BaseModelUnusable(NotYet):
    """The files make up no base model that can be used, which is seen before any of them is read."""

    reason = BaseUnusable.reason


class ChatTemplateMissing(NotYet):
    """The base model has no chat template, and the rows are conversations."""

    reason = TemplateMissing.reason


class ModelTaken(Exists):
    """The id names a model with other files."""

    reason = "MODEL_EXISTS"


class ParityFailed(NotYet):
    """The adapter answers otherwise in serving than it did in training."""

    reason = "PARITY_FAILED"


class EffectTooSmall(NotYet):
    """Rounding in serving's number format hides what the adapter changes, so nothing can be certified in it."""

    reason = "EFFECT_TOO_SMALL"


class ServingDtypeUnknown(NotYet):
    """Serving does not say which number format it computes in, or names one without a measured tolerance."""

    reason = "SERVING_DTYPE_UNKNOWN"


def refusal_of(error: TrainingRefused) -> Refusal:
    """A refusal of the domain as one that the kit can put on the wire."""
    violations = error.violations if isinstance(error, SpecInvalid) else ()
    return make_refusal(error.reason, str(error), error.facts, violations)


def make_refusal(
    reason: str, message: str, facts: Mapping[str, str], violations: Sequence[tuple[str, str]] = ()
) -> Refusal:
    """A refusal with a reason that only the domain knows: of the order where fields are named, else of the state."""
    if violations:
        named = [(f"spec.{PROTO_FIELDS.get(field, field)}", text) for field, text in violations]
        return Invalid("; ".join(f"{field}: {text}" for field, text in named), violations=named)
    made: Refusal = type("TrainingFailed", (NotYet,), {"reason": reason})(message)
    made.facts = dict(facts)
    return made


PROTO_FIELDS: Mapping[str, str] = {
    "context_tokens": "max_length",
    "overlong": "too_long",
    "template_kwargs": "template_kwargs_json",
    "packed": "unpacked",
    "num_epochs": "epochs",
    "rows_per_forward": "batch_size",
    "forwards_per_step": "accumulation_steps",
    "schedule": "scheduler",
    "warmup_share": "warmup_ratio",
    "eval_every_steps": "evaluation_steps",
    "checkpoint_every_steps": "checkpoint_steps",
    "precision": "dtype",
    "lora.targets": "lora.target_modules",
}
"""Field of the domain's spec -> field of `anneal.v1.TrainingSpec`, where they differ."""
