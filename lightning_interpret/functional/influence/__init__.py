"""Influence of training examples: per-example gradients, curvature, and what is made of the two."""
