"""Tiny random tokenizers and base models on disk, for the whole test suite; no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

WORDS = tuple(
    """
    a an the i you we they it this that my your is was are were be been has have had do does did not no yes
    and or but if so because with without for from to of in on at by about after before again against all
    almost also always never often very too quite rather good better best bad worse worst great fine nice
    lovely awful terrible poor slow fast quick late early new old broken lost missing wrong right cheap dear
    free order parcel package delivery refund money card payment bill account password login email phone app
    site page screen button error problem question answer help please thanks thank hello hi bye today
    tomorrow yesterday monday friday week month day hour minute time service support team shop store product
    item size colour red blue green black white shirt shoes book film movie story actor music song food
    pizza coffee tea water room hotel bed night staff city road train bus car ticket price cost pay paid buy
    bought sell sold send sent get got give gave take took want wanted need needed like liked love loved
    hate hated can could will would should may might must one two three four five . , ! ? ' - ## s ed ing er
    ly
    """.split()  # noqa: SIM905 - 230 quoted words would be unreadable
)
"""About 230 everyday words; with single characters as pieces every ASCII text has a segmentation."""

FAMILIES = ("bert", "roberta", "distilbert", "electra", "gpt2")
WRITING_FAMILIES = ("bart", "t5", "gpt2", "llama")


def tiny_tokenizer(
    folder: Path, words: Sequence[str] = WORDS, family: str = "bert", positions: int = 64
) -> PreTrainedTokenizerFast:
    """Write a fast WordPiece tokenizer to ``folder`` and return it.

    Special tokens are those of the family: [CLS] [SEP] [PAD] [UNK] [MASK] for BERT and its like, <s> </s>
    <pad> <unk> <mask> for RoBERTa (pad id 1, as there), and only <|endoftext|>, no pad token, for GPT-2.
    """
    special = _special(family)
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    pieces = [*letters, *(f"##{letter}" for letter in letters)]
    vocabulary = list(dict.fromkeys([*special.values(), *words, *pieces]))
    backend = Tokenizer(
        models.WordPiece(
            {piece: index for index, piece in enumerate(vocabulary)}, unk_token=special["unk_token"]
        )
    )
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if family == "t5":
        end = special["eos_token"]
        backend.post_processor = processors.TemplateProcessing(
            single=f"$A {end}", special_tokens=[(end, vocabulary.index(end))]
        )
    if family == "llama":
        begin = special["bos_token"]
        backend.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", special_tokens=[(begin, vocabulary.index(begin))]
        )
    if family in ("t5", "bart", "llama", "gpt2"):
        backend.decoder = decoders.WordPiece(cleanup=False)
    if "cls_token" in special:
        begin, end = special["cls_token"], special["sep_token"]
        backend.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A {end}",
            pair=f"{begin} $A {end} $B:1 {end}:1",
            special_tokens=[(token, vocabulary.index(token)) for token in (begin, end)],
        )
    inputs = ["input_ids", "attention_mask"]
    if family in ("bert", "electra"):
        inputs.insert(1, "token_type_ids")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=positions, model_input_names=inputs, **special
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def tiny_base(
    folder: Path,
    family: str = "bert",
    hidden: int = 32,
    layers: int = 2,
    seed: int = 0,
    dropout: float = 0.1,
    words: Sequence[str] = WORDS,
    positions: int = 64,
) -> Path:
    """Write a complete base model folder (config.json, model.safetensors of the body, tokenizer).

    Args:
        folder: created when it does not exist.
        family: one of `FAMILIES`.
        hidden: width, a multiple of 2 (there are two heads).
        layers: number of blocks.
        seed: decides the weights; the generator of the caller is left as it was.
        dropout: every dropout probability of the family.
        words: vocabulary of the tokenizer.
        positions: tokens that it reads at once.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tiny_tokenizer(folder, words, family, positions)
    config = tiny_config(family, len(tokenizer), hidden, layers, dropout, positions)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model: PreTrainedModel = transformers.AutoModel.from_config(config)
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    model.save_pretrained(folder)
    if shown:
        transformers_logging.enable_progress_bar()
    return folder


def tiny_config(
    family: str, vocabulary: int, hidden: int = 32, layers: int = 2, dropout: float = 0.1, positions: int = 64
) -> PreTrainedConfig:
    """Return the configuration of a tiny model of the family; ``positions`` tokens fit into it."""
    if family == "gpt2":
        return transformers.GPT2Config(
            vocab_size=vocabulary,
            n_embd=hidden,
            n_layer=layers,
            n_head=2,
            n_positions=positions,
            resid_pdrop=dropout,
            embd_pdrop=dropout,
            attn_pdrop=dropout,
            bos_token_id=0,
            eos_token_id=0,
            # GPT-2 stores no pad token; the tests of padding depend on that.
            pad_token_id=None,
        )
    if family == "bart":
        return transformers.BartConfig(
            vocab_size=vocabulary,
            d_model=hidden,
            encoder_layers=layers,
            decoder_layers=layers,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=2 * hidden,
            decoder_ffn_dim=2 * hidden,
            max_position_embeddings=positions,
            dropout=dropout,
            attention_dropout=dropout,
            pad_token_id=1,
            bos_token_id=0,
            eos_token_id=2,
            decoder_start_token_id=2,
            forced_eos_token_id=2,
        )
    if family == "t5":
        return transformers.T5Config(
            vocab_size=vocabulary,
            d_model=hidden,
            d_kv=hidden // 2,
            d_ff=2 * hidden,
            num_layers=layers,
            num_heads=2,
            dropout_rate=dropout,
            pad_token_id=0,
            eos_token_id=1,
            decoder_start_token_id=0,
        )
    if family == "llama":
        return transformers.LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=hidden,
            intermediate_size=2 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=2,
            max_position_embeddings=positions,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=None,
        )
    if family == "distilbert":
        return transformers.DistilBertConfig(
            vocab_size=vocabulary,
            dim=hidden,
            n_layers=layers,
            n_heads=2,
            hidden_dim=2 * hidden,
            max_position_embeddings=positions,
            dropout=dropout,
            attention_dropout=dropout,
            seq_classif_dropout=dropout,
        )
    classes = {
        "bert": transformers.BertConfig,
        "roberta": transformers.RobertaConfig,
        "electra": transformers.ElectraConfig,
    }
    extra = {"roberta": {"pad_token_id": 1}, "electra": {"embedding_size": hidden}}.get(family, {})
    return classes[family](
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=2 * hidden,
        # RoBERTa counts positions from pad_token_id + 1 = 2.
        max_position_embeddings=positions + 2 if family == "roberta" else positions,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        **extra,
    )


def _special(family: str) -> dict[str, str]:
    """Return role -> token in the order of their ids."""
    if family == "gpt2":
        return {"eos_token": "<|endoftext|>", "bos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    if family == "t5":
        return {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    if family == "llama":
        return {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    if family in ("roberta", "bart"):
        return {
            "cls_token": "<s>",
            "pad_token": "<pad>",
            "sep_token": "</s>",
            "unk_token": "<unk>",
            "mask_token": "<mask>",
        }
    return {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
