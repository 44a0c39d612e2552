"""Towers from folders as transformers writes them, without a network."""

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants
from torch import Tensor
from transformers import (
    AutoModel,
    BertConfig,
    BertTokenizerFast,
    CLIPConfig,
    ResNetConfig,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)

from trainable.config import TrialConfig
from trainable.errors import ConfigError
from trainable.model import pretrained
from trainable.model.dual_encoder import DualEncoder, build_dual_encoder
from trainable.model.pretrained import Preprocessing
from trainable.model.towers import build_image_tower, build_text_tower

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "happy", "sad", "a", "face"]


def write_vit(folder: Path, **fields: object) -> str:
    AutoModel.from_config(ViTConfig(image_size=32, patch_size=8, **SIZES, **fields)).save_pretrained(folder)
    return str(folder)


def write_bert(folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    AutoModel.from_config(BertConfig(vocab_size=len(WORDS), **SIZES)).save_pretrained(folder)
    return str(folder)


def faces(size: int = 32, channels: int = 1) -> Tensor:
    return torch.rand(2, channels, size, size, generator=torch.Generator().manual_seed(0))


def build(**fields: object) -> DualEncoder:
    config = TrialConfig.from_dict({"weight_init": "pretrained", **fields})
    return build_dual_encoder(config, image_size=24, channels=1, mean=0.5, std=0.25, classes=7)


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("towers")
    vit = write_vit(folder / "image", hidden_dropout_prob=0.5)
    return {"image_tower": vit, "text_tower": write_bert(folder / "text")}


class TestPreprocessing:
    def test_is_read_as_transformers_writes_it(self, tmp_path: Path) -> None:
        size = {"height": 32, "width": 32}
        ViTImageProcessorPil(size=size, image_mean=[0.1, 0.2, 0.3], image_std=[1, 2, 4]).save_pretrained(tmp_path)

        assert Preprocessing.read(tmp_path) == Preprocessing(32, (0.1, 0.2, 0.3), (1.0, 2.0, 4.0))

    @pytest.mark.parametrize(
        ("document", "expected"),
        [
            ({"size": 40}, Preprocessing(40)),
            ({"size": {"shortest_edge": 40}}, Preprocessing(40)),
            ({"size": 256, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}}, Preprocessing(224)),
            ({"size": 256, "do_center_crop": False, "crop_size": 224}, Preprocessing(256)),
            ({"do_normalize": False, "image_mean": [0.5], "image_std": [0.5]}, Preprocessing()),
            ({"image_mean": [0.5], "image_std": [0.25]}, Preprocessing(None, (0.5,), (0.25,))),
        ],
    )
    def test_every_form_of_it_is_understood(
        self, tmp_path: Path, document: dict[str, object], expected: Preprocessing
    ) -> None:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(document))
        assert Preprocessing.read(tmp_path) == expected

    def test_survives_being_written(self, tmp_path: Path) -> None:
        for number, known in enumerate((Preprocessing(), Preprocessing(40), Preprocessing(None, (0.5,), (0.25,)))):
            folder = tmp_path / str(number)
            folder.mkdir()
            known.write(folder)
            assert Preprocessing.read(folder) == known

    @pytest.mark.parametrize("text", ["{", "[1]", '{"size": "big"}', '{"image_mean": 5, "image_std": 5}'])
    def test_a_file_that_is_none_is_named(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "preprocessor_config.json").write_text(text)
        with pytest.raises(ConfigError, match=r"preprocessor_config\.json must hold an image processor's settings"):
            Preprocessing.read(tmp_path)

    def test_the_image_processor_of_transformers_gives_the_tower_the_same(self, tmp_path: Path) -> None:
        mean, std = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
        folder = write_vit(tmp_path)
        processor = ViTImageProcessorPil(size={"height": 32, "width": 32}, image_mean=mean, image_std=std)
        processor.save_pretrained(folder)
        gray = (faces()[:, 0] * 255).round().byte()
        theirs = processor(list(gray[..., None].expand(-1, -1, -1, 3).numpy()), return_tensors="pt")["pixel_values"]

        tower = build_image_tower(folder, 32, 1, pretrained=True).eval()
        ours = tower.normalised(gray[:, None].float() / 255, 0.5, 0.25)

        assert torch.allclose(ours, theirs, atol=1e-5)
        expected = tower.backbone(theirs).last_hidden_state[:, 0]
        assert torch.allclose(tower(ours), expected, atol=1e-5)

    def test_a_tower_without_any_gets_the_statistics_of_the_data(self, tmp_path: Path) -> None:
        tower = build_image_tower(write_vit(tmp_path), 32, 1, pretrained=True)
        assert torch.equal(tower.normalised(faces(), 0.5, 0.25), (faces() - 0.5) / 0.25)

    def test_a_convolutional_tower_gets_images_of_the_size_that_it_was_trained_with(self, tmp_path: Path) -> None:
        config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
        AutoModel.from_config(config).save_pretrained(tmp_path)
        Preprocessing(64).write(tmp_path)
        sizes = []
        for resolution in ("tower", "data"):
            tower = build_image_tower(str(tmp_path), 48, 1, pretrained=True, resolution=resolution).eval()
            tower.backbone.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape[-1]))
            tower(faces(48))
        assert sizes == [64, 48]


class TestResolution:
    def test_position_embeddings_are_interpolated_at_the_size_of_the_data(self, tmp_path: Path) -> None:
        folder = write_vit(tmp_path)
        tower = build_image_tower(folder, 24, 1, pretrained=True, resolution="data").eval()
        expected = AutoModel.from_pretrained(folder, add_pooling_layer=False).eval()(
            faces(24).expand(-1, 3, -1, -1), interpolate_pos_encoding=True
        )

        assert torch.allclose(tower(faces(24)), expected.last_hidden_state[:, 0], atol=1e-6)
        assert expected.last_hidden_state.shape[1] == 1 + (24 // 8) ** 2

    def test_the_size_of_the_data_may_be_that_of_the_tower(self, tmp_path: Path) -> None:
        folder = write_vit(tmp_path)
        at_data, at_tower = (build_image_tower(folder, 32, 1, pretrained=True, resolution=r) for r in ("data", "tower"))
        assert torch.allclose(at_data.eval()(faces()), at_tower.eval()(faces()), atol=1e-6)

    def test_a_tower_that_cannot_take_that_size_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"image_resolution=data must go with a tower that takes images of 4 pix"):
            build_image_tower(write_vit(tmp_path), 4, 1, pretrained=True, resolution="data")


class TestWeights:
    def test_what_a_checkpoint_lacks_is_never_drawn_at_random(self, tmp_path: Path) -> None:
        folder = write_vit(tmp_path)
        weights = AutoModel.from_pretrained(folder).state_dict()
        del weights["layernorm.weight"]
        AutoModel.from_config(ViTConfig(image_size=32, patch_size=8, **SIZES)).save_pretrained(
            folder, state_dict=weights
        )
        with pytest.raises(ConfigError, match=r"its weights lack 1 of ViTModel: layernorm\.weight"):
            build_image_tower(folder, 32, 1, pretrained=True)

    def test_a_checkpoint_of_another_task_has_no_pooler_and_needs_none(self, tmp_path: Path) -> None:
        ViTForImageClassification(ViTConfig(image_size=32, patch_size=8, **SIZES)).save_pretrained(tmp_path)
        tower = build_image_tower(str(tmp_path), 32, 1, pretrained=True)
        assert tower(faces()).shape == (2, 16)
        assert not [name for name, _ in tower.named_parameters() if "pooler" in name]

    def test_of_clip_each_tower_is_taken(self, tmp_path: Path) -> None:
        config = CLIPConfig(
            text_config={"vocab_size": len(WORDS), **SIZES}, vision_config={"image_size": 32, "patch_size": 8, **SIZES}
        )
        write_bert(tmp_path)
        AutoModel.from_config(config).save_pretrained(tmp_path)
        image = build_image_tower(str(tmp_path), 32, 1, pretrained=True)
        text = build_text_tower(str(tmp_path), pretrained=True)
        assert image(faces()).shape == (2, 16)
        assert text(*text.tokenize(["happy", "sad"])).shape == (2, 16)

    def test_a_tokenizer_of_another_tower_is_refused(self, tmp_path: Path) -> None:
        folder = write_bert(tmp_path)
        AutoModel.from_config(BertConfig(vocab_size=5, **SIZES)).save_pretrained(folder)
        with pytest.raises(ConfigError, match=r"fit its text tower's vocabulary of 5, but that of .* has 9 tokens"):
            build_text_tower(folder, pretrained=True)

    def test_a_prompt_is_cut_to_the_positions_that_a_tower_has(self, tmp_path: Path) -> None:
        folder = write_bert(tmp_path)
        config = BertConfig(vocab_size=len(WORDS), max_position_embeddings=4, **SIZES)
        AutoModel.from_config(config).save_pretrained(folder)
        text = build_text_tower(folder, pretrained=True)
        assert text(*text.tokenize(["a happy face", "a sad face"])).shape == (2, 16)


class TestFreezing:
    @staticmethod
    def trained(model: DualEncoder) -> set[str]:
        return {name for name, weight in model.named_parameters() if weight.requires_grad}

    @pytest.mark.parametrize(
        ("freeze", "frozen"), [("none", ()), ("image", ("image",)), ("text", ("text",)), ("both", ("image", "text"))]
    )
    def test_a_frozen_tower_is_not_trained_and_all_else_is(
        self, towers: dict[str, object], freeze: str, frozen: tuple[str, ...]
    ) -> None:
        model = build(**towers, freeze=freeze)
        prefixes = tuple(f"{kind}_tower." for kind in frozen)
        everything = {name for name, _ in model.named_parameters()}
        assert self.trained(model) == {name for name in everything if not name.startswith(prefixes or "-")}

    def test_the_last_blocks_and_what_follows_them_train(self, towers: dict[str, object]) -> None:
        trained = self.trained(build(**towers, freeze="image:1"))
        names = {name.removeprefix("image_tower.backbone.") for name in trained if name.startswith("image_tower.")}
        assert {name for name in names if not name.startswith("layers.1.")} == {"layernorm.weight", "layernorm.bias"}
        assert any(name.startswith("layers.1.") for name in names)
        assert any(name.startswith("text_tower.") for name in trained)

    def test_a_frozen_tower_draws_no_dropout_also_in_training(self, towers: dict[str, object]) -> None:
        frozen, free = build(**towers, freeze="both").train(), build(**towers).train()
        assert torch.equal(frozen.encode_images(faces()), frozen.encode_images(faces()))
        assert not torch.equal(free.encode_images(faces()), free.encode_images(faces()))
        assert frozen.image_head.training

    def test_batch_norms_of_a_frozen_tower_keep_their_statistics(self, tmp_path: Path) -> None:
        config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
        AutoModel.from_config(config).save_pretrained(tmp_path)
        model = build(image_tower=str(tmp_path), freeze="image:1").train()
        before = {name: buffer.clone() for name, buffer in model.image_tower.backbone.named_buffers()}
        model.encode_images(faces())
        changed = {n for n, b in model.image_tower.backbone.named_buffers() if not torch.equal(b, before[n])}
        assert changed
        assert all(name.startswith("encoder.stages.1.") for name in changed)

    def test_more_blocks_than_there_are_and_a_tower_without_weights_are_refused(
        self, towers: dict[str, object]
    ) -> None:
        with pytest.raises(ConfigError, match=r"at most as many blocks .* but got 3 and text_tower .* has 2"):
            build(**towers, freeze="text:3")
        with pytest.raises(
            ConfigError, match=r"freeze=both must name towers whose weights are loaded, but image_tower"
        ):
            build(text_tower=towers["text_tower"], freeze="both")


class TestWithoutNetwork:
    """A hub id ends at once, with what to do."""

    @pytest.fixture(autouse=True)
    def offline(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[object]]:
        """Nothing answers, and what is asked is counted."""
        asked: list[object] = []

        def refuse(*address: object, **_: object) -> object:
            asked.append(address)
            raise socket.gaierror(-2, "Name or service not known")

        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(socket, "getaddrinfo", refuse)
        pretrained._downloaded.cache_clear()
        yield asked
        pretrained._downloaded.cache_clear()

    def test_nobody_waits_for_a_hub_that_does_not_answer(
        self, offline: list[object], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"waits for {seconds} s to try again"))
        with pytest.raises(
            ConfigError,
            match=r"image_tower must be resnet-tiny, .* but the folder or hub id 'some/vit' did not load: .*"
            r"Name or service not known.*`hf download some/vit --local-dir FOLDER`",
        ):
            build_image_tower("some/vit", 32, 1, pretrained=True)
        assert offline

    def test_a_path_that_is_not_there_is_not_looked_for_on_the_hub(self, offline: list[object], tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="did not load: there is no such folder"):
            build_text_tower(str(tmp_path / "kobert"), pretrained=True)
        assert not offline

    def test_what_was_fetched_before_is_used(self, tmp_path: Path) -> None:
        snapshot = tmp_path / "hub" / "models--some--vit" / "snapshots" / "0123"
        write_vit(snapshot)
        (snapshot.parents[1] / "refs").mkdir()
        (snapshot.parents[1] / "refs" / "main").write_text("0123")
        assert pretrained.tower_folder("some/vit", "image_tower", ()) == snapshot
