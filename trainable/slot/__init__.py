"""A slot: one place where trials run, one after another. The only room of `trainable` that knows Ray."""
