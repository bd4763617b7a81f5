"""What becomes of every field of `transformers.TrainingArguments` in `graftlm.Trainer`: each is sorted here."""

from __future__ import annotations

import dataclasses
from enum import Enum
from typing import Any

from transformers import TrainingArguments
from transformers.trainer_pt_utils import AcceleratorConfig

from graftlm.errors import ConfigurationError

HONOURED = """
output_dir per_device_train_batch_size num_train_epochs max_steps learning_rate lr_scheduler_type lr_scheduler_kwargs
warmup_steps warmup_ratio optim weight_decay adam_beta1 adam_beta2 adam_epsilon gradient_accumulation_steps
max_grad_norm label_smoothing_factor bf16 tf32 use_cache logging_strategy logging_steps logging_first_step log_level
disable_tqdm report_to run_name project logging_dir trackio_space_id trackio_bucket_id trackio_static_space_id
eval_strategy eval_steps eval_delay per_device_eval_batch_size prediction_loss_only eval_on_start eval_do_concat_batches
include_for_metrics save_strategy save_steps save_total_limit save_only_model load_best_model_at_end
metric_for_best_model greater_is_better restore_callback_states_from_checkpoint full_determinism seed data_seed use_cpu
dataloader_drop_last dataloader_num_workers dataloader_pin_memory dataloader_prefetch_factor
dataloader_multiprocessing_context remove_unused_columns label_names train_sampling_strategy length_column_name
""".split()  # noqa: SIM905 - seventy quoted words would be unreadable

ONE_PROCESS = "says something about several processes only"
WITHOUT = "says something only beside a field that is refused"
HARMLESS = {
    "average_tokens_across_devices": ONE_PROCESS,
    "log_level_replica": ONE_PROCESS,
    "log_on_each_node": ONE_PROCESS,
    "save_on_each_node": ONE_PROCESS,
    "eval_use_gather_object": ONE_PROCESS,
    "ddp_find_unused_parameters": ONE_PROCESS,
    "ddp_bucket_cap_mb": ONE_PROCESS,
    "ddp_broadcast_buffers": ONE_PROCESS,
    "ddp_static_graph": ONE_PROCESS,
    "ddp_backend": ONE_PROCESS,
    "ddp_timeout": ONE_PROCESS,
    "local_rank": ONE_PROCESS,
    "optim_target_modules": WITHOUT,
    "activation_checkpointing_kwargs": WITHOUT,
    "gradient_checkpointing_kwargs": WITHOUT,
    "torch_compile_backend": WITHOUT,
    "torch_compile_mode": WITHOUT,
    "liger_kernel_config": WITHOUT,
    "fsdp_config": WITHOUT,
    "hub_token": WITHOUT,
    "hub_private_repo": WITHOUT,
    "hub_model_id": WITHOUT,
    "hub_strategy": WITHOUT,
    "hub_always_push": WITHOUT,
    "hub_revision": WITHOUT,
    "logging_nan_inf_filter": "nothing non-finite is ever logged: the training ends with an error",
    "eval_accumulation_steps": "what is predicted leaves the device after every batch",
    "dataloader_persistent_workers": "saves the time of starting workers",
    "dataloader_in_order": "batches always come in order",
    "do_train": "is for scripts, no Trainer reads it",
    "do_eval": "is for scripts, no Trainer reads it",
    "do_predict": "is for scripts, no Trainer reads it",
    "resume_from_checkpoint": "is for scripts, no Trainer reads it: `train(resume_from_checkpoint=...)` does",
}

SMALLER_PARTS = (
    "take a smaller per_device_train_batch_size and more gradient_accumulation_steps: same numbers"
)
REFUSED = {
    "fp16": "use bf16=True, which needs no scaling of the loss, or float32",
    "fp16_full_eval": "leave it out: evaluation has the precision of training",
    "bf16_full_eval": "leave it out: with bf16=True evaluation computes in bf16 too",
    "optim_args": "leave it out, or set adam_beta1, adam_beta2 and adam_epsilon",
    "gradient_checkpointing": SMALLER_PARTS,
    "activation_checkpointing": SMALLER_PARTS,
    "torch_compile": "leave it out: flat execution and the kernels are there without it",
    "use_liger_kernel": "leave it out",
    "neftune_noise_alpha": "leave it out: its noise could not be repeated by a resumed run",
    "torch_empty_cache_steps": SMALLER_PARTS,
    "auto_find_batch_size": SMALLER_PARTS,
    "include_num_input_tokens_seen": "count tokens in your data_collator",
    "batch_eval_metrics": "leave it out, and make predictions small with preprocess_logits_for_metrics",
    "enable_jit_checkpoint": "use save_steps: a checkpoint costs little",
    "push_to_hub": "call push_to_hub() after the training",
    "ignore_data_skip": "leave it out: a resumed run goes on where it stopped, which costs nothing",
    "accelerator_config": "leave it out; train_sampling_strategy and dataloader_* say how data is read",
    "parallelism_config": "use graft finetune with torchrun, or one process",
    "fsdp": "use graft finetune with torchrun, or one process",
    "deepspeed": "use graft finetune with torchrun, or one process",
    "debug": "leave it out: the first non-finite step is named",
    "skip_memory_metrics": "leave it at True",
}
"""Field -> what to do instead. Only the default is accepted."""

OPTIMIZERS = ("adamw_torch", "adamw_torch_fused")
SCHEDULES_BY_METRIC = ("reduce_lr_on_plateau", "greedy")


def unsorted() -> set[str]:
    """Return the fields of the installed transformers that this file does not know."""
    return {field.name for field in dataclasses.fields(TrainingArguments)} - {*HONOURED, *HARMLESS, *REFUSED}


def check_arguments(arguments: TrainingArguments) -> None:
    """Refuse what `graftlm.Trainer` cannot do.

    Raises:
        ConfigurationError: a field asks for it; the message says what to do instead.
    """
    if unknown := unsorted():
        asked = sorted(name for name in unknown if _asked(arguments, name))
        if asked:
            raise _refusal(asked[0], getattr(arguments, asked[0]), "leave it out")
    for name, instead in REFUSED.items():
        if hasattr(arguments, name) and _asked(arguments, name):
            raise _refusal(name, getattr(arguments, name), instead)
    if _plain(arguments.optim) not in OPTIMIZERS:
        raise _refusal("optim", arguments.optim, f"use {' or '.join(OPTIMIZERS)}, which is AdamW")
    if _plain(arguments.lr_scheduler_type) in SCHEDULES_BY_METRIC:
        raise _refusal(
            "lr_scheduler_type",
            arguments.lr_scheduler_type,
            "use a schedule of steps alone, such as linear or cosine: a resumed run computes it anew",
        )
    if arguments.world_size > 1:
        raise ConfigurationError(
            f"graftlm.Trainer works in one process, not in {arguments.world_size}",
            where="TrainingArguments",
            fix="start it without torchrun; `graft finetune` trains in several processes",
        )
    if arguments.n_gpu > 1:
        raise ConfigurationError(
            f"graftlm.Trainer works on one device and sees {arguments.n_gpu}",
            where="TrainingArguments",
            fix="name one in the environment, as in CUDA_VISIBLE_DEVICES=0",
        )


def _asked(arguments: TrainingArguments, name: str) -> bool:
    """Whether the user has set a field to something that is not its default."""
    value = getattr(arguments, name)
    if name == "accelerator_config":
        return value != AcceleratorConfig()
    default = next(field.default for field in dataclasses.fields(arguments) if field.name == name)
    off = not value or _plain(value) == "no"
    return value != default and not (off and default in (None, False, "", "no"))


def _refusal(name: str, value: Any, instead: str) -> ConfigurationError:
    return ConfigurationError(
        f"graftlm.Trainer cannot honour {name}={_plain(value)!r}", where="TrainingArguments", fix=instead
    )


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value
