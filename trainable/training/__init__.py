"""The one training core: schedule, trainer, checkpoint and zero-shot evaluation. Knows torch, not Ray."""
