"""One text written from another: translation, summarisation, prompt and completion."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from graftlm.config import Config
from graftlm.data.column_content import describe_content
from graftlm.data.dataset import Split
from graftlm.data.features import Encoder, Features, Outputs, Targets
from graftlm.data.roles import LABEL, NUMBER, SOURCE, TARGET, Role, columns_for_writing
from graftlm.data.table import Table
from graftlm.data.writing import Decoding
from graftlm.scoring.generated_texts import Scoring, scoring_of
from graftlm.scoring.metric import check_primary
from graftlm.scoring.scores import Scores
from graftlm.tasks._same_answer import only_answer
from graftlm.tasks._task import Learnt
from graftlm.tasks._written import TextPrediction, phrase, quoted, read_texts, record, same_text, score_texts

_SENTENCE = re.compile(r"\S.*?(?:[.!?](?=\s)|[。！？]|$)", re.DOTALL)
_LEAD_SENTENCES = 3
_LEAD = f"the first {_LEAD_SENTENCES} sentences of the source"
_COPY = "the source itself"
_READ_BY_ENCODER = """\
batch = tokenizer({prefix!r} + source, truncation=True, max_length=limit, return_tensors="pt")
with torch.inference_mode():
    written = model.generate(**batch)
print(tokenizer.decode(written[0], skip_special_tokens=True))"""
_READ_BY_ONE_NETWORK = """\
ids = tokenizer({prefix!r} + source)["input_ids"]
while len(ids) > 1 and ids[-1] in (tokenizer.eos_token_id, tokenizer.sep_token_id):
    ids.pop()
end = tokenizer({separator!r}, add_special_tokens=False)["input_ids"]
ids = torch.tensor([ids[: limit - {written} - len(end)] + end])
with torch.inference_mode():
    written = model.generate(ids, attention_mask=torch.ones_like(ids))
print(tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True))"""


class TextGeneration(Config):
    """A text -> another text: its translation, its summary, the completion of a prompt.

    An encoder-decoder (T5, BART, Marian, mBART, NLLB) reads the source and writes the target. A decoder (GPT-2, Llama)
    reads source and ``separator`` and goes on; only the tokens of the target, the end token among them, are learnt.
    """

    name: ClassVar[str] = "text_generation"
    roles: ClassVar[tuple[Role, ...]] = (SOURCE, TARGET)
    architectures: ClassVar[tuple[str, ...]] = ("AutoModelForSeq2SeqLM", "AutoModelForCausalLM")
    pipeline_tag: ClassVar[str] = "text2text-generation"
    objective: ClassVar[str] = "cross_entropy"
    answer_kind: ClassVar[str] = "texts"
    limits: ClassVar[tuple[str, ...]] = (
        "It may write what the source does not say. No figure here measures that.",
        "BLEU, chrF and ROUGE count words and characters that a single reference has as well; a right text in other "
        "words scores low.",
        "Scores of texts are mean probabilities of their tokens; they were not calibrated.",
    )
    quotes: ClassVar[tuple[str, ...]] = ("text",)
    default_length_tokens: ClassVar[int] = 1024
    loss_roles: ClassVar[tuple[str, ...]] = ()

    max_length_tokens: PositiveInt | None = None
    """Tokens that are read; longer sources are cut, and counted aloud. A decoder holds source and target in them. None:
    the limit of the base model, at most 1,024."""

    max_target_tokens: PositiveInt | None = None
    """Tokens of the target, in training and when writing; longer targets are cut before their end token, and
    counted aloud. None: 128, at most half of what a decoder holds."""

    prefix: str = ""
    """Put before each source: the task that T5 was trained with ("summarize: "), the language that Marian is told
    (">>deu<< ")."""

    separator: str = "\n"
    """Between source and target, where one network reads and writes."""

    source_language: str | None = None
    """Code of the source language, for models of many languages: NLLB eng_Latn, mBART en_XX."""

    target_language: str | None = None
    """Code of the target language; what is written begins with its token."""

    num_beams: PositiveInt = 4
    """Hypotheses kept while writing. 1 is fastest."""

    length_penalty: float = 1.0
    """Above 1 longer texts are preferred, below 1 shorter ones; only with several beams."""

    no_repeat_ngram_size: Literal[0] | Annotated[int, Field(ge=2)] = 0
    """Runs of so many tokens stand once at most, in what a decoder reads and writes, or in what an encoder-decoder
    writes; 3 is usual for summaries. 0: no such rule."""

    repetition_penalty: PositiveFloat = 1.0
    """What the scores of tokens already there are divided by; 1 for none."""

    scoring: Scoring | None = None
    """How scores compare texts: english (Porter stems in ROUGE), words (of any script), or characters (scripts without
    spaces). None: by the letters of the training targets."""

    primary_metric: str = "chrf"
    """The metric that chooses the best checkpoint and makes the headline."""

    @field_validator("primary_metric")
    @classmethod
    def _known_metric(cls, value: str) -> str:
        return check_primary(value, cls.answer_kind)

    @property
    def decoding(self) -> Decoding:
        """How it writes."""
        return Decoding(
            self.max_target_tokens,
            self.num_beams,
            self.length_penalty,
            self.no_repeat_ngram_size,
            self.repetition_penalty,
            self.source_language,
            self.target_language,
        )

    @classmethod
    def recognises(cls, table: Table) -> str | None:
        """Return why, where one column is called as sources are, and another as targets are."""
        # A title beside a text may be anything, and so may a summary beside a rating: only names that nobody gives to
        # an input speak for themselves, and only where there is no label beside them.
        labels = {hint for role in (LABEL, NUMBER) for hint in (role.name, *role.hints)} - {"target"}
        found = columns_for_writing(table.columns, surely=True)
        if found is None or any(name.strip().lower() in labels for name in table.columns):
            return None
        # ``target`` is what many call a label or a number.
        content = describe_content(table.columns[found[1]])
        if content.label_like or content.numbers_with_fraction:
            return None
        return f"it has the columns {' and '.join(map(repr, found))}"

    def learn(self, train: Split) -> Learnt:
        """Return how texts are compared."""
        return Learnt((), {"scoring": self.scoring or scoring_of(_texts(train, "target"))})

    def model_options(self, learnt: Learnt) -> dict[str, Any]:
        """The model keeps its head."""
        return {}

    def encode(self, split: Split, encoder: Encoder) -> Features:
        """Tokenise sources, and targets where there are."""
        targets = _texts(split, "target") if "target" in split.columns else None
        return encoder.sequences(_texts(split, "source"), targets, self.prefix, self.separator)

    def targets(self, split: Split, features: Features, learnt: Learnt) -> Targets:
        """Return the tokens of each target [tokens]."""
        assert features.writing is not None
        return features.writing.targets

    def tune(self, outputs: Outputs, split: Split, features: Features, learnt: Learnt) -> Learnt:
        """Nothing is tuned."""
        return learnt

    def decode(
        self, outputs: Outputs, split: Split, features: Features, learnt: Learnt
    ) -> list[TextPrediction]:
        """Return the text of each row."""
        return read_texts(outputs, features)

    def score(
        self, predictions: Sequence[TextPrediction], split: Split, learnt: Learnt, **options: Any
    ) -> Scores:
        """Compare each text with the target of its row."""
        scoring = cast("Scoring", learnt.rule["scoring"])
        return score_texts(
            predictions, _texts(split, "target"), scoring, self.answer_kind, self.primary_metric, **options
        )

    def references(self, split: Split) -> list[dict[str, int]]:
        """Return how long each target is, in characters."""
        return [{"characters": len(text)} for text in _texts(split, "target")]

    def record(self, prediction: TextPrediction) -> dict[str, Any]:
        """Return a prediction as plain values for JSON Lines."""
        return record(prediction)

    def phrase(self, prediction: TextPrediction) -> str:
        """Return the text."""
        return phrase(prediction)

    def decision(self, prediction: TextPrediction) -> str:
        """Return the text."""
        return prediction.text

    def same_answer(self, predictions: Sequence[TextPrediction], split: Split) -> str | None:
        """See `graftlm.tasks._task.Task`."""
        only = only_answer((each.text for each in predictions), _texts(split, "target"))
        return same_text(only[0]) if only else None

    def baselines(self, train: Split, split: Split, learnt: Learnt) -> dict[str, list[TextPrediction]]:
        """The first sentences of the source, and the whole of it."""
        sources = _texts(split, "source")
        leads = [" ".join(_SENTENCE.findall(source)[:_LEAD_SENTENCES]) for source in sources]
        return {_LEAD: list(map(quoted, leads)), _COPY: list(map(quoted, sources))}

    def describe(self, learnt: Learnt) -> str:
        """Return what the model answers."""
        return f"It writes a text of at most {self.max_target_tokens} tokens from another."

    def usage(self, learnt: Learnt, architecture: str) -> str:
        """Return how to write with plain transformers."""
        snippet = _READ_BY_ENCODER if architecture == "AutoModelForSeq2SeqLM" else _READ_BY_ONE_NETWORK
        return snippet.format(prefix=self.prefix, separator=self.separator, written=self.max_target_tokens)


def _texts(split: Split, role: str) -> list[str]:
    return cast("list[str]", split.columns[role])
