"""What `graftlm.training_run` tells its story about when a base model is pretrained on raw text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from graftlm.data.corpus.building import build_corpus
from graftlm.data.corpus.cooccurrence import cooccurrences
from graftlm.data.corpus.options import CorpusOptions
from graftlm.data.corpus.shards import Corpus
from graftlm.data.places import first_places
from graftlm.errors import ConfigurationError, Diverged
from graftlm.models.families import of_t5_kind
from graftlm.models.first_embeddings import MOST_TOKENS, WINDOW_TOKENS, begin_embeddings
from graftlm.models.flat.probe import make_flat
from graftlm.models.generator import attach_generator, continue_generator, generator_of
from graftlm.models.gradient_checkpointing import require_checkpointing
from graftlm.models.locating import fingerprint
from graftlm.models.vocabulary import Vocabulary
from graftlm.objectives._objective import Loss
from graftlm.pretraining_evaluation import Budget, Saying, Sums, evaluate, frequencies, require_scores
from graftlm.pretraining_objectives._examples import CorpusExamples, require_examples
from graftlm.pretraining_objectives._objective import PretrainingObjective, Reading
from graftlm.pretraining_preparation import begin_with, corpus_tokens, tokenizer_report, tokens_fingerprint
from graftlm.pretraining_recipe import PretrainingRecipe, about_general_text, general_text, load_pretraining
from graftlm.progress import Progress
from graftlm.run_identity import differences
from graftlm.rundir import RunDirectory, run_around
from graftlm.settings import Settings
from graftlm.subject import Judgement
from graftlm.training.frozen import KeptFeatures
from graftlm.training.loop import Forward, Plan
from graftlm.training.memory import place
from graftlm.training.optimisation import OptimizerName, Stepping, build_optimizer
from graftlm.training.order import Due, TokenBudgets

# Keys that change where or how often, never what.
_FREE = (
    "corpus.path", "training.checkpoint_steps", "training.device", "training.gradient_checkpointing",
    "training.micro_batch", "evaluation.proof", "evaluation.general_text",
)  # fmt: skip
# Those that a longer run has otherwise.
_LONGER = ("training.epochs", "training.batch_warmup_share", "training.short_share")
HELD_OUT, GENERAL = "held_out", "general_text"
# Where the texts that judge come from, and what to do where one is too small.
_JUDGING = {
    HELD_OUT: (
        "corpus.held_out_share",
        "hold more out, give more text, or hold nothing out (corpus.held_out_share=0)",
    ),
    GENERAL: ("evaluation.general_text", "name more text, or leave it out"),
}
_DECAY = 0.01
_ADAFACTOR_RATE = 1e-2  # of T5 (Raffel et al. 2020, section 3.1.2)
_SHORT = 4  # short examples have this part of the tokens of long ones


class Pretraining:
    """Raw text, and a network with the head of an objective; see `graftlm.subject.Subject`.

    Args:
        recipe: complete.
        run: where the tokens of the corpus and a new tokenizer are kept.
        accelerator: where to compute.
        autocast: dtype of forward passes, or None for float32.
        progress: who listens.
    """

    resume_command = "graft pretrain --resume"

    def __init__(
        self,
        recipe: PretrainingRecipe,
        run: RunDirectory,
        accelerator: Accelerator,
        autocast: torch.dtype | None,
        progress: Progress,
    ) -> None:
        self.recipe, self.accelerator = recipe, accelerator
        self.options = training = recipe.training
        objective: Any = recipe.objective
        self.objective: PretrainingObjective = objective
        strategy: Any = recipe.strategy
        self.beginning = begin_with(recipe, run.tokenizer, progress)
        self.tokenizer_report = tokenizer_report(recipe, self.beginning, run.tokenizer, progress)
        config, tokenizer = self.beginning.config, self.beginning.tokenizer
        # Words that were added have rows beyond those of the configuration.
        rows = max(config.get_text_config().vocab_size, len(tokenizer))
        vocabulary = Vocabulary.of(tokenizer, rows)
        self.objective.check(config, vocabulary)
        self._require_room(vocabulary)
        self.model, self.new_parameters = self.beginning.build(
            self.objective.architecture(config), recipe.seed, training.dropout
        )
        if self.beginning.files is not None and self.new_parameters:
            progress.say(
                f"the base model has no {first_places(self.new_parameters)}: these weights are new, and what it says "
                "before training is chance"
            )
        beside = self.objective.complete(self.model, recipe.seed)
        self.new_parameters += beside
        self._generator = self._begin_generator(beside, run, progress) if beside else ""
        if self.optimizer_name == "adafactor" and strategy.name != "full":
            raise ConfigurationError(
                f"adafactor moves weights in proportion to their size, and those of {strategy.name} begin at zero",
                where="training.optimizer",
                fix="choose adamw, or strategy.name=full",
            )
        if training.first_embeddings != "random" and self.beginning.files is not None:
            raise ConfigurationError(
                "the embeddings of a base model have been trained, and would be lost",
                where="training.first_embeddings",
                fix="leave it out, or name an architecture in `base` (`graft pretrain --architectures`)",
            )
        if training.gradient_checkpointing:
            require_checkpointing(self.model)  # before hours are spent on the text
        progress.stage("preparing the corpus")
        tokenise = corpus_tokens(tokenizer, self.objective.says_every_token, progress)
        self._all_bytes = self.objective.says_every_token and tokenise.keeps_text

        def built(options: CorpusOptions, folder: Path) -> Corpus:
            tokens = tokens_fingerprint(tokenizer)
            return build_corpus(options, tokenise, len(tokenizer), tokens, recipe.seed, folder, progress)

        self.corpus = built(recipe.corpus, run.corpus)
        reading = Reading(
            training.max_length_tokens, max(8, training.max_length_tokens // _SHORT), recipe.seed
        )
        self._examples = self.objective.examples(self.corpus.train, vocabulary, reading)
        require_examples(self._examples, training.short_share > 0.0)
        judging = {HELD_OUT: self.corpus.held_out} if self.corpus.held_out.num_documents else {}
        if (other := general_text(recipe.evaluation)) is not None:
            with about_general_text():
                judging[GENERAL] = built(other, run.general_text).train
        self.judging: Mapping[str, CorpusExamples] = {
            name: self.objective.examples(text, vocabulary, reading) for name, text in judging.items()
        }
        for name, examples in self.judging.items():
            require_scores(examples, recipe.evaluation.tokens, *_JUDGING[name])
        if training.first_embeddings == "cooccurrence":
            progress.stage("counting which tokens stand near which")
            pairs = cooccurrences(self.corpus.train, WINDOW_TOKENS, MOST_TOKENS)
            begin_embeddings(self.model, pairs, recipe.seed)
        strategy.adapt(self.model, self.new_parameters, recipe.seed)
        self.plan = self._make_plan(autocast)

    @property
    def examples(self) -> CorpusExamples:
        """What is trained on."""
        return self._examples

    @property
    def forward(self) -> Forward:
        """What runs the model on a batch."""
        return self.objective.forward

    @property
    def averaging(self) -> float | None:
        """Decay of the average of the weights that is judged and saved."""
        return self.options.averaging

    @property
    def optimizer_name(self) -> OptimizerName:
        """That of the recipe, else Adafactor where all weights of a network move whose attention is not scaled.

        Adam moves all weights alike, which is far too fast for the queries of such a network, and too slow for its
        embeddings (docs/log.md, 2026-11-30).
        """
        strategy: Any = self.recipe.strategy
        unscaled = strategy.name == "full" and of_t5_kind(self.beginning.config)
        return self.options.optimizer or ("adafactor" if unscaled else "adamw")

    @property
    def learning_rate(self) -> float:
        """Peak rate: of the recipe, else of a strategy that adds weights, Adafactor for new ones, or the objective."""
        strategy: Any = self.recipe.strategy
        usual = self.objective.learning_rate if strategy.name == "full" else strategy.learning_rate
        if self.optimizer_name == "adafactor" and self.beginning.files is None:
            usual = _ADAFACTOR_RATE
        return self.options.learning_rate or float(usual)

    @property
    def weight_decay(self) -> float:
        """Of the recipe. Adafactor moves weights in proportion to their size, so nothing would hold against a decay."""
        usual = 0.0 if self.optimizer_name == "adafactor" else _DECAY
        return usual if self.options.weight_decay is None else self.options.weight_decay

    def _begin_generator(self, beside: Sequence[str], run: RunDirectory, progress: Progress) -> str:
        """Go on with the generator of the run that made the base, where there is one; say so, or why not.

        Returns:
            Its fingerprint; nothing for a new one, which the seed decides.
        """
        count = sum(self.model.get_parameter(name).numel() for name in beside)
        beginning = self.beginning
        before = None if beginning.files is None else run_around(Path(beginning.files.folder))
        which, continued = "a new generator", ""
        if before is not None and before.generator.is_dir():
            reason = continue_generator(self.model, before.generator, beginning.tokenizer, beginning.known)
            if reason is None:
                which, continued = f"the generator of {before.path}", fingerprint(before.generator)
            else:
                progress.warn(f"the generator of {before.path} is not trained further: {reason}")
        progress.say(
            f"{which} ({count:,} parameters of its own) is trained beside the network; it is no part of "
            f"the base model and is saved as {run.generator}"
        )
        return continued

    def _require_room(self, vocabulary: Vocabulary) -> None:
        """Refuse steps too small for the longest example, which may write beside what it reads."""
        read, step = self.options.max_length_tokens, self.options.batch_tokens
        longest = self.objective.longest_example(vocabulary, read)
        if longest > step:
            raise ConfigurationError(
                f"an example that reads {read} tokens has {longest} with those that are written, and a step {step}",
                where="training.batch_tokens",
                fix=f"set it to {longest} or more, or training.max_length_tokens lower",
            )

    def optimizer(self) -> Stepping:
        """Return what moves the weights that the strategy lets move."""
        strategy: Any = self.recipe.strategy
        groups = strategy.parameter_groups(self.model)
        return build_optimizer(
            self.model,
            groups,
            self.learning_rate,
            self.weight_decay,
            optimizer=self.optimizer_name,
        )

    def loss(self) -> Loss:
        """Return what is minimised."""
        return self.objective.loss()

    def identity(self) -> dict[str, Any]:
        """Return what decides the numbers of the run."""
        return {
            "recipe": self.recipe.dump(),
            "corpus": self.corpus.fingerprint,
            "base": self.beginning.fingerprint,
            "tokenizer": tokens_fingerprint(self.beginning.tokenizer),
            "generator": self._generator,
        }

    def changes(self, before: dict[str, Any], now: dict[str, Any], extending: bool) -> list[str]:
        """Return one sentence for each difference that forbids to continue."""
        free = {*_FREE, *(_LONGER if extending else ())}
        complete = load_pretraining(start=Settings(before["recipe"])).dump()
        found = [
            change
            for key, change in differences(complete, now["recipe"])
            if not any(key == one or key.startswith(f"{one}.") for one in free)
        ]
        said = {
            "corpus": "the text",
            "base": "the files of the base model",
            "tokenizer": "the tokens of the tokenizer",
            "generator": "the weights that the generator begins with",
        }
        # What earlier versions did not record cannot be compared.
        changed = [key for key in said if before.get(key, now[key]) != now[key]]
        return found + [f"{key}: {said[key]} changed" for key in changed]

    def validations(self) -> frozenset[int]:
        """Return the numbers of the steps after which the held-out text is scored: evenly, and the last."""
        if HELD_OUT not in self.judging:
            return frozenset()
        count, total = self.options.evaluations, self.plan.total_steps
        return frozenset(max(1, round(total * number / count)) for number in range(1, count + 1))

    def judge(self, on_batch: Callable[[int], None]) -> Judgement:
        """Score the held-out text."""
        return Judgement("loss", self.evaluate(HELD_OUT, self.model, on_batch).loss, greater_is_better=False)

    def evaluate(
        self,
        text: str,
        model: PreTrainedModel,
        on_batch: Callable[[int], None] = lambda examples: None,
    ) -> Sums:
        """Return what a model says about one of the texts of ``judging``.

        Raises:
            Diverged: its loss is not finite.
        """
        model.eval()
        sums = self._scored(text, self._saying(model), on_batch)
        if not math.isfinite(sums.loss):
            raise Diverged(f"the loss on held-out text is {sums.loss}", fix="lower training.learning_rate")
        return sums

    def baseline(self, text: str) -> Sums:
        """Return what the frequencies of tokens in the training text say about one of the texts of ``judging``."""
        size = self.model.config.get_text_config().vocab_size
        said = frequencies(self._examples, size, self._saying(self.model))
        return self._scored(text, said, lambda examples: None)

    def untrained(self) -> PreTrainedModel | None:
        """Return the base model as it was before it was trained further, made anew; None where the network is new."""
        if self.beginning.files is None:
            return None
        seed, dropout = self.recipe.seed, self.options.dropout
        model, _ = self.beginning.build(self.objective.architecture(self.beginning.config), seed, dropout)
        place(model, self.accelerator.device)
        if self.options.execution == "auto":
            make_flat(model, gradients=False)  # that it works as the trained one does was said of that one
        # Both are to judge the same replaced tokens.
        if (generator := generator_of(self.model)) is not None:
            attach_generator(model, generator)
        return model

    def places(self, due: Due) -> list[str]:
        """Return where the examples of a step stand: numbers of their documents, among those that are trained on."""
        source: Any = due.source  # of that pass, cut otherwise than the first
        return [f"document {number + 1}" for number in np.unique(source.documents()[due.rows])]

    def kept_features(self, folder: Any) -> KeptFeatures | None:
        """Nothing is kept: a body of which nothing moves learns nothing from text."""
        return None

    def _scored(self, text: str, saying: Saying, on_batch: Callable[[int], None]) -> Sums:
        # No forward pass is larger than one of training: what fits there fits here.
        at_once = self.options.batch_tokens // self.accelerator.num_processes
        budget = Budget(at_once, self.options.micro_batch, self.recipe.evaluation.tokens)
        return evaluate(
            saying, self.judging[text], budget, self.accelerator.device, self.objective.loss(), self._all_bytes,
            on_batch,
        )  # fmt: skip

    def _saying(self, model: PreTrainedModel) -> Saying:
        return lambda batch: self.forward(model, batch, self.plan.autocast, None)

    def _make_plan(self, autocast: torch.dtype | None) -> Plan:
        training, seed = self.options, self.recipe.seed
        order = TokenBudgets.of_passes(
            self._examples, training.batch_tokens, training.epochs, seed, training.batch_warmup_share,
            training.short_share,
        )  # fmt: skip
        return Plan(
            total_steps=order.total_steps,
            order=order,
            micro_batch=training.micro_batch,
            seed=seed,
            warmup_share=training.warmup_share,
            schedule=training.schedule,
            max_gradient_norm=training.max_gradient_norm,
            autocast=autocast,
            decay_share=training.decay_share,
        )
