"""The optimisers of the training stages: AdamW, or Muon for the hidden matrices with AdamW for the rest."""

import torch
from torch.optim import AdamW

from sdlab import SdlabError

OUTER = ("conv_in", "conv_out", "time_embedding")  # first and last layers stay with AdamW


def make_optimizer(named_parameters, settings):
    """Return the optimiser that ``settings.optimizer`` names ("adamw" unless given) for trained parameters."""
    kind = getattr(settings, "optimizer", "adamw")
    options = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    named = [(name, parameter) for name, parameter in named_parameters if parameter.requires_grad]
    if kind == "adamw":
        return AdamW([p for _, p in named], betas=tuple(settings.betas), fused=True, **options)
    if kind == "muon":
        if settings.channels_last:
            raise SdlabError("Muon lays kernels flat, which channels_last = true prevents; turn one of the two off.")
        if not hasattr(torch.optim, "Muon"):
            raise SdlabError(f"Muon needs torch 2.9, but this is torch {torch.__version__}; take optimizer = adamw.")
        return MuonAndAdamW(named, betas=tuple(settings.betas), **options)
    raise SdlabError(f"Setting 'optimizer' must be adamw or muon, but got {kind!r}.")


class MuonAndAdamW(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) on matrices and on kernels laid flat, [out, in, 3, 3] as [out, in * 9]; else AdamW.

    Muon's step is scaled to the size of AdamW's (Liu et al. 2025, arXiv 2502.16982), so that both share one rate.
    """

    def __init__(self, named_parameters, *, lr, betas, weight_decay, momentum=0.95):
        named = list(named_parameters)
        hidden = [p for name, p in named if p.ndim >= 2 and not any(part in name for part in OUTER)]
        chosen = {id(p) for p in hidden}
        rest = [p for _, p in named if id(p) not in chosen]
        self.flat = [(p, p.detach().view(len(p), -1)) for p in hidden]
        self.muon = torch.optim.Muon(
            [flat for _, flat in self.flat],
            lr=lr,
            weight_decay=weight_decay,
            momentum=momentum,
            adjust_lr_fn="match_rms_adamw",
        )
        self.adamw = AdamW(rest, lr=lr, betas=betas, weight_decay=weight_decay, fused=True)
        super().__init__([p for _, p in named], {"lr": lr})
        self.param_groups = self.muon.param_groups + self.adamw.param_groups

    @torch.no_grad()
    def step(self, closure=None):
        """Take one step of both."""
        loss = closure() if closure is not None else None
        for parameter, flat in self.flat:
            flat.grad = None if parameter.grad is None else parameter.grad.view_as(flat)
        self.muon.step()
        self.adamw.step()
        return loss

    def zero_grad(self, set_to_none=True):
        """Forget all gradients."""
        for parameter, flat in self.flat:
            parameter.grad = flat.grad = None
        self.adamw.zero_grad(set_to_none=True)

    def state_dict(self):
        return {"muon": self.muon.state_dict(), "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state):
        self.muon.load_state_dict(state["muon"])
        self.adamw.load_state_dict(state["adamw"])
        self.param_groups = self.muon.param_groups + self.adamw.param_groups
