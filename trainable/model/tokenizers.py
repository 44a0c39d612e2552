"""Tokenizers of text towers, those included that transformers would load as another kind.

KoBERT (github.com/SKTBrain/KoBERT) is a BERT whose words are split by sentencepiece. `AutoTokenizer` takes the
WordPiece tokenizer of other BERTs for it, without a word, and everything becomes [UNK]; XLNet's, which its authors
borrow, decomposes Hangul. Here the sentencepiece model itself is read, with neither MXNet, GluonNLP nor sentencepiece.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from tokenizers import Regex, Tokenizer, normalizers
from tokenizers.models import Unigram
from tokenizers.pre_tokenizers import Metaspace
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import import_protobuf

from trainable.errors import ConfigError

SPECIAL = {
    name: f"[{name[:-6].upper()}]" for name in ("unk_token", "pad_token", "cls_token", "sep_token", "mask_token")
}
WORD_START = "▁"
UNIGRAM = 1
"""`TrainerSpec.ModelType` of sentencepiece's format."""
UNSCORED = -100.0
"""Score of a piece of the vocabulary that the sentencepiece model lacks: never taken where another way is."""


def load_tokenizer(folder: Path, model_type: str) -> Callable[..., Any]:
    """The tokenizer in a tower's folder; that of a BERT with a sentencepiece model is built from the model.

    Raises `ConfigError` where the model is none, and what transformers raises.
    """
    models = sorted(folder.glob("*.model"))
    if model_type == "bert" and models and not (folder / "tokenizer.json").is_file():
        return sentencepiece_tokenizer(models[0], folder / "vocab.txt")
    tokenizer: Callable[..., Any] = AutoTokenizer.from_pretrained(folder)
    return tokenizer


def sentencepiece_tokenizer(model: Path, vocabulary: Path) -> PreTrainedTokenizerFast:
    """A tokenizer that splits as a sentencepiece model of unigrams does, between [CLS] and [SEP].

    Ids are the model's, or, where a file `vocabulary` of such pieces is there, the numbers of its lines.
    """
    proto = _parsed(model)
    scores = {piece.piece: piece.score for piece in proto.pieces}
    pieces = _listed(vocabulary) or list(scores)
    if lacking := [token for token in SPECIAL.values() if token not in pieces]:
        raise ConfigError(
            f"{model} must have the pieces {', '.join(SPECIAL.values())}, but lacks {', '.join(lacking)}."
        )
    unigrams = [(piece, scores.get(piece, UNSCORED)) for piece in pieces]
    tokenizer = Tokenizer(Unigram(unigrams, unk_id=pieces.index(SPECIAL["unk_token"])))
    charsmap = proto.normalizer_spec.precompiled_charsmap
    mapped = [normalizers.Precompiled(charsmap)] if charsmap else []
    tokenizer.normalizer = normalizers.Sequence(
        [*mapped, normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = Metaspace(WORD_START, prepend_scheme="always")
    first, last = SPECIAL["cls_token"], SPECIAL["sep_token"]
    tokenizer.post_processor = TemplateProcessing(
        single=f"{first} $A {last}", special_tokens=[(token, pieces.index(token)) for token in (first, last)]
    )
    inputs = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=inputs, **SPECIAL)


def _parsed(model: Path) -> Any:
    proto = import_protobuf().ModelProto()
    try:
        proto.ParseFromString(model.read_bytes())
    except DecodeError as error:
        raise ConfigError(f"{model} must be a sentencepiece model, but cannot be read as one: {error}.") from error
    if proto.trainer_spec.model_type != UNIGRAM:
        raise ConfigError(f"{model} must be a sentencepiece model of unigrams, but is one of another kind.")
    return proto


def _listed(vocabulary: Path) -> list[str]:
    """The lines of a vocabulary of sentencepiece pieces; none where there is no such file."""
    lines = vocabulary.read_text(encoding="utf-8").splitlines() if vocabulary.is_file() else []
    return lines if any(line.startswith(WORD_START) for line in lines) else []
