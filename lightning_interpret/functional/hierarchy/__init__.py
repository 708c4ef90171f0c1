"""Spans of a text as a tree: divided from the top, put together from the bottom, and what each contributes."""
