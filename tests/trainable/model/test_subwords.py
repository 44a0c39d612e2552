import pytest
import torch
from transformers import AutoTokenizer

from trainable.data.vocabulary import VOCABULARIES, prompts
from trainable.model.subwords import small_text_tower, train_tokenizer
from trainable.model.towers import build_text_tower

TEXTS = ["기쁨 기쁨 기뻐요", "슬픔이 기쁨이", "Happy and sad", "happy, sad!"]


def test_pairs_overlap_and_rare_ones_fall_apart():
    tokenizer = train_tokenizer(TEXTS, 200)
    assert tokenizer.tokenize("기쁨") == ["▁기", "기쁨", "쁨"]
    assert tokenizer.tokenize("뻐요") == ["▁", "뻐", "뻐", "요", "요"]


def test_a_letter_never_seen_is_unknown_and_shifts_nothing():
    tokenizer = train_tokenizer(TEXTS, 200)
    tokens = tokenizer.tokenize("😀기쁨")
    assert tokens[-2:] == ["기쁨", "쁨"]
    assert tokenizer.convert_tokens_to_ids(tokens).count(tokenizer.unk_token_id) == 2


def test_case_blanks_and_composition_do_not_matter():
    tokenizer = train_tokenizer(TEXTS, 200)
    assert tokenizer("HAPPY  \n sad")["input_ids"] == tokenizer("happy sad")["input_ids"]
    assert tokenizer("\u1100\u1175\u1108\u1173\u11b7")["input_ids"] == tokenizer("기쁨")["input_ids"]


def test_signs_of_regular_expressions_are_letters_like_others():
    tokenizer = train_tokenizer(["a^b]c\\d-e[f.*"], 100)
    assert tokenizer.unk_token_id not in tokenizer("^]\\-[.*")["input_ids"]


@pytest.mark.parametrize("language", ["ko", "en", "both"])
def test_the_prompts_of_every_vocabulary_are_known(language, tmp_path):
    said = [line for classes in VOCABULARIES.values() for lines in prompts(classes, "both") for line in lines]
    tower = small_text_tower(said, vocabulary=4000, width=8, dropout=0.1)
    tower.backbone.save_pretrained(tmp_path)
    tower.tokenizer.save_pretrained(tmp_path)

    loaded = build_text_tower(str(tmp_path), pretrained=True)
    for classes in VOCABULARIES.values():
        flat = [line for lines in prompts(classes, language) for line in lines]
        tokens, mask = loaded.tokenize(flat)
        assert tokenizer_knows(loaded.tokenizer, tokens)
        torch.testing.assert_close(loaded.eval()(tokens, mask), tower.eval()(tokens, mask))
    assert AutoTokenizer.from_pretrained(tmp_path)("놀란 얼굴") == tower.tokenizer("놀란 얼굴")


def tokenizer_knows(tokenizer, tokens):
    return not (tokens == tokenizer.unk_token_id).any()
