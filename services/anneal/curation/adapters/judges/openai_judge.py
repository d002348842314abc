"""A judge behind any OpenAI-compatible endpoint."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, cast

import openai

from anneal.curation.domain.errors import JudgeRefused
from anneal.curation.domain.judges import Judge, Question, Reply

NO_KEY = "unused"
"""What goes out where the endpoint wants no key; the client refuses an empty one."""

_BUSY = frozenset((429, 503))
_MAYBE_LATER = frozenset((408, 409, 425))
_ABOUT_THE_KEY = frozenset((401, 403))
_ABOUT_THE_CALL = frozenset((400, 413, 415, 422))


class Unanswered(Exception):
    """A call brought no answer.

    Attributes:
        cause: stable, such as `judge_timeout`.
        is_final: whether the same call would fail again.
        retry_after_s: when to come back, as the endpoint says; None where it says nothing.
    """

    def __init__(self, cause: str, *, is_final: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(cause)
        self.cause, self.is_final, self.retry_after_s = cause, is_final, retry_after_s


class OpenAIJudge:
    """Asks chat completions at temperature 0, constrained by the question's JSON schema where the endpoint knows how.

    An endpoint that refuses the schema gets the question once more without it; if that is answered, it is not sent
    again. Retrying anything else is the caller's.
    """

    def __init__(self, judge: Judge, *, api_key: str = "", timeout_s: float = 60.0) -> None:
        self._judge, self._timeout_s = judge, timeout_s
        self._takes_schema: bool | None = None
        self._client = openai.AsyncOpenAI(
            base_url=judge.base_url, api_key=api_key or NO_KEY, timeout=timeout_s, max_retries=0
        )

    async def __aenter__(self) -> OpenAIJudge:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def complete(self, question: Question) -> Reply:
        """Ask.

        Raises:
            Unanswered: no answer came.
            JudgeRefused: any 4xx that is not about this call: no call will ever do.
        """
        if self._takes_schema is not False:
            try:
                reply = await self._once(question, with_schema=True)
            except Unanswered as error:
                if not error.is_final or self._takes_schema:
                    raise
            else:
                self._takes_schema = True
                return reply
        reply = await self._once(question, with_schema=False)
        if self._takes_schema is None:
            self._takes_schema = False
        return reply

    async def _once(self, question: Question, *, with_schema: bool) -> Reply:
        extra: dict[str, Any] = {}
        if with_schema:
            schema = {"name": "verdict", "schema": dict(question.schema), "strict": True}
            extra["response_format"] = {"type": "json_schema", "json_schema": schema}
        try:
            # The client's own limit is per read: an endpoint that drips would never meet it.
            async with asyncio.timeout(self._timeout_s):
                answer = await self._client.chat.completions.create(
                    model=question.judge.model,
                    messages=cast("Any", list(question.messages)),
                    temperature=0.0,
                    max_tokens=question.max_tokens,
                    **extra,
                )
        except openai.APIStatusError as error:
            raise self._status_failure(error) from error
        except (TimeoutError, openai.APITimeoutError) as error:
            raise Unanswered("judge_timeout") from error
        except openai.APIConnectionError as error:
            raise Unanswered("judge_unreachable") from error
        except (openai.APIError, ValueError) as error:
            raise Unanswered("judge_failed") from error
        return _read(answer)

    def _status_failure(self, error: openai.APIStatusError) -> Exception:
        status = error.status_code
        if status in _BUSY:
            return Unanswered("judge_busy", retry_after_s=_retry_after_s(error))
        if status >= 500 or status in _MAYBE_LATER:
            return Unanswered("judge_failed")
        if status in _ABOUT_THE_CALL:
            return Unanswered("call_refused", is_final=True)
        # What an endpoint says of a key holds parts of it.
        text = "" if status in _ABOUT_THE_KEY else f" ({error.message[:500]})"
        return JudgeRefused(
            f"{self._judge.called} at {self._judge.host} answered {status}{text}: check its model, key and address",
            judge=self._judge.called,
            status=str(status),
        )


def _read(answer: Any) -> Reply:
    """The client does not check what an endpoint sends, so this does."""
    try:
        choice, usage = answer.choices[0], answer.usage
        text, finish = choice.message.content, choice.finish_reason
    except (AttributeError, IndexError, TypeError) as error:
        raise Unanswered("judge_failed") from error
    return Reply(
        text=text if isinstance(text, str) else "",
        finish_reason=str(finish or ""),
        prompt_tokens=_count(getattr(usage, "prompt_tokens", None)),
        completion_tokens=_count(getattr(usage, "completion_tokens", None)),
    )


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


def _retry_after_s(error: openai.APIStatusError) -> float | None:
    """Seconds of a Retry-After header, which names them or a time."""
    header = error.response.headers.get("retry-after", "")
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        when = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
