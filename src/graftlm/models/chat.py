"""Conversations as tokens: the chat template of the base model, the contents kept apart from its control tokens.

A template is rendered with a mark in the place of each content. What stands between the marks is the template's own
and may hold control tokens; a content is text, also where it reads like one. So nobody can end a turn, or begin that
of another role, by writing its token.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from jinja2 import TemplateError
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from graftlm.data.features import IGNORED, Features
from graftlm.data.messages import REPLY_ROLE, Conversation, Message, as_dicts
from graftlm.data.writing import Writing
from graftlm.errors import DataError, ModelError, clip
from graftlm.models.sequences import SequenceLimits, TokenReader, next_tokens

SAFE_TEMPLATE = (
    "{{ bos_token or '' }}{% for message in messages %}{{ message['role'] }}:\n{{ message['content'] }}"
    "{{ eos_token }}\n{% endfor %}{% if add_generation_prompt %}assistant:\n{% endif %}"
)
"""For base models without a chat template: the role, a line break, what is said, the end token."""

# Templates that write the date (Llama 3) ask this function for today's, which makes other tokens of the same rows
# tomorrow. They get a macro of its name with the day that Llama 3 itself names where nobody tells it another.
_DATE = date(2024, 7, 26)
_CODES = ("%-d", "%-m", *(f"%{letter}" for letter in "aAbBcdDeFHIjmMpSxXyYZ"))
_DATE_MACRO = (
    "{% macro strftime_now(format) %}{{ format"
    + "".join(f" | replace('{code}', '{_DATE.strftime(code)}')" for code in _CODES)
    + " }}{% endmacro %}\n"  # the renderer takes this line break, and no other, for part of the tag
)

# Private-use characters: no text of a template holds them.
_OPEN, _CLOSE = "\ue000", "\ue001"
_MARK = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")


@dataclass(frozen=True)
class _Tokens:
    """A conversation as tokens: which are learnt, and how many come before what is written last."""

    ids: list[int]
    learnt: list[bool]
    prompt: int


@dataclass(frozen=True)
class ChatEncoder:
    """Conversations -> tokens, for one tokenizer and one set of roles that are learnt.

    Args:
        tokenizer: with a chat template.
        reader: of the replies.
        roles: whose messages are learnt.
        limits: tokens of a conversation and of its last reply.
    """

    tokenizer: PreTrainedTokenizerBase
    reader: TokenReader
    roles: Collection[str]
    limits: SequenceLimits

    def features(self, conversations: Sequence[Conversation], places: Sequence[str]) -> Features:
        """Return one example per conversation; of one that is too long the oldest turns are left out.

        Raises:
            DataError: the template refuses a conversation, with its place.
        """
        ids, targets, prompts = list[list[int]](), list[NDArray[np.int64]](), list[int]()
        truncated, cut = list[int](), list[int]()
        for row, (conversation, place) in enumerate(zip(conversations, places, strict=True)):
            found, whole = self._fitted(conversation, place)
            if not whole:
                truncated.append(row)
            most = found.prompt + self.limits.written
            kept, learnt = found.ids[:most], found.learnt[:most]
            if any(found.learnt[most:]):
                cut.append(row)
                # The last that is learnt ends the reply: so the model learns to end within the limit.
                last = max(at for at, reply in enumerate(found.learnt) if reply)
                kept[-1], learnt[-1] = found.ids[last], True
            ids.append(kept)
            targets.append(next_tokens(kept, learnt))
            prompts.append(found.prompt)
        # Without a single reply there is nothing to learn or to compare with: conversations to be continued.
        known = targets if any((each != IGNORED).any() for each in targets) else []
        writing = Writing(known, prompts, self.reader, cut)
        return Features({"input_ids": ids}, range(len(ids)), truncated, writing=writing)

    def _fitted(self, conversation: Conversation, place: str) -> tuple[_Tokens, bool]:
        """Return the tokens, and whether the whole conversation is in them."""
        kept = conversation
        while (found := self._tokens(kept, place)).prompt > self.limits.prompt:
            share = self.limits.prompt / found.prompt
            kept = _without_oldest(kept) or _shortened(kept, share, replied=kept[-1].role == REPLY_ROLE)
            if not kept:
                raise DataError(
                    f"the chat template alone takes more than the {self.limits.prompt} tokens left to a prompt",
                    where=place,
                    fix="allow more: task.max_length_tokens",
                )
        return found, kept == conversation

    def _tokens(self, conversation: Conversation, place: str) -> _Tokens:
        """Return the tokens; the prompt is what precedes the last message where that is a reply, else all of it.

        It is the prompt that whoever asks for this reply will render: templates may write something else before a
        reply that is known, such as an empty thought.
        """
        replied = conversation[-1].role == REPLY_ROLE
        pieces = self._template_pieces(conversation, place, continued=not replied)
        contents: list[list[int]] = self.tokenizer(
            [message.content for message in conversation],
            add_special_tokens=False, split_special_tokens=True, return_attention_mask=False, verbose=False,
        )["input_ids"]  # fmt: skip
        if replied and self.reader.end_tokens.isdisjoint(pieces[-1]):
            # Whoever writes must learn to stop. Nothing is put between turns: there the template alone decides.
            pieces[-1] = [self.reader.end, *pieces[-1]]
        ids, learnt, prompt = list(pieces[0]), [False] * len(pieces[0]), 0
        for message, content, after in zip(conversation, contents, pieces[1:], strict=True):
            prompt = len(ids)
            reply = message.role in self.roles
            ids += content + after
            learnt += [reply] * len(content)
            last = next((at for at, token in enumerate(after) if token in self.reader.end_tokens), -1)
            learnt += [reply and at <= last for at in range(len(after))]
        if not replied:
            return _Tokens(ids, learnt, len(ids))
        if len(conversation) == 1 or conversation[-2].role == REPLY_ROLE:  # nobody asks for it
            return _Tokens(ids, learnt, prompt)
        asked = self._tokens(conversation[:-1], place)
        return _Tokens(asked.ids + ids[prompt:], asked.learnt + learnt[prompt:], len(asked.ids))

    def _template_pieces(self, conversation: Conversation, place: str, continued: bool) -> list[list[int]]:
        """Return the tokens of the template before, between and behind the contents."""
        try:
            rendered = _rendered(self.tokenizer, [message.role for message in conversation], continued)
        except TemplateError as error:
            raise DataError(
                f"the chat template of the base model refuses this conversation: {clip(str(error), 200)}",
                where=place,
                fix="correct the roles or their order, or choose another base model",
            ) from None
        pieces = _MARK.split(rendered)
        if [int(number) for number in pieces[1::2]] != list(range(len(conversation))):
            raise ModelError(
                "the chat template of the base model leaves a message out, or repeats or moves one",
                where=place,
                fix="correct the conversation, or choose another base model",
            )
        return _template_ids(self.tokenizer, pieces[0::2])


def closing_token(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the control token with which the chat template closes a reply; None where it closes none with one."""
    if not tokenizer.chat_template:
        return None
    try:
        rendered = _rendered(tokenizer, ["user", REPLY_ROLE], False)
    except TemplateError:
        return None
    (behind,) = _template_ids(tokenizer, _MARK.split(rendered)[-1:])
    known = tokenizer.added_tokens_decoder
    return behind[0] if behind and behind[0] in known and known[behind[0]].special else None


def with_fixed_date(template: str) -> str:
    """Return a chat template that writes the same date on every day; one that writes none is returned as it is."""
    if "strftime_now" not in template or template.startswith(_DATE_MACRO):
        return template
    return _DATE_MACRO + template


def date_note(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return what to say of a chat template that writes the date; None where it writes none."""
    given: Any = tokenizer.chat_template  # one, or several by name
    if not any(
        str(each).startswith(_DATE_MACRO) for each in (given.values() if isinstance(given, dict) else [given])
    ):
        return None
    return (
        f"the chat template of the base model writes the date: here, and in the saved model, it is {_DATE:%d %b %Y} on "
        "every day, so that the same rows stay the same tokens"
    )


def _rendered(tokenizer: PreTrainedTokenizerBase, roles: Sequence[str], continued: bool) -> str:
    """Return what the template says of a conversation, marks in the place of its contents."""
    marked = [Message(role, f"{_OPEN}{number}{_CLOSE}") for number, role in enumerate(roles)]
    found: Any = tokenizer.apply_chat_template(
        as_dicts(tuple(marked)), tokenize=False, add_generation_prompt=continued
    )
    return found


def _template_ids(tokenizer: PreTrainedTokenizerBase, pieces: list[str]) -> list[list[int]]:
    return tokenizer(pieces, add_special_tokens=False, split_special_tokens=False, verbose=False)["input_ids"]


def _without_oldest(conversation: Conversation) -> Conversation:
    """Return the conversation from the second turn of its first speaker on, system messages apart; () if none is."""
    start = next((at for at, message in enumerate(conversation) if message.role != "system"), 0)
    first = conversation[start].role
    # What a reply at the end answers to stays with it.
    end = len(conversation) - 1 if conversation[-1].role == REPLY_ROLE else len(conversation)
    again = next((at for at in range(start + 1, end) if conversation[at].role == first), start + 1)
    return (*conversation[:start], *conversation[again:]) if again < end else ()


def _shortened(conversation: Conversation, share: float, replied: bool) -> Conversation:
    """Return the conversation with the end of its longest message left out; () where there is nothing to leave.

    The reply at its end is not part of what is too long.
    """
    before = range(len(conversation) - 1 if replied else len(conversation))
    said = [at for at in before if conversation[at].role != "system"] or before
    longest = max(said, key=lambda at: len(conversation[at].content), default=None)
    if longest is None:
        return ()
    role, content = conversation[longest]
    shorter = content[: int(len(content) * share * 0.95)].strip()
    if not shorter:
        return ()
    return (*conversation[:longest], Message(role, shorter), *conversation[longest + 1 :])
