"""An optional judge of free answers: any OpenAI-compatible endpoint, asked once, replayed ever after."""

from __future__ import annotations

import hashlib
import json
import re
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from latentqa.errors import ConfigError

Ask = Callable[[str], str]
"""A prompt to its reply; raises `OSError` or `ValueError` where there is none."""
PROMPT = (
    "A reader was asked a question about an assistant and gave an answer. Does the answer say the same "
    "as the "
    "right answer in substance? Wording, length and added detail do not matter; another persona, goal or "
    "fact "
    "does.\n\nQuestion: {question}\nRight answer: {gold}\nAnswer: {answer}\n\nReply with one word, yes or no."
)
TRIES = 3
PAUSE = 1.0  # seconds before the first repetition, doubled each time
TIMEOUT = 30.0  # seconds


class Judge:
    """Says whether a free answer means what the right one does.

    A reply that is neither yes nor no, one that does not come in time, and an endpoint that cannot be reached
    are tried again; after `tries` the answer counts as unjudged, and never as wrong.

    Args:
        ask: puts a prompt to the judging model.
        replay: JSONL file of earlier verdicts; None keeps none.
        prompt: that is put to the model, with `{question}`, `{gold}` and `{answer}`.
        tries: how often one answer is put.
        sleep: waits some seconds; for tests.
    """

    def __init__(
        self,
        ask: Ask,
        replay: Path | None = None,
        *,
        prompt: str = PROMPT,
        tries: int = TRIES,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._ask = ask
        self._prompt = prompt
        self._replay = replay
        self._tries = tries
        self._sleep = sleep
        self._known = _read(replay) if replay is not None else {}

    def __call__(self, question: str, gold: str, answer: str) -> bool | None:
        """True for the same in substance, False for another, None for unjudged."""
        prompt = self._prompt.format(question=question, gold=gold, answer=answer)
        key = hashlib.sha256(prompt.encode()).hexdigest()
        if key not in self._known:
            verdict = self._judge(prompt)
            if verdict is None:
                return None
            self._known[key] = verdict
            self._keep(key, verdict)
        return self._known[key]

    def _judge(self, prompt: str) -> bool | None:
        for number in range(self._tries):
            if number:
                self._sleep(PAUSE * 2 ** (number - 1))
            try:
                verdict = parse(self._ask(prompt))
            except (OSError, ValueError, KeyError, IndexError, TypeError):
                continue
            if verdict is not None:
                return verdict
        return None

    def _keep(self, key: str, verdict: bool) -> None:
        if self._replay is not None:
            self._replay.parent.mkdir(parents=True, exist_ok=True)
            with self._replay.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"prompt": key, "verdict": verdict}) + "\n")


def parse(reply: str) -> bool | None:
    """A judge's reply as a verdict; None for nonsense.

    Example:
        >>> parse("**Yes.**"), parse("no, it does not"), parse("Perhaps")
        (True, False, None)
    """
    first = re.match(r"\W*(yes|no)\b", reply.strip().lower())
    return None if first is None else first.group(1) == "yes"


def endpoint(url: str, model: str, *, key: str | None = None, timeout: float = TIMEOUT) -> Ask:
    """Asks an OpenAI-compatible server, at temperature 0.

    Args:
        url: its base, such as `http://localhost:8000/v1`.
        model: name of the model there.
        key: sent as a bearer token; never kept.
        timeout: seconds until a reply counts as not come.

    Raises:
        ConfigError: an address that is not http or https.
    """
    if not re.match(r"https?://", url):
        raise ConfigError(f"The judge's address {url!r} is not http(s)://…. Give the server's base address.")

    def ask(prompt: str) -> str:
        body = {
            "model": model,
            "temperature": 0,
            "max_tokens": 8,
            "messages": [{"role": "user", "content": prompt}],
        }
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        request = urllib.request.Request(
            url.rstrip("/") + "/chat/completions", json.dumps(body).encode(), headers
        )
        with urllib.request.urlopen(request, timeout=timeout) as reply:
            return str(json.loads(reply.read())["choices"][0]["message"]["content"])

    return ask


def _read(path: Path) -> dict[str, bool]:
    """Earlier verdicts; a torn last line does not count."""
    known: dict[str, bool] = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
                known[row["prompt"]] = bool(row["verdict"])
            except (ValueError, KeyError, TypeError):
                continue
    return known
