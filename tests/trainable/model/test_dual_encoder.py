import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModel, BertConfig, BertTokenizerFast, ViTConfig

from trainable.config import TrialConfig
from trainable.errors import ConfigError
from trainable.model.dual_encoder import DualEncoder, build_dual_encoder
from trainable.model.towers import IMAGE_TOWERS, build_text_tower


def build(**fields: object) -> DualEncoder:
    config = TrialConfig.from_dict(fields)
    return build_dual_encoder(config, image_size=48, channels=1, mean=0.5, std=0.25, classes=7).eval()


def faces(count: int = 3) -> Tensor:
    return torch.rand(count, 1, 48, 48, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def local_towers(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A ViT of 3 channels at 32 pixels and a BERT with a word tokenizer, as `save_pretrained` writes them."""
    folder = tmp_path_factory.mktemp("towers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    AutoModel.from_config(ViTConfig(image_size=32, patch_size=8, **sizes)).save_pretrained(folder / "image")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "happy", "sad"]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder / "text")
    AutoModel.from_config(BertConfig(vocab_size=len(words), **sizes)).save_pretrained(folder / "text")
    return str(folder / "image"), str(folder / "text")


@pytest.mark.parametrize("tower", sorted(IMAGE_TOWERS))
def test_every_image_tower_gives_unit_vectors(tower: str) -> None:
    vectors = build(image_tower=tower, embedding_dim=5).encode_images(faces())

    assert vectors.shape == (3, 5)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(3), atol=1e-5)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_head_has_as_many_layers_as_asked_for(depth: int) -> None:
    head = build(head_depth=depth).image_head

    assert sum(isinstance(layer, torch.nn.Linear) for layer in head) == depth


def test_padding_does_not_change_a_prompts_vector() -> None:
    model = build()
    alone = model.encode_texts(*model.text_tower.tokenize(["sad"]))
    beside = model.encode_texts(*model.text_tower.tokenize(["sad", "a far longer prompt than that"]))

    assert torch.allclose(alone[0], beside[0], atol=1e-5)


def test_the_seed_decides_the_weights_and_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    one, same, other = build(seed=1), build(seed=1), build(seed=2)

    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.encode_images(faces()), same.encode_images(faces()))
    assert not torch.equal(one.encode_images(faces()), other.encode_images(faces()))


def test_the_logit_scale_is_clamped_and_fixed_when_asked() -> None:
    model = build(logit_scale=4.0, learn_logit_scale=False)
    assert not model.logit_scale.requires_grad
    model.logit_scale.data.fill_(9.0)
    model.clamp_logit_scale()
    assert model.logit_scale.item() == pytest.approx(math.log(100))


def test_only_the_sigmoid_loss_has_a_bias_starting_at_the_odds_of_a_match() -> None:
    assert build().logit_bias is None
    bias = build(loss="sigmoid").logit_bias
    assert bias is not None
    assert bias.item() == pytest.approx(math.log(1 / 6))


def test_pretrained_loads_the_folders_weights_for_gray_faces_of_another_size(local_towers: tuple[str, str]) -> None:
    image, text = local_towers
    model = build(image_tower=image, text_tower=text, weight_init="pretrained")
    stored = AutoModel.from_pretrained(image).embeddings.patch_embeddings.projection.weight

    assert torch.equal(model.image_tower.backbone.embeddings.patch_embeddings.projection.weight, stored)
    assert model.encode_images(faces()).shape == (3, 64)
    assert model.encode_texts(*model.text_tower.tokenize(["happy", "sad"])).shape == (2, 64)


def test_another_weight_init_draws_a_folders_weights_anew(local_towers: tuple[str, str]) -> None:
    model = build(image_tower=local_towers[0], weight_init="xavier")
    stored = AutoModel.from_pretrained(local_towers[0]).embeddings.patch_embeddings.projection.weight

    assert not torch.equal(model.image_tower.backbone.embeddings.patch_embeddings.projection.weight, stored)


def test_a_tokenizer_that_gives_distinct_words_one_id_is_refused(local_towers: tuple[str, str]) -> None:
    tower = build_text_tower(local_towers[1], pretrained=True)

    with pytest.raises(ConfigError, match="distinct token ids, but 2 prompts gave 1"):
        tower.tokenize(["분노", "공포"])


def test_pretrained_without_any_weights_is_refused() -> None:
    with pytest.raises(ConfigError, match="must have weights to load"):
        build(weight_init="pretrained")


def test_a_folder_that_is_no_tower_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"image_tower must be resnet-tiny.*did not load"):
        build(image_tower=str(tmp_path))
