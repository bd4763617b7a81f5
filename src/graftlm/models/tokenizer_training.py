"""A tokenizer trained on raw text with the library `tokenizers`; the same texts give the same vocabulary.

Left to itself the library does not promise that: its trainer of WordPiece numbers the pieces inside words in the order
of a hash map, and ties between merges are broken by number (huggingface/tokenizers#1794). We therefore count the words
and number those pieces. Unigram has a trainer of our own, see `graftlm.models.unigram_training`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.normalizers import Normalizer
from tokenizers.pre_tokenizers import PreTokenizer
from transformers import PreTrainedTokenizerFast

from graftlm.errors import ConfigurationError, DataError
from graftlm.models.special_tokens import ROLES, Layout, post_processor, sentinels, special_tokens
from graftlm.models.tokenizer_options import Normalisation, TokenizerKind, TokenizerOptions
from graftlm.models.unigram_training import train_unigram
from graftlm.models.word_counts import alphabet, count_words

COVERAGE = 0.9999
"""Share of all characters that get a token of their own. The rarest others (emoji, foreign scripts) would take
hundreds of rows of a small vocabulary, and what was seen that seldom is not learnt anyway. Bytes know no such limit."""
MIN_FREQUENCY = 2
"""A piece that was seen once is not learnt."""
LONGEST_WORD = 100
"""Characters, as WordPiece reads; addresses, encoded files and scripts without spaces have longer runs, which are
learnt from in parts: trainers take time by the square of a word's length."""
INSIDE = "##"
"""Before the pieces inside a word, for WordPiece."""
UNREACHABLE = 1000.0
"""Log-probability by which special tokens lie below every piece of a Unigram model: a text that spells one is still
read as its characters."""

_CUSTOMARY: Mapping[TokenizerKind, Normalisation] = {
    "wordpiece": "lowercase",
    "byte_bpe": "none",
    "unigram": "nfkc",
}
_PRINTABLE = "".join(map(chr, range(ord("!"), ord("~") + 1)))
_RUN = re.compile(rf"\s*+\S{{1,{LONGEST_WORD}}}|\s+")
"""White space and what stands behind it: here bytes are words too that stand for several spaces or line ends."""
_REPEATED = 1000
"""Words per sequence that is given to a trainer."""


class _Words(NamedTuple):
    counts: dict[str, int]
    characters: list[str]
    inner: list[str]


def train_tokenizer(
    texts: Iterable[str], options: TokenizerOptions, kind: TokenizerKind, layout: Layout
) -> PreTrainedTokenizerFast:
    """Return a tokenizer with exactly ``options.vocabulary_size`` tokens.

    Args:
        texts: read once; memory does not grow with them.
        options: size and normalisation; their ``kind`` and ``extend_by`` are not read.
        kind: of the pieces.
        layout: of the special tokens.

    Raises:
        ConfigurationError: the vocabulary is smaller than special tokens and characters.
        DataError: there is no text, or too little for so many pieces.
    """
    normalisation = options.normalisation or _CUSTOMARY[kind]
    normalizer, pre_tokenizer = _normalizer(kind, normalisation), _pre_tokenizer(kind)
    special, last = special_tokens(layout), sentinels(layout)
    size = options.vocabulary_size - len(last)
    if kind == "byte_bpe":
        _check_room(options.vocabulary_size, len(special) + 256 + len(last))
        backend = _byte_bpe(
            count_words(texts, normalizer, pre_tokenizer, runs_of=_RUN.findall), size, special
        )
    else:
        words = _words(texts, normalizer, pre_tokenizer, [*special, *last])
        pieces = len(special) + len(words.characters) + (len(words.inner) if kind == "wordpiece" else 0)
        _check_room(options.vocabulary_size, pieces + len(last))
        backend = Tokenizer((_word_piece if kind == "wordpiece" else _unigram)(words, size, layout))
    if normalizer is not None:
        backend.normalizer = normalizer
    backend.pre_tokenizer = pre_tokenizer
    backend.decoder = _decoder(kind)
    backend.add_special_tokens([*special, *last])
    reached = backend.get_vocab_size()
    if reached < options.vocabulary_size:
        raise DataError(
            f"the texts give {reached:,} tokens, fewer than the {options.vocabulary_size:,} asked for",
            where="tokenizer.vocabulary_size",
            fix=f"give more text, or ask for {reached} or fewer",
        )
    backend.post_processor = post_processor(layout, kind == "byte_bpe")
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        # As in `load_tokenizer`: the names of special tokens inside a text are text.
        split_special_tokens=True,
        extra_special_tokens=list(last),
        clean_up_tokenization_spaces=False,
        **ROLES[layout],
    )


def _normalizer(kind: TokenizerKind, normalisation: Normalisation) -> Normalizer | None:
    forms = {"nfc": [normalizers.NFC()], "nfkc": [normalizers.NFKC()]}.get(normalisation, [])
    lower = normalisation == "lowercase"
    if kind == "wordpiece":
        # It also puts spaces around Chinese characters, each of which so becomes a word.
        bert = normalizers.BertNormalizer(lowercase=lower, strip_accents=lower)
        return normalizers.Sequence([*forms, bert]) if forms else bert
    if lower:
        # Composed again at the end: only so do the syllables of Korean stay whole.
        parts = [normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase(), normalizers.NFC()]
        return normalizers.Sequence(parts)
    return forms[0] if forms else None


def _pre_tokenizer(kind: TokenizerKind) -> PreTokenizer:
    if kind == "wordpiece":
        return pre_tokenizers.BertPreTokenizer()
    if kind == "byte_bpe":
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    return pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])


def _decoder(kind: TokenizerKind) -> decoders.Decoder:
    if kind == "wordpiece":
        return decoders.WordPiece(prefix=INSIDE)
    return decoders.ByteLevel() if kind == "byte_bpe" else decoders.Metaspace()


def _words(
    texts: Iterable[str], normalizer: Normalizer | None, pre_tokenizer: PreTokenizer, names: list[str]
) -> _Words:
    """Return the words of common characters alone, and the characters themselves."""
    counts = _cut(count_words(texts, normalizer, pre_tokenizer))
    if not counts:
        raise _no_text()
    kept = alphabet(counts, COVERAGE)
    # HTML writes <s>: no piece may have the name of a special token.
    reserved = re.compile("|".join(map(re.escape, names)))
    words = {
        word: count for word, count in counts.items() if kept.issuperset(word) and not reserved.search(word)
    }
    inner = {character for word in words for character in word[1:]}
    # What is typed must be known, whether or not a small corpus has it.
    printable = set(_PRINTABLE if normalizer is None else normalizer.normalize_str(_PRINTABLE))
    inner |= {character for character in printable if character.isalnum()}
    return _Words(words, sorted(kept | printable), sorted(inner))


def _cut(counts: Counter[str]) -> Counter[str]:
    """Return the counts of parts of at most `LONGEST_WORD` characters."""
    cut = Counter[str]()
    for word, count in counts.items():
        for start in range(0, len(word), LONGEST_WORD):
            cut[word[start : start + LONGEST_WORD]] += count
    return cut


def _byte_bpe(words: Mapping[str, int], size: int, special: list[str]) -> Tokenizer:
    letters = decoders.ByteLevel()
    if all(letters.decode([word]).isspace() for word in words):
        raise _no_text()
    # No merge can spell the name of a special token: letters and punctuation are never in one word.
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # bytes are letters by now
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=MIN_FREQUENCY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(_repeated(words), trainer)
    return backend


def _word_piece(words: _Words, size: int, layout: Layout) -> models.WordPiece:
    unknown = ROLES[layout]["unk_token"]
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        min_frequency=MIN_FREQUENCY,
        # Special tokens come first: so the pieces inside words get their numbers from us, see above.
        special_tokens=[*special_tokens(layout), *(INSIDE + character for character in words.inner)],
        initial_alphabet=words.characters,
        continuing_subword_prefix=INSIDE,
        show_progress=False,
    )
    backend = Tokenizer(models.WordPiece(unk_token=unknown))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.train_from_iterator(_repeated(words.counts), trainer)
    return models.WordPiece(backend.get_vocab(), unk_token=unknown)


def _unigram(words: _Words, size: int, layout: Layout) -> models.Unigram:
    special, unknown = special_tokens(layout), ROLES[layout]["unk_token"]
    pieces = train_unigram(words.counts, words.characters, size - len(special), MIN_FREQUENCY)
    beyond = min(pieces.values()) - UNREACHABLE
    vocabulary = [*((token, beyond) for token in special), *pieces.items()]
    return models.Unigram(vocabulary, unk_id=special.index(unknown), byte_fallback=False)


def _repeated(counts: Mapping[str, int]) -> Iterator[str]:
    """Yield each word as often as it was seen: the library takes no counts."""
    for word, count in counts.items():
        for start in range(0, count, _REPEATED):
            yield " ".join([word] * min(_REPEATED, count - start))


def _check_room(size: int, needed: int) -> None:
    if size < needed:
        raise ConfigurationError(
            f"a vocabulary of {size:,} tokens is too small: special tokens and single characters alone are {needed:,}",
            where="tokenizer.vocabulary_size",
            fix=f"ask for more than {needed}",
        )


def _no_text() -> DataError:
    return DataError("there is no text to train a tokenizer on", where="tokenizer", fix="check the corpus")
