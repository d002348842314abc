"""Refusals of serving, each with its stable reason."""

from __future__ import annotations

from anneal.kit.errors import Busy, Down, Invalid, Missing, NotYet


class DeploymentMissing(Missing):
    """No deployment has that name."""

    reason = "DEPLOYMENT_MISSING"


class ModelMissing(Missing):
    """The store holds no base model under that digest."""

    reason = "MODEL_MISSING"


class ModelRefused(NotYet):
    """The files under that digest are no model that can be served. The fact `cause` says why."""

    reason = "MODEL_REFUSED"


class AdapterMissing(Missing):
    """The store holds no adapter under that digest."""

    reason = "ADAPTER_MISSING"


class AdapterNotLoaded(Missing):
    """The adapter is in no engine of this replica."""

    reason = "ADAPTER_NOT_LOADED"


class AdapterInUse(NotYet):
    """The adapter answers requests right now."""

    reason = "ADAPTER_IN_USE"


class PromptTooLong(Invalid):
    """The prompt leaves no room for an answer."""

    reason = "PROMPT_TOO_LONG"


class EngineBusy(Busy):
    """The engine has as many requests, or as many adapters in use, as it may."""

    reason = "ENGINE_BUSY"


class EngineDown(Down):
    """The engine does not run, or ended while it answered."""

    reason = "ENGINE_DOWN"
