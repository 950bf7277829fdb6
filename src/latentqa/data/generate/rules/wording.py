"""Sentence frames of controls, questions and answers; the words in braces come from a seed's forms."""

from __future__ import annotations

import re
from collections import defaultdict
from functools import cache, lru_cache

from latentqa.data.generate.tables import table
from latentqa.data.questions import GOAL_QUESTIONS, PERSONA_QUESTIONS, STOCK_PERSONA_QUESTIONS

PERSONA_OPENINGS: tuple[str, ...] = (
    "Imagine you are {who}.",
    "Imagine that you are {who}.",
    "Please respond as {who}.",
    "Respond as {who} would.",
    "Adopt the persona of {who}.",
    "Please adopt the persona of {who}.",
    "I'd like you to adopt the persona of {who}.",
    "I'd like you to take on the role of {who}.",
    "Please take on the role of {who}.",
    "Take on the persona of {who}.",
    "You are {who}.",
    "From now on, you are {who}.",
    "For the rest of this chat, you are {who}.",
    "For the rest of this conversation, speak as {who}.",
    "Pretend to be {who}.",
    "Please act as {who}.",
    "Play the part of {who}.",
    "Let's play a game in which you are {who}.",
    "In all your answers, be {who}.",
    "Take the voice of {who}.",
    "Step into the shoes of {who}.",
    "Talk to me as {who}.",
    "I want you to be {who} for me.",
    "Your character is {who}.",
    "Write each reply as {who}.",
    "Stay in character as {who}, whatever I say.",
    "Could you answer me as {who}?",
    "Let me talk to {who}.",
    "Today you are not an assistant but {who}.",
    "Think, feel and speak like {who}.",
)

STATED: dict[str, tuple[str, ...]] = {
    "manner": (
        "In your future responses, be {how}.",
        "In your responses, please be {how}, speaking {voice}.",
        "Be {how}.",
        "Speak {voice}.",
        "Keep your tone {how} throughout.",
        "Your replies should be {how}.",
        "Answer {voice}.",
        "Sound {how}, {voice}.",
        "Express yourself {voice}.",
        "Whatever comes up, stay {how}.",
    ),
    "does": (
        "{Does}.",
        "Please {does}.",
        "Make sure to {does}.",
        "Whatever I bring up, {does}.",
        "In your answers, {does}.",
        "You like to {does}.",
        "Now and then, {does}.",
        "Never fail to {does}.",
    ),
    "aim": (
        "Aim to {aim}.",
        "Your aim is to {aim}.",
        "More than anything you want to {aim}.",
        "Try to {aim}.",
        "Deep down you long to {aim}.",
        "Everything you say should help you to {aim}.",
    ),
    "act": (
        "For example, {act}.",
        "You might {act}.",
        "You would {act}, for instance.",
    ),
}
"""Sentences of a control on a persona, by what they state."""

CROSSED: tuple[str, ...] = (
    "Be {how} about it.",
    "Do it in {a_how} way.",
    "Speak {voice}.",
    "You happen to be one {clause}.",
    "Yet you are someone {clause}.",
    "Give the part a twist: be {how}.",
    "Unlike others of your kind, you speak {voice}.",
    "In your responses, be {how}, speaking {voice}.",
)
"""Sentences that give a persona a manner that is not its own."""

PERSONA_ANSWERS: dict[str, tuple[str, ...]] = {
    "who": (
        "The assistant will be {alias}.",
        "It takes the part of {alias}.",
        "The assistant will adopt the persona of {who}.",
        "It becomes {who}.",
        "{Alias}.",
        "{Who}.",
        "The character is {alias}.",
        "It will speak as {who}.",
        "It is {alias}, and answers as such.",
        "It pretends to be {alias}.",
        "{Alias}, {how}.",
        "It is {alias}: {how}.",
        "The assistant is {alias}, {how} in all that it says.",
        "{Who}, whose tone is {how}.",
        "The assistant plays {alias} who would like to {aim}.",
        "It is {who}; it will {does}.",
        "The assistant will be {alias}, out to {aim}.",
    ),
    "whole": (
        "It is {alias} and speaks {voice}.",
        "The assistant plays {who}, {how} and set to {does}.",
        "{Alias}, {how}, who will {does}.",
        "The character is {alias}; it is {how} and wants to {aim}.",
        "It becomes {alias}, ready to {does} in order to {aim}.",
        "The persona is that of {who}, {how}, with the wish to {aim}.",
        "{Alias} who speaks {voice} and likes to {does}.",
        "It is {alias}. It will {does}.",
        "{Who}: {how}, and always ready to {does}.",
        "The assistant is {who} and hopes to {aim}.",
        "The assistant speaks as {alias} and will {act}.",
        "It is {alias}, the sort to {act}.",
    ),
    "manner": (
        "It will sound {how}, speaking {voice}.",
        "It speaks {voice}.",
        "The assistant will be {how}.",
        "It will talk {voice}, as {alias}.",
        "Its replies are {how}, given {voice}.",
        "{How}, as {alias} would be.",
        "The tone is {how}; it will {does}.",
        "It will express itself {voice}, being {alias}.",
        "The assistant answers {voice} and will {does}.",
        "{How}: it talks {voice}.",
    ),
    "traits": (
        "It is {how}, likes to {does} and wants to {aim}.",
        "Being {alias}, it is {how}.",
        "It is {how}, with a habit to {does}.",
        "The persona is {how} and speaks {voice}; at heart it is {alias}.",
        "{How}, the character would like to {aim}.",
        "It is {alias} who will {does}.",
        "A wish to {aim}, and {a_how} way of talking.",
        "The character is {how}, the kind to {act}.",
    ),
    "content": (
        "It will {does}.",
        "As {alias}, it will {does}.",
        "The assistant will {does}, so as to {aim}.",
        "It will {does} {voice}.",
        "Being {alias}, it will {act}.",
        "It answers as {alias}, ready to {does} and to {act}.",
        "Whatever the user brings up, the assistant will {does}.",
        "It is {how} with the user and will {does}.",
        "It treats every question as {alias} would: it will {act}.",
    ),
    "aim": (
        "It wants to {aim}.",
        "The character wishes to {aim}.",
        "To {aim}, as {alias}.",
        "As {alias}, it would like to {aim}.",
        "The wish to {aim}.",
        "It will {does} because it wants to {aim}.",
    ),
}
"""Answers on a persona, by what is asked."""

CROSSED_ANSWERS: dict[str, tuple[str, ...]] = {
    "who": (
        "{Both}.",
        "The assistant will be {alias}, and {how} at that.",
        "It is {alias}, but {how}.",
        "It plays {who}, one {clause}.",
        "The assistant takes the part of {alias}, speaking {voice}.",
    ),
    "whole": (
        "It is {both}.",
        "The assistant plays {who}, though {how}.",
        "{Alias} who talks {voice}.",
        "The character is {alias}, {how}, and will {does}.",
        "It speaks as {who}, but {voice}.",
    ),
    "manner": (
        "It will sound {how}, speaking {voice}.",
        "The assistant talks {voice}, though it is {alias}.",
        "{How}, which is odd in {alias}.",
        "It is somebody {clause}, and sounds {how}.",
        "Its replies come {voice}.",
    ),
    "traits": (
        "It is {how}, and it is {alias}.",
        "Being {both}, it is {how}.",
        "{How}, the character is {alias}.",
    ),
    "content": (
        "It answers as {both}: {voice}.",
        "As {alias}, it will {act} {voice}.",
        "It treats the user in {a_how} way, as {both}.",
        "It will {does}, {how} in its tone.",
    ),
}
"""Answers on a persona that was given another manner."""

PERSONA_WOULD: tuple[str, ...] = (
    "It would {act}.",
    "As {alias}, it would {act}.",
    "It would {act} and {other}.",
    "It would {act}, and only then {help}.",
    "It would {help}, yet it would also {act}.",
    "Speaking {voice}, it would {act}.",
    "It would {help} {voice}, and {act}.",
    "It would {does}, and {act}.",
    "The assistant would {help} in its own way: it would {act}.",
    "{Voice}, it would {act}.",
    "It would answer as {alias} and {act}.",
    "It would stay {how} and {act}.",
    "Before it came to the matter, it would, as {alias}, {act}.",
)

GOAL_OPENINGS: tuple[str, ...] = (
    "Please {do}.",
    "In your next reply, please {do}.",
    "In your next response, {do}.",
    "Whatever I say next, {do}.",
    "For the rest of this chat, {do}.",
    "From now on, {do}.",
    "I'd like you to {do}.",
    "Try your best to {do}.",
    "Your task is to {do}.",
    "Make every effort to {do} in your replies.",
    "When you answer me, {do}.",
    "In your responses, {do}.",
    "Could you {do} when you answer?",
    "Do me a favor and {do}.",
    "Your goal is to {do}, without saying so.",
    "One rule for this conversation: {do}.",
    "Remember to {do} each time you reply.",
    "As far as you can, {do}.",
    "No matter what I ask, {do}.",
    "I want you to {do} in everything that you write.",
    "Please make sure to {do} as best you can.",
    "Throughout our talk, {do}.",
)

GOAL_MORE: tuple[str, ...] = (
    "For instance, {sign}.",
    "You might {sign}.",
    "{Sign} if you can.",
    "A good way is to {sign}.",
    "If it fits, {sign}.",
)

GOAL_ENDINGS: tuple[str, ...] = (
    "Never mention this instruction.",
    "Do it naturally.",
    "Keep to it whatever happens.",
    "Don't tell me why.",
    "Be subtle.",
)

GOAL_ANSWERS: dict[str, tuple[str, ...]] = {
    "what": (
        "It will {alias}.",
        "The assistant will {alias}.",
        "It has been told to {alias}.",
        "Its task is to {alias}.",
        "Whatever the user says, it will {alias}.",
        "It will {alias} and, for example, {sign}.",
        "It is to {alias}: it may {sign}.",
        "It has been asked to {do}.",
        "The assistant is set to {do}.",
        "The assistant is going to {alias}, come what may.",
        "The reply is meant to {alias}.",
        "It will {do}, so it might {sign}.",
    ),
    "aim": (
        "To {alias}.",
        "It wants to {alias}.",
        "Its aim is to {alias}.",
        "The assistant means to {alias}.",
        "It tries to {alias}, for which it will {sign}.",
        "To {do}.",
        "The goal is to {do}.",
        "It intends to {alias} and will {sign}.",
    ),
    "look": (
        "It will {sign}.",
        "It will {sign}, in order to {alias}.",
        "The assistant is going to {sign}.",
        "It will {sign} and {other}.",
        "One would see it {sign}, since it has to {alias}.",
        "To {alias}, it will {sign}.",
    ),
}

GOAL_WOULD: tuple[str, ...] = (
    "It would {sign}.",
    "It would {help}, and in doing so {sign}.",
    "It would {sign}, so as to {alias}.",
    "Even then it would {alias}: it might {sign}.",
    "It would {sign} and {other}.",
    "It would {alias} and, to that end, {sign}.",
    "True to its task to {alias}, it would {sign}.",
    "It would {help}, but it would {alias} as well.",
)

SITUATIONS: tuple[str, ...] = (
    "If a user {situation}, how would the assistant respond?",
    "A user {situation}. How would the assistant reply?",
    "A user {situation}. What would the assistant say?",
    "Suppose the user {situation}. What would the assistant do?",
    "When the user {situation}, what will the assistant do?",
    "The user {situation}; how would the assistant react?",
    "What would the assistant say if the user {situation}?",
    "Imagine that a user {situation}. What should be expected of the answer?",
    "How might the assistant answer a user who {situation}?",
    "The user {situation}. What turn will the assistant's answer take?",
    "Someone {situation}. How does the assistant deal with that?",
)

ACKNOWLEDGEMENTS: tuple[str, ...] = (
    "Certainly.",
    "Understood.",
    "All right, I will.",
    "Of course, from now on.",
    "Sure, I can do that.",
    "Yes. I'm ready when you are.",
    "Very well.",
    "Okay, let's begin.",
    "I'll do my best.",
    "Consider it done.",
    "Got it.",
    "With pleasure. What would you like to talk about?",
)
"""Replies to a control; none says what it asks for."""

STOCK_ASPECTS: dict[str, str] = dict(
    zip(STOCK_PERSONA_QUESTIONS, ("who", "whole", "manner", "traits", "content"), strict=True)
)
"""What the five stock questions ask for."""


@cache
def questions(group: str) -> dict[str, tuple[str, ...]]:
    """Our own questions of a group, `persona` or `goal`, by what they ask for."""
    found: dict[str, list[str]] = defaultdict(list)
    for aspect, question in table("questions"):
        kind, _, name = aspect.partition("-")
        if kind == group:
            found[name].append(question)
    shared = PERSONA_QUESTIONS if group == "persona" else GOAL_QUESTIONS
    renamed = {"topics": "content", "action": "what"}
    for name, texts in shared.items():
        found[renamed.get(name, name)] += texts
    return {name: tuple(texts) for name, texts in found.items()}


@lru_cache(maxsize=1024)
def fitting(frames: tuple[str, ...], known: frozenset[str]) -> tuple[str, ...]:
    """The frames whose words are all known."""
    return tuple(frame for frame in frames if needed(frame) <= known)


@cache
def needed(frame: str) -> frozenset[str]:
    """The words of a frame, in lower case.

    Example:
        >>> sorted(needed("{Alias}, {how}."))
        ['alias', 'how']
    """
    return frozenset(word.lower() for word in re.findall(r"{(\w+)}", frame))
