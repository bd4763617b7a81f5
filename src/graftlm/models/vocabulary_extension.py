"""New whole words for the tokenizer of a base model, whose rows begin as the mean of the pieces they replace."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Iterable
from typing import Any, NamedTuple, cast

import torch
from tokenizers import Tokenizer, decoders
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from graftlm.data.words import text_offsets
from graftlm.errors import DataError, ModelError
from graftlm.models.tokenizer_training import MIN_FREQUENCY, UNREACHABLE
from graftlm.models.word_counts import count_words
from graftlm.models.word_starts import WordMark, word_mark

_KEPT = (
    "model_max_length", "padding_side", "truncation_side", "model_input_names", "clean_up_tokenization_spaces",
    "split_special_tokens", "chat_template", "extra_special_tokens",
)  # fmt: skip


class _NewWord(NamedTuple):
    """A word as the tokenizer's model gets it, how often, and the ids of its pieces."""

    word: str
    frequency: int
    pieces: list[int]

    @property
    def saved(self) -> int:
        return self.frequency * (len(self.pieces) - 1)


def extend(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], count: int) -> PreTrainedTokenizerFast:
    """Return the tokenizer with ``count`` words of the texts as tokens of their own, behind all others.

    Chosen are the words that save most tokens: occurrences times (pieces - 1). They become part of the model, not
    tokens "added" to it, which would also be found inside longer words and would cut off the space before them. With
    WordPiece, longer words that begin with a new one change too.

    Args:
        tokenizer: of the base model; left as it is.
        texts: of the domain; read once.
        count: new words.

    Raises:
        DataError: the texts have fewer words that would save anything.
        ModelError: the tokenizer does not divide texts into words.
    """
    mark = word_mark(tokenizer)  # refuses the slow ones
    backend: Tokenizer = cast(PreTrainedTokenizerFast, tokenizer).backend_tokenizer
    pre_tokenizer: Any = backend.pre_tokenizer
    if pre_tokenizer is None or len(pre_tokenizer.pre_tokenize_str("a b")) < 2:
        raise ModelError(
            "this tokenizer does not divide a text into words, so that no words can be added",
            where=tokenizer.name_or_path or "",
            fix="set tokenizer.extend_by=0",
        )
    counts = count_words(texts, backend.normalizer, pre_tokenizer, before=" " if mark.kind == "bytes" else "")
    words = dict[str, int]()
    for run, number in counts.items():
        if (word := _whole_word(run, mark)) is not None:
            words[word] = words.get(word, 0) + number
    known = backend.get_vocab()
    candidates = list[_NewWord]()
    for word, number in words.items():
        if number >= MIN_FREQUENCY and word not in known:
            pieces = [token.id for token in backend.model.tokenize(word)]
            if len(pieces) > 1 and tokenizer.unk_token_id not in pieces:
                candidates.append(_NewWord(word, number, pieces))
    if len(candidates) < count:
        raise DataError(
            f"only {len(candidates):,} words of these texts would save tokens, {count:,} were asked for",
            where="tokenizer.extend_by",
            fix=(f"ask for {len(candidates)} or fewer" if candidates else "leave it out")
            + ", or give more text of the domain",
        )
    chosen = sorted(candidates, key=lambda each: (-each.saved, each.word))[:count]
    state: dict[str, Any] = json.loads(backend.to_str())
    _add(state, chosen, counts.total(), tokenizer)
    kept = {name: value for name in _KEPT if (value := getattr(tokenizer, name, None)) is not None}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)), **kept, **tokenizer.special_tokens_map
    )


def extend_embeddings(
    model: PreTrainedModel, old_tokenizer: PreTrainedTokenizerBase, new_tokenizer: PreTrainedTokenizerBase
) -> None:
    """Give every new token the mean of the rows of the pieces that the old tokenizer made of it.

    row[new] = mean over its pieces of row[piece], in the input embedding and, where it is another, in the output layer
    with its bias. All other rows stay as they are; what was tied stays tied. A table that is long enough, as many are,
    keeps its length.

    Args:
        model: of the old tokenizer; changed in place.
        old_tokenizer: as before `extend`.
        new_tokenizer: what `extend` made of it.

    Raises:
        ModelError: encoder and decoder have tables of their own, or rows lie in several.
    """
    _check_one_table(model)
    before = set(old_tokenizer.get_vocab().values())
    new = {index: word for word, index in new_tokenizer.get_vocab().items() if index not in before}
    rows = max([*before, *new]) + 1
    if rows > cast(nn.Embedding, model.get_input_embeddings()).weight.shape[0]:
        # The rows that are drawn here are replaced below.
        with torch.random.fork_rng(devices=[]):
            model.resize_token_embeddings(rows, mean_resizing=False)
    old_model: Any = cast(PreTrainedTokenizerFast, old_tokenizer).backend_tokenizer.model
    pieces = {index: [token.id for token in old_model.tokenize(word)] for index, word in new.items()}
    tables: list[Tensor] = [cast(nn.Embedding, model.get_input_embeddings()).weight]
    output = cast("nn.Linear | None", model.get_output_embeddings())
    if output is not None:
        tables += [table for table in (output.weight, getattr(output, "bias", None)) if table is not None]
    with torch.no_grad():
        for table in tables:
            for index, ids in pieces.items():  # where input and output are tied, the same row twice
                table[index] = table[ids].mean(dim=0)


def _check_one_table(model: PreTrainedModel) -> None:
    """Transformers would put one of several tables in the place of the others, and so change the model."""
    # MobileBERT has a part of each row in a table of its own, and lengthens both by a method of its own.
    if "mean_resizing" not in inspect.signature(model.resize_token_embeddings).parameters:
        raise ModelError(
            f"a {model.config.model_type} model has more than one row for each token, so that none can be added",
            where=model.name_or_path or "",
            fix="set tokenizer.extend_by=0",
        )
    table = cast(nn.Embedding, model.get_input_embeddings()).weight
    for name, module in model.named_modules():
        if name.endswith("embed_tokens") and isinstance(module, nn.Embedding) and module.weight is not table:
            raise ModelError(
                f"{name} is an embedding of its own, so that no tokens can be added to this model",
                where=model.name_or_path or "",
                fix="set tokenizer.extend_by=0",
            )


def _whole_word(run: str, mark: WordMark) -> str | None:
    """Return the word at the beginning of a run of the pre-tokenizer, with its mark; None where it has no letter."""
    text, prefix = run, ""
    if mark.kind != "inside":
        if not run.startswith(mark.text):
            return None
        text, prefix = run.removeprefix(mark.text), mark.text
    if mark.kind == "bytes":
        text = decoders.ByteLevel().decode([text])
    spans = text_offsets(text)
    if not spans or spans[0][0] > 0:
        return None
    start, end = spans[0]
    if not any(character.isalpha() for character in text[start:end]):
        return None
    if mark.kind == "bytes":
        # Only a whole run is looked up in the vocabulary.
        return run if end == len(text) else None
    # Where runs are divided at spaces alone, punctuation may follow.
    return prefix + text[start:end]


def _add(
    state: dict[str, Any], words: list[_NewWord], total: int, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Write the words into the serialised tokenizer, with the ids behind all that there are."""
    model, first = state["model"], max(tokenizer.get_vocab().values()) + 1
    added = {index: str(token) for index, token in tokenizer.added_tokens_decoder.items()}
    # Tokens that stand behind the model's own are given their numbers anew when the tokenizer is read, behind the new
    # words: they become part of the model and keep them.
    if model["type"] == "Unigram":
        vocabulary = cast("list[tuple[str, float]]", model["vocab"])
        scores = [score for _, score in vocabulary]
        behind = range(len(vocabulary), first)
        if not all(index in added for index in behind):
            raise ModelError(
                "the ids of this tokenizer have gaps, so that no words can be added",
                where=tokenizer.name_or_path or "",
                fix="set tokenizer.extend_by=0",
            )
        vocabulary += [(added[index], min(scores) - UNREACHABLE) for index in behind]
        for each in words:
            # More likely than its pieces together, or it would never be taken.
            together = sum(scores[piece] for piece in each.pieces) + 1e-6
            vocabulary.append((each.word, max(together, math.log(each.frequency / total))))
        return
    for index, token in added.items():
        model["vocab"].setdefault(token, index)
    model["vocab"] |= {each.word: first + position for position, each in enumerate(words)}
    if model["type"] == "BPE":
        # A whole word that is in the vocabulary is taken as it is. Those of before are what their merges give.
        model["ignore_merges"] = True
