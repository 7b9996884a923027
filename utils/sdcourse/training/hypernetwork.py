"""Train a hypernetwork on portraits of Momo, and on ordinary ones so that nothing is forgotten."""

import torch

from sdlab.compat import CROSS, SELF
from sdlab.steering import Hypernetwork, use_hypernetwork
from sdlab.steering.hypernetwork import EXPANSION

from .lora import AdapterStage


class HypernetworkStage(AdapterStage):
    """The hypernetwork stage of `sdlab train`."""

    name = "hypernetwork"

    @staticmethod
    def new_adapter(pipe, settings):
        """Return the hypernetwork that the settings describe, with new weights."""
        kinds = (CROSS, SELF) if settings.self_attention else (CROSS,)
        expansion = getattr(settings, "expansion", EXPANSION)  # runs of earlier days do not name it
        return Hypernetwork.for_unet(pipe.unet, kinds, expansion=expansion)

    def adapt(self, weights):
        """Widen the weights of a smaller hypernetwork without changing what it does."""
        return widen(weights, self.objective.state_dict())

    def make_adapter(self):
        adapter = self.new_adapter(self.pipe, self.settings)
        self.attached = use_hypernetwork(self.pipe, adapter)  # for as long as this stage lives
        self.attached.__enter__()
        return adapter


def widen(weights, like):
    """Return ``weights`` in the shapes of ``like``, doing the same: a pair of MLPs copied, a hidden layer widened.

    New hidden units keep the first weights they have in ``like`` and start with nothing to say
    (Chen, Goodfellow & Shlens 2016, "Net2Net"). Weights of anything else come back as they are.
    """
    source = {name: name if name in weights else name.replace("_features", "") for name in like}
    if set(source.values()) != set(weights) or not all(_fits(weights[old], like[name]) for name, old in source.items()):
        return weights
    widened = {}
    for name, new in like.items():
        old = weights[source[name]]
        widened[name] = torch.zeros_like(new) if name.endswith("2.weight") else new.clone()
        widened[name][tuple(slice(size) for size in old.shape)] = old
    return widened


def _fits(old, new):
    return old.ndim == new.ndim and all(small <= large for small, large in zip(old.shape, new.shape, strict=True))
