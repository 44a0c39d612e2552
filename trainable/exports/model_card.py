"""What lies beside an exported model: its prompts, and how it is used without Glance."""

from pathlib import Path

from trainable.data.vocabulary import TEMPLATES, prompts
from trainable.exports.onnx_files import IMAGE_FILE, TEXT_FILE
from trainable.files import write_json, write_text
from trainable.training.predictor import ZeroShotPredictor

PROMPTS_FILE = "prompts.json"

INTRODUCTION = """# A model that tells emotions in faces by words

A face belongs to the class whose prompts lie nearest to it. `{prompts}` holds the prompts of the {classes} classes
that were trained ({names}), and the templates that other words can be put into: any words can be classes. A class is
the mean of its prompts' unit vectors, brought to length 1 again; probabilities are the softmax of the scaled
similarities.

Trained on `{dataset}` by Glance: pictures of faces that fill them, {kind}, {side} x {side} pixels.
"""

TRANSFORMERS = """
## With transformers

Run in this folder; `face.png` is a picture of one face.

```python
import json

import torch
from PIL import Image
from transformers import {model}, VisionTextDualEncoderProcessor

model = {model}.from_pretrained({arguments}).eval()
processor = VisionTextDualEncoderProcessor.from_pretrained({arguments})
classes = json.load(open("{prompts}", encoding="utf-8"))["classes"]
picture = Image.open("face.png").convert("{mode}")

texts = [text for prompts in classes.values() for text in prompts]
inputs = processor(text=texts, images=picture, padding=True, truncation=True, return_tensors="pt")
with torch.no_grad():
    output = model(**inputs)
    each = output.text_embeds.view(len(classes), -1, output.text_embeds.shape[-1]).mean(dim=1)
    classifier = torch.nn.functional.normalize(each, dim=-1)
    logits = model.logit_scale.exp() * output.image_embeds @ classifier.T
probabilities = dict(zip(classes, logits.softmax(dim=-1)[0].tolist(), strict=True))
```

{how}
"""

ONNX = """
## With ONNX Runtime

`{image}` takes `images`, float32 (B, {channels}, {side}, {side}) in [0, 1]; `{text}` takes `input_ids` and
`attention_mask`, int64 (P, L) of at most {tokens} tokens, from the tokenizer in this folder. Both give `features` of
length 1. The factor of the similarities is `logit_scale` in their metadata.

```python
import json

import numpy as np
import onnxruntime
from PIL import Image, ImageOps
from transformers import AutoTokenizer

image, text = (onnxruntime.InferenceSession(name) for name in ("{image}", "{text}"))
scale = float(image.get_modelmeta().custom_metadata_map["logit_scale"])
classes = json.load(open("{prompts}", encoding="utf-8"))["classes"]
picture = ImageOps.fit(Image.open("face.png").convert("{mode}"), ({side}, {side}), Image.Resampling.LANCZOS)

pixels = np.asarray(picture, dtype=np.float32).reshape(1, {side}, {side}, {channels}).transpose(0, 3, 1, 2) / 255
(face,) = image.run(None, {{"images": pixels}})
tokenizer = AutoTokenizer.from_pretrained({arguments})
rows = []
for prompts in classes.values():
    tokens = tokenizer(prompts, padding=True, truncation=True, return_tensors="np", return_token_type_ids=False)
    mean = text.run(None, {{name: tokens[name].astype(np.int64) for name in tokens}})[0].mean(axis=0)
    rows.append(mean / np.linalg.norm(mean))
logits = scale * face @ np.stack(rows).T
exponentials = np.exp(logits - logits.max())
probabilities = dict(zip(classes, (exponentials / exponentials.sum())[0].tolist(), strict=True))
```
"""

AVERAGED = """The text backbone's last layer was not trained. It takes the mean over the tokens, which this class of
transformers does not do by itself; its weights are large, so keep the model in float32 or bfloat16, not float16."""
OWN_MODULE = (
    """The model's class is `modeling_glance.py` in this folder: transformers has none for it, because {reason}."""
)


def write_card(
    predictor: ZeroShotPredictor, folder: Path, *, transformers: bool, onnx: bool, reason: str | None
) -> None:
    """Write README.md and prompts.json; `reason` is that of `write_transformers`."""
    language = predictor.config.language
    rows = prompts(predictor.classes, language)
    templates = {name: list(some) for name, some in TEMPLATES.items() if language in (name, "both")}
    classes = dict(zip(predictor.classes, rows, strict=True))
    write_json(folder / PROMPTS_FILE, {"classes": classes, "templates": templates})
    parts = [INTRODUCTION, *([TRANSFORMERS] * transformers), *([ONNX] * onnx)]
    facts = _facts(predictor, reason)
    write_text(folder / "README.md", "".join(part.format(**facts) for part in parts))


def _facts(predictor: ZeroShotPredictor, reason: str | None) -> dict[str, object]:
    gray = predictor.channels == 1
    return {
        "prompts": PROMPTS_FILE,
        "classes": len(predictor.classes),
        "names": ", ".join(predictor.classes),
        "dataset": predictor.dataset,
        "kind": "gray" if gray else "in colour",
        "mode": "L" if gray else "RGB",
        "side": predictor.image_size,
        "channels": predictor.channels,
        "tokens": predictor.model.text_tower.max_tokens,
        "image": IMAGE_FILE,
        "text": TEXT_FILE,
        "model": "AutoModel" if reason else "VisionTextDualEncoderModel",
        "arguments": '".", trust_remote_code=True' if reason else '"."',
        "how": OWN_MODULE.format(reason=reason) if reason else AVERAGED,
    }
