"""A client of the OpenAI-compatible endpoint. Every failure is a refusal whose text says what, where and what to do."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anneal.kit.errors import Busy, Conflict, Denied, Down, Invalid, Missing, Refusal, TooLate, Unauthenticated

if TYPE_CHECKING:
    import openai

TIMEOUT_S = 120.0
MAX_RETRIES = 2
MAX_MESSAGE = 500

GIVE_KEY = "give a key of the gateway with --api-key, ANNEAL_API_KEY or `anneal config set`"
CHECK_URL = "check --http"
RUN_AGAIN = "run the command again"


class GatewayBroken(Down):
    """The gateway, or a proxy before it, answers with what is no answer."""

    reason = "GATEWAY_BROKEN"


class GatewayUnreachable(Down):
    """No connection to the gateway comes about."""

    reason = "GATEWAY_UNREACHABLE"


class AnswerCut(Down):
    """The connection broke, or the stream ended, before the answer was whole."""

    reason = "ANSWER_CUT"


STATUSES: Mapping[int, tuple[type[Refusal], str]] = {
    400: (Invalid, "correct the request"),
    401: (Unauthenticated, GIVE_KEY),
    403: (Denied, "use a key that may do this"),
    404: (Missing, "a key reaches the deployments of its own project only: check the key, --project and --http"),
    408: (TooLate, RUN_AGAIN),
    409: (Conflict, "see `anneal deployments show` for the state of the deployment"),
    413: (Invalid, "send a shorter request, or raise the gateway's max_body_bytes"),
    422: (Invalid, "correct the request"),
    429: (Busy, "run the command again later"),
    500: (GatewayBroken, "its log has the trace"),
    502: (GatewayBroken, "the proxy does not reach the gateway: run the command again when it does"),
    503: (Down, "run the command again when the service is back"),
    504: (TooLate, "run the command again, or raise the gateway's deadline_s"),
}
"""What an HTTP status is, and what to do about it."""


@dataclass(frozen=True)
class Gateway:
    """Where the OpenAI-compatible endpoint is, and how it is called.

    Attributes:
        place: its URL, or `host:port` where it speaks plain HTTP.
        key: the key it wants; empty where it wants none.
        ca: certificates to trust besides the system's, for an `https` URL.
        timeout_s: longest wait for an answer, or between two events of a stream.
        max_retries: how often a call is repeated on 408, 409, 429, 5xx and broken connections.
    """

    place: str
    key: str = ""
    ca: Path | None = None
    timeout_s: float = TIMEOUT_S
    max_retries: int = field(default_factory=lambda: MAX_RETRIES)

    @property
    def url(self) -> str:
        """The URL that OpenAI's clients are given."""
        return f"{self.place if '://' in self.place else f'http://{self.place}'}".rstrip("/") + "/v1"

    @cached_property
    def _client(self) -> openai.OpenAI:
        import httpx2
        from openai import OpenAI

        trust = ssl.create_default_context()
        if self.ca is not None and self.url.startswith("https://"):
            trust.load_verify_locations(self.ca)
        return OpenAI(
            base_url=self.url,
            api_key=self.key or "none-needed",
            timeout=self.timeout_s,
            max_retries=self.max_retries,
            http_client=httpx2.Client(verify=trust, timeout=self.timeout_s),
        )

    def close(self) -> None:
        """Close the connections."""
        if "_client" in self.__dict__:
            self._client.close()

    def chat(self, model: str, messages: list[dict[str, str]], max_tokens: int) -> str:
        """The whole answer to a conversation.

        Raises:
            Refusal: there is none.
        """
        from openai.types.chat import ChatCompletion

        with self._refusals():
            asked: Any = messages
            answer = self._client.chat.completions.create(
                model=model, messages=asked, temperature=0, max_tokens=max_tokens
            )
            received: object = answer  # of another content type, it is a plain string
            if not isinstance(received, ChatCompletion) or not received.choices:
                raise self._broken("what came back is no chat completion")
            return received.choices[0].message.content or ""

    def stream_chat(self, model: str, messages: list[dict[str, str]], max_tokens: int) -> Iterator[str]:
        """The answer as it is generated.

        Raises:
            Refusal: there is none, or it breaks off.
        """
        with self._refusals():
            asked: Any = messages
            finished, events = False, 0
            stream = self._client.chat.completions.create(
                model=model, messages=asked, temperature=0, max_tokens=max_tokens, stream=True
            )
            for chunk in stream:
                events += 1
                for choice in chunk.choices or ():
                    finished = finished or bool(choice.finish_reason)
                    if choice.delta.content:
                        yield choice.delta.content
            if not events:
                raise self._broken("what came back is no stream of events")
            if not finished:
                raise AnswerCut(f"{self.url}: the stream ended before the answer was complete; {RUN_AGAIN}")

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Turn what the HTTP client raises into refusals."""
        import httpx2
        import openai

        try:
            yield
        except openai.APIStatusError as error:
            raise self._status(error) from error
        except openai.APITimeoutError as error:
            raise TooLate(f"{self.url} did not answer within {self.timeout_s:g} s; {RUN_AGAIN}") from error
        except (openai.APIConnectionError, httpx2.TransportError) as error:
            raise self._connection(error) from error
        except openai.APIError as error:  # an event of a stream that holds an error
            code = f" ({error.code})" if error.code else ""
            raise AnswerCut(f"{self.url}: the stream ended with an error: {_short(error.message)}{code}") from error
        except (httpx2.InvalidURL, httpx2.HTTPError) as error:
            raise Invalid(f"{self.url}: {error}; {CHECK_URL}") from error
        except UnicodeEncodeError as error:
            raise Invalid(f"the key of {self.url} has characters besides ASCII; {GIVE_KEY}") from error
        except OSError as error:  # the certificates of `ca`
            raise Invalid(f"{self.ca}: cannot be read as certificates: {error.strerror or error}") from error
        except (ValueError, TypeError, AttributeError) as error:  # no JSON, or not of the shape that the client expects
            raise self._broken("what came back cannot be read as an answer") from error

    def _broken(self, what: str) -> GatewayBroken:
        return GatewayBroken(f"{self.url}: {what}: is it an Anneal gateway? {CHECK_URL}")

    def _status(self, error: openai.APIStatusError) -> Refusal:
        status = error.status_code
        kind, advice = STATUSES.get(status, (GatewayBroken, f"is it an Anneal gateway? {CHECK_URL}"))
        if isinstance(error.body, dict):
            text = _short(str(error.body.get("message") or error.body))
            text = f"{text} ({error.code})" if error.code else text
        else:  # a proxy's page is not for people
            text = f"{error.response.reason_phrase}, without an error object: a proxy answered, not the gateway"
        again = error.response.headers.get("retry-after", "")
        wait = float(again) if again.isdigit() else None
        advice = "" if advice in text else f"; {advice}"
        refusal = kind(f"{self.url} answered {status}: {text}{advice}", status=str(status))
        refusal.retry_after_s = wait
        return refusal

    def _connection(self, error: Exception) -> Refusal:
        import httpx2

        causes = list(_causes(error))
        text = _short(str(causes[-1]) or type(causes[-1]).__name__)
        for cause in causes:
            if isinstance(cause, httpx2.UnsupportedProtocol):
                return Invalid(f"{self.url}: {cause}; {CHECK_URL}")
            if isinstance(cause, ssl.SSLCertVerificationError):
                advice = (
                    "name the authority that signed its certificate with ANNEAL_TLS__CA or `anneal config set --ca`"
                )
                return GatewayUnreachable(f"{self.url}: {cause.verify_message}; {advice}")
            if isinstance(cause, ssl.SSLError):
                return GatewayUnreachable(f"{self.url}: {text}; does it speak TLS? {CHECK_URL}")
            if isinstance(cause, socket.gaierror):
                return GatewayUnreachable(f"{self.url}: the host's name is not known ({text}); {CHECK_URL}")
            if isinstance(cause, ConnectionRefusedError):
                advice = "start a server with `anneal up`, or name the gateway with --http or --context"
                return GatewayUnreachable(f"{self.url}: nothing listens there; {advice}")
        return AnswerCut(f"{self.url}: the connection broke ({text}); {RUN_AGAIN}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_MESSAGE else f"{line[: MAX_MESSAGE - 1]}…"
