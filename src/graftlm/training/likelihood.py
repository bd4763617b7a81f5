"""How probable a model finds whole texts: log-likelihood where it writes, pseudo-log-likelihood where it fills gaps.

- A decoder: sum over the tokens of ln p(token | all before it). What begins texts in pretraining is put before each, so
  that the first token has a probability too: the tokenizer's begin token, where it has none its end token, which stood
  between documents; without either the first token is only read. No end is asked for: a text need not be finished.
- An encoder with a decoder: the same of what the decoder writes. The encoder reads one gap, the mask token or the first
  sentinel of T5, in place of the text: filling it is what these models were pretrained for. What the decoder begins
  every text with is given, not asked for.
- An encoder: each token is masked in turn and predicted from all others; the sum of ln p(token | others). Source:
  Salazar et al., Masked Language Model Scoring, 2020. ``within_word`` masks the later tokens of the same word too, as
  they give away a word that has several. Source: Kauf and Ivanova, A Better Way to Do Masked Language Model Scoring,
  2023.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from graftlm.data.features import IGNORED
from graftlm.errors import DataError, ModelError
from graftlm.models.base_model import length_limit
from graftlm.models.sequences import next_tokens, token_ids
from graftlm.training.batching import Batch, Examples, prediction_batches
from graftlm.training.memory import memory_for
from graftlm.training.outputs import forward_where_targets
from graftlm.training.writing import MOST_LOGITS

MOST_TOKENS = 4_096
"""Of one forward pass. More do not make a CPU faster; a GPU may take them."""
# Texts tokenised per call: bounds the memory of the intermediate encodings.
_CHUNK = 2_048
_SENTINEL = "<extra_id_0>"


def log_likelihoods(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    most_tokens: int = MOST_TOKENS,
    within_word: bool = False,
    on_texts: Callable[[int, int], None] = lambda done, total: None,
) -> NDArray[np.float64]:
    """Return the natural (pseudo-)log-likelihood of each text, at most 0, entry i for text i.

    Batches hold texts of similar length. Flat models (`graftlm.models.flat.probe.make_flat`) compute no padding and
    project onto the vocabulary only where a token is asked for. Dropout is off; no random number is drawn.

    Args:
        model: with a language modelling head, on its device.
        tokenizer: its own, as `graftlm.models.base_model.load_tokenizer` gives it.
        texts: any number; one without tokens has 0.
        most_tokens: bounds the tokens of a forward pass, and with them its memory.
        within_word: for encoders, see above; others have no use for it.
        on_texts: told how many forward rows of how many are done.

    Raises:
        DataError: a text has more tokens than the model reads.
        ModelError: an encoder's tokenizer has no mask token, or knows no words where ``within_word`` asks for them.
        MissingResource: the memory does not suffice.
    """
    if not len(texts):
        return np.zeros(0)
    if model.config.is_encoder_decoder:
        rows = _of_pair(tokenizer, texts)
    elif model.can_generate():
        rows = _of_decoder(tokenizer, texts)
    else:
        rows = _of_encoder(tokenizer, texts, within_word)
    lengths = rows.lengths
    limit = length_limit(tokenizer, model.config)
    if (lengths > limit).any():
        text = int(rows.texts[lengths.argmax()])
        raise DataError(
            f"text {text + 1} has {lengths.max()} tokens, the model reads {limit}",
            fix="leave it out or shorten it",
        )
    settings: Any = model.config.get_text_config(decoder=True)
    at_once = max(1, min(most_tokens, MOST_LOGITS // settings.vocab_size))
    found, done, was_training = np.zeros(len(texts)), 0, model.training
    model.eval()
    try:
        with torch.inference_mode():
            for some in prediction_batches(lengths, at_once):
                batch = rows.batch(some, model.device)
                with memory_for(f"scoring {batch.size}", "a smaller most_tokens needs less"):
                    np.add.at(found, rows.texts[some], _sums(model, batch, rows.given))
                done += len(some)
                on_texts(done, len(lengths))
    finally:
        model.train(was_training)
    return found


_Row = tuple[Mapping[str, Sequence[int] | NDArray[np.int64]], NDArray[np.int64]]
"""Inputs and targets."""


@dataclass(frozen=True)
class _Rows:
    """The rows of all forward passes: one for each text, or for each of its tokens.

    Args:
        texts: position of the text of each row [rows].
        lengths: tokens of each row, of what is read and of what is written the longer [rows].
        make: inputs and targets of one row.
        padding: argument of the model -> what fills it up.
        given: so many targets at the beginning of each row are not counted.
    """

    texts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    make: Callable[[int], _Row]
    padding: dict[str, int]
    given: int = 0

    def batch(self, some: NDArray[np.int64], device: torch.device) -> Batch:
        made = [self.make(row) for row in some.tolist()]
        inputs: Any = {name: [one[name] for one, _ in made] for name in made[0][0]}
        examples = Examples(inputs, [targets for _, targets in made], self.padding, written=True)
        return examples.batch(np.arange(len(some)), device)


def _of_decoder(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> _Rows:
    first = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    begin = [] if first is None else [_single(first)]
    ids = [begin + each for each in token_ids(tokenizer, texts, special=False)]
    asked = np.array([text for text, each in enumerate(ids) if len(each) > 1], dtype=np.int64)

    def make(row: int) -> _Row:
        own = ids[asked[row]]
        return {"input_ids": own}, next_tokens(own, [True] * len(own))

    return _Rows(
        asked, np.array([len(ids[text]) for text in asked], dtype=np.int64), make, _padding(tokenizer)
    )


def _of_pair(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> _Rows:
    begin, end = _frame(tokenizer, target=False)
    front, _ = _frame(tokenizer, target=True)
    gap = [] if tokenizer.mask_token_id is None else [_single(tokenizer.mask_token_id)]
    if not gap and (sentinel := tokenizer.get_vocab().get(_SENTINEL)) is not None:
        gap = [sentinel]
        front = [*front, sentinel]  # T5 repeats it before what stood in the gap
    read = [*begin, *gap, *end] or [_single(tokenizer.eos_token_id)]
    ids = token_ids(tokenizer, texts, special=False, target=True)
    asked = np.array([text for text, each in enumerate(ids) if each], dtype=np.int64)

    def make(row: int) -> _Row:
        return {"input_ids": read}, np.array([*front, *ids[asked[row]]], dtype=np.int64)

    lengths = [max(len(read), len(front) + len(ids[text])) for text in asked]
    return _Rows(asked, np.array(lengths, dtype=np.int64), make, _padding(tokenizer), given=len(front))


def _frame(tokenizer: PreTrainedTokenizerBase, target: bool) -> tuple[list[int], list[int]]:
    """Return the special tokens before and behind a text."""
    (whole,), (bare,) = (token_ids(tokenizer, ["a"], special, target) for special in (True, False))
    start = next(at for at in range(len(whole) + 1) if whole[at : at + len(bare)] == bare)
    return whole[:start], whole[start + len(bare) :]


def _of_encoder(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], within_word: bool) -> _Rows:
    if tokenizer.mask_token_id is None or (within_word and not tokenizer.is_fast):
        lacking = "no mask token" if tokenizer.mask_token_id is None else "no words (it is a slow one)"
        raise ModelError(
            f"the tokenizer knows {lacking}", where=tokenizer.name_or_path, fix="choose another model"
        )
    mask = _single(tokenizer.mask_token_id)
    inputs: dict[str, list[NDArray[np.int64]]] = {}
    places, words = list[NDArray[np.int64]](), list[NDArray[np.int64]]()
    for start in range(0, len(texts), _CHUNK):
        some = list(texts[start : start + _CHUNK])
        encoded = tokenizer(some, return_special_tokens_mask=True, return_attention_mask=False, verbose=False)
        for special in encoded.pop("special_tokens_mask"):
            places.append(np.flatnonzero(np.array(special) == 0))
        for name, values in encoded.items():
            inputs.setdefault(name, []).extend(np.array(each, dtype=np.int64) for each in values)
        if within_word:
            for number, each in enumerate(inputs["input_ids"][start:]):
                known = (-1 if word is None else word for word in encoded.word_ids(number))
                words.append(np.fromiter(known, np.int64, len(each)))
    ids = inputs["input_ids"]
    owner = np.repeat(np.arange(len(texts)), [len(each) for each in places])
    place = np.concatenate(places)

    def make(row: int) -> _Row:
        text, at = owner[row], place[row]
        shown, target = ids[text].copy(), np.full(len(ids[text]), IGNORED)
        target[at] = shown[at]
        shown[at] = mask
        if within_word:
            shown[at:][words[text][at:] == words[text][at]] = mask
        return {
            name: shown if name == "input_ids" else values[text] for name, values in inputs.items()
        }, target

    return _Rows(owner, np.array([len(each) for each in ids])[owner], make, _padding(tokenizer))


def _padding(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    # Without a pad token any will do: the mask hides it.
    fill = 0 if tokenizer.pad_token_id is None else _single(tokenizer.pad_token_id)
    return {"input_ids": fill, "token_type_ids": tokenizer.pad_token_type_id}


def _single(token: Any) -> int:
    assert isinstance(token, int)
    return token


def _sums(model: PreTrainedModel, batch: Batch, given: int) -> NDArray[np.float64]:
    """Return the sum of ln p over the targets of each row, the first ``given`` left out."""
    assert batch.targets is not None
    there = (batch.targets != IGNORED).cpu().numpy()
    logits, targets = forward_where_targets(model, batch, None)
    known = targets != IGNORED
    scores, wanted = logits[known].float(), targets[known]
    found = (scores.gather(1, wanted[:, None]).squeeze(1) - scores.logsumexp(-1)).double().cpu().numpy()
    spread = np.zeros(there.shape)
    spread[there] = found
    return spread[:, given:].sum(axis=1)
