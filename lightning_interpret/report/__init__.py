"""Reports: records made visible in a terminal, in TensorBoard and on disk."""
