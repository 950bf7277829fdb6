"""Any server that speaks OpenAI's protocol, through their SDK: vendors, vLLM, SGLang, Ollama, llama.cpp.

The key is read from the environment, goes into the client and nowhere else.
"""

from __future__ import annotations

import importlib
import os
from typing import Any, Literal
from urllib.parse import urlsplit

from latentqa.data.providers.base import Finish, Reply, Request, RetryLater
from latentqa.errors import MissingPackageError, ProviderError

Structured = Literal["json_schema", "json_object", "prompt"]
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
NO_KEY = "none"  # what servers that need no key are sent
RETRIED = (408, 409, 425, 429, 500, 502, 503, 504, 529)


class EndpointProvider:
    """Sends requests to a chat completions endpoint, one HTTP request each, without retries of its own.

    Args:
        base_url: address of the API; None is the SDK's own.
        key_variable: environment variable that holds the key.
        timeout: seconds for a whole request.
        structured: how a schema is asked for: by `json_schema`, by `json_object` alone, or in the `prompt`
            alone, for servers that know neither.

    Raises:
        MissingPackageError: the `openai` package is not installed.
        ProviderError: there is no key, and the address is not of this machine.
    """

    def __init__(
        self,
        *,
        base_url: str | None = None,
        key_variable: str = "OPENAI_API_KEY",
        timeout: float = 60.0,
        structured: Structured = "json_schema",
    ) -> None:
        self._sdk = _sdk()
        base_url = base_url or os.environ.get("OPENAI_BASE_URL") or None
        key = os.environ.get(key_variable)
        if not key and not (base_url and urlsplit(base_url).hostname in LOCAL_HOSTS):
            raise ProviderError(
                f"There is no key: the environment variable {key_variable} is not set. Set it, or name "
                "another with writer.key_variable; a server on this machine (writer.base_url) needs none."
            )
        self._structured = structured
        self.client = self._sdk.AsyncOpenAI(
            api_key=key or NO_KEY, base_url=base_url, timeout=timeout, max_retries=0
        )

    @property
    def name(self) -> str:
        """The address."""
        return str(self.client.base_url).rstrip("/")

    def body(self, request: Request) -> dict[str, Any]:
        """What is sent for a request: the arguments of a chat completion."""
        body: dict[str, Any] = {
            "model": request.model,
            "messages": [dict(message) for message in request.messages],
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
        }
        if request.sample:
            body["seed"] = request.sample
        if request.schema is not None and self._structured == "json_schema":
            named = {"name": request.schema.get("title", "reply"), "schema": request.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": named}
        elif request.schema is not None and self._structured == "json_object":
            body["response_format"] = {"type": "json_object"}
        return body

    async def complete(self, request: Request) -> Reply:
        """Send one request.

        Raises:
            RetryLater: 429, 5xx, a timeout, a lost or refused connection, or a body that is no JSON.
            ProviderError: anything else that the server refuses.
        """
        try:
            # The SDK's typed call spends milliseconds on checking what our own code checks again.
            answer = await self.client.post("/chat/completions", cast_to=object, body=self.body(request))
        except self._sdk.OpenAIError as error:
            raise self.failure(error) from None
        except ValueError as error:  # a body that was cut off, or is no JSON
            raise RetryLater(f"an answer that is no JSON ({type(error).__name__})") from None
        return read_reply(answer)

    async def close(self) -> None:
        """Close the connections."""
        await self.client.close()

    def failure(self, error: Exception) -> RetryLater | ProviderError:
        """What an error of the SDK means: try later, or never again."""
        sdk = self._sdk
        if isinstance(error, sdk.APITimeoutError):
            return RetryLater("a timeout")
        if isinstance(error, sdk.APIConnectionError):
            cause = error.__cause__ or error
            refused = "connect" in type(cause).__name__.lower()
            return RetryLater(f"a broken connection ({cause})".replace(" ()", ""), connection=refused)
        if isinstance(error, sdk.APIResponseValidationError):
            return RetryLater("an answer of the wrong form")
        if isinstance(error, sdk.APIStatusError):
            return self._status(error)
        return ProviderError(f"{self.name} failed: {type(error).__name__}: {error}")

    def _status(self, error: Any) -> RetryLater | ProviderError:
        status = error.status_code
        if status in RETRIED or status >= 500:
            return RetryLater(f"status {status}", _seconds(error.response.headers.get("retry-after")))
        said = " ".join(str(getattr(error, "message", error)).split())[:300]
        advice = {
            401: "Check the key.",
            403: "Check the key and what it may do.",
            404: "Check writer.base_url and writer.model.",
            400: "If it does not know response_format, set writer.structured: json_object or prompt.",
        }.get(status, "Check the settings of writer.")
        return ProviderError(f"{self.name} refused the request with status {status}: {said} {advice}")


def read_reply(answer: Any) -> Reply:
    """A chat completion, as parsed JSON, as a reply.

    Raises:
        RetryLater: it is none, or holds no choice.
    """
    try:
        choice = answer["choices"][0]
        message = choice["message"]
    except (TypeError, KeyError, IndexError):
        raise RetryLater("an answer without choices") from None
    usage = answer.get("usage") or {}
    refusal = message.get("refusal")
    finish: Finish = "refusal" if refusal or choice.get("finish_reason") == "content_filter" else "stop"
    if choice.get("finish_reason") == "length":
        finish = "length"
    return Reply(
        text=refusal or message.get("content") or "",
        input_tokens=usage.get("prompt_tokens") or 0,
        output_tokens=usage.get("completion_tokens") or 0,
        finish=finish,
    )


def _sdk() -> Any:
    try:
        return importlib.import_module("openai")
    except ImportError:
        raise MissingPackageError(
            "Writing by an endpoint needs the package openai. Install it with: pip install 'latentqa[data]'"
        ) from None


def _seconds(value: str | None) -> float | None:
    try:
        return max(float(value), 0.0) if value is not None else None
    except ValueError:
        return None
