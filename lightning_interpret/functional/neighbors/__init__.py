"""Nearest neighbours: exact search, and what the labels of the neighbours say of a prediction."""
