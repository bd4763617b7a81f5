"""What `graftlm.training_run` tells its story about when a base model is pretrained on raw text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate import Accelerator

from graftlm.data.corpus.building import build_corpus
from graftlm.errors import Diverged
from graftlm.models.gradient_checkpointing import require_checkpointing
from graftlm.models.vocabulary import Vocabulary
from graftlm.objectives._objective import Loss
from graftlm.pretraining_evaluation import Saying, Sums, evaluate, frequencies
from graftlm.pretraining_objectives._examples import CorpusExamples
from graftlm.pretraining_objectives._objective import PretrainingObjective, Reading
from graftlm.pretraining_preparation import begin_with, tokens_fingerprint
from graftlm.pretraining_recipe import PretrainingRecipe, load_pretraining
from graftlm.progress import Progress
from graftlm.run_identity import differences
from graftlm.rundir import RunDirectory
from graftlm.settings import Settings
from graftlm.subject import Judgement
from graftlm.training.frozen import KeptFeatures
from graftlm.training.loop import Forward, Plan
from graftlm.training.optimisation import Stepping, build_optimizer
from graftlm.training.order import TokenBudgets

# Keys that change where or how often, never what.
_FREE = (
    "corpus.path", "training.checkpoint_steps", "training.device", "training.gradient_checkpointing",
    "evaluation.proof",
)  # fmt: skip
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
        self.beginning = begin_with(recipe, run.tokenizer, progress)
        config, tokenizer = self.beginning.config, self.beginning.tokenizer
        vocabulary = Vocabulary.of(tokenizer, config.get_text_config().vocab_size)
        self.objective.check(config, vocabulary)
        self.model, self.new_parameters = self.beginning.build(
            self.objective.architectures, recipe.seed, training.dropout
        )
        if training.gradient_checkpointing:
            require_checkpointing(self.model)  # before hours are spent on the text
        progress.stage("preparing the corpus")
        self.corpus = build_corpus(
            recipe.corpus, self._tokens_of, len(tokenizer), tokens_fingerprint(tokenizer), recipe.seed,
            run.corpus, progress,
        )  # fmt: skip
        reading = Reading(
            training.max_length_tokens, max(8, training.max_length_tokens // _SHORT), recipe.seed
        )
        self._examples = self.objective.examples(self.corpus.train, vocabulary, reading)
        self.held_out = (
            self.objective.examples(self.corpus.held_out, vocabulary, reading)
            if self.corpus.held_out.num_documents
            else None
        )
        strategy: Any = recipe.strategy
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
    def learning_rate(self) -> float:
        """Peak learning rate: of the recipe, else of a strategy that adds weights, else of the objective."""
        strategy: Any = self.recipe.strategy
        usual = self.objective.learning_rate if strategy.name == "full" else strategy.learning_rate
        return self.options.learning_rate or float(usual)

    def optimizer(self) -> Stepping:
        """Return what moves the weights that the strategy lets move."""
        strategy: Any = self.recipe.strategy
        groups = strategy.parameter_groups(self.model)
        return build_optimizer(
            self.model,
            groups,
            self.learning_rate,
            self.options.weight_decay,
            optimizer=self.options.optimizer,
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
        }

    def changes(self, before: dict[str, Any], now: dict[str, Any], extending: bool) -> list[str]:
        """Return one sentence for each difference that forbids to continue."""
        free = {*_FREE, *(("training.epochs",) if extending else ())}
        complete = load_pretraining(start=Settings(before["recipe"])).dump()
        found = [change for key, change in differences(complete, now["recipe"]) if key not in free]
        said = {
            "corpus": "the text",
            "base": "the files of the base model",
            "tokenizer": "the tokens of the tokenizer",
        }
        return found + [f"{key}: {what} changed" for key, what in said.items() if before[key] != now[key]]

    def validations(self) -> frozenset[int]:
        """Return the numbers of the steps after which the held-out text is scored: evenly, and the last."""
        if self.held_out is None:
            return frozenset()
        count, total = self.options.evaluations, self.plan.total_steps
        return frozenset(max(1, round(total * number / count)) for number in range(1, count + 1))

    def judge(self, on_batch: Callable[[int], None]) -> Judgement:
        """Score the held-out text."""
        return Judgement("loss", self.evaluate(on_batch).loss, greater_is_better=False)

    def evaluate(self, on_batch: Callable[[int], None] = lambda examples: None) -> Sums:
        """Return what the model says about the held-out text.

        Raises:
            Diverged: its loss is not finite.
        """
        self.model.eval()
        sums = self._scored(lambda batch: self.forward(self.model, batch, self.plan.autocast, None), on_batch)
        if not math.isfinite(sums.loss):
            raise Diverged(f"the loss on held-out text is {sums.loss}", fix="lower training.learning_rate")
        return sums

    def baseline(self) -> Sums:
        """Return what the frequencies of tokens in the training text say about the held-out text."""
        size = self.model.config.get_text_config().vocab_size
        return self._scored(frequencies(self.corpus.train, size), lambda examples: None)

    def places(self, examples: Sequence[int]) -> list[str]:
        """Return where these examples stand: numbers of their documents, among those that are trained on."""
        return [f"document {number + 1}" for number in self._examples.documents()[list(examples)]]

    def kept_features(self, folder: Any) -> KeptFeatures | None:
        """Nothing is kept: a body of which nothing moves learns nothing from text."""
        return None

    def _scored(self, saying: Saying, on_batch: Callable[[int], None]) -> Sums:
        assert self.held_out is not None
        budget = (self.options.batch_tokens, self.recipe.evaluation.tokens)
        return evaluate(saying, self.held_out, budget, self.accelerator.device, on_batch)

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

    def _tokens_of(self, texts: Sequence[str]) -> Sequence[Sequence[int]]:
        """Return the tokens of texts, none of them special: the name of a special token in a text is text."""
        backend: Any = self.beginning.tokenizer.backend_tokenizer  # pyright: ignore[reportAttributeAccessIssue]
        backend.encode_special_tokens = True
        backend.no_truncation()
        backend.no_padding()
        return [each.ids for each in backend.encode_batch_fast(list(texts), add_special_tokens=False)]
