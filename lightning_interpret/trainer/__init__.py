"""What callbacks and mixins read of a run: its training data, the context to compute in, optimizers, checkpoints."""
