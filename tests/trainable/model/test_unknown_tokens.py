import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import AutoModel, BertConfig, ByT5Tokenizer, PreTrainedTokenizerFast

from trainable.errors import ConfigError
from trainable.model.towers import TextTower

WORDS = ["[PAD]", "[UNK]", "a", "face", "that", "looks", "happy", "sad"]


def tower(tokenizer):
    config = BertConfig(vocab_size=400, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    return TextTower(AutoModel.from_config(config), tokenizer, has_weights=False)


def words_alone():
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")


def test_prompts_of_another_language_than_the_tokenizers_are_refused():
    prompts = ["a face that looks happy", "a face that looks sad", "슬픈 happy", "기쁜 얼굴 사진 looks"]
    with pytest.raises(ConfigError, match=r"at most 10% of the prompts' tokens .* but 25% are; .* language"):
        tower(words_alone()).tokenize(prompts)


def test_one_unknown_word_among_many_passes():
    prompts = ["a face that looks happy", "a face that looks sad", "a face that looks 신난"]
    tokens, mask = tower(words_alone()).tokenize(prompts)
    assert (tokens == WORDS.index("[UNK]")).sum() == 1
    assert mask.all()


def test_bytes_are_never_unknown():
    tokens, mask = tower(ByT5Tokenizer()).tokenize(["기쁨", "sad"])
    assert mask.sum(dim=1).tolist() == [7, 4]
    assert len(tokens) == 2
