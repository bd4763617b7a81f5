"""`graftlm.Trainer`: scripts for the Trainer of transformers, run by our loop."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
import transformers
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers.loss.loss_utils import LOSS_MAPPING, ForCausalLMLoss
from transformers.trainer_utils import (
    EvalLoopOutput,
    TrainOutput,
    set_seed,
)

from graftlm.bridges.arguments import check_arguments
from graftlm.bridges.checkpoints import write_model
from graftlm.bridges.collated import count_rows
from graftlm.bridges.forward import Forward, without_adapters
from graftlm.bridges.prediction import predict_all
from graftlm.bridges.session import Session, loss_value
from graftlm.data.features import IGNORED
from graftlm.errors import ConfigurationError
from graftlm.training.adamw import KernelAdamW
from graftlm.training.checkpoint import named_weights, refuse_non_finite
from graftlm.training.optimisation import TorchAdamW, build_optimizer

# Methods of the Trainer that our loop calls, so that a subclass may have its own.
_CALLED = frozenset(
    """
    train evaluate predict save_model evaluation_loop prediction_step compute_loss create_optimizer create_scheduler
    get_train_dataloader get_eval_dataloader get_test_dataloader get_decay_parameter_names call_model_init log
    store_flos floating_point_ops is_local_process_zero is_world_process_zero num_examples push_to_hub create_model_card
    init_hf_repo add_callback pop_callback remove_callback log_metrics metrics_format save_metrics save_state end
    """.split()  # noqa: SIM905 - thirty quoted words would be harder to read
)


_ANSWERS = frozenset({"start_positions", "end_positions"})
"""Labels of one item, whose losses are one mean."""


class _Group:
    """Parameters that share a speed, see `graftlm.training.optimisation.Group`."""

    learning_rate_scale = 1.0

    def __init__(self, names: list[str], decayed: bool) -> None:
        self.names, self.decayed = tuple(names), decayed


class Trainer(transformers.Trainer):
    """The Trainer of transformers, with our loop inside: its arguments, its callbacks, our speed and numerics.

    It takes what `transformers.Trainer` takes. What it cannot honour it refuses, see the reference of arguments. A loss
    is the mean over all labelled items of a step, however the step is cut into micro-batches: that of the model, of
    ``compute_loss_func`` or of a subclass's ``compute_loss``, each of which is asked for the mean over its micro-batch.
    A model whose loss is made of several, each over items of its own, takes no micro-batches.

    A callback that is told of every step may read weights. One that does not may say so with an attribute
    ``reads_weights = False``, and a step of a model with many words in its vocabulary takes less time.

    Raises:
        ConfigurationError: an argument, a field of `TrainingArguments` or a method of a subclass cannot be honoured.
    """

    def __init__(self, *positional: Any, **named: Any) -> None:
        given = inspect.signature(transformers.Trainer.__init__).bind(self, *positional, **named).arguments
        if given.get("args") is not None:
            check_arguments(given["args"])
        _check_given(given)
        _check_overridden(type(self))
        self._forward_pass: Forward | None = None
        super().__init__(*positional, **named)
        check_arguments(self.args)

    @property
    def reads_weights(self) -> bool:
        """Whether a subclass's loss may read weights otherwise than by calling the model."""
        return type(self).compute_loss is not transformers.Trainer.compute_loss

    @property
    def padded_because(self) -> str:
        """Why the model works on padded batches, or its last padded pass did; nothing while all do without padding."""
        return self.forward_pass().padded_because

    def forward_pass(self) -> Forward:
        """Return how the model of this moment computes; asked for the first time, it is tried on a random batch."""
        assert isinstance(self.model, nn.Module)
        if self._forward_pass is None or self._forward_pass.model is not self.model:
            self._forward_pass = Forward(self.model, lambda: self.accelerator.autocast())
        return self._forward_pass

    def train(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Train; see `transformers.Trainer.train`.

        Args:
            resume_from_checkpoint: a folder, or True for the newest valid checkpoint of ``output_dir``.
            trial: of a search of hyper-parameters, which is refused.
            ignore_keys_for_eval: outputs of the model that no prediction is made of.

        Raises:
            Diverged: at the first non-finite loss or gradient norm, before the weights are touched.
            RunError: the checkpoint is not valid, or what it depends on has changed.
            MissingResource: memory or disk do not suffice.
        """
        if trial is not None:
            self.hyperparameter_search()
        if self.model_init is not None:
            set_seed(self.args.seed)
            self.model = self.call_model_init()
        assert self.model is not None
        self.model.to(self.args.device)  # pyright: ignore
        _align_special_tokens(self.model, self.processing_class)
        return Session(self, ignore_keys_for_eval).run(resume_from_checkpoint)

    def hyperparameter_search(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse.

        Raises:
            ConfigurationError: always.
        """
        raise ConfigurationError(
            "graftlm.Trainer searches no hyper-parameters",
            where="hyperparameter_search",
            fix="call train() in a loop of your own",
        )

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Return AdamW of ours over the weights that are trained, decayed as in transformers."""
        network: Any = self.model if model is None else model
        decayed = set(self.get_decay_parameter_names(network))
        moving = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
        if not moving:
            raise ConfigurationError(
                "every weight of the model is frozen", where="model", fix="let some require gradients"
            )
        groups = [
            _Group([name for name in moving if name in decayed], True),
            _Group([name for name in moving if name not in decayed], False),
        ]
        arguments = self.args
        self.optimizer = build_optimizer(
            network,
            groups,
            arguments.learning_rate,
            arguments.weight_decay,
            (arguments.adam_beta1, arguments.adam_beta2),
            arguments.adam_epsilon,
        )
        return self.optimizer

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write model and tokenizer to a folder that `from_pretrained` reads; nothing in it is pickled.

        Args:
            output_dir: the folder; that of the arguments if None.

        Raises:
            RunError: a weight is not finite; nothing is written.
        """
        self._flush()
        assert isinstance(self.model, nn.Module)
        refuse_non_finite(named_weights(self.model), self.state.global_step)
        write_model(self, Path(str(output_dir or self.args.output_dir)))

    def count_items(self, inputs: Mapping[str, Any]) -> int:
        """Return how many items the loss of a collated batch is the mean of."""
        labels = inputs.get("shift_labels", inputs.get("labels"))
        if labels is None:  # a model of the user's may call them otherwise
            named = [inputs[name] for name in self.label_names or () if inputs.get(name) is not None]
            labels = named[0] if len(named) == 1 else None
        if not isinstance(labels, Tensor):
            return count_rows(inputs)
        own = self.compute_loss_func is not None or self.reads_weights
        if labels.is_floating_point() and not own:
            return labels.numel()  # a number is a label whatever it is
        if "shift_labels" not in inputs and _shifts_labels(self.model):
            labels = labels[..., 1:]
        return int((labels != IGNORED).sum())

    def refuse_losses_in_parts(self, inputs: Mapping[str, Any]) -> None:
        """Refuse micro-batches where the model's loss adds means over items of several kinds.

        Raises:
            ConfigurationError: each of these means would have to be weighed apart, which their sum does not allow.
        """
        kinds = sorted(name for name in self.label_names or () if inputs.get(name) is not None)
        own = self.compute_loss_func is not None or self.reads_weights
        if not own and len(kinds) > 1 and not _ANSWERS.issuperset(kinds):
            raise ConfigurationError(
                f"the loss of {type(self.model).__name__} is made of several ({', '.join(kinds)}), and the items of "
                "each are counted apart; taken in parts their sum would be another",
                where="gradient_accumulation_steps",
                fix="set it to 1, or pretrain with graft pretrain, which divides each by its own items",
            )

    def loss_of(self, inputs: dict[str, Any], items: int) -> Tensor:
        """Return the mean loss over the items of one batch on the device."""
        count = torch.tensor(items, device=self.args.device) if "labels" in inputs else None
        return loss_value(self.compute_loss(self.model, inputs, num_items_in_batch=count))  # pyright: ignore

    def evaluation_loop(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Compute predictions and loss of a whole data set, in its order; see `transformers.Trainer.evaluation_loop`.

        The loss is the mean over all labelled items, not over batches; of a model whose loss is made of several, such
        as ``BertForPreTraining``, over the items of the first.

        Raises:
            Diverged: the loss is not finite.
        """
        self._flush()
        return predict_all(
            self, dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix
        )

    def _flush(self) -> None:
        """Bring late weights up to date."""
        optimizer: Any = self.optimizer
        if isinstance(optimizer, KernelAdamW | TorchAdamW):
            optimizer.flush()


def _check_given(given: Mapping[str, Any]) -> None:
    optimizers = given.get("optimizers") or (None, None)
    if any(each is not None for each in optimizers) or given.get("optimizer_cls_and_kwargs") is not None:
        raise ConfigurationError(
            "graftlm.Trainer trains with AdamW of its own, which it can clip, save and resume",
            where="optimizers",
            fix="set learning_rate, weight_decay, adam_* and lr_scheduler_type in TrainingArguments, or override "
            "create_optimizer and change the param_groups of what super().create_optimizer() gives, or "
            "create_scheduler",
        )
    model: Any = given.get("model")
    if getattr(model, "hf_device_map", None) is not None and len(set(model.hf_device_map.values())) > 1:
        raise ConfigurationError(
            "the model is spread over several devices", where="model", fix="load it without device_map"
        )


def _check_overridden(cls: type[Trainer]) -> None:
    """Refuse subclasses whose methods our loop would never call."""
    for each in cls.__mro__[: cls.__mro__.index(Trainer)]:
        for name in vars(each):
            known = callable(getattr(transformers.Trainer, name, None)) and not name.startswith("__")
            if known and name not in _CALLED:
                raise ConfigurationError(
                    f"{each.__name__} overrides {name}, which graftlm.Trainer does not call",
                    where="Trainer",
                    fix="override compute_loss, prediction_step, create_optimizer, create_scheduler or one of the "
                    "get_*_dataloader methods, or write a TrainerCallback",
                )


def _shifts_labels(model: Any) -> bool:
    """Whether the loss compares each output with the label one place later, so that the first is never read."""
    inner: Any = without_adapters(model)
    shifting = LOSS_MAPPING.get(str(getattr(inner, "loss_type", None))) is ForCausalLMLoss
    return shifting and not getattr(getattr(inner, "config", None), "is_encoder_decoder", False)


def _align_special_tokens(model: Any, reading: Any) -> None:
    """Let the model know the special tokens of its tokenizer, as the Trainer of transformers does."""
    if not hasattr(model, "config") or reading is None:
        return
    for name in ("eos_token_id", "bos_token_id", "pad_token_id"):
        token = getattr(reading, name, None)
        for settings in (model.config.get_text_config(), getattr(model, "generation_config", None)):
            if token is None or settings is None:
                continue
            now = getattr(settings, name, None)
            if token != now and token not in (now if isinstance(now, list) else ()):
                setattr(settings, name, token)
