"""The next reply of a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from graftlm.config import Config
from graftlm.data.dataset import Split
from graftlm.data.features import Encoder, Features, Outputs, Targets
from graftlm.data.messages import (
    REPLY_ROLE,
    Conversation,
    Message,
    Unlearnable,
    may_be_list,
    unanswered,
    unheard,
)
from graftlm.data.roles import MESSAGES, Role
from graftlm.data.table import Table
from graftlm.data.writing import Decoding
from graftlm.errors import DataError
from graftlm.scoring.generated_texts import Scoring, scoring_of
from graftlm.scoring.metric import check_primary
from graftlm.scoring.scores import Scores
from graftlm.tasks._same_answer import only_answer
from graftlm.tasks._task import Learnt
from graftlm.tasks._written import (
    TextPrediction,
    most_frequent,
    phrase,
    quoted,
    read_texts,
    record,
    same_text,
    score_texts,
)

_ECHO = "the last message before the reply"
_ALWAYS = "always the most frequent training reply"
# The template is rendered with marks for the contents; then each piece becomes tokens on its own, as in training. At
# once would be shorter: whoever writes the token that ends a turn would end it, and many tokenizers put a mark of a
# space before each piece.
_USAGE = """\
marked = [{**message, "content": f"\\ue000{at}\\ue001"} for at, message in enumerate(messages)]
template = tokenizer.apply_chat_template(marked, tokenize=False, add_generation_prompt=True)
ids = []
for at, piece in enumerate(re.split("\\ue000([0-9]+)\\ue001", template)):
    said = at % 2 == 1  # in a message names of control tokens are text
    text = messages[int(piece)]["content"] if said else piece
    ids += tokenizer(text, add_special_tokens=False, split_special_tokens=said)["input_ids"]
ids = torch.tensor([ids])
with torch.inference_mode():
    written = model.generate(ids, attention_mask=torch.ones_like(ids))
print(tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True))"""


class Dialogue(Config):
    """A conversation -> the reply that comes next, by a decoder (GPT-2, Llama, Qwen ...).

    Conversations become tokens by the chat template of the base model, or a plain one where it has none. Only messages
    of ``loss_roles``, the token that ends each among them, are learnt: all of them in training and for perplexity. The
    reply that is written, and compared with its reference, is the last one of each conversation.
    """

    name: ClassVar[str] = "dialogue"
    roles: ClassVar[tuple[Role, ...]] = (MESSAGES,)
    architectures: ClassVar[tuple[str, ...]] = ("AutoModelForCausalLM",)
    pipeline_tag: ClassVar[str] = "text-generation"
    objective: ClassVar[str] = "cross_entropy"
    answer_kind: ClassVar[str] = "replies"
    limits: ClassVar[tuple[str, ...]] = (
        "It may say what is untrue, or what its training data would say and you would not.",
        "Perplexity is per token of this tokenizer: it cannot be compared with that of a model with another one.",
        "A good reply in other words than the reference scores low in BLEU, chrF and ROUGE.",
    )
    quotes: ClassVar[tuple[str, ...]] = ("text",)
    default_length_tokens: ClassVar[int] = 1024

    max_length_tokens: PositiveInt | None = None
    """Tokens of a conversation, the last reply included; of longer ones the oldest turns are left out, and counted
    aloud. None: the limit of the base model, at most 1,024."""

    max_target_tokens: PositiveInt | None = None
    """Tokens of the last reply, in training and when writing; longer ones are cut before their end token,
    and counted aloud. None: 128, at most half of a conversation."""

    loss_roles: list[str] = Field(["assistant"], min_length=1)
    """Whose messages are learnt; the assistant's, which the model writes, are always among them."""

    num_beams: PositiveInt = 1
    """Hypotheses kept while writing; more make replies safer and duller."""

    no_repeat_ngram_size: Literal[0] | Annotated[int, Field(ge=2)] = 0
    """Runs of so many tokens stand once at most in conversation and reply. 0: no such rule."""

    repetition_penalty: PositiveFloat = 1.0
    """What the scores of tokens already there are divided by; 1 for none."""

    scoring: Scoring | None = None
    """How scores compare texts: english (Porter stems in ROUGE), words (of any script), or characters (scripts without
    spaces). None: by the letters of the training replies."""

    primary_metric: str = "perplexity"
    """The metric that chooses the best checkpoint and makes the headline."""

    @field_validator("primary_metric")
    @classmethod
    def _known_metric(cls, value: str) -> str:
        return check_primary(value, cls.answer_kind)

    @field_validator("loss_roles")
    @classmethod
    def _replies_are_learnt(cls, value: list[str]) -> list[str]:
        if REPLY_ROLE not in value:
            raise ValueError(
                f"must hold {REPLY_ROLE}, whose turns the model writes; call another speaker so in the data, or add it"
            )
        return value

    @property
    def decoding(self) -> Decoding:
        """How it writes."""
        return Decoding(
            self.max_target_tokens,
            self.num_beams,
            no_repeat_ngram_size=self.no_repeat_ngram_size,
            repetition_penalty=self.repetition_penalty,
        )

    @classmethod
    def recognises(cls, table: Table) -> str | None:
        """Return why, where a column of lists, or of their JSON, is called as conversations are."""
        for name, values in table.columns.items():
            called = name.strip().lower() in (MESSAGES.name, *MESSAGES.hints)
            if called and values and all(map(_listed, values[:100])):
                return f"it has the column {name!r} of messages"
        return None

    def learn(self, train: Split) -> Learnt:
        """Return how replies are compared.

        Raises:
            DataError: a conversation of train holds no message that could be learnt.
        """
        talks = _talks(train)
        _refuse(unheard(talks, train.name, self.loss_roles), train)
        replies = (each.content for talk in talks for each in talk if each.role in self.loss_roles)
        return Learnt((), {"scoring": self.scoring or scoring_of(replies)})

    def model_options(self, learnt: Learnt) -> dict[str, Any]:
        """The model keeps its head."""
        return {}

    def encode(self, split: Split, encoder: Encoder) -> Features:
        """Tokenise conversations."""
        return encoder.conversations(_talks(split), split.row_ids, self.loss_roles)

    def targets(self, split: Split, features: Features, learnt: Learnt) -> Targets:
        """Return for each token the one that follows, where it belongs to a message that is learnt [tokens].

        Raises:
            DataError: a conversation does not end with such a message.
        """
        _refuse(unanswered(_talks(split), split.name), split)
        assert features.writing is not None
        return features.writing.targets

    def tune(self, outputs: Outputs, split: Split, features: Features, learnt: Learnt) -> Learnt:
        """Nothing is tuned."""
        return learnt

    def decode(
        self, outputs: Outputs, split: Split, features: Features, learnt: Learnt
    ) -> list[TextPrediction]:
        """Return the reply to each conversation."""
        return read_texts(outputs, features)

    def score(
        self, predictions: Sequence[TextPrediction], split: Split, learnt: Learnt, **options: Any
    ) -> Scores:
        """Compare each reply with the last message of its row; perplexity is over all messages that are learnt.

        Raises:
            DataError: a conversation does not end with a reply.
        """
        talks = _talks(split)
        _refuse(unanswered(talks, split.name), split)
        references = [talk[-1].content for talk in talks]
        scoring = cast("Scoring", learnt.rule["scoring"])
        return score_texts(predictions, references, scoring, self.answer_kind, self.primary_metric, **options)

    def references(self, split: Split) -> list[dict[str, int]]:
        """Return how many messages each row has, and how many characters the last of them."""
        return [{"messages": len(talk), "characters": len(talk[-1].content)} for talk in _talks(split)]

    def record(self, prediction: TextPrediction) -> dict[str, Any]:
        """Return a prediction as plain values for JSON Lines."""
        return record(prediction)

    def phrase(self, prediction: TextPrediction) -> str:
        """Return the reply."""
        return phrase(prediction)

    def decision(self, prediction: TextPrediction) -> str:
        """Return the reply."""
        return prediction.text

    def same_answer(self, predictions: Sequence[TextPrediction], split: Split) -> str | None:
        """See `graftlm.tasks._task.Task`."""
        only = only_answer((each.text for each in predictions), (talk[-1].content for talk in _talks(split)))
        return same_text(only[0]) if only else None

    def baselines(self, train: Split, split: Split, learnt: Learnt) -> dict[str, list[TextPrediction]]:
        """The last message before the reply, and the most frequent training reply."""
        echoes = [talk[-2].content if len(talk) > 1 else "" for talk in _talks(split)]
        usual = most_frequent(talk[-1].content for talk in _talks(train))
        return {_ECHO: list(map(quoted, echoes)), _ALWAYS: [quoted(usual)] * len(split)}

    def describe(self, learnt: Learnt) -> str:
        """Return what the model answers."""
        return f"It writes the next reply of a conversation, at most {self.max_target_tokens} tokens."

    def usage(self, learnt: Learnt, architecture: str) -> str:
        """Return how to reply with plain transformers."""
        return _USAGE


def _refuse(problem: Unlearnable | None, split: Split) -> None:
    if problem is not None:
        where = split.row_ids[problem.rows[0]] if problem.rows else "task.loss_roles"
        raise DataError(problem.what, where=where, fix=problem.fix)


def _listed(value: object) -> bool:
    return isinstance(value, list | tuple) or (isinstance(value, str) and may_be_list(value))


def _talks(split: Split) -> list[Conversation]:
    # Rows that went through JSON, to the process that proves a run, come back as lists.
    return [
        tuple(Message(*each) for each in talk)
        for talk in cast("list[Conversation]", split.columns["messages"])
    ]
