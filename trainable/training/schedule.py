"""The learning rate as a pure function of the step."""

import math


def learning_rate(step: int, total_steps: int, *, peak: float, warmup_steps: int) -> float:
    """Linear warm-up to `peak`, then half a cosine down to 0 (SGDR without restarts, arXiv 1608.03983, eq. 5).

    Step 0 is the first optimiser step and already moves; after `total_steps` the rate stays 0.
    """
    if step < warmup_steps:
        return peak * (step + 1) / (warmup_steps + 1)
    if step >= total_steps:
        return 0.0
    progress = (step - warmup_steps) / (total_steps - warmup_steps)  # 0 to 1
    return peak * 0.5 * (1 + math.cos(math.pi * progress))
