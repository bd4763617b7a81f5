"""What a pretraining begins with: a tokenizer and a network, new ones or those of a base model."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from graftlm.data.corpus.documents import read_documents
from graftlm.data.corpus.holding_out import trained_on
from graftlm.data.corpus.identity import locked
from graftlm.data.places import counted, first_places
from graftlm.errors import ConfigurationError
from graftlm.models.architecture_sizes import is_new, require_known
from graftlm.models.architectures import architecture, special_token_ids, stored_config
from graftlm.models.base_model import (
    forget_loading,
    length_limit,
    load_config,
    load_model,
    load_tokenizer,
)
from graftlm.models.corpus_tokens import CorpusTokens
from graftlm.models.families import default_tokenizer_kind, special_layout
from graftlm.models.locating import BaseFiles, locate
from graftlm.models.new_model import new_model
from graftlm.models.tokenizer_report import side_by_side
from graftlm.models.tokenizer_training import train_tokenizer
from graftlm.models.vocabulary import give_what_is_read
from graftlm.models.vocabulary_extension import extend, extend_embeddings
from graftlm.preparation import dropout_options
from graftlm.pretraining_recipe import PretrainingRecipe
from graftlm.progress import Progress, Silent
from graftlm.rundir import write_bytes, write_json

Tokenizer = PreTrainedTokenizerBase
_WRITTEN_LAST = "tokenizer_config.json"
_JUDGED_CHARACTERS = 1_000_000
"""Of the beginning of the corpus: what tokenizers make of it stands in the record."""


@dataclass(frozen=True)
class Beginning:
    """Where a pretraining starts from.

    Args:
        tokenizer: of the model that comes out.
        config: of the network.
        files: the base model that is trained further; None where the network is new.
        known: the tokenizer of the base model, before words were added to it.
    """

    tokenizer: Tokenizer
    config: PreTrainedConfig
    files: BaseFiles | None
    known: Tokenizer

    @property
    def fingerprint(self) -> str:
        """What decides tokens and first weights, but for the seed."""
        return self.files.fingerprint if self.files else ""

    def build(self, architecture: str, seed: int, dropout: float | None) -> tuple[PreTrainedModel, list[str]]:
        """Return the network with the head of an objective, and the names of the weights that the seed decided."""
        if self.files is None:
            model = new_model(self.config, architecture, seed)
            return model, [name for name, _ in model.named_parameters()]
        options = {} if dropout is None else dropout_options(self.config.to_dict(), dropout)
        loaded = load_model(self.files, (architecture,), options, seed)
        if self.tokenizer is not self.known:
            extend_embeddings(loaded.model, self.known, self.tokenizer)
        return loaded.model, loaded.new_parameters


def begin_with(recipe: PretrainingRecipe, folder: Path, progress: Progress) -> Beginning:
    """Return tokenizer and configuration, new or of a base model.

    A new tokenizer is kept in ``folder``, and found there when the run goes on.

    Raises:
        ConfigurationError: the recipe asks for what this base cannot do.
        DataError: the corpus cannot be read, or is too small for the tokenizer.
        ModelError: the base model is unusable.
    """
    length, dropout = recipe.training.max_length_tokens, recipe.training.dropout
    require_known(recipe.base)
    if not is_new(recipe.base):
        return _continuing(recipe, folder, progress)
    if recipe.tokenizer.extend_by:
        raise ConfigurationError(
            "a new network has no tokenizer that could be extended",
            where="tokenizer.extend_by",
            fix="leave it out, or name a base model in `base`",
        )
    strategy: Any = recipe.strategy
    if strategy.name != "full":
        raise ConfigurationError(
            f"{strategy.name} leaves the weights of the base model as they are, and those of a new network are random",
            where="strategy.name",
            fix="leave it out, or name a base model in `base`",
        )
    stored = stored_config(recipe.base)

    def trained() -> Tokenizer:
        progress.stage("training the tokenizer")
        texts = _trained_on(recipe, progress)
        kind = recipe.tokenizer.kind or default_tokenizer_kind(stored)
        tokenizer = train_tokenizer(texts, recipe.tokenizer, kind, special_layout(stored))
        tokenizer.model_max_length = length
        give_what_is_read(tokenizer, stored)
        progress.say(f"a new tokenizer ({kind}) with {len(tokenizer):,} tokens")
        return tokenizer

    tokenizer = _kept_or_made(folder, progress, trained)
    config = architecture(recipe.base, len(tokenizer), length, special_token_ids(tokenizer), dropout)
    return Beginning(tokenizer, config, None, tokenizer)


def _continuing(recipe: PretrainingRecipe, folder: Path, progress: Progress) -> Beginning:
    files = locate(recipe.base)
    config = load_config(files)
    known = load_tokenizer(files)
    options = recipe.tokenizer
    idle = [
        f"tokenizer.{key}"
        for key in ("kind", "normalisation", "vocabulary_size")
        if getattr(options, key) != type(options).model_fields[key].default
    ]
    if idle:
        raise ConfigurationError(
            "a base model keeps its own tokenizer",
            where=", ".join(idle),
            fix="leave it out; tokenizer.extend_by adds words to the tokenizer",
        )
    limit = length_limit(known, config)
    if recipe.training.max_length_tokens > limit:
        raise ConfigurationError(
            f"{recipe.training.max_length_tokens} tokens exceed the limit of {files.name}, which is {limit}",
            where="training.max_length_tokens",
            fix=f"set it to {limit} or less",
        )
    if not options.extend_by:
        return Beginning(known, config, files, known)

    def extended() -> Tokenizer:
        progress.stage("extending the tokenizer")
        texts = _trained_on(recipe, progress)
        tokenizer = extend(known, texts, options.extend_by)
        new, before = tokenizer.get_vocab(), known.get_vocab()
        added = sorted(new.keys() - before.keys(), key=lambda token: new[token])
        progress.say(f"{counted(len(added), 'token')} added to the tokenizer: {first_places(added)}")
        return tokenizer

    return Beginning(_kept_or_made(folder, progress, extended), config, files, known)


def _trained_on(recipe: PretrainingRecipe, progress: Progress) -> Iterator[str]:
    """Yield the text of the corpus that is not held out."""
    texts = (document.text for document in read_documents(recipe.corpus, progress))
    return trained_on(texts, recipe.corpus.held_out_share, recipe.seed)


def _kept_or_made(folder: Path, progress: Progress, make: Callable[[], Tokenizer]) -> Tokenizer:
    """Return the tokenizer that a folder keeps; of several processes one makes it, and the others wait."""
    if kept := _kept(folder):
        return kept
    with locked(folder, progress):
        if kept := _kept(folder):
            return kept
        made = make()
        _keep(made, folder)
        return made


def _keep(tokenizer: Tokenizer, folder: Path) -> None:
    """Save a tokenizer so that `_kept` finds the whole of it or nothing, wherever the process is killed."""
    with tempfile.TemporaryDirectory() as made:
        tokenizer.save_pretrained(made)
        for file in sorted(Path(made).iterdir(), key=lambda each: each.name == _WRITTEN_LAST):
            write_bytes(folder / file.name, file.read_bytes())


def _kept(folder: Path) -> Tokenizer | None:
    if not (folder / _WRITTEN_LAST).exists():
        return None
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    forget_loading(tokenizer)
    return tokenizer


def tokenizer_report(
    recipe: PretrainingRecipe, beginning: Beginning, folder: Path, progress: Progress
) -> dict[str, dict[str, float]]:
    """Return what the tokenizer makes of the beginning of the corpus, beside that of the base model before words were
    added; see `graftlm.models.tokenizer_report.TokenizerFacts`. It is said once and kept in ``folder``."""
    file = folder / "report.json"
    if file.exists():
        return json.loads(file.read_text(encoding="utf-8"))
    tokenizers = {"tokenizer": beginning.tokenizer}
    if beginning.known is not beginning.tokenizer:
        tokenizers["before words were added"] = beginning.known
    texts = _beginning(document.text for document in read_documents(recipe.corpus, Silent()))
    found = {name: asdict(facts) for name, facts in side_by_side(tokenizers, texts).items()}
    folder.mkdir(exist_ok=True)
    write_json(file, found)
    for name, facts in found.items():
        progress.say(
            f"{name}: {facts['tokens_per_word']:.2f} tokens per word, {facts['bytes_per_token']:.2f} bytes per token, "
            f"{facts['unknown_share']:.2%} unknown"
        )
    return found


def _beginning(texts: Iterable[str]) -> Iterator[str]:
    """Yield texts until they have enough characters; a long one is cut."""
    left = _JUDGED_CHARACTERS
    for text in texts:
        yield text[:left]
        left -= len(text)
        if left <= 0:
            return


def corpus_tokens(tokenizer: Tokenizer, says_every_token: bool, progress: Progress) -> CorpusTokens:
    """Return what tokenises the corpus; what it cannot do is said.

    Args:
        tokenizer: of the base.
        says_every_token: whether the objective could tell bits per byte.
        progress: who listens.
    """
    tokens = CorpusTokens(tokenizer)
    if not tokens.divides_alike:
        progress.warn(
            "texts are tokenised sentence by sentence, and this tokenizer divides a sentence otherwise where it stands "
            "behind another one"
        )
    if says_every_token and not tokens.keeps_text:
        progress.say(
            "bits per byte are not reported: the tokens of this tokenizer do not give back every character, and what "
            "is lost would cost nothing"
        )
    return tokens


def tokens_fingerprint(tokenizer: Any) -> str:
    """Return a sha256 of what decides the tokens of a text."""
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
