"""The mathematics: tensors and callables in, tensors out. Knows torch, nothing of Lightning or of tasks."""
