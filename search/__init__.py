"""Many trials: spaces, algorithms, preflight, the experiment and its ledger."""
