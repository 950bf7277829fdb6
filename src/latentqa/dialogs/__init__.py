"""Dialogs as token ids: which token belongs to which message and span; decoder prompts. No model here."""

from latentqa.dialogs.placeholder import Placeholder, check_placeholder, choose_placeholder
from latentqa.dialogs.prompt import DecoderPrompt, FullPrompt, PromptPieces, decoder_prompt, match_positions
from latentqa.dialogs.render import Rendered, RenderedMessage, render
from latentqa.dialogs.show import to_ansi, to_html
from latentqa.dialogs.spans import CHOSEN, available_spans, chars_span, resolve_span, span_kind

__all__ = [
    "CHOSEN",
    "DecoderPrompt",
    "FullPrompt",
    "Placeholder",
    "PromptPieces",
    "Rendered",
    "RenderedMessage",
    "available_spans",
    "chars_span",
    "check_placeholder",
    "choose_placeholder",
    "decoder_prompt",
    "match_positions",
    "render",
    "resolve_span",
    "span_kind",
    "to_ansi",
    "to_html",
]
