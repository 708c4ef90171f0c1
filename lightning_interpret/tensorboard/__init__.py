"""The Interpret tab of TensorBoard: a dynamic plugin that needs the standard library and tensorboard alone."""
