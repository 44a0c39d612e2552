"""A small text tower from scratch for Korean and English: overlapping pairs of letters, and their mean.

What tells few Korean comments apart best is n-grams of syllables, which overlap; TF-IDF over them is hard to beat. A
tokenizer, though, cuts a text into pieces side by side. So every letter is doubled first, and the text cut into twos
from its second letter on: "기쁨" becomes "▁기", "기쁨", "쁨". Frequent pairs are tokens (BPE); a rare one falls apart
into its two letters. All this is the normaliser and pre-tokenizer of the tokenizer's own file, so that `AutoTokenizer`
reads it from a folder, and `AutoModel` the backbone, as with any other tower.
"""

import re
import unicodedata
from collections.abc import Sequence

from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.normalizers import NFKC, Lowercase, Normalizer, Prepend, Replace
from tokenizers.normalizers import Sequence as InOrder
from tokenizers.pre_tokenizers import Split
from tokenizers.trainers import BpeTrainer
from transformers import AutoModel, BertConfig, PreTrainedTokenizerFast

from trainable.model.towers import TextTower

PADDING, UNKNOWN = "[PAD]", "[UNK]"
BLANK = "▁"
UNSEEN = "\ufffd"
"""Stands for every letter that the tokenizer was not trained with."""
MOST_POSITIONS = 256


def small_text_tower(texts: Sequence[str], *, vocabulary: int, width: int, dropout: float) -> TextTower:
    """A tower for texts like `texts`, to be trained: a BERT without layers, which is to say embeddings and a norm.

    A comment is the mean of its tokens then. With the few thousand comments there are, layers learn them by heart.
    """
    tokenizer = train_tokenizer(texts, vocabulary)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=0,
        num_attention_heads=1,
        intermediate_size=width,
        max_position_embeddings=MOST_POSITIONS,
        hidden_dropout_prob=dropout,
        pad_token_id=tokenizer.pad_token_id,
    )
    return TextTower(AutoModel.from_config(config, add_pooling_layer=False), tokenizer, has_weights=True)


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A tokenizer of about `vocabulary` letters and pairs of letters, learnt from `texts`."""
    tokenizer = Tokenizer(BPE(unk_token=UNKNOWN))
    tokenizer.normalizer = _doubled_letters(texts)
    tokenizer.pre_tokenizer = Split(Regex("..?"), "isolated")
    trainer = BpeTrainer(vocab_size=vocabulary, min_frequency=2, special_tokens=[PADDING, UNKNOWN], show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PADDING,
        unk_token=UNKNOWN,
        model_max_length=MOST_POSITIONS,
        model_input_names=["input_ids", "attention_mask"],
    )


def _doubled_letters(texts: Sequence[str]) -> Normalizer:
    """Compose and lower a text, write a blank as `BLANK`, double every letter, and begin with a blank.

    A letter that stands in none of `texts` becomes `UNSEEN`, as one that is not doubled would shift all pairs after it.
    """
    folded = {letter for text in texts for letter in unicodedata.normalize("NFKC", text).lower()}
    letters = sorted(letter for letter in folded - {BLANK, UNSEEN} if not letter.isspace())
    known = "".join(map(re.escape, letters))
    return InOrder(
        [
            NFKC(),
            Lowercase(),
            Replace(Regex(r"\s+"), BLANK),
            Replace(Regex(rf"[^{BLANK}{known}]"), UNSEEN),
            *(Replace(letter, letter * 2) for letter in (*letters, BLANK, UNSEEN)),
            Prepend(BLANK),
        ]
    )
