"""Exported models against Glance, logit by logit, and as their own README.md uses them."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from transformers import (
    AutoModel,
    BertConfig,
    BertTokenizerFast,
    CLIPVisionConfig,
    DistilBertConfig,
    RobertaConfig,
    ViTConfig,
)

from trainable.config import TrialConfig
from trainable.errors import CheckpointError
from trainable.exports import modeling_glance
from trainable.exports.comparison import (
    TOLERANCE,
    Sample,
    glance_logits,
    onnx_logits,
    require_same,
    transformers_logits,
)
from trainable.exports.model_card import write_card
from trainable.exports.onnx_files import write_onnx
from trainable.exports.transformers_folder import write_tokenizer, write_transformers
from trainable.model.dual_encoder import build_dual_encoder
from trainable.model.pretrained import Preprocessing
from trainable.training.predictor import ZeroShotPredictor

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
LETTERS = [chr(letter) for letter in range(ord("a"), ord("z") + 1)]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Towers as transformers writes them, by name."""
    folder = tmp_path_factory.mktemp("towers")
    words = {"vocab_size": len(VOCABULARY), "pad_token_id": 0}
    small = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48}
    texts = {
        "bert": BertConfig(**words, **SIZES),
        "roberta": RobertaConfig(**words, **SIZES),
        "distilbert": DistilBertConfig(**words, **small),
    }
    images = {"vit": ViTConfig, "clip": CLIPVisionConfig}
    for name, config in texts.items():
        vocabulary = folder / f"{name}.txt"
        vocabulary.write_text("\n".join(VOCABULARY))
        BertTokenizerFast(str(vocabulary)).save_pretrained(folder / name)
        AutoModel.from_config(config).save_pretrained(folder / name)
    for name, kind in images.items():
        AutoModel.from_config(kind(image_size=32, patch_size=8, **SIZES)).save_pretrained(folder / name)
        Preprocessing(32, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)).write(folder / name)
    return {name: str(folder / name) for name in (*texts, *images)}


def predictor_of(size: int = 32, channels: int = 1, **fields: object) -> ZeroShotPredictor:
    """A model whose every weight is other than what it starts from."""
    config = TrialConfig.from_dict({"embedding_dim": 16, "logit_scale": 4.0, **fields})
    model = build_dual_encoder(config, image_size=size, channels=channels, mean=0.4, std=0.3, classes=7)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in (*model.parameters(), *(b for n, b in model.named_buffers() if n.endswith("running_mean"))):
            value += 0.05 * torch.randn(value.shape, generator=generator)
    description = {"classes": ["happy", "sad", "fear"], "image_size": size, "channels": channels, "dataset": "folder"}
    return ZeroShotPredictor(model, config, description, torch.device("cpu"))


def towers(outside: dict[str, str], image: str, text: str, **fields: object) -> dict[str, object]:
    names = {"image_tower": outside.get(image, image), "text_tower": outside.get(text, text)}
    loaded = {"weight_init": "pretrained"} if image in outside or text in outside else {}
    return {**names, **loaded, **fields}


@pytest.mark.parametrize(
    ("image", "text", "fields", "reason"),
    [
        ("resnet-tiny", "bert-tiny", {}, "image tower is a resnet"),
        ("resnet-tiny", "bert-tiny", {"head_depth": 2}, "heads have 2 layers"),
        ("vit-tiny", "bert-tiny", {}, None),
        ("vit-tiny", "bert-tiny", {"channels": 3}, None),
        ("vit-tiny", "bert-tiny", {"head_depth": 2}, "heads have 2 layers"),
        ("vit-tiny", "bert", {"embedding_dim": 31}, None),
        ("vit-tiny", "bert", {"embedding_dim": 32}, "must be below the text tower's width"),
        ("vit", "bert", {}, None),
        ("vit", "bert", {"channels": 3}, None),
        ("vit", "bert", {"head_depth": 2}, "heads have 2 layers"),
        ("vit", "bert", {"size": 24}, "resizes or interpolates images of 24 pixels"),
        ("vit", "bert", {"size": 24, "image_resolution": "data"}, "resizes or interpolates"),
        ("clip", "roberta", {}, None),
        ("vit", "distilbert", {}, "text tower is a distilbert"),
    ],
)
def test_transformers_gives_the_same_logits(
    outside: dict[str, str], image: str, text: str, fields: dict[str, object], reason: str | None, tmp_path: Path
) -> None:
    predictor = predictor_of(**towers(outside, image, text, **fields))  # type: ignore[arg-type]
    sample = Sample.of(predictor)
    original = glance_logits(predictor, sample)

    told = write_transformers(predictor, tmp_path)

    assert (told is None) if reason is None else (told is not None and reason in told)
    assert original.std() > 0.1
    assert require_same(transformers_logits(predictor, tmp_path, sample, told), original, "it") <= TOLERANCE


@pytest.mark.e2e
@pytest.mark.timeout(900)  # some ten seconds of computing, on a machine that may do much else
@pytest.mark.parametrize(
    ("image", "text", "fields"),
    [
        ("resnet-tiny", "bert-tiny", {}),
        ("vit-tiny", "bert-tiny", {"head_depth": 2}),
        ("vit", "bert", {"size": 24}),
    ],
)
def test_onnx_runtime_gives_the_same_logits(
    outside: dict[str, str], image: str, text: str, fields: dict[str, object], tmp_path: Path
) -> None:
    pytest.importorskip("onnxscript", reason="needs the packages of the extra `export`")
    predictor = predictor_of(**towers(outside, image, text, **fields))  # type: ignore[arg-type]
    sample = Sample.of(predictor)

    write_onnx(predictor, tmp_path)

    assert require_same(onnx_logits(predictor, tmp_path, sample), glance_logits(predictor, sample), "it") <= TOLERANCE
    write_tokenizer(predictor, tmp_path)
    write_card(predictor, tmp_path, transformers=False, onnx=True, reason=None)
    assert_card_tells_the_same(predictor, tmp_path)


@pytest.mark.parametrize(
    ("image", "text", "fields"),
    [
        ("resnet-tiny", "bert-tiny", {"channels": 3, "language": "both"}),
        ("vit-tiny", "bert-tiny", {}),
        ("vit", "bert", {"size": 24}),
    ],
)
def test_the_readme_of_a_folder_for_transformers_works_as_it_is(
    outside: dict[str, str],
    image: str,
    text: str,
    fields: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asks the user"))
    predictor = predictor_of(**towers(outside, image, text, **fields))  # type: ignore[arg-type]
    folder = tmp_path / "exported"
    reason = write_transformers(predictor, folder)
    write_card(predictor, folder, transformers=True, onnx=False, reason=reason)
    used = assert_card_tells_the_same(predictor, folder)
    expected = "GlanceModel" if reason else "VisionTextDualEncoderModel"
    assert type(used["model"]).__name__ == expected
    assert not type(used["model"]).__module__.startswith("trainable")


def assert_card_tells_the_same(predictor: ZeroShotPredictor, folder: Path) -> dict[str, object]:
    """Run the card's code in its folder on a photo of twice the size; returns its names."""
    side, mode = predictor.image_size, "L" if predictor.channels == 1 else "RGB"
    noise = np.random.default_rng(3).integers(0, 256, (2 * side, 2 * side, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "face.png")
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    names: dict[str, object] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(code, names)
    picture = Image.fromarray(noise).convert(mode).resize((side, side), Image.Resampling.LANCZOS)
    (expected,) = predictor.predict(np.asarray(picture)[None], predictor.classes)
    assert names["probabilities"] == pytest.approx(
        dict(zip(predictor.classes, expected.tolist(), strict=True)), abs=1e-4
    )
    return names


def test_the_module_in_the_folder_needs_torch_and_transformers_alone() -> None:
    imported = set()
    for node in ast.walk(ast.parse(Path(modeling_glance.__file__).read_text())):
        imported |= {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
        imported |= {str(node.module)} if isinstance(node, ast.ImportFrom) else set()
    assert {name.partition(".")[0] for name in imported} == {"dataclasses", "typing", "torch", "transformers"}


def test_a_difference_is_an_error() -> None:
    with pytest.raises(
        CheckpointError, match=r"the ONNX model must give Glance's logits to 0\.0001, but differs by 0\.5"
    ):
        require_same(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.5]), "the ONNX model")
    with pytest.raises(CheckpointError, match="differs by nan"):
        require_same(torch.tensor([torch.nan]), torch.tensor([1.0]), "the ONNX model")
