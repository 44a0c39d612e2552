"""KoBERT's layout, written small: a BERT beside a sentencepiece model."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModel, AutoTokenizer, BertConfig
from transformers.convert_slow_tokenizer import import_protobuf

from trainable.errors import ConfigError
from trainable.model.tokenizers import load_tokenizer
from trainable.model.towers import TextTower, build_text_tower

SPECIAL = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]
"""KoBERT's first pieces, in its order."""
WORDS = ["▁행복", "▁슬픔", "한", "▁", "얼굴", "▁얼굴", "▁불", "안", "▁분노"]


def write_model(file: Path, pieces: list[str], kind: int = 1) -> None:
    proto = import_protobuf().ModelProto()
    for number, piece in enumerate(pieces):
        added = proto.pieces.add()
        added.piece = piece
        added.score = -float(number)
        added.type = 2 if piece == "[UNK]" else 3 if piece in SPECIAL else 1
    proto.trainer_spec.model_type = kind
    file.write_bytes(proto.SerializeToString())


def write_kobert(folder: Path, pieces: list[str] = SPECIAL + WORDS, model: str = "spiece.model") -> str:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    AutoModel.from_config(BertConfig(vocab_size=max(len(pieces), len(SPECIAL + WORDS)), **sizes)).save_pretrained(
        folder
    )
    write_model(folder / model, pieces)
    return str(folder)


def pieces_of(tower: TextTower, text: str) -> list[str]:
    tokenizer: Any = tower.tokenizer
    return list(tokenizer.convert_ids_to_tokens(tower.tokenize([text])[0][0]))


@pytest.mark.parametrize("model", ["spiece.model", "tokenizer_78b3253a26.model"])
def test_words_are_split_as_sentencepiece_does_and_numbered_as_the_model(tmp_path: Path, model: str) -> None:
    tower = build_text_tower(write_kobert(tmp_path, model=model), pretrained=True)

    assert pieces_of(tower, "행복한  얼굴 ") == ["[CLS]", "▁행복", "한", "▁얼굴", "[SEP]"]
    assert tower.tokenize(["행복한 얼굴"])[0].tolist() == [[2, 5, 7, 10, 3]]


def test_shorter_prompts_are_padded_with_kobert_s_padding(tmp_path: Path) -> None:
    tokens, mask = build_text_tower(write_kobert(tmp_path), pretrained=True).tokenize(["행복한 얼굴", "슬픔"])
    assert tokens[1].tolist() == [2, 6, 3, 1, 1]
    assert mask[1].tolist() == [1, 1, 1, 0, 0]


def test_a_vocabulary_of_its_own_numbers_the_pieces(tmp_path: Path) -> None:
    folder = write_kobert(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(SPECIAL + WORDS[::-1]), encoding="utf-8")
    tower = build_text_tower(folder, pretrained=True)
    assert tower.tokenize(["행복"])[0].tolist() == [[2, 5 + len(WORDS) - 1, 3]]
    assert pieces_of(tower, "불안") == ["[CLS]", "▁불", "안", "[SEP]"]


def test_it_loads_again_from_where_a_trained_model_is_saved(tmp_path: Path) -> None:
    tower = build_text_tower(write_kobert(tmp_path / "kobert"), pretrained=True)
    again = tmp_path / "best"
    tower.backbone.config.save_pretrained(again)  # type: ignore[operator, union-attr]
    tower.tokenizer.save_pretrained(again)  # type: ignore[attr-defined]
    loaded = build_text_tower(str(again), pretrained=False)
    prompts = ["행복한 얼굴", "불안", "분노"]
    assert loaded.tokenize(prompts)[0].tolist() == tower.tokenize(prompts)[0].tolist()


def test_the_tokenizer_that_transformers_takes_for_it_knows_no_word_and_is_refused(tmp_path: Path) -> None:
    """The trap: without a word AutoTokenizer gives every prompt the same ids."""
    folder = write_kobert(tmp_path)
    wrong = AutoTokenizer.from_pretrained(folder)
    assert len({tuple(ids) for ids in wrong(["행복", "슬픔", "불안"])["input_ids"]}) == 1

    tower = build_text_tower(folder, pretrained=True)
    tower.tokenizer = wrong
    with pytest.raises(ConfigError, match=r"distinct prompts must get distinct token ids, but 3 prompts gave 1"):
        tower.tokenize(["행복", "슬픔", "불안"])


def test_files_that_are_no_such_model_are_named(tmp_path: Path) -> None:
    folder = write_kobert(tmp_path)
    model = tmp_path / "spiece.model"
    write_model(model, WORDS)
    with pytest.raises(ConfigError, match=r"spiece\.model must have the pieces .*, but lacks \[UNK\], \[PAD\]"):
        build_text_tower(folder, pretrained=True)
    write_model(model, SPECIAL + WORDS, kind=2)
    with pytest.raises(ConfigError, match=r"spiece\.model must be a sentencepiece model of unigrams"):
        build_text_tower(folder, pretrained=True)
    model.write_bytes(b"\xff" * 20)
    with pytest.raises(ConfigError, match=r"spiece\.model must be a sentencepiece model, but cannot be read"):
        load_tokenizer(tmp_path, "bert")
