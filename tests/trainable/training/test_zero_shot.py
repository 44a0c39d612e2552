import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from trainable.config import TrialConfig
from trainable.model.dual_encoder import DualEncoder, build_dual_encoder
from trainable.training import zero_shot
from trainable.training.device_data import DeviceSplit
from trainable.training.ranks import Ranks
from trainable.training.zero_shot import PromptTokens, class_logits, confusion_matrix, metrics_of, zero_shot_classifier


@pytest.fixture(scope="module")
def model() -> DualEncoder:
    config = TrialConfig(embedding_dim=8)
    return build_dual_encoder(config, image_size=48, channels=1, mean=0.5, std=0.25, classes=3).eval()


def test_the_classifier_is_the_mean_over_templates_normalised_again(model: DualEncoder) -> None:
    rows = [["angry", "an angry face"], ["sad", "a sad face"]]
    classifier = zero_shot_classifier(model, PromptTokens.of(model, rows, torch.device("cpu")))

    for vector, prompts in zip(classifier, rows, strict=True):
        with torch.no_grad():
            each = [model.encode_texts(*model.text_tower.tokenize([prompt]))[0] for prompt in prompts]
        expected = sum(each) / len(each)
        assert torch.allclose(vector, expected / expected.norm(), atol=1e-5)


def test_logits_are_float32_under_autocast_so_that_close_classes_do_not_tie(model: DualEncoder) -> None:
    features = F.normalize(torch.ones(1, 8), dim=-1)
    classifier = torch.cat([features, F.normalize(features + 1e-3 * torch.eye(8)[:1], dim=-1)])

    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        logits = class_logits(features, classifier, model.logit_scale)

    assert logits.dtype == torch.float32
    assert logits[0, 0] > logits[0, 1]


class OneAtATime(Ranks):
    """One of several ranks whose exchanges change nothing."""

    def sum(self, values: Tensor) -> Tensor:
        return values


@pytest.mark.parametrize("world_size", [2, 3, 8])
def test_the_ranks_shares_of_a_split_add_up_to_the_whole(
    model: DualEncoder, monkeypatch: pytest.MonkeyPatch, world_size: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (7, 1, 48, 48), generator=generator, dtype=torch.uint8)
    split = DeviceSplit(images, torch.tensor([0, 1, 2, 0, 1, 2, 2]), torch.device("cpu"))
    classifier = F.normalize(torch.randn(3, 8, generator=generator), dim=-1)
    counts, loss = confusion_matrix(model, split, classifier)
    monkeypatch.setattr(zero_shot, "EVALUATION_BATCH", 2)

    shares = [confusion_matrix(model, split, classifier, OneAtATime(rank, world_size)) for rank in range(world_size)]

    assert torch.equal(sum(share for share, _ in shares), counts)
    assert sum(share for _, share in shares) == pytest.approx(loss, rel=1e-5)
    assert counts.sum() == 7


def test_metrics_of_a_confusion_matrix_counted_by_hand() -> None:
    confusion = torch.tensor([[3, 1, 0], [0, 2, 0], [0, 0, 0]])  # 6 images; the third class has none

    assert metrics_of(confusion, 0.5) == {
        "accuracy": pytest.approx(5 / 6),
        "balanced_accuracy": pytest.approx((3 / 4 + 1) / 2),
        "loss": 0.5,
        "predicted_classes": 2,
    }
