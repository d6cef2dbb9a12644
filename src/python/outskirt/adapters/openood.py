"""A drop-in for OpenOOD's KNN: ``from outskirt.adapters.openood import KNNPostprocessor``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from openood.postprocessors.base_postprocessor import BasePostprocessor

import outskirt

__all__ = ["KNNPostprocessor"]


class KNNPostprocessor(BasePostprocessor):  # type: ignore[misc]
    """OpenOOD's postprocessor, with its conventions, searched by outskirt in place of faiss.

    The confidence of an image is minus the *squared* Euclidean distance of its normalised feature to the K-th nearest one of
    the training set: larger is more ID. Networks run on the device that they are on.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.args = self.config.postprocessor.postprocessor_args
        self.K = self.args.K
        self.args_dict = self.config.postprocessor.postprocessor_sweep
        self.knn = outskirt.KNN(k=self.K)
        self.setup_flag = False

    def setup(self, net: Any, id_loader_dict: Any, ood_loader_dict: Any) -> None:
        """Take the features of the ID training set, once."""
        if self.setup_flag:
            return
        net.eval()
        device = next(net.parameters()).device
        with torch.no_grad():
            given = (batch["data"].to(device).float() for batch in id_loader_dict["train"])
            features = [net(data, return_feature=True)[1].cpu().numpy() for data in given]
        self.knn.fit(np.concatenate(features))
        self.setup_flag = True

    @torch.no_grad()
    def postprocess(self, net: Any, data: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Predicted classes and confidences of a batch."""
        output, feature = net(data, return_feature=True)
        scores = self.knn.set_params(k=self.K).score(feature)
        return torch.softmax(output, dim=1).max(dim=1)[1], torch.from_numpy(-(scores**2))

    def set_hyperparam(self, hyperparam: list[Any]) -> None:
        """K, of OpenOOD's sweep."""
        self.K = hyperparam[0]

    def get_hyperparam(self) -> int:
        """K."""
        return int(self.K)
