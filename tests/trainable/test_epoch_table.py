from trainable.epoch_table import COLUMNS, epoch_header, epoch_line

REPORT = {
    "epoch": 12,
    "train_loss": 1.23456,
    "train_accuracy": 0.5,
    "val_loss": 10.5,
    "val_accuracy": 0.25,
    "learning_rate_now": 1e-3,
    "logit_scale_now": 2.659,
    "images_per_second": 12345.6,
    "epoch_seconds": 5.04,
}


def test_an_epoch_is_one_line_under_its_titles():
    line = epoch_line(REPORT)
    ends = [sum(width for _, width, _ in COLUMNS[: index + 1]) for index in range(len(COLUMNS))]
    assert line.split() == ["12", "1.2346", "0.5000", "10.5000", "0.2500", "1.00e-03", "2.659", "12,346", "5.0"]
    assert len(line) == len(epoch_header()) == ends[-1]
    assert all(epoch_header()[end - 1] != " " and line[end - 1] != " " for end in ends)
    assert epoch_line(REPORT, improved=True) == line + "  *"
