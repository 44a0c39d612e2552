"""Turn a trained model into a folder that works without Glance: for transformers, for ONNX Runtime, or for both.

    python trainable/export.py --model results/demo/best --out exported
    python trainable/export.py --model results/demo/best --out exported --format transformers

What was written is read again and compared with Glance, logit by logit. Exit status: 0 when it agrees; 2 when what was
asked cannot be done.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainable.errors import CommandParser, ConfigError, run_command
from trainable.files import user_path
from trainable.model_folder import model_folder

if TYPE_CHECKING:
    from torch import Tensor

    from trainable.training.predictor import ZeroShotPredictor

FORMATS = ("transformers", "onnx", "both")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    return run_command(lambda: _export(argv))


def export_model(predictor: "ZeroShotPredictor", out: Path, form: str) -> list[str]:
    """Write the folder `out`, which is whole or absent; returns what to tell of it.

    Raises `ConfigError` where something lies there, or packages are missing, and `CheckpointError` where what was
    written does not say what Glance says.
    """
    if out.exists() and not (out.is_dir() and next(out.iterdir(), None) is None):
        raise ConfigError(f"--out must be a new or empty folder, but something lies in {out}.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
            folder = Path(temporary) / out.name
            folder.mkdir()
            told = _write(predictor, folder, form)
            _open_to_all(folder)
            folder.replace(out)
    except OSError as error:
        raise ConfigError(f"--out must be a folder that can be written, but {out} is not: {error}.") from error
    return told


def _export(argv: Sequence[str] | None) -> int:
    arguments = _parser().read(argv)
    from trainable.training.predictor import ZeroShotPredictor

    with model_folder(arguments.model) as folder:
        predictor = ZeroShotPredictor.load(folder)
    for line in export_model(predictor, arguments.out, arguments.format):
        print(line)
    print(f"exported to {arguments.out}; its README.md says how it is used")
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="trainable/export.py",
        description="Turn a trained model into files for transformers and ONNX Runtime.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--model", required=True, metavar="PLACE", help="a trained model's folder or address, as for predict.py")
    add("--out", required=True, type=user_path, metavar="FOLDER", help="a new folder to write")
    add("--format", choices=FORMATS, default="both", help="what to write (default: %(default)s)")
    return parser


def _write(predictor: "ZeroShotPredictor", folder: Path, form: str) -> list[str]:
    from trainable.exports import comparison, model_card, onnx_files, transformers_folder

    for_transformers, for_onnx = (form in (name, "both") for name in FORMATS[:2])
    if for_onnx:
        onnx_files.require_onnx()
    sample = comparison.Sample.of(predictor)
    original, told, reason = comparison.glance_logits(predictor, sample), [], None
    if for_transformers:
        reason = transformers_folder.write_transformers(predictor, folder)
        logits = comparison.transformers_logits(predictor, folder, sample, reason)
        kind = f"modeling_glance.py, because {reason}" if reason else "VisionTextDualEncoderModel"
        told += [f"transformers: {kind}; {_same(logits, original, 'the model for transformers')}"]
    if for_onnx:
        onnx_files.write_onnx(predictor, folder)
        transformers_folder.write_tokenizer(predictor, folder)
        logits = comparison.onnx_logits(predictor, folder, sample)
        told += [f"ONNX: image.onnx, text.onnx; {_same(logits, original, 'the ONNX model')}"]
    model_card.write_card(predictor, folder, transformers=for_transformers, onnx=for_onnx, reason=reason)
    return told


def _open_to_all(folder: Path) -> None:
    """Give every file the permissions of any new one: libraries keep some of theirs private."""
    permissions = (folder / "README.md").stat().st_mode
    for file in folder.iterdir():
        file.chmod(permissions)


def _same(exported: "Tensor", original: "Tensor", what: str) -> str:
    from trainable.exports.comparison import require_same

    return f"logits within {require_same(exported, original, what):.1e} of Glance's"


if __name__ == "__main__":
    sys.exit(main())
