"""Activation checkpointing and compiled towers: the same numbers, less memory, code that the next model takes over."""

import os
import shutil
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from transformers import (
    AutoModel,
    BertConfig,
    ByT5Tokenizer,
    ConvNextConfig,
    GPT2Config,
    MobileViTConfig,
    PreTrainedConfig,
    ResNetConfig,
    ViTConfig,
)

from trainable.config import TrialConfig
from trainable.errors import ConfigError
from trainable.model.dual_encoder import DualEncoder, build_dual_encoder
from trainable.model.tower_options import apply_tower_options

CPU = torch.device("cpu")
VOCABULARY = len(ByT5Tokenizer())
TRANSFORMER = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
ONE_LAYER = {"num_hidden_layers": 1, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
CONFIGS: dict[str, PreTrainedConfig] = {
    "vit-with-dropout": ViTConfig(image_size=24, patch_size=8, hidden_dropout_prob=0.3, **TRANSFORMER),
    "bert-with-dropout": BertConfig(vocab_size=VOCABULARY, hidden_dropout_prob=0.3, **TRANSFORMER),
    "resnet-of-bottlenecks": ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[2, 2]),
    "small-resnet": ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic"),
    "small-bert": BertConfig(vocab_size=VOCABULARY, **{**TRANSFORMER, **ONE_LAYER}),
    "small-vit": ViTConfig(image_size=24, patch_size=8, **{**TRANSFORMER, **ONE_LAYER}),
    "gpt2": GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=2),
    "convnext": ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2),
    "mobilevit": MobileViTConfig(image_size=32),
    **{
        f"vit-of-width-{width}": ViTConfig(
            image_size=24, patch_size=8, **{**TRANSFORMER, **ONE_LAYER, "hidden_size": width}
        )
        for width in (4, 8, 12, 16, 20)
    },
}
"""Small towers that lie in a folder."""


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The value of `image_tower` or `text_tower` for a built-in name or one of `CONFIGS`."""
    root = tmp_path_factory.mktemp("towers")

    def folder(name: str) -> str:
        if name not in CONFIGS:
            return name
        path = root / name
        if not path.exists():
            AutoModel.from_config(CONFIGS[name]).save_pretrained(path)
            ByT5Tokenizer().save_pretrained(path)
        return str(path)

    return folder


def build(config: TrialConfig) -> DualEncoder:
    model = build_dual_encoder(config, image_size=24, channels=1, mean=0.5, std=0.25, classes=3).double()
    apply_tower_options(model, config, CPU)
    return model


def batch(images: int = 6, texts: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(images, 1, 24, 24, generator=generator, dtype=torch.float64)
    tokens = torch.randint(3, VOCABULARY, (texts, 12), generator=generator)
    return pixels, tokens, (torch.arange(12) < 9).long().expand(texts, 12)


def loss_of(model: DualEncoder, images: int = 6) -> Tensor:
    """A loss of double precision: the unit features are single, so it starts before the heads."""
    pixels, tokens, mask = batch(images)
    torch.manual_seed(1)
    left = model.image_head(model.image_tower(pixels))
    right = model.text_head(model.text_tower(tokens, mask))
    return (left @ right.T).square().mean()


def results(config: TrialConfig) -> dict[str, Tensor]:
    """Loss, gradients and buffers after one training step, and what the model then computes in evaluation."""
    model = build(config).train()
    loss = loss_of(model)
    loss.backward()
    values = {"loss": loss.detach()}
    values |= {f"gradient of {name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    values |= {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.no_grad():
        values["evaluation loss"] = loss_of(model.eval())
    return values


def require_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-12, msg=name)


def saved_bytes(config: TrialConfig, *, text: bool) -> int:
    """What the forward pass of one tower keeps for the backward pass, the weights left out."""
    model = build(config).train()
    pixels, tokens, mask = batch()
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        features = model.text_tower(tokens, mask) if text else model.image_tower(pixels)
        assert features.requires_grad
        return sum(kept.values())


@pytest.mark.parametrize(
    ("image_tower", "text_tower"),
    [
        ("vit-tiny", "bert-tiny"),
        ("resnet-tiny", "bert-tiny"),
        ("resnet-small", "bert-tiny"),
        ("vit-with-dropout", "bert-with-dropout"),
        ("resnet-of-bottlenecks", "gpt2"),
    ],
)
def test_checkpointing_changes_memory_and_nothing_else(
    tower: Callable[[str], str], image_tower: str, text_tower: str
) -> None:
    names = {"image_tower": tower(image_tower), "text_tower": tower(text_tower)}
    plain, checkpointed = TrialConfig(**names), TrialConfig(**names, activation_checkpointing=True)

    require_same(results(checkpointed), results(plain))
    assert saved_bytes(checkpointed, text=False) < 0.7 * saved_bytes(plain, text=False)
    assert saved_bytes(checkpointed, text=True) < 0.7 * saved_bytes(plain, text=True)


@pytest.mark.parametrize("image_tower", ["resnet-tiny", "vit-tiny"])
def test_the_names_of_the_weights_stay(image_tower: str) -> None:
    options = TrialConfig(image_tower=image_tower, activation_checkpointing=True)
    assert list(build(options).state_dict()) == list(build(TrialConfig(image_tower=image_tower)).state_dict())


@pytest.mark.parametrize(
    ("field", "name", "reason"),
    [
        ("image_tower", "convnext", "ConvNextModel does not support"),
        ("image_tower", "mobilevit", "batch norms"),
    ],
)
def test_a_tower_that_cannot_checkpoint_is_named(
    tower: Callable[[str], str], field: str, name: str, reason: str
) -> None:
    config = TrialConfig(activation_checkpointing=True, **{field: tower(name)})
    with pytest.raises(ConfigError, match=f"must have towers that support it, but {field} '.*{name}'.*{reason}"):
        build(config)


@pytest.mark.e2e
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_next_model_of_a_shape_takes_over_the_compiled_code(
    tower: Callable[[str], str], compiled_graphs: Callable[[], int], checkpointing: bool
) -> None:
    names = {"image_tower": tower("small-resnet"), "text_tower": tower("small-bert")}
    options = {"compile": True, "activation_checkpointing": checkpointing}
    other = {"learning_rate": 1e-4, "logit_scale": 1.0, "weight_init": "xavier", "seed": 3, "embedding_dim": 8}

    require_same(results(TrialConfig(**names, **options)), results(TrialConfig(**names)))
    compiled = compiled_graphs()
    require_same(results(TrialConfig(**names, **other, **options)), results(TrialConfig(**names, **other)))

    assert compiled == 4  # both towers, in training and in evaluation
    assert compiled_graphs() == compiled
    assert not counters["graph_break"]


class UntraceableNorm(nn.BatchNorm2d):
    def forward(self, inputs: Tensor) -> Tensor:
        torch._dynamo.graph_break()
        return super().forward(inputs)


@pytest.mark.e2e
@pytest.mark.usefixtures("compiled_graphs")
def test_statistics_count_once_where_the_compiler_gives_up(
    tower: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"image_tower": tower("small-resnet"), "text_tower": tower("small-bert")}
    monkeypatch.setattr(nn, "BatchNorm2d", UntraceableNorm)
    expected = results(TrialConfig(**names))
    require_same(results(TrialConfig(**names, compile=True, activation_checkpointing=True)), expected)
    assert counters["graph_break"]


@pytest.mark.e2e
def test_batches_that_vary_are_compiled_for_once(
    tower: Callable[[str], str], compiled_graphs: Callable[[], int]
) -> None:
    names = {"image_tower": tower("small-vit"), "text_tower": tower("small-bert")}
    model = build(TrialConfig(**names, compile=True)).train()
    for images in (6, 5):
        loss_of(model, images).backward()
    compiled = compiled_graphs()

    for images in (4, 7, 3, 9):
        loss_of(model, images).backward()

    assert compiled_graphs() == compiled


@pytest.mark.e2e
def test_many_towers_share_one_process(tower: Callable[[str], str], compiled_graphs: Callable[[], int]) -> None:
    names = [name for name in CONFIGS if name.startswith("vit-of-width-")]
    configs = [TrialConfig(image_tower=tower(name), text_tower=tower("small-bert"), compile=True) for name in names]
    for config in configs:
        results(config)
    compiled = compiled_graphs()
    for config in configs:
        results(config)

    assert compiled == 2 * len(names) + 2  # training and evaluation of each image tower and of one text tower
    assert compiled_graphs() == compiled


@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="needs a C++ compiler")
@pytest.mark.e2e
@pytest.mark.usefixtures("nothing_compiled")
def test_machine_code_computes_the_same(tower: Callable[[str], str]) -> None:
    names = {"image_tower": tower("small-resnet"), "text_tower": tower("small-bert")}
    options = {"compile": True, "activation_checkpointing": True}
    require_same(results(TrialConfig(**names, **options)), results(TrialConfig(**names)))


@pytest.mark.e2e
@pytest.mark.usefixtures("nothing_compiled")
def test_a_machine_without_a_compiler_is_told_so() -> None:
    with torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)}), pytest.raises(ConfigError) as caught:
        build(TrialConfig(compile=True))
    assert str(caught.value).startswith("compile must have g++ and Python's headers where trials run, but")
    assert "no-such-compiler" in str(caught.value)


def test_compiled_shards_of_a_resnet_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"compile must go with parallelism=ddp .* 'resnet-tiny', but"):
        build(TrialConfig(compile=True, parallelism="fsdp"))


def test_without_options_a_model_stays_as_it_is() -> None:
    model = build(TrialConfig())
    assert all(module._compiled_call_impl is None for module in model.modules())
    assert not any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
