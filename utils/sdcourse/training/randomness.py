"""Random numbers that depend on nothing but (seed, step, rank), so that a resumed run repeats them."""

import numpy as np
import torch


def step_rng(seed, step, *, rank=0):
    """Return the numpy generator of one step of one process; nothing else decides what it yields."""
    return np.random.default_rng([seed, step, rank])


def step_generator(seed, step, *, rank=0, device="cpu"):
    """Return the torch generator of one step of one process, on `device`."""
    state = np.random.SeedSequence([seed, step, rank, 1]).generate_state(1, np.uint64)[0]
    return torch.Generator(device=device).manual_seed(int(state) >> 1)
