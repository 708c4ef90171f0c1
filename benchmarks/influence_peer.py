"""kronfluence's EK-FAC, as it is used on a BERT: what `influence.py` holds ours against. Installed for this alone."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset


def there() -> bool:
    """Return whether kronfluence is installed."""
    return find_spec("kronfluence") is not None


class Rows(Dataset):
    """Examples of a batch, one by one."""

    def __init__(self, batch: dict[str, Tensor]) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return len(self.batch["labels"])

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return {name: values[i] for name, values in self.batch.items()}


class Peer:
    """EK-FAC by kronfluence with its default options, but for the damping, which is its heuristic and ours.

    Args:
        model: A model with linear layers.
        logits: Returns the class scores of a batch.
        train: The training examples as one padded batch.
        batch_size: Examples in a batch.
        damping: Damping, or None for a tenth of the mean eigenvalue of each layer.
    """

    def __init__(
        self,
        model: nn.Module,
        logits: Callable[[nn.Module, Any], Tensor],
        train: dict[str, Tensor],
        batch_size: int,
        damping: float | None = None,
    ) -> None:
        from kronfluence import Analyzer, FactorArguments, ScoreArguments, prepare_model
        from kronfluence import Task as KronfluenceTask

        class Losses(KronfluenceTask):
            def compute_train_loss(self, batch: Any, model: nn.Module, sample: bool = False) -> Tensor:
                found, labels = logits(model, batch), batch["labels"]
                if sample:
                    with torch.no_grad():
                        labels = torch.multinomial(found.softmax(dim=1), 1).flatten()
                return F.cross_entropy(found, labels, reduction="sum")

            def compute_measurement(self, batch: Any, model: nn.Module) -> Tensor:
                return F.cross_entropy(logits(model, batch), batch["labels"], reduction="sum")

            def get_attention_mask(self, batch: Any) -> Tensor | None:
                return batch.get("attention_mask")

        warnings.filterwarnings("ignore", category=FutureWarning, module="kronfluence")
        self._folder, self._task = tempfile.TemporaryDirectory(), Losses()
        self.train, self.batch_size = Rows(train), batch_size
        self._factors, self._scores = FactorArguments(strategy="ekfac"), ScoreArguments(damping_factor=damping)
        self.analyzer = Analyzer(
            analysis_name="benchmark",
            model=prepare_model(model, self._task),
            task=self._task,
            cpu=True,
            log_level=logging.ERROR,
            disable_tqdm=True,
            output_dir=self._folder.name,
        )

    def factors(self) -> None:
        """Fit covariances, eigenvectors and eigenvalues."""
        self.analyzer.fit_all_factors(
            factors_name="ekfac",
            dataset=self.train,
            per_device_batch_size=self.batch_size,
            factor_args=self._factors,
            overwrite_output_dir=True,
        )

    def scores(self, queries: dict[str, Tensor]) -> Tensor:
        """Return scores ``(M, n)``, all queries held at once, so that the training data are gone through once."""
        self.analyzer.compute_pairwise_scores(
            scores_name="pairwise",
            factors_name="ekfac",
            query_dataset=Rows(queries),
            train_dataset=self.train,
            per_device_query_batch_size=len(queries["labels"]),
            per_device_train_batch_size=self.batch_size,
            score_args=self._scores,
            overwrite_output_dir=True,
        )
        return self.analyzer.load_pairwise_scores("pairwise")["all_modules"]
