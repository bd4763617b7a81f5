"""How a loaded model writes: the settings of the task, and the token ids that its family needs."""

from __future__ import annotations

import json
from typing import Any

from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from graftlm.data.writing import Decoding
from graftlm.errors import ConfigurationError, ModelError, clip, nearest
from graftlm.models.chat import SAFE_TEMPLATE, closing_token, with_fixed_date
from graftlm.models.encoder import SpeakingToken, TextEncoder
from graftlm.models.locating import BaseFiles
from graftlm.models.safety import verify_folder

# What a family needs in order to begin and to end, kept from the base model. How it searched is the task's decision.
# ``forced_eos_token_id`` is not kept: a text cut at its limit would look like one that ended.
_KEPT = (
    "bos_token_id", "eos_token_id", "decoder_start_token_id", "forced_bos_token_id", "bad_words_ids", "suppress_tokens",
)  # fmt: skip

_USUAL_TARGET_TOKENS = 128


def end_tokens(
    files: BaseFiles, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase
) -> frozenset[int]:
    """Return every id that ends a text, as tokenizer, configuration and generation settings of the base model say.

    A base model may have a chat template, and settings that do not know yet with which token it closes a turn.
    """
    stored = _stored(files)
    claims = [tokenizer.eos_token_id, getattr(config, "eos_token_id", None), stored.get("eos_token_id")]
    claims.append(closing_token(tokenizer))
    found: set[int] = set()
    for claim in claims:
        found |= {one for one in (claim if isinstance(claim, list) else [claim]) if isinstance(one, int)}
    return frozenset(found)


def make_encoder(
    tokenizer: PreTrainedTokenizerBase,
    files: BaseFiles,
    config: PreTrainedConfig,
    max_length_tokens: int,
    decoding: Decoding | None,
    chat: bool,
    speaking_token: SpeakingToken = "first",
) -> TextEncoder:
    """Return the tokenizer at a length limit, ready for a model that reads only (``decoding`` None) or one that writes.

    Of one that writes, the tokenizer gets its languages, a chat template where ``chat`` needs one and it has none,
    and the side that batches are padded on.

    Raises:
        ConfigurationError: the tokenizer knows no such language, or the model has no places for so many tokens.
    """
    if decoding is None:
        return TextEncoder(tokenizer, max_length_tokens, speaking_token=speaking_token)
    for key, code in (
        ("source_language", decoding.source_language),
        ("target_language", decoding.target_language),
    ):
        attribute = {"source_language": "src_lang", "target_language": "tgt_lang"}[key]
        if code is not None:
            _check_language(tokenizer, key, code)
            if hasattr(tokenizer, attribute):
                setattr(tokenizer, attribute, code)
    if chat:
        # Contents are kept apart by `ChatEncoder`; whoever renders the saved template reads its control tokens.
        tokenizer.split_special_tokens = False
        template: Any = tokenizer.chat_template or SAFE_TEMPLATE
        tokenizer.chat_template = (
            {name: with_fixed_date(each) for name, each in template.items()}
            if isinstance(template, dict)
            else with_fixed_date(template)
        )
    if not config.is_encoder_decoder:
        # Who continues a batch of prompts must have them end together; what is saved are the initial settings.
        tokenizer.padding_side = tokenizer.init_kwargs["padding_side"] = "left"
    ends = end_tokens(files, config, tokenizer)
    written = target_limit(config, max_length_tokens, decoding.max_new_tokens)
    return TextEncoder(tokenizer, max_length_tokens, bool(config.is_encoder_decoder), ends, written)


def target_limit(config: PreTrainedConfig, max_length_tokens: int, asked: int | None) -> int:
    """Return the tokens of the longest text to be written.

    Left to the base model (``asked`` None) they are 128, as far as its decoder has places for them; where one network
    reads and writes, at most half of what it holds.

    Raises:
        ConfigurationError: a decoder of its own has no places for so many. One network counts what it reads as well,
            see `SequenceLimits`.
    """
    if not config.is_encoder_decoder:
        return asked or max(1, min(_USUAL_TARGET_TOKENS, max_length_tokens // 2))
    # A table of positions has an end; relative positions have none.
    decoder: Any = getattr(config, "decoder", config)
    names = ("max_decoder_position_embeddings", "max_position_embeddings")
    places = next((found for name in names if isinstance(found := getattr(decoder, name, None), int)), None)
    if places is None:
        return asked or _USUAL_TARGET_TOKENS
    if asked is not None and asked > places:
        raise ConfigurationError(
            f"{asked} tokens exceed what the decoder of this base model can write, which is {places}",
            where="task.max_target_tokens",
            fix=f"allow at most {places}",
        )
    return asked or min(_USUAL_TARGET_TOKENS, places)


def set_decoding(model: PreTrainedModel, encoder: TextEncoder, files: BaseFiles, decoding: Decoding) -> None:
    """Give the model its generation settings; they are saved with it."""
    config: Any = model.config
    tokenizer = encoder.tokenizer
    stored = _stored(files)
    kept = {key: value for key in _KEPT if (value := stored.get(key, getattr(config, key, None))) is not None}
    if decoding.target_language is not None:
        language = _language_token(tokenizer, decoding.target_language)
        # The first mBART has the language behind a text, and begins to write from it; all others write it first.
        behind = tokenizer(text_target="a")["input_ids"][-1] == language
        kept["decoder_start_token_id" if behind else "forced_bos_token_id"] = language
    if config.is_encoder_decoder and not kept.keys() & {"decoder_start_token_id", "bos_token_id"}:
        raise ModelError(
            "nothing says with which token this base model begins to write",
            where=str(files.folder / "generation_config.json"),
            fix="name it there: decoder_start_token_id",
        )
    ends = encoder.end_tokens
    kept["eos_token_id"] = sorted(ends) if len(ends) > 1 else next(iter(ends), None)
    beams = decoding.num_beams
    model.generation_config = GenerationConfig(
        **kept,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=False,
        max_new_tokens=encoder.max_target_tokens,
        num_beams=beams,
        **({"length_penalty": decoding.length_penalty, "early_stopping": True} if beams > 1 else {}),
        no_repeat_ngram_size=decoding.no_repeat_ngram_size,
        repetition_penalty=decoding.repetition_penalty,
    )


def _stored(files: BaseFiles) -> dict[str, Any]:
    path = verify_folder(files.folder, files.finished).folder / "generation_config.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _check_language(tokenizer: PreTrainedTokenizerBase, key: str, code: str) -> None:
    known = tokenizer.get_vocab()
    if code in known or f"__{code}__" in known:
        return
    languages = [token for token in tokenizer.all_special_tokens if "_" in token]
    raise ConfigurationError(
        f"the tokenizer of this base model has no token for the language {clip(code)}.{nearest(code, languages)}",
        where=f"task.{key}",
        fix="name a language by its token (NLLB: eng_Latn, mBART: en_XX, M2M100: en); a model of two languages "
        "needs none, one that is told by words needs task.prefix",
    )


def _language_token(tokenizer: PreTrainedTokenizerBase, code: str) -> int:
    token = code if code in tokenizer.get_vocab() else f"__{code}__"
    found = tokenizer.convert_tokens_to_ids(token)
    if not isinstance(found, int):
        raise ModelError(f"the language {clip(code)} has no token", where="task.target_language")
    return found
