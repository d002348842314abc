"""A teacher behind any OpenAI-compatible endpoint."""

from __future__ import annotations

from types import TracebackType
from typing import Any, cast

import httpx2
import openai

from anneal.synthesis.domain.rows import MAX_RAW_CHARACTERS
from anneal.synthesis.domain.teacher import Call, CallRefused, Reply, TeacherBusy, TeacherLost, TeacherRefused

NO_KEY = "unused"
"""What goes out where the endpoint wants no key; the client refuses an empty one."""

_BUSY = frozenset((429, 503))
_MAYBE_WORKED = frozenset((408, 409, 425))
_ABOUT_THE_CALL = frozenset((400, 413, 422))


class OpenAITeacher:
    """Asks chat completions with a JSON schema, once per call: retrying is the engine's, because it costs."""

    def __init__(self, base_url: str, *, api_key: str = "", timeout_s: float = 120.0) -> None:
        self._client = openai.AsyncOpenAI(
            base_url=base_url, api_key=api_key or NO_KEY, timeout=timeout_s, max_retries=0
        )

    async def __aenter__(self) -> OpenAITeacher:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def complete(self, call: Call) -> Reply:
        """Ask once.

        Raises:
            TeacherBusy: 429, 503, or no connection at all: no token was spent.
            TeacherLost: a timeout, a connection that broke, another 5xx, or an answer that is no completion.
            CallRefused: 400, 413, 422: this call will never do.
            TeacherRefused: any other 4xx: no call will.
        """
        try:
            answer = await self._client.chat.completions.create(
                model=call.model,
                messages=cast("Any", [{"role": m.role, "content": m.content} for m in call.question.messages]),
                temperature=call.sampling.temperature,
                max_tokens=call.sampling.max_tokens,
                seed=call.seed,
                response_format={
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "schema": dict(call.question.schema), "strict": True},
                },
            )
        except openai.APIStatusError as error:
            raise _status_failure(error) from error
        except openai.APIConnectionError as error:
            refused = isinstance(error.__cause__, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)
            raise (TeacherBusy if refused else TeacherLost)(f"{type(error).__name__}: {error}") from error
        except (openai.APIError, ValueError) as error:
            raise TeacherLost(f"the answer is no completion: {error}") from error
        return _read(answer, call)


def _read(answer: Any, call: Call) -> Reply:
    """The client does not check what an endpoint sends, so this does."""
    try:
        choice = answer.choices[0]
        text, finish = choice.message.content, choice.finish_reason
        model, usage = answer.model, answer.usage
    except (AttributeError, IndexError, TypeError) as error:
        raise TeacherLost(f"the answer is no completion: {str(answer)[:200]!r}") from error
    return Reply(
        text=text if isinstance(text, str) else "",
        finish_reason=str(finish or ""),
        model=str(model or call.model),
        prompt_tokens=_count(getattr(usage, "prompt_tokens", None)),
        completion_tokens=_count(getattr(usage, "completion_tokens", None)),
    )


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


def _status_failure(error: openai.APIStatusError) -> Exception:
    status = error.status_code
    text = f"the teacher answered {status}: {error.message[:MAX_RAW_CHARACTERS]}"
    if status in _BUSY:
        return TeacherBusy(text, _retry_after_s(error))
    if status >= 500 or status in _MAYBE_WORKED:
        return TeacherLost(text)
    if status in _ABOUT_THE_CALL:
        return CallRefused(text)
    return TeacherRefused(text)


def _retry_after_s(error: openai.APIStatusError) -> float | None:
    """Seconds of a Retry-After header; a date in it is left to the backoff."""
    try:
        return float(error.response.headers["retry-after"])
    except (KeyError, ValueError):
        return None
