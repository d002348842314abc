"""What training refuses to do, each with a stable reason and the facts the message mentions."""

from __future__ import annotations

from typing import ClassVar


class TrainingRefused(ValueError):
    """Base of every expected failure of training.

    Attributes:
        reason: stable name of the failure, for programs.
        facts: every value the message mentions, as text.
    """

    reason: ClassVar[str] = "TRAINING_REFUSED"

    def __init__(self, message: str, **facts: object) -> None:
        """Keep the message and its facts."""
        super().__init__(message)
        self.facts = {name: str(value) for name, value in facts.items()}


class SpecInvalid(TrainingRefused):
    """The order itself is wrong; `violations` names each field and what is wrong with it."""

    reason = "TRAINING_SPEC_INVALID"

    def __init__(self, violations: list[tuple[str, str]]) -> None:
        """Name every wrong field at once, so that one round trip is enough."""
        super().__init__("; ".join(f"{field}: {text}" for field, text in violations), fields=[f for f, _ in violations])
        self.violations = violations


class DatasetEmpty(TrainingRefused):
    """There is nothing to train on."""

    reason = "DATASET_EMPTY"


class NoAssistantTurn(TrainingRefused):
    """A conversation holds nothing to learn from."""

    reason = "NO_ASSISTANT_TURN"


class SampleTooLong(TrainingRefused):
    """A sample has more tokens than the context and the policy is to refuse."""

    reason = "SAMPLE_TOO_LONG"


class TemplateMissing(TrainingRefused):
    """The tokenizer has no chat template, so conversations cannot be rendered."""

    reason = "CHAT_TEMPLATE_MISSING"


class TemplateUnstable(TrainingRefused):
    """The chat template writes a finished turn otherwise than its generation prompt begins it."""

    reason = "CHAT_TEMPLATE_UNSTABLE"


class TemplateRefuses(TrainingRefused):
    """The chat template raises at a row, such as two turns of the user in a row where it wants them to alternate."""

    reason = "CHAT_TEMPLATE_REFUSES"


class RowLeftOut(TrainingRefused):
    """The chat template does not render a part of a row: the model would learn to answer without having seen it."""

    reason = "ROW_LEFT_OUT"


class RowMalformed(TrainingRefused):
    """A part of a row is not what a chat template takes."""

    reason = "ROW_MALFORMED"


class MaskEmpty(TrainingRefused):
    """The loss would cover no token."""

    reason = "MASK_EMPTY"


class MaskMisplaced(TrainingRefused):
    """The loss would cover other text than the assistant's."""

    reason = "MASK_MISPLACED"


class StopTokenMissing(TrainingRefused):
    """An assistant turn does not end in a stop token inside the loss, so the model would never learn to stop."""

    reason = "STOP_TOKEN_NOT_LEARNED"


class PackingLeaks(TrainingRefused):
    """Samples packed together see each other."""

    reason = "PACKING_LEAKS"


class NotFinite(TrainingRefused):
    """The loss or the gradient stopped being a number; `facts["step"]` says when."""

    reason = "LOSS_NOT_FINITE"


class CheckpointForeign(TrainingRefused):
    """A checkpoint was made by another order, so going on from it would be wrong."""

    reason = "CHECKPOINT_FOREIGN"


class ArtifactDiffers(TrainingRefused):
    """What was written does not answer as what was trained."""

    reason = "ARTIFACT_DIFFERS"


class BaseUnusable(TrainingRefused):
    """The base model's folder lacks something, or holds something that must not be loaded."""

    reason = "BASE_MODEL_UNUSABLE"
