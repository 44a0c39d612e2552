"""One trial: its config, data, towers, training core, and the slot that runs it."""
