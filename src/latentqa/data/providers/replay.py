"""A recorded run as a provider: its requests get the replies that they got then, and nothing is sent."""

from __future__ import annotations

from pathlib import Path

from latentqa.data.providers.base import Reply, Request
from latentqa.data.providers.cache import FILE, RequestCache
from latentqa.errors import ProviderError

SHOWN = 60


class ReplayProvider:
    """Answers from the `requests.jsonl` of another run.

    Args:
        recording: that file, or the run's folder.

    Raises:
        ProviderError: there is no such recording.
    """

    def __init__(self, recording: Path) -> None:
        path = recording / FILE if recording.is_dir() else recording
        if not path.is_file():
            raise ProviderError(
                f"There is no recording at {path}. Set writer.recording to the folder of a run that used an "
                "endpoint or a local model."
            )
        self._cache = RequestCache(path, writable=False)

    @property
    def name(self) -> str:
        """The recording's path."""
        return str(self._cache.path)

    async def complete(self, request: Request) -> Reply:
        """The recorded reply.

        Raises:
            ProviderError: the recording has none.
        """
        reply = self._cache.get(request)
        if reply is None:
            said = " ".join(request.messages[-1]["content"].split()) if request.messages else ""
            raise ProviderError(
                f"The recording {self.name} holds no reply of {request.model or 'an unnamed model'} to "
                f"{said[:SHOWN]!r}…. Replay it with the settings that it was made with."
            )
        return reply

    async def close(self) -> None:
        """Close the file."""
        self._cache.close()
