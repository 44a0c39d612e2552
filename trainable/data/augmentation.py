"""Image augmentation of a whole batch at once, on the device the batch is on.

Every image draws its own transformation; amplitudes grow with one strength s in [0, 1]:

| step                  | drawn from                                            | at s = 0.5            |
|-----------------------|-------------------------------------------------------|-----------------------|
| flip, left to right   | probability 1/2 for any s > 0                         | 1/2                   |
| rotation              | uniform within ±20° s                                 | ±10°                  |
| shift, each axis      | uniform within ±15 % s of the side                    | ±7.5 %                |
| scale                 | log-uniform between 1.2^-s and 1.2^s                  | 0.91 to 1.10          |
| contrast              | factor uniform in 1 ± 0.4 s, about the image's mean   | 0.8 to 1.2            |
| brightness            | offset uniform within ±0.4 s                          | ±0.2                  |
| erasing               | probability s/2: one rectangle of noise, area 1/16 to 1/6, sides 1:2 to 2:1 | 1/4 |

Flip, rotation, shift and scale are one affine map, sampled once (bilinear, the border is repeated).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from trainable.errors import require

MAX_ROTATION_DEGREES = 20.0
MAX_SHIFT = 0.15
MAX_SCALE = 1.2
MAX_BRIGHTNESS = 0.4
MAX_CONTRAST = 0.4
ERASED_AREA = (1 / 16, 1 / 6)
ERASED_ASPECT = (1 / 2, 2.0)


def augment(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Augment a batch `(B, K, H, W)` of floats in [0, 1]; returns a new batch of the same kind, clamped to [0, 1].

    A pure function of its arguments and the generator's state. All random numbers come from `generator`, which may
    live on the CPU or on the images' device; the same generator on the CPU gives the same batch on any device, up to
    rounding. Strength 0 returns `images` itself and draws nothing. kornia 0.9.0 draws from torch's global generator,
    which another part of the process may have advanced, so this is plain torch. Raises `ConfigError` when the
    strength is outside [0, 1].
    """
    require(0 <= strength <= 1, "0 <= augmentation strength <= 1", strength)
    if strength == 0:
        return images
    draws = _uniform((len(images), 12), images, generator).unbind(dim=1)
    images = _warp(images, _affine_maps(strength, *draws[:5]))
    images = _recolour(images, strength, *draws[5:7])
    return _erase(images, strength, _uniform(tuple(images.shape), images, generator), *draws[7:])


def mix(images: Tensor, shares: Tensor, fraction: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Replace a fraction of a batch's images (B, K, H, W) by the mean of each with another one of the batch.

    Their shares (B, C) of each class become the mean of both, too: mixup (arXiv 1710.09412, equation 1) with λ = 1/2.
    Those at the start of the batch are replaced. Fraction 0 returns the batch itself and draws nothing.
    """
    count = round(fraction * len(images))
    if count == 0:
        return images, shares
    others = torch.randperm(len(images), generator=generator, device=generator.device)[:count].to(images.device)
    mixed = (images[:count] + images[others]) / 2, (shares[:count] + shares[others]) / 2
    return torch.cat([mixed[0], images[count:]]), torch.cat([mixed[1], shares[count:]])


def _uniform(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device, dtype=like.dtype).to(like.device)


def _between(draw: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * draw


def _affine_maps(s: float, flip: Tensor, rotation: Tensor, right: Tensor, down: Tensor, scale: Tensor) -> Tensor:
    """Maps from output to input coordinates in [-1, 1], `(B, 2, 3)`, from five draws of shape `(B,)`."""
    radians = _between(rotation, -1, 1) * math.radians(MAX_ROTATION_DEGREES * s)
    zoom = torch.exp(_between(scale, -1, 1) * (s * math.log(MAX_SCALE)))
    mirror = torch.where(flip < 0.5, -1.0, 1.0).to(zoom.dtype)
    cosine, sine = torch.cos(radians) / zoom, torch.sin(radians) / zoom
    across = torch.stack((mirror * cosine, -mirror * sine, _between(right, -2, 2) * (s * MAX_SHIFT)), dim=1)
    along = torch.stack((sine, cosine, _between(down, -2, 2) * (s * MAX_SHIFT)), dim=1)
    return torch.stack((across, along), dim=1)  # (B, 2, 3)


def _warp(images: Tensor, maps: Tensor) -> Tensor:
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)  # (B, H, W, 2)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _recolour(images: Tensor, s: float, contrast: Tensor, brightness: Tensor) -> Tensor:
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    factor = 1 + _between(contrast, -1, 1).view(-1, 1, 1, 1) * (s * MAX_CONTRAST)
    offset = _between(brightness, -1, 1).view(-1, 1, 1, 1) * (s * MAX_BRIGHTNESS)
    return (mean + offset + factor * (images - mean)).clamp(0, 1)


def _erase(
    images: Tensor, s: float, noise: Tensor, chosen: Tensor, area: Tensor, aspect: Tensor, x: Tensor, y: Tensor
) -> Tensor:
    """Fill one rectangle of each chosen image with uniform noise (Zhong et al., Random Erasing, arXiv 1708.04896)."""
    height, width = images.shape[-2:]
    pixels = _between(area, *ERASED_AREA) * (height * width)
    ratio = torch.exp(_between(aspect, math.log(ERASED_ASPECT[0]), math.log(ERASED_ASPECT[1])))
    rows = _covered(height, torch.sqrt(pixels * ratio), y)  # (B, H)
    columns = _covered(width, torch.sqrt(pixels / ratio), x)  # (B, W)
    erased = (rows[:, None, :, None] & columns[:, None, None, :]) & (chosen < s / 2).view(-1, 1, 1, 1)
    return torch.where(erased, noise, images)


def _covered(side: int, length: Tensor, place: Tensor) -> Tensor:
    """Which of `side` cells an interval of `length` cells covers, placed wholly inside; `(B, side)` booleans."""
    start = place * (side - length)
    cells = torch.arange(side, device=length.device, dtype=length.dtype) + 0.5
    return (cells >= start[:, None]) & (cells < (start + length)[:, None])
