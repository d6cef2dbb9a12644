"""The engine behind other packages' detectors: `outskirt.adapters.pytorch_ood.KNN`, `outskirt.adapters.openood.KNNPostprocessor`."""
