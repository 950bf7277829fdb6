"""Text providers: an endpoint, a model on this machine, a recording; and the runner that asks them."""

from latentqa.data.providers.base import FakeProvider, Provider, Reply, Request, RetryLater
from latentqa.data.providers.batch import BatchRunner
from latentqa.data.providers.cache import RequestCache
from latentqa.data.providers.endpoint import EndpointProvider
from latentqa.data.providers.fake import FakeEndpoint
from latentqa.data.providers.local import Generate, LocalProvider
from latentqa.data.providers.replay import ReplayProvider
from latentqa.data.providers.runner import Backoff, GaveUp, Runner, Session, Usage
from latentqa.data.providers.structured import UnusableReply, ask_form, is_refusal

__all__ = [
    "Backoff",
    "BatchRunner",
    "EndpointProvider",
    "FakeEndpoint",
    "FakeProvider",
    "GaveUp",
    "Generate",
    "LocalProvider",
    "Provider",
    "ReplayProvider",
    "Reply",
    "Request",
    "RequestCache",
    "RetryLater",
    "Runner",
    "Session",
    "UnusableReply",
    "Usage",
    "ask_form",
    "is_refusal",
]
