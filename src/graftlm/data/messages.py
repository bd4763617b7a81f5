"""Conversations: who says what, in which order."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from graftlm.data.places import counted, first_places
from graftlm.data.strict_json import Refused, strict_decoder
from graftlm.data.table import Table
from graftlm.errors import DataError, clip


class Message(NamedTuple):
    """One turn.

    Args:
        role: who speaks, such as ``user``, ``assistant`` or ``system``.
        content: what is said, white space at both ends left out.
    """

    role: str
    content: str


Conversation = tuple[Message, ...]
REPLY_ROLE = "assistant"
"""Whose turn it is when a model writes: what chat templates begin, whatever else is learnt."""

# What other tools call the speakers.
_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
}
# A template writes the role as it is: it must not hold control tokens.
_ROLE = re.compile(r"[\w.-]+( [\w.-]+)*")
FORMS = (
    'write in each row a list of {"role": "user", "content": "..."} with the roles user, assistant and, first, system '
    '({"from": ..., "value": ...} is read as well)'
)
"""What to do where there is no conversation."""


def conversations(table: Table, column: str) -> list[object]:
    """Return a `Conversation` for each row.

    Raises:
        DataError: a value is no list of messages, or a message lacks its role or content; with the first places.
    """
    found = [conversation(value) for value in table.columns[column]]
    wrong = [row for row, value in enumerate(found) if isinstance(value, str)]
    if wrong:
        raise DataError(
            f"the messages column {clip(column)} holds no conversation in {counted(len(wrong), 'row')} "
            f"({found[wrong[0]]}); first: {first_places([table.place(row) for row in wrong[:5]], len(wrong))}",
            where=table.source,
            fix=FORMS,
        )
    return list(found)


def conversation(value: object) -> Conversation | str:
    """Return the messages of a value, a list or its JSON as CSV files hold it, or what is wrong with it."""
    if isinstance(value, str) and may_be_list(value):
        try:
            value = strict_decoder().decode(value.strip())
        except (ValueError, RecursionError, Refused):
            return "it is no whole JSON"
    turns = _elements(value)
    if turns is None:
        return f"it is {'missing' if value is None else type(value).__name__}"
    messages = [_message(turn) for turn in turns]
    if wrong := next((message for message in messages if isinstance(message, str)), None):
        return wrong
    if not messages:
        return "it is empty"
    return tuple(message for message in messages if isinstance(message, Message))


def _elements(value: object) -> Sequence[object] | None:
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):  # in a DataFrame
        value = cast("Any", value).tolist()
    return cast("Sequence[object]", value) if isinstance(value, list | tuple) else None


def may_be_list(text: str) -> bool:
    """Whether a text begins as a list does in JSON."""
    return text.lstrip().startswith("[")


def _message(turn: object) -> Message | str:
    if isinstance(turn, Message):
        return turn
    if not isinstance(turn, Mapping):
        return f"a message is {type(turn).__name__}"
    fields = cast("Mapping[str, object]", turn)
    role, content = fields.get("role", fields.get("from")), fields.get("content", fields.get("value"))
    if not isinstance(role, str) or not role.strip():
        return "a message has no role"
    if (parts := _elements(content)) is not None:
        texts = [_text_of(part) for part in parts]
        if None in texts:
            return "a message has a part that is no text"
        content = "".join(map(str, texts))  # as chat templates do
    if not isinstance(content, str) or not content.strip():
        return "a message has no content"
    # Read as if they were not there, these would change what is learnt.
    if ignored := [key for key in ("tool_calls", "function_call") if fields.get(key)]:
        return f"a message has {ignored[0]}, which are not read"
    if fields.get("weight", 1) != 1:
        return "a message has a weight, which is not read"
    name = role.strip().lower()
    if not _ROLE.fullmatch(name):
        return f"the role {clip(role)} is no name"
    return Message(_ROLES.get(name, name), content.strip())


def _text_of(part: object) -> str | None:
    """Return the text of a part of a message, None where it is an image or the like."""
    fields = cast("Mapping[str, object]", part) if isinstance(part, Mapping) else {}
    text = fields.get("text")
    return text if fields.get("type") == "text" and isinstance(text, str) else None


class Unlearnable(NamedTuple):
    """Why nothing can be learnt from some conversations.

    Args:
        what: a sentence without any text of the user.
        rows: positions of these conversations; empty where it is about all of them.
        fix: what to do.
    """

    what: str
    rows: list[int]
    fix: str


def speakers(talks: Iterable[Conversation]) -> Counter[str]:
    """Return how many messages each role has."""
    return Counter(message.role for talk in talks for message in talk)


def unanswered(talks: Sequence[Conversation], split: str) -> Unlearnable | None:
    """Return which conversations do not end with a reply, None where all do.

    Args:
        talks: of one split.
        split: its name.
    """
    rows = [row for row, talk in enumerate(talks) if talk[-1].role != REPLY_ROLE]
    if not rows:
        return None
    what = (
        f"{split}: {len(rows):,} of {len(talks):,} conversations do not end with a message of the "
        f"{REPLY_ROLE}, so that there is no last reply to learn and to compare with"
    )
    return Unlearnable(what, rows, f"end each conversation with a reply of the {REPLY_ROLE}")


def unheard(talks: Sequence[Conversation], split: str, roles: Sequence[str]) -> Unlearnable | None:
    """Return which of ``roles`` nobody speaks as, None where all are heard; for the rest see `unanswered`."""
    spoken = speakers(talks)
    silent = [role for role in roles if role not in spoken]
    if not silent:
        return None
    what = f"nobody speaks as {' or '.join(silent)} in {split}; the roles are {', '.join(sorted(spoken))}"
    fix = f"name in task.loss_roles those who speak; who replies must be called {REPLY_ROLE} in the data"
    return Unlearnable(what, [], fix)


def as_dicts(messages: Conversation) -> list[dict[str, str]]:
    """Return the messages as chat templates read them."""
    return [message._asdict() for message in messages]
