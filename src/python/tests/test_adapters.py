"""Adapters beside the packages whose detectors they stand for."""

import sys
import types

import numpy as np
import pytest
from conftest import far, near

torch = pytest.importorskip("torch")


def features(rng):
    train, queries = near(rng, 400)[0], np.vstack([near(rng, 60)[0], far(rng, 60)])
    return torch.tensor(train), torch.tensor(queries)


@pytest.mark.parametrize("normalize", [True, False])
def test_pytorch_oods_detector_gives_the_same_scores(rng, normalize):
    theirs = pytest.importorskip("pytorch_ood.detector").KNN
    api = pytest.importorskip("pytorch_ood.api")
    from outskirt.adapters.pytorch_ood import KNN

    train, queries = features(rng)
    labels = torch.arange(400) % 5
    labels[::7] = -1  # OOD rows are not fitted
    queries[3] = 0
    expected = theirs(None, k=9, normalize=normalize).fit_features(train, labels).predict_features(queries)
    ours = KNN(None, k=9, normalize=normalize)
    with pytest.raises(api.RequiresFittingException):
        ours.predict_features(queries)
    found = ours.fit_features(train, labels).predict_features(queries)
    assert found.dtype == expected.dtype and found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    ours.k = 3
    again = theirs(None, k=3, normalize=normalize).fit_features(train, labels).predict_features(queries)
    np.testing.assert_allclose(ours.predict_features(queries), again, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="k=500"):
        KNN(None, k=500).fit_features(train, labels)
    with pytest.raises(api.ModelNotSetException):
        ours.predict(queries)


def test_pytorch_oods_detector_with_an_encoder_and_a_loader(rng):
    pytest.importorskip("pytorch_ood")
    from torch.utils.data import DataLoader, TensorDataset

    from outskirt.adapters.pytorch_ood import KNN

    train, queries = features(rng)
    detector = KNN(torch.nn.Identity(), k=5).to("cpu").fit(DataLoader(TensorDataset(train, torch.zeros(400).long()), batch_size=64))
    assert detector(queries).shape == (120,)
    assert detector(queries)[60:].mean() > detector(queries)[:60].mean()


class Net(torch.nn.Module):
    """A network as OpenOOD has them."""

    def __init__(self, dimension):
        super().__init__()
        self.head = torch.nn.Linear(dimension, 5)

    def forward(self, data, return_feature=False):
        return (self.head(data), data) if return_feature else self.head(data)


@pytest.fixture
def openood(monkeypatch):
    """The real package where it is installed, else what the adapter takes of it."""
    try:
        import openood.postprocessors.base_postprocessor  # noqa: F401
    except ImportError:
        base = types.ModuleType("openood.postprocessors.base_postprocessor")

        class BasePostprocessor:
            def __init__(self, config):
                self.config = config

        base.BasePostprocessor = BasePostprocessor
        for name in ("openood", "openood.postprocessors"):
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        monkeypatch.setitem(sys.modules, base.__name__, base)
        monkeypatch.delitem(sys.modules, "outskirt.adapters.openood", raising=False)


def test_openoods_postprocessor_gives_minus_the_squared_distance(rng, openood):
    from outskirt.adapters.openood import KNNPostprocessor

    train, queries = features(rng)
    config = types.SimpleNamespace(postprocessor=types.SimpleNamespace(postprocessor_args=types.SimpleNamespace(K=9), postprocessor_sweep={}))
    ours, net = KNNPostprocessor(config), Net(train.shape[1])
    ours.setup(net, {"train": [{"data": train[:300]}, {"data": train[300:]}]}, {})
    pred, conf = ours.postprocess(net, queries)
    unit = lambda x: x.double() / x.double().norm(dim=1, keepdim=True)  # noqa: E731
    expected = -torch.cdist(unit(queries), unit(train)).sort(dim=1)[0][:, 8] ** 2
    np.testing.assert_allclose(conf, expected, atol=1e-6)
    assert (pred == net(queries).argmax(dim=1)).all() and pred.dtype == torch.int64
    ours.set_hyperparam([2])
    assert ours.get_hyperparam() == 2 and (ours.postprocess(net, queries)[1] >= conf - 1e-6).all()
