"""A drop-in for pytorch-ood's KNN: ``from outskirt.adapters.pytorch_ood import KNN``."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_ood.api import RequiresFittingException
from pytorch_ood.detector import KNN as _KNN
from pytorch_ood.utils import is_known

import outskirt

__all__ = ["KNN"]


class KNN(_KNN):  # type: ignore[misc]
    """pytorch-ood's detector, with its conventions, searched by outskirt: the same scores, sooner.

    Scores are Euclidean distances to the k-th nearest ID feature (of normalised features, unless ``normalize=False``), a
    float64 tensor of shape B; larger is more OOD. Features are compared as float32. Keyword arguments for scikit-learn's
    ``NearestNeighbors`` are not taken: there is one way to search, and it is exact.
    """

    def __init__(self, encoder: Any = None, k: int = 50, normalize: bool = True) -> None:
        super().__init__(encoder, k=k, normalize=normalize)
        self.knn = outskirt.KNN(k=k, metric="euclidean")

    def fit_features(self, z: torch.Tensor, labels: torch.Tensor) -> KNN:
        """Take the features (N×D) whose label is not negative: those of ID rows."""
        known = is_known(labels)
        if int(known.sum()) < self.k:
            raise ValueError(f"k={self.k} exceeds the number of ID samples ({int(known.sum())})")
        self.knn.fit(self._prepare(z[known].detach().cpu()))
        self._is_fitted = True
        return self

    def predict_features(self, z: torch.Tensor) -> torch.Tensor:
        """Outlier scores (B) of features (B×D)."""
        if not self._is_fitted:
            raise RequiresFittingException()
        scores = self.knn.set_params(k=self.k).score(self._prepare(z.detach().cpu()))
        return torch.tensor(scores, dtype=torch.float64, device=self.device or z.device)
