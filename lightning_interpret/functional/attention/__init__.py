"""Attention: its weights in any model as it is, what can be put in their place, and what is computed from them."""

from lightning_interpret.functional.attention.scope import AttentionError, Attentions, Edit, Site, attention

__all__ = ["AttentionError", "Attentions", "Edit", "Site", "attention"]
