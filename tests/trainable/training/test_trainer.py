import json
from pathlib import Path

import pytest
import safetensors
import torch

from trainable.config import TrialConfig
from trainable.data.store import Store
from trainable.errors import CheckpointError, ConfigError, DivergedError
from trainable.training.checkpoint import FILE_NAME, read_checkpoint, write_checkpoint
from trainable.training.device_data import DeviceData
from trainable.training.predictor import ZeroShotPredictor, save_model, saved_epoch
from trainable.training.random_states import RandomStates
from trainable.training.ranks import Ranks
from trainable.training.report import REPORT_KEYS
from trainable.training.trainer import CHANGEABLE, Trainer, build_optimizer

CONFIG = TrialConfig(epoch_samples=96, batch_size=32, max_epochs=3, embedding_dim=8)


@pytest.fixture(scope="module")
def data(faces: Path) -> DeviceData:
    return DeviceData(Store.open(faces), torch.device("cpu"))


def timeless(report: dict[str, float]) -> list[float]:
    return [report[key] for key in REPORT_KEYS if key not in ("epoch_seconds", "images_per_second")]


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


@pytest.mark.parametrize(
    ("precision", "tower", "batch"),
    [("float32", "resnet-tiny", 32), ("bf16", "vit-tiny", 8)],  # a CPU without bf16 takes seconds for a larger one
    ids=["float32-resnet-tiny", "bf16-vit-tiny"],
)
def test_resumed_training_equals_training_never_stopped_bit_for_bit(
    data: DeviceData, tmp_path: Path, precision: str, tower: str, batch: int
) -> None:
    config = changed(
        precision=precision, image_tower=tower, augmentation=0.5, batch_size=batch, epoch_samples=3 * batch
    )
    whole = Trainer(config, data)
    reports = [whole.run_epoch() for _ in range(3)]

    first = Trainer(config, data)
    first.run_epoch()
    first.save(tmp_path)
    torch.manual_seed(12345)
    second = Trainer(config, data)
    second.load(tmp_path)
    resumed = [second.run_epoch() for _ in range(2)]

    assert [timeless(report) for report in resumed] == [timeless(report) for report in reports[1:]]
    expected, actual = weights(whole), weights(second)
    assert all(torch.equal(expected[name], actual[name]) for name in expected)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_training_resumed_within_an_epoch_equals_training_never_stopped_bit_for_bit(
    data: DeviceData, tmp_path: Path, steps: int
) -> None:
    config = changed(augmentation=0.5)
    whole = Trainer(config, data)
    reports = [whole.run_epoch() for _ in range(3)]

    first = Trainer(config, data)
    first.run_epoch()
    cuts = iter([False] * (steps - 1) + [True])
    assert not first.advance(lambda ahead_seconds: next(cuts))
    assert first.epochs_done == 1 + steps / 3
    first.save(tmp_path)
    torch.manual_seed(12345)
    second = Trainer(config, data)
    second.load(tmp_path)
    assert (second.epochs_done, second.state.step) == (1 + steps / 3, 3 + steps)

    assert [timeless(second.run_epoch()) for _ in range(2)] == [timeless(report) for report in reports[1:]]
    expected, actual = weights(whole), weights(second)
    assert all(torch.equal(expected[name], actual[name]) for name in expected)


def test_what_cannot_be_cut_is_the_validation_after_the_last_step(data: DeviceData) -> None:
    trainer, ahead = Trainer(CONFIG, data), []
    for _ in range(2):
        trainer.advance(lambda seconds: bool(ahead.append(seconds)))
        trainer.run_epoch()

    assert ahead[:5] == [0.0] * 5
    assert ahead[5] > 0.0


def test_the_same_seed_gives_the_same_report_and_another_seed_another(data: DeviceData) -> None:
    def loss(seed: int) -> float:
        return Trainer(TrialConfig.from_dict(CONFIG.to_dict() | {"seed": seed}), data).train_epoch()["train_loss"]

    assert loss(1) == loss(1) != loss(2)


def test_a_report_has_every_key_and_counts_in_samples(data: DeviceData) -> None:
    report = Trainer(CONFIG, data).run_epoch()

    assert sorted(report) == sorted(REPORT_KEYS)
    assert (report["epoch"], report["samples_seen"]) == (1, 96)
    assert 0 <= report["val_accuracy"] <= 1


def test_divergence_ends_the_trial_with_its_step_and_what_to_lower(data: DeviceData) -> None:
    config = TrialConfig.from_dict(CONFIG.to_dict() | {"learning_rate": 1e30})

    with pytest.raises(DivergedError, match=r"must stay finite, but at step \d+ of epoch 1.*learning_rate \(1e\+30\)"):
        Trainer(config, data).train_epoch()


def test_no_decay_on_biases_norms_and_logit_scale_and_less_rate_for_the_text_tower(data: DeviceData) -> None:
    model = Trainer(CONFIG, data).model
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = build_optimizer(model, CONFIG).param_groups

    where = {names[p]: (group["weight_decay"], group["factor"]) for group in groups for p in group["params"]}
    assert len(where) == len(names)
    assert where["logit_scale"] == (0.0, 1.0)
    assert where["image_tower.backbone.embedder.embedder.normalization.weight"] == (0.0, 1.0)
    assert where["image_head.0.weight"] == (CONFIG.weight_decay, 1.0)
    assert where["text_tower.backbone.encoder.layer.0.output.dense.weight"] == (CONFIG.weight_decay, 0.1)
    assert where["text_tower.backbone.encoder.layer.0.output.dense.bias"] == (0.0, 0.1)


def test_each_distinct_prompt_of_a_batch_is_encoded_once(data: DeviceData) -> None:
    trainer = Trainer(CONFIG, data)
    encoded: list[int] = []
    trainer.model.text_tower.register_forward_pre_hook(lambda _, inputs: encoded.append(len(inputs[0])))

    trainer.train_epoch()

    assert encoded == [7, 7, 7]


def test_a_checkpoint_holds_no_pickle_and_is_refused_when_torn_or_of_another_config(
    data: DeviceData, tmp_path: Path
) -> None:
    trainer = Trainer(CONFIG, data)
    trainer.save(tmp_path)
    with safetensors.safe_open(tmp_path / FILE_NAME, framework="pt") as file:
        assert json.loads(file.metadata()["state"])["counters"] == {"epoch": 0, "step": 0, "samples_seen": 0}

    other = Trainer(TrialConfig.from_dict(CONFIG.to_dict() | {"embedding_dim": 16}), data)
    with pytest.raises(CheckpointError, match="embedding_dim=8 and this config 16"):
        other.load(tmp_path)

    whole = (tmp_path / FILE_NAME).read_bytes()
    (tmp_path / FILE_NAME).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="must be a whole safetensors file"):
        trainer.load(tmp_path)


def changed(**values: object) -> TrialConfig:
    return TrialConfig.from_dict(CONFIG.to_dict() | values)


def test_an_inherited_checkpoint_may_be_of_other_values_of_what_is_read_anew_at_each_step(
    data: DeviceData, tmp_path: Path
) -> None:
    source = Trainer(CONFIG, data)
    source.run_epoch()
    source.save(tmp_path)
    other = {"learning_rate": 1e-3, "weight_decay": 0.5, "augmentation": 0.9, "seed": 5}
    assert set(other) == set(CHANGEABLE)
    heir = Trainer(changed(**other), data)
    with pytest.raises(CheckpointError, match="must go on with its own config"):
        heir.load(tmp_path)
    heir.load(tmp_path, inherited=True)

    assert all(torch.equal(tensor, weights(source)[name]) for name, tensor in weights(heir).items())
    assert (heir.state.epoch, heir.state.step) == (1, 3)
    assert {group["weight_decay"] for group in heir.optimizer.param_groups} == {0.0, 0.5}
    report = heir.run_epoch()
    assert report["learning_rate_now"] == pytest.approx(source.run_epoch()["learning_rate_now"] / 2)


def test_an_inherited_checkpoint_goes_on_as_its_trial_would_have(data: DeviceData, tmp_path: Path) -> None:
    source = Trainer(CONFIG, data)
    source.run_epoch()
    source.save(tmp_path)
    heir = Trainer(CONFIG, data)
    heir.load(tmp_path, inherited=True)

    assert heir.run_epoch()["train_loss"] == source.run_epoch()["train_loss"]
    assert all(torch.equal(tensor, weights(source)[name]) for name, tensor in weights(heir).items())


def test_an_inherited_checkpoint_of_another_model_is_refused(data: DeviceData, tmp_path: Path) -> None:
    Trainer(CONFIG, data).save(tmp_path)

    with pytest.raises(CheckpointError, match="embedding_dim=8 and this config 16"):
        Trainer(changed(embedding_dim=16), data).load(tmp_path, inherited=True)


def test_a_trial_goes_on_from_a_checkpoint_of_another_kind_of_device(data: DeviceData, tmp_path: Path) -> None:
    def draws() -> list[float]:
        trainer = Trainer(CONFIG, data)
        trainer.load(tmp_path)
        return [float(torch.rand((), generator=getattr(trainer.random, name))) for name in ("augmentation", "template")]

    trainer = Trainer(CONFIG, data)
    trainer.train_epoch()
    trainer.save(tmp_path)
    same = draws()
    tensors, state = read_checkpoint(tmp_path)
    assert state["device"] == "cpu"
    tensors["random/0/augmentation"] = torch.zeros(16, dtype=torch.uint8)  # a CUDA generator's state is as short
    write_checkpoint(tmp_path, tensors, {**state, "device": "cuda"})

    other = draws()
    assert other == draws()
    assert other[0] != same[0]
    assert other[1] == same[1]


def test_a_saved_model_predicts_what_the_trainer_measured(data: DeviceData, faces: Path, tmp_path: Path) -> None:
    config = TrialConfig.from_dict(CONFIG.to_dict() | {"precision": "float32"})
    trainer = Trainer(config, data)
    trainer.train_epoch()
    save_model(tmp_path, trainer.model, config, data, epoch=1)
    validation = Store.open(faces).split("validation")

    predictor = ZeroShotPredictor.load(tmp_path)
    probabilities = predictor.predict(validation.images, predictor.classes)

    assert probabilities.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    accuracy = (probabilities.argmax(axis=1) == validation.labels).mean()
    assert accuracy == pytest.approx(trainer.evaluate("validation")["accuracy"])


def test_a_saved_model_tells_of_which_epoch_its_weights_are(data: DeviceData, tmp_path: Path) -> None:
    trainer = Trainer(CONFIG, data)
    for epoch in (3, 7):
        save_model(tmp_path, trainer.model, CONFIG, data, epoch=epoch)
        assert saved_epoch(tmp_path) == epoch

    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"must name its epoch, but .*model\.safetensors"):
        saved_epoch(tmp_path)


@pytest.mark.parametrize(("ranks", "accumulation", "above"), [(3, 1, 33), (2, 3, 36), (1, 5, 35)])
def test_a_batch_that_cannot_be_shared_evenly_is_refused(
    data: DeviceData, ranks: int, accumulation: int, above: int
) -> None:
    config = TrialConfig.from_dict(CONFIG.to_dict() | {"accumulation": accumulation})

    with pytest.raises(ConfigError, match=rf"multiple of workers x accumulation = {ranks} x.*got 32; take {above}\."):
        Trainer(config, data, Ranks(0, ranks))


def test_the_first_ranks_random_states_fit_a_trial_of_one_rank_and_others_start_anew(
    data: DeviceData, tmp_path: Path
) -> None:
    trainer = Trainer(CONFIG, data)
    trainer.train_epoch()
    trainer.save(tmp_path)
    tensors, _ = read_checkpoint(tmp_path)

    def draw(rank: int, epoch: int) -> float:
        states = RandomStates(CONFIG.seed, torch.device("cpu"), Ranks(rank, 2))
        states.restore(tensors, epoch=epoch, same_device=True)
        return float(torch.rand((), generator=states.augmentation))

    assert draw(0, epoch=1) == draw(0, epoch=9) == float(torch.rand((), generator=trainer.random.augmentation))
    assert len({draw(0, epoch=1), draw(1, epoch=1), draw(1, epoch=2)}) == 3


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("model.safetensors", None),
        ("model.json", b"[]"),
        ("model.json", b'{"classes": 5}'),
        ("config.json", b'{"config": 5}'),
    ],
)
def test_a_model_with_a_torn_or_odd_file_is_named(
    data: DeviceData, tmp_path: Path, file: str, content: bytes | None
) -> None:
    save_model(tmp_path, Trainer(CONFIG, data).model, CONFIG, data, epoch=1)
    whole = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(whole[: len(whole) // 2] if content is None else content)

    with pytest.raises(CheckpointError, match="does not load"):
        ZeroShotPredictor.load(tmp_path)


def test_a_folder_that_is_no_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"must hold model\.safetensors, config\.json and model\.json"):
        ZeroShotPredictor.load(tmp_path)
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(CheckpointError, match="does not load: 'image_size' is missing"):
        ZeroShotPredictor.load(tmp_path)


def test_the_overfit_subset_is_balanced_and_serves_as_validation_too(data: DeviceData) -> None:
    few = data.overfit(70, seed=0)

    assert few.split("train") is few.split("validation")
    assert few.split("train").labels.bincount().tolist() == [10] * 7
    with pytest.raises(ConfigError, match="between 7 and 280 images, but got 3"):
        data.overfit(3, seed=0)


def test_pixel_statistics_are_those_of_the_training_images(data: DeviceData, faces: Path) -> None:
    pixels = Store.open(faces).split("train").images / 255

    assert data.pixel_statistics == pytest.approx((pixels.mean(), pixels.std()), abs=1e-6)
