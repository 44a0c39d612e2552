"""A BERT whose pooled output is the mean over its tokens: one layer more, whose weights are computed.

`VisionTextDualEncoderModel` projects the pooled output of its text backbone, which a BERT takes from its first token.
Glance projects the mean m over the real tokens. The two agree when a layer is put on top in which

- queries and keys are 0, so that attention is the mean over the real tokens;
- the values are K (P m, -sum(P m), 0, ...), P the projection (D x width): their sum is 0, so that the layer norms
  leave their direction as it is, and K is so large that float32 keeps nothing of what the residual adds;
- the feed-forward part is 0;

and when the pooler's weight is so small that its tanh is the identity. Lengths do not matter, as embeddings are brought
to length 1.
"""

from typing import Any

import torch
from torch import Tensor

GAIN = 1e8
"""K: a float32 number of this size keeps no unit; squares of it, which the layer norms form, are far from overflow."""
SHRINK = 1e-5
"""The pooler's weight: tanh(x) is x to one in 10^8 for the values that a layer norm leaves."""


def averaging_weights(prefix: str, template: dict[str, Tensor], projection: Tensor) -> dict[str, Tensor]:
    """Weights of the layer at `prefix`, by the names and shapes of `template`; `projection` is (D, width), D < width.

    Everything that is not named is 0: biases, queries, keys and the feed-forward part.
    """
    D, width = projection.shape
    values = torch.zeros(width, width)
    values[:D] = projection * (GAIN / projection.abs().max())
    values[D] = -values[:D].sum(dim=0)
    named = {
        "attention.self.value.weight": values,
        "attention.output.dense.weight": torch.eye(width),
        "attention.output.LayerNorm.weight": torch.ones(width),
        "output.LayerNorm.weight": torch.ones(width),
    }
    own = {name: value for name, value in template.items() if name.startswith(prefix)}
    return {name: named.get(name.removeprefix(prefix), torch.zeros_like(value)) for name, value in own.items()}


def direct_pooler(width: int) -> dict[str, Tensor]:
    """Weights of a BERT's pooler that passes the first token on, made small."""
    return {"pooler.dense.weight": SHRINK * torch.eye(width), "pooler.dense.bias": torch.zeros(width)}


def leading_projection(width: int, dimensions: int) -> Tensor:
    """The projection (D, width) that takes the first D of what the pooler gives, and undoes its shrinking."""
    return torch.eye(dimensions, width) / SHRINK


def with_averaging_layer(config: dict[str, Any]) -> dict[str, Any]:
    """A BERT's config with one layer more."""
    return {**config, "num_hidden_layers": config["num_hidden_layers"] + 1}
