"""How TensorBoard finds the Interpret tab: the entry point ``tensorboard_plugins``.

TensorBoard loads this module without a guard, so a failing import here would stop it: the tab itself is imported in
:meth:`InterpretLoader.load`, whose errors TensorBoard only logs.
"""

from __future__ import annotations

import argparse
from typing import Any

from tensorboard.plugins.base_plugin import TBLoader, TBPlugin

from lightning_interpret.tensorboard.payload import PLUGIN

#: Steps kept of each probe, where TensorBoard's own defaults are 10 and 100.
SAMPLES = 200


class InterpretLoader(TBLoader):
    """Makes the tab, and has TensorBoard keep more of its steps than it would by default."""

    def fix_flags(self, flags: argparse.Namespace) -> None:
        """Ask both data readers for :data:`SAMPLES` steps a probe; ``--samples_per_plugin interpret=N`` goes first."""
        flags.samples_per_plugin = {PLUGIN: SAMPLES, **flags.samples_per_plugin}

    def load(self, context: Any) -> TBPlugin:
        """Return the tab."""
        from lightning_interpret.tensorboard.server import InterpretPlugin

        return InterpretPlugin(context)
