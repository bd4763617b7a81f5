"""The roles that columns can play, and the column names that tell them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from graftlm.data.dataset import Split


@dataclass(frozen=True)
class Role:
    """What a task needs a column for.

    Args:
        name: the key under ``data.columns``, for instance ``text``.
        kind: ``text`` must hold strings, ``label`` the name of one class, ``label_set`` the names of any number of
            classes, ``number`` finite numbers, ``answers`` spans of a context (see `graftlm.data.answers`); ``words`` a
            text or a list of words, ``tags`` a name for each word, ``entities`` the same with prefixes such as B- and
            I-, or character spans; ``target`` a text that the model should write; ``messages`` a conversation (see
            `graftlm.data.messages`).
        hints: column names, in lower case, that tell the role; the name of the role itself goes before them.
        optional: whether rows may do without; such a column is found by its name only, never by its content.
        shared: whether many rows have the same value, which must not stand in two splits.
    """

    name: str
    kind: Literal[
        "text", "label", "label_set", "number", "answers", "words", "tags", "entities", "target", "messages"
    ]
    hints: tuple[str, ...] = ()
    optional: bool = False
    shared: bool = False


TEXT = Role("text", "text", (
    "text", "sentence", "review", "message", "content", "body", "comment", "tweet", "question", "utterance",
    "description", "title", "headline", "document", "query", "post", "sms", "email", "sentence1", "premise",
    "question1", "text1", "text_a", "sentence_a",
))  # fmt: skip
TEXT_PAIR = Role("text_pair", "text", (
    "sentence2", "hypothesis", "question2", "text2", "text_b", "sentence_b",
), optional=True)  # fmt: skip
LABEL = Role("label", "label", (
    "label", "labels", "class", "category", "target", "sentiment", "intent", "topic", "tag", "emotion", "y",
))  # fmt: skip
LABEL_SET = Role("labels", "label_set", (
    "labels", "label", "classes", "categories", "tags", "topics", "emotions", "genres",
))  # fmt: skip
NUMBER = Role("number", "number", (
    "score", "rating", "stars", "similarity", "relatedness", "grade", "price", "value", "label", "target", "y",
))  # fmt: skip
QUESTION = Role("question", "text", ("question", "query"))
CONTEXT = Role("context", "text", ("context", "passage", "paragraph", "document", "article"), shared=True)
ANSWERS = Role("answers", "answers", ("answers", "answer"))
WORDS = Role("tokens", "words", ("words", *TEXT.hints))
ENTITIES = Role("tags", "entities", ("ner_tags", "ner", "entities", "spans", "labels", "label"))
TAGS = Role("tags", "tags", ("pos_tags", "upos", "pos", "labels", "label"))
SOURCE = Role("source", "text", (
    "prompt", "instruction", "input", "input_text", "src", "document", "article", "dialogue", "text", "body",
))  # fmt: skip
TARGET = Role("target", "target", (
    "completion", "response", "output", "target_text", "tgt", "translation", "summary", "highlights", "abstract",
    "headline", "title",
))  # fmt: skip
MESSAGES = Role("messages", "messages", ("conversations", "conversation", "dialog", "turns"))


_ALSO_INPUTS = ("headline", "title", "abstract", "output")
INPUT_KINDS = ("text", "words", "messages")
"""Kinds of roles that a model reads; the others say what it should answer."""


def columns_for_writing(columns: Iterable[str], surely: bool = False) -> tuple[str, str] | None:
    """Return the columns that are called as a source and a target of writing are; None where one of them is missing.

    Args:
        columns: their names.
        surely: leave out targets with a name that is also given to inputs, such as a title.
    """
    names = {name.strip().lower(): name for name in columns}
    source, target = (
        next((names[hint] for hint in (role.name, *role.hints) if hint in names), None)
        for role in (SOURCE, TARGET)
    )
    if source is None or target is None or (surely and target.strip().lower() in _ALSO_INPUTS):
        return None
    return source, target


def present(roles: Sequence[Role], split: Split) -> list[Role]:
    """Return the roles that the rows of a split fill; an optional one may be missing."""
    return [role for role in roles if role.name in split.columns]
