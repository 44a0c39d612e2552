import errno
import json

import pytest

from tests.evaluations import evaluation, points
from trainable.config import TrialConfig
from trainable.data.fetched import upload_store
from trainable.data.progress import unwatched
from trainable.data.store import Store
from trainable.epoch_table import epoch_header
from trainable.errors import ConfigError, ExperimentError
from trainable.slot.failure import Failure, WorkerError
from trainable.slot.notice import NOTICE
from trainable.storage.storage import open_storage
from trainable.train import _errors_of_workers, _show, main
from trainable.training.checkpoint import read_checkpoint
from trainable.training.run_folder import RunFolder

SMALL = ["--set", "epoch_samples=64", "--set", "batch_size=16", "--max-epochs", "3"]
TIMES = ("epoch_seconds", "images_per_second")


def read_reports(folder):
    return [json.loads(line) for line in (folder / "reports.jsonl").read_text().splitlines()]


def timeless(reports):
    return [{name: value for name, value in report.items() if name not in TIMES} for report in reports]


def epochs(printed):
    """The lines of the epochs in what a run printed."""
    return printed.split(epoch_header())[1].strip("\n").split("\n\n")[0].splitlines()


def train(faces, out, *more):
    return main(["--data-path", str(faces), "--out", str(out), *SMALL, *more])


@pytest.fixture(scope="module")
def whole(faces, tmp_path_factory):
    """A run that came to its end in one go."""
    out = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.cuda.is_available", lambda: False)  # bit for bit on a CPU only
        assert train(faces, out) == 0
    return out


def interrupt_at(monkeypatch, epoch, error=KeyboardInterrupt):
    """Let the run end by `error` in the given epoch."""
    from trainable.training.trainer import Trainer

    run_epoch = Trainer.run_epoch

    def interrupted(self):
        if self.state.epoch + 1 == epoch:
            raise error
        return run_epoch(self)

    monkeypatch.setattr(Trainer, "run_epoch", interrupted)


@pytest.mark.e2e
def test_a_disk_that_is_full_ends_the_run_with_a_sentence(faces, tmp_path, capsys, monkeypatch):
    from trainable.training.trainer import Trainer

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Trainer, "save_model", full)
    assert train(faces, tmp_path / "run") == 2
    assert f"{tmp_path / 'run'}: No space left on device" in capsys.readouterr().err


@pytest.mark.e2e
def test_a_run_that_cannot_start_leaves_no_folder(faces, tmp_path, capsys):
    assert train(faces, tmp_path / "run", "--set", "text_tower=no-such-tower") == 2
    assert "text_tower must be" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.e2e
def test_the_small_data_check_never_reads_the_test_split(faces, tmp_path, capsys, monkeypatch):
    from trainable.data.store import Store

    read, split = [], Store.split
    monkeypatch.setattr(Store, "split", lambda self, name, *more: read.append(name) or split(self, name, *more))
    main(["--data-path", str(faces), "--overfit", "14", "--max-epochs", "1"])
    assert "280 / 70 / 70 images of 7 classes" in capsys.readouterr().out
    assert "train" in read
    assert "test" not in read


@pytest.mark.e2e
def test_the_out_folder_may_lie_in_the_home_folder(faces, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert main([f"--data-path=~/{faces.name}", "--out=~/run", *SMALL]) == 2
    (tmp_path / faces.name).symlink_to(faces)
    assert main([f"--data-path=~/{faces.name}", "--out=~/run", *SMALL]) == 0
    assert (tmp_path / "run" / "best.json").exists()
    assert main(["--resume=~/run"]) == 0


@pytest.mark.e2e
def test_a_run_leaves_its_reports_its_best_model_and_test_metrics(faces, tmp_path, capsys):
    from trainable.training.predictor import ZeroShotPredictor

    assert train(faces, tmp_path / "run") == 0
    reports = read_reports(tmp_path / "run")
    best = json.loads((tmp_path / "run" / "best.json").read_text())
    assert [report["epoch"] for report in reports] == [1, 2, 3]
    assert set(best) == {"trial_id", "number", "epoch", "config", "metrics", "dataset", "unseen"}
    assert best["metrics"]["val_accuracy"] == max(report["val_accuracy"] for report in reports)
    assert best["epoch"] == 1 + [report["val_accuracy"] for report in reports].index(best["metrics"]["val_accuracy"])
    assert {"test_accuracy", "test_balanced_accuracy", "test_loss"} <= set(best["metrics"])
    assert best["config"]["batch_size"] == 16
    assert ZeroShotPredictor.load(tmp_path / "run" / "best").config.max_epochs == 3
    shown = json.loads((tmp_path / "run" / "best" / "evaluation.json").read_text())
    right = sum(row[label] for label, row in enumerate(shown["confusion"]))
    assert right / shown["macro"]["support"] == pytest.approx(best["metrics"]["test_accuracy"])
    lines = capsys.readouterr().out.splitlines()
    titles = lines.index(epoch_header())
    assert [line.split()[0] for line in lines[titles + 1 : titles + 4]] == ["1", "2", "3"]
    starred = [line.split()[0] for line in lines if line.endswith("  *")]
    assert starred[-1] == str(best["epoch"])


@pytest.mark.e2e
@pytest.mark.parametrize("epoch", [1, 3])
def test_an_interrupted_run_goes_on_as_if_it_never_was(epoch, whole, faces, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with monkeypatch.context() as patch:
        interrupt_at(patch, epoch)
        assert train(faces, tmp_path / "cut") == 130
    assert f"--resume {tmp_path / 'cut'}" in capsys.readouterr().out
    with (tmp_path / "cut" / "reports.jsonl").open("a") as file:
        file.write('{"epoch": 3, "train_lo')
    assert main(["--resume", str(tmp_path / "cut")]) == 0
    resumed, cut = capsys.readouterr().out, tmp_path / "cut"
    values = [report["val_accuracy"] for report in read_reports(whole)]
    improved = [value > max(values[:number], default=-1.0) for number, value in enumerate(values)]
    assert [line.endswith("*") for line in epochs(resumed)] == improved
    assert timeless(read_reports(cut)) == timeless(read_reports(whole))
    for file in ("last/checkpoint.safetensors", "best/model.safetensors"):
        assert (cut / file).read_bytes() == (whole / file).read_bytes()


@pytest.mark.e2e
def test_an_epoch_that_was_reported_but_not_saved_is_trained_again(faces, tmp_path, monkeypatch):
    from trainable.training.trainer import Trainer

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "save", killed)
        assert train(faces, tmp_path / "run") == 130
    assert len(read_reports(tmp_path / "run")) == 1
    assert main(["--resume", str(tmp_path / "run")]) == 0
    assert [report["epoch"] for report in read_reports(tmp_path / "run")] == [1, 2, 3]


@pytest.mark.e2e
def test_a_run_that_died_before_its_best_model_was_kept_keeps_it_on_resuming(faces, tmp_path, monkeypatch):
    from trainable.training.trainer import Trainer

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "save_model", killed)
        assert train(faces, tmp_path / "run") == 130
    assert not (tmp_path / "run" / "best.json").exists()
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2)
        assert main(["--resume", str(tmp_path / "run")]) == 130
    assert json.loads((tmp_path / "run" / "best.json").read_text())["epoch"] == 1


@pytest.mark.e2e
def test_the_test_split_is_measured_once(whole, monkeypatch):
    from trainable.slot import tasks

    before = (whole / "best.json").read_bytes()
    monkeypatch.setattr(tasks, "evaluate_model", None)
    assert main(["--resume", str(whole)]) == 0
    assert (whole / "best.json").read_bytes() == before


@pytest.mark.e2e
def test_a_best_json_names_config_and_data_and_flags_win(faces, tmp_path):
    assert train(faces, tmp_path / "first", "--set", "embedding_dim=8") == 0
    best = tmp_path / "first" / "best.json"
    again = ["--config", str(best), "--out", str(tmp_path / "again"), "--seed", "5", "--max-epochs", "1"]
    assert main(again) == 0
    run = json.loads((tmp_path / "again" / "run.json").read_text())
    assert (run["config"]["embedding_dim"], run["config"]["seed"], run["config"]["max_epochs"]) == (8, 5, 1)
    assert run["dataset"] == json.loads(best.read_text())["dataset"]


@pytest.mark.e2e
def test_other_images_than_the_recorded_ones_are_refused(faces, tmp_path, capsys):
    from trainable.data.store import Store
    from trainable.data.unseen import choose_unseen
    from trainable.provenance import describe_data

    store = Store.open(faces)
    block = describe_data(store, str(faces), choose_unseen(None, store.manifest)) | {"content_hash": "0" * 64}
    document = {"config": TrialConfig().to_dict(), "dataset": block}
    (tmp_path / "best.json").write_text(json.dumps(document))
    assert main(["--config", str(tmp_path / "best.json"), "--out", str(tmp_path / "run")]) == 2
    assert "the images must be those of the recorded run (content hash 000000000000)" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.e2e
def test_a_taken_folder_is_not_written_into(faces, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert train(faces, tmp_path) == 2
    assert "exists and is not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.e2e
def test_a_run_that_diverges_ends_with_its_reason_and_status_1(faces, tmp_path, capsys):
    assert train(faces, tmp_path / "run", "--set", "learning_rate=1e30") == 1
    assert "failed: the loss and its gradient must stay finite" in capsys.readouterr().err


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("flags", "status", "words"),
    [
        (["--overfit", "256"], 0, "PASS"),
        (["--overfit", "--set", "learning_rate=1e30"], 1, "FAIL  learning rate too high: diverged."),
        (["--overfit", "256", "--set", "learning_rate=1e-9", "--max-epochs", "6"], 1, "too low: flat"),
        (["--overfit", "256", "--set", "learning_rate=1", "--max-epochs", "12"], 1, "predictions all one class"),
        (["--overfit", "3"], 2, "--overfit must lie between 7 and 280 images, but got 3"),
    ],
)
def test_the_small_data_check_gives_its_verdict(flags, status, words, faces, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["--data-path", str(faces), *flags]) == status
    printed = capsys.readouterr()
    assert words in printed.out + printed.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("images", ["0", "999999"])
def test_an_impossible_check_is_refused_before_anything_is_printed(images, faces, capsys):
    assert main(["--data-path", str(faces), "--overfit", images]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert f"--overfit must lie between 7 and 280 images, but got {images}" in printed.err


@pytest.mark.e2e
def test_two_workers_train_a_run_that_one_takes_up_again(ray_cluster, faces, tmp_path, capsys):
    options = ["--set", "image_tower=vit-tiny", "--set", "augmentation=0", "--set", "precision=float32"]
    assert train(faces, tmp_path / "alone", *options) == 0
    assert train(faces, tmp_path / "both", "--workers", "2", *options) == 0
    assert "device   2 workers x 1 CPU\n" in capsys.readouterr().out
    alone, both = read_reports(tmp_path / "alone"), read_reports(tmp_path / "both")
    assert [report["val_loss"] for report in both] == pytest.approx([report["val_loss"] for report in alone], rel=1e-3)

    (tmp_path / "both" / "best.json").unlink()
    assert main(["--resume", str(tmp_path / "both"), "--workers", "1"]) == 0
    assert timeless(read_reports(tmp_path / "both")) == timeless(both)


def test_a_batch_that_workers_cannot_share_is_refused_before_they_start(faces, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("trainable.slot.standalone.standalone_runner", None)
    assert train(faces, tmp_path / "run", "--workers", "2", "--set", "batch_size=15") == 2
    assert "batch_size must be a multiple of workers x accumulation = 2 x 1" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_what_a_worker_refuses_is_told_as_it_told_it():
    failure = Failure(kind="ConfigError", message="text_tower must be there.", where="", traceback="")
    with pytest.raises(ConfigError, match=r"^text_tower must be there\.$"), _errors_of_workers():
        raise WorkerError(failure, user_error=True, device_broken=False)


def test_a_worker_that_cannot_write_is_a_sentence():
    failure = Failure(kind="PermissionError", message="[Errno 13] Permission denied: 'x'", where="", traceback="")
    with pytest.raises(ExperimentError, match="must be writable from its workers"), _errors_of_workers():
        raise WorkerError(failure, user_error=False, device_broken=False)


def test_config_and_data_are_read_from_a_bucket(faces, s3, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GLANCE_NODE_CACHE", str(tmp_path / "node"))
    upload_store(Store.open(faces), "s3://glance/faces", watch=unwatched)
    best = {"config": TrialConfig(embedding_dim=16).to_dict(), "metrics": {}}
    open_storage("s3://glance/results").put("demo/best.json", json.dumps(best).encode())
    asked = ["--config", "s3://glance/results/demo/best.json", "--data-path", "s3://glance/faces", *SMALL]
    assert main([*asked, "--max-epochs", "1", "--out", str(tmp_path / "run")]) == 0

    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["config"]["embedding_dim"] == 16
    assert run["dataset"]["path"] == "s3://glance/faces"
    assert run["dataset"]["store"].startswith(str(tmp_path / "node"))
    assert main(["--config", "s3://glance/results/demo/none.json"]) == 2
    assert "s3://glance/results/demo/none.json must exist, but does not" in capsys.readouterr().err


@pytest.mark.e2e
def test_a_run_that_gets_sigterm_goes_on_within_its_epoch_with_the_same_result(
    whole, faces, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with monkeypatch.context() as given:
        given.setattr(NOTICE, "_reason", "its process got SIGTERM")
        assert train(faces, tmp_path / "cut") == 130
    _, state = read_checkpoint(tmp_path / "cut" / "last")
    assert (state["counters"]["epoch"], state["part"]["steps"]) == (0, 1)
    assert f"--resume {tmp_path / 'cut'}" in capsys.readouterr().out

    assert main(["--resume", str(tmp_path / "cut"), "--max-lost-minutes", "0.001"]) == 0
    assert timeless(read_reports(tmp_path / "cut")) == timeless(read_reports(whole))


@pytest.mark.parametrize("trouble", ["look", "disk"])
def test_a_run_that_cannot_be_shown_is_over_all_the_same(trouble, tmp_path, capsys):
    failure = {"kind": "OSError", "message": "no JPEG here", "where": "a.py:1", "traceback": ""}
    folder = RunFolder(tmp_path)
    if trouble == "disk":
        folder.best.write_text("no folder")
    _show(folder, failure if trouble == "look" else (evaluation(), points()))
    assert "warning: the model is tested, but what there is to see of that is not written" in capsys.readouterr().err
