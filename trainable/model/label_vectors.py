"""A fixed vector for each class, as a text tower.

Attribute label embedding (Akata, Perronnin, Harchaoui and Schmid, arXiv 1503.08677) and DeViSE (Frome et al. 2013) let
a class be a vector that is known beforehand, from attributes or from texts. Such a table becomes a folder like any
other tower: a Llama without layers is an embedding and a norm without offset, and a tokenizer for which every prompt is
one token. What it gives is the vector, scaled to a mean square of 1. It knows the prompts of its own classes alone, and
says so of others as any tower does whose tokenizer does not know them.

    search/run.py --set text_tower=FOLDER --set weight_init=pretrained --set freeze=text
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast

from trainable.data.vocabulary import prompts
from trainable.errors import ConfigError

PADDING, UNKNOWN = "[PAD]", "[UNK]"


def write_label_vectors(folder: Path, vectors: Mapping[str, npt.NDArray[np.float64]]) -> None:
    """Write the tower of classes and their vectors (D,) to `folder`, for prompts in either language.

    Raises `ConfigError` where the vectors differ in length, or one is zero or not finite.
    """
    table = _table(vectors)
    rows = {prompt: row for row, lines in enumerate(prompts(list(vectors), "both")) for prompt in lines}
    vocabulary = {word: number for number, word in enumerate((PADDING, UNKNOWN, *rows))}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN)),
        pad_token=PADDING,
        unk_token=UNKNOWN,
        model_input_names=["input_ids", "attention_mask"],
    )
    embedding = torch.cat([torch.zeros(2, table.shape[1]), table[list(rows.values())]])
    _backbone(embedding).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _table(vectors: Mapping[str, npt.NDArray[np.float64]]) -> torch.Tensor:
    """Vectors of mean square 1, (C, D) float32."""
    if len(lengths := {len(vector) for vector in vectors.values()}) != 1:
        raise ConfigError(f"label vectors must be of one length, but have {sorted(lengths) or 'none'}.")
    table = np.stack(list(vectors.values()))
    squares = (table**2).mean(axis=1, keepdims=True)
    for name, square in zip(vectors, squares[:, 0], strict=True):
        if not (np.isfinite(square) and square > 0):
            raise ConfigError(f"a label vector must be finite and not zero, but that of {name} is not.")
    return torch.from_numpy(table / np.sqrt(squares)).float()


@torch.no_grad()
def _backbone(embedding: torch.Tensor) -> LlamaModel:
    tokens, width = embedding.shape
    config = LlamaConfig(
        vocab_size=tokens,
        hidden_size=width,
        num_hidden_layers=0,
        num_attention_heads=1,
        head_dim=2,  # of the rotary positions, which no layer uses
        intermediate_size=1,
        max_position_embeddings=1,
        pad_token_id=0,
    )
    backbone = LlamaModel(config)
    backbone.embed_tokens.weight.copy_(embedding)
    return backbone
