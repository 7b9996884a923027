"""Checks of lab 09: guidance, timesteps, start noise and the whole loop."""

import functools
import math

import torch

from sdlab.compat import quiet

from .attempt import Pocket
from .compare import difference
from .exercise import Draws, Lab
from .outcome import Wrong
from .without import PIPELINE

check = Lab("09", "Draw without the library's loop")

STEPS, SHARE = 5, 0.75
GUIDANCE = {3: 2.5, STEPS: 4.0}  # by the number of steps
NEGATIVE = ["a dog", ""]  # in turns
NAMED = {
    "a man with blue eyes and a red shirt": {"subject": "man", "eyes": "blue", "shirt": "red"},
    "a woman with green eyes and a purple shirt": {"subject": "woman", "eyes": "green", "shirt": "purple"},
    "a cat wearing a blue hat and a yellow shirt": {"subject": "cat", "hat": "blue", "shirt": "yellow"},
    "a dog with glasses, in the snow": {"subject": "dog", "glasses": "yes", "scene": "snow"},
    "a cat with amber eyes, in a forest": {"subject": "cat", "eyes": "amber", "scene": "forest"},
    "a man wearing a red hat, at the beach": {"subject": "man", "hat": "red", "scene": "beach"},
}


def guide_of_diffusers(noise_pred, guidance_scale, guidance_rescale):
    """Guide as StableDiffusionPipeline does, with its own rescale_noise_cfg."""
    with quiet():
        from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

    noise_pred_uncond, noise_pred_text = noise_pred.chunk(2)
    guided = noise_pred_uncond + guidance_scale * (noise_pred_text - noise_pred_uncond)
    return rescale_noise_cfg(guided, noise_pred_text, guidance_rescale=guidance_rescale)


def _guide(noise_pred, scale, rescale, *, swap=False, base="uncond", like="text", axes=(1, 2, 3), ratio=1, mix=True):
    uncond, text = noise_pred.chunk(2)[:: -1 if swap else 1]
    guided = (uncond if base == "uncond" else text) + scale * (text - uncond)
    wanted = (text if like == "text" else uncond).std(dim=axes, keepdim=True)
    rescaled = guided * (wanted / guided.std(dim=axes, keepdim=True)) ** ratio
    return (rescale * rescaled + (1 - rescale) * guided) if mix else rescaled


def _guide_by_size(noise_pred, scale, rescale):
    uncond, text = noise_pred.chunk(2)
    guided = uncond + scale * (text - uncond)
    size, wanted = (x.square().mean(dim=(1, 2, 3), keepdim=True).sqrt() for x in (guided, text))
    return rescale * guided * wanted / size + (1 - rescale) * guided


@check.exercise(
    guide_of_diffusers,
    mistakes={
        "the halves are swapped: the rows without the prompt come first": lambda *a: _guide(*a, swap=True),
        "the push starts from the prediction without the prompt, not from that with it": lambda *a: _guide(
            *a, base="text"
        ),
        "guidance_rescale is ignored": lambda n, s, r: _guide(n, s, 0.0),
        "mix the rescaled and the guided prediction by guidance_rescale": lambda *a: _guide(*a, mix=False),
        "the mixture is the wrong way round: guidance_rescale is the share of the rescaled one": lambda n, s, r: _guide(
            n, s, 1 - r
        ),
        "the wanted spread is that of the prediction with the prompt": lambda *a: _guide(*a, like="uncond"),
        "each picture has its own spread: leave axis 0 out of the standard deviation": lambda *a: _guide(
            *a, axes=(0, 1, 2, 3)
        ),
        "one spread for a whole picture: the standard deviation runs over its channels too": lambda *a: _guide(
            *a, axes=(2, 3)
        ),
        "the ratio is upside down: the spread must become that of the prompt's prediction": lambda *a: _guide(
            *a, ratio=-1
        ),
        "the ratio is one of standard deviations, not of variances": lambda *a: _guide(*a, ratio=2),
        "guidance_rescale is an argument, not always 0.7": lambda n, s, r: _guide(n, s, 0.7),
        "all rows without the prompts come first, then all with them: they do not alternate": lambda n, s, r: _guide(
            torch.cat([n[::2], n[1::2]]), s, r
        ),
        "a standard deviation is measured around the mean, which need not be 0": _guide_by_size,
    },
)
def guide_batch(draws: Draws):
    """Guidance with rescaling, of several pictures in one batch."""
    yield (20 * _two_halves(draws, 1, (4, 3, 3)), draws.uniform(5, 12), 0.0)  # large values are kept as they are
    for n, shape, scale, rescale in [(2, (4, 6, 5), 7.5, 0.7), (1, (4, 3, 8), 4.0, 0.0), (3, (4, 2, 2), 3.0, 1.0)]:
        yield (_two_halves(draws, n, shape), scale, rescale)
    yield (_two_halves(draws, 3, (4, 5, 3), torch.float64), draws.uniform(1.5, 12), draws.uniform(0.2, 0.4))
    yield (_two_halves(draws, 2, (4, 4, 4)), 1.0, draws.uniform(0.2, 0.4))


def _two_halves(draws: Draws, n, shape, dtype=torch.float32):
    spread = torch.tensor([1.0, 0.5, 2.0, 1.5, 0.7, 1.2])[: 2 * n].reshape(-1, 1, 1, 1).to(dtype)
    return spread * draws.normal(2 * n, *shape, dtype=dtype)


def timesteps_of_diffusers(num_inference_steps, spacing, num_train_timesteps):
    """Return the timesteps that EulerDiscreteScheduler sets."""
    from diffusers import EulerDiscreteScheduler

    options = {"timestep_spacing": spacing, "steps_offset": 1, "num_train_timesteps": num_train_timesteps}
    scheduler = EulerDiscreteScheduler(beta_schedule="scaled_linear", **options)
    scheduler.set_timesteps(num_inference_steps)
    return scheduler.timesteps.tolist()


def _timesteps(
    n, spacing, count, *, turn=True, offset=1, whole=True, last=1, cut=round, ends=1, gaps=1, trail=True, only=None
):
    spacing = only or spacing
    if spacing == "linspace":
        found = [(count - ends) / (n - gaps) * k for k in range(n)]
    elif spacing == "leading":
        found = [(count // n if whole else count / n) * k + offset for k in range(n)]
    else:
        found = [cut(count - (k * count / n if trail else k * (count // n))) - last for k in range(n)][::-1]
    return found[::-1] if turn else found


@check.exercise(
    timesteps_of_diffusers,
    rtol=1e-5,
    mistakes={
        "the drawing starts with the noisiest timestep: largest first": lambda *a: _timesteps(*a, turn=False),
        "'leading': the 1 is missing that is added to every timestep": lambda *a: _timesteps(*a, offset=0),
        "'leading': the step is a whole number, num_train_timesteps // num_inference_steps": lambda *a: _timesteps(
            *a, whole=False
        ),
        "'trailing': subtract 1, as the last timestep is num_train_timesteps - 1": lambda *a: _timesteps(*a, last=0),
        "'trailing': round each timestep, do not cut it off": lambda *a: _timesteps(*a, cut=int),
        "'linspace': the timesteps keep their fractions here": lambda n, s, c: (
            [round(t) for t in _timesteps(n, s, c)] if s == "linspace" else _timesteps(n, s, c)
        ),
        "'linspace' ends at num_train_timesteps - 1: there is no timestep behind it": lambda *a: _timesteps(*a, ends=0),
        "'linspace': n numbers have n - 1 distances between them": lambda *a: _timesteps(*a, gaps=0),
        "'trailing': the steps are T / n with its fraction, and each timestep is rounded": lambda *a: _timesteps(
            *a, trail=False
        ),
        "'trailing': the rounding is missing": lambda *a: _timesteps(*a, cut=float),
        "'trailing': first round, then subtract 1: a half is rounded to the even number": lambda *a: _timesteps(
            *a, cut=lambda t: round(t - 1) + 1
        ),
        "'trailing': a half is rounded to the even number, as Python's round() does it": lambda *a: _timesteps(
            *a, cut=lambda t: math.floor(t + 0.5)
        ),
        "there are not always 1000 trained timesteps: use the argument": lambda n, s, c: _timesteps(n, s, 1000),
        "the spacing is ignored: this is 'leading' for all of them": lambda *a: _timesteps(*a, only="leading"),
        "the spacing is ignored: this is 'trailing' for all of them": lambda *a: _timesteps(*a, only="trailing"),
        "the spacing is ignored: this is 'linspace' for all of them": lambda *a: _timesteps(*a, only="linspace"),
    },
)
def spaced_timesteps(draws: Draws):
    """The timesteps of the three spacings, against diffusers."""
    for spacing in ("linspace", "leading", "trailing"):
        for steps, train in [(15, 1000), (7, 1000), (draws.choice([6, 11, 12, 30]), 1000), (9, 100)]:
            yield (steps, spacing, train)
    yield (8, "trailing", 100)  # 87.5 and so on: halves
    yield (1, "trailing", 1000)
    yield (1, "leading", 1000)


def latents_of_diffusers(seeds, shape, sigma):
    """Return the start noise as StableDiffusionPipeline makes it for a list of generators."""
    from diffusers.utils.torch_utils import randn_tensor

    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return randn_tensor((len(seeds), *shape), generator=generators) * sigma


def _start(seeds, shape, *, scale=1.0):
    rows = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(rows) * scale


@check.exercise(
    latents_of_diffusers,
    mistakes={
        "the noise is not scaled: multiply it by sigma": lambda seeds, shape, sigma: _start(seeds, shape),
        "multiply by sigma, do not divide": lambda seeds, shape, sigma: _start(seeds, shape, scale=1 / sigma),
        "the root of sigma^2 + 1 belongs to what the network is shown, not to the latents": (
            lambda seeds, shape, sigma: _start(seeds, shape, scale=1 / (sigma**2 + 1) ** 0.5)
        ),
        "sigma is a standard deviation, not a variance": lambda seeds, shape, sigma: _start(
            seeds, shape, scale=sigma**0.5
        ),
        "all pictures come from one generator: each needs its own, with its own seed": lambda seeds, shape, sigma: (
            sigma * torch.randn((len(seeds), *shape), generator=torch.Generator().manual_seed(seeds[0]))
        ),
        "every picture has the same noise: use its own seed": lambda seeds, shape, sigma: _start(
            [seeds[0]] * len(seeds), shape, scale=sigma
        ),
        "sigma is an argument, not always 14.6": lambda seeds, shape, sigma: _start(seeds, shape, scale=14.6),
        "the pictures come in the order of the given seeds, not sorted": lambda seeds, shape, sigma: _start(
            sorted(seeds), shape, scale=sigma
        ),
        "a picture has as many channels as shape says, not always 4": lambda seeds, shape, sigma: _start(
            seeds, (4, *shape[1:]), scale=sigma
        ),
        "sigma is the standard deviation to draw from: do not divide by that of the noise that came": (
            lambda seeds, shape, sigma: sigma * _start(seeds, shape) / _start(seeds, shape).std()
        ),
        "standard normal noise is randn, not rand": lambda seeds, shape, sigma: (
            sigma * torch.stack([torch.rand(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
        ),
        "the seeds are the given ones, not 0, 1, 2 and so on": lambda seeds, shape, sigma: _start(
            range(len(seeds)), shape, scale=sigma
        ),
        "the seeds are the given ones, not the first and those that follow it": lambda seeds, shape, sigma: _start(
            range(seeds[0], seeds[0] + len(seeds)), shape, scale=sigma
        ),
    },
)
def start_latents(draws: Draws):
    """Start noise that is the same for a seed, alone or in a batch."""
    for shape in [(4, 6, 5), (4, 16, 16), (3, 3, 7)]:
        yield ([draws.integer(1, 99), draws.integer(100, 199), draws.integer(200, 10_000)], shape, 14.6)
    seed = draws.integer(50, 1000)
    yield ([seed, seed - 7, seed], (4, 8, 8), draws.uniform(2, 20))
    yield ([0], (4, 5, 9), 0.5)


def cost_of_diffusers(prompts, images_per_prompt, num_inference_steps, guidance_scale, sampler):
    """Count the scheduler's own timesteps; the pipeline guides from a scale above 1 on."""
    scheduler = _scheduler(sampler)
    scheduler.set_timesteps(num_inference_steps)
    rows = prompts * images_per_prompt * (2 if guidance_scale > 1 else 1)
    return {"calls": len(scheduler.timesteps), "rows": rows}


@functools.cache
def _scheduler(sampler):
    import diffusers

    from sdlab import SAMPLERS

    options = {"skip_prk_steps": True} if sampler == "pndm" else {}
    return getattr(diffusers, SAMPLERS[sampler])(beta_schedule="scaled_linear", **options)


def _cost(prompts, images, steps, scale, sampler, *, more=1, always=False, never=False, where="rows", count=True):
    calls = steps + (more if sampler == "pndm" else 0)
    twice = 2 if always or (scale > 1 and not never) else 1
    rows = prompts * (images if count else 1) * (twice if where == "rows" else 1)
    return {"calls": calls * (twice if where == "calls" else 1), "rows": rows}


@check.exercise(
    cost_of_diffusers,
    mistakes={
        "PNDM takes its first step twice: one call more than steps": lambda *a: _cost(*a, more=0),
        "PNDM needs one call more than it has steps, not one less": lambda *a: _cost(*a, more=-1),
        "without guidance, at a scale of 1 or less, the empty sentence is not needed": lambda *a: _cost(
            *a, always=True
        ),
        "with guidance every picture has two rows, with and without its prompt": lambda *a: _cost(*a, never=True),
        "guidance does not double the calls: both predictions go through the U-Net together, as rows": lambda *a: _cost(
            *a, where="calls"
        ),
        "guidance begins right above a scale of 1, not somewhere further up": lambda p, i, n, s, k: _cost(
            p, i, n, s if s <= 1 or s >= 1.5 else 1.0, k
        ),
        "guidance begins right above a scale of 1, however little": lambda p, i, n, s, k: _cost(
            p, i, n, s if s <= 1 or s > 1.02 else 1.0, k
        ),
        "a scale of exactly 1 is no guidance either": lambda p, i, n, s, k: _cost(p, i, n, 2 if s == 1 else s, k),
        "a scale below 1 is no guidance either": lambda p, i, n, s, k: _cost(p, i, n, 2 if s < 1 else s, k),
        "PNDM takes only its first step twice, not every step": lambda p, i, n, s, k: _cost(p, i, n, s, k, more=n),
        "every picture needs a row without its prompt, not one for all of them": lambda p, i, n, s, k: {
            "calls": _cost(p, i, n, s, k)["calls"],
            "rows": p * i + (s > 1),
        },
        **{
            f"it is not {name} that takes its first step twice": lambda p, i, n, s, k, name=name: {
                "calls": n + (k == name),
                "rows": _cost(p, i, n, s, k)["rows"],
            }
            for name in ("euler", "ddim", "dpm")
        },
        "several pictures of a prompt are several rows": lambda *a: _cost(*a, count=False),
        "rows are counted for one call, not over all calls": lambda *a: {
            "calls": _cost(*a)["calls"],
            "rows": _cost(*a)["rows"] * _cost(*a)["calls"],
        },
        "the pictures are drawn together: more pictures are more rows, not more calls": lambda p, i, n, s, k: {
            "calls": p * i * _cost(p, i, n, s, k)["calls"],
            "rows": _cost(1, 1, n, s, k)["rows"],
        },
    },
)
def predict_cost(draws: Draws):
    """How often the U-Net is called for a drawing, and with how many rows."""
    yield (1, 1, 15, 4.0, "euler")
    yield (draws.integer(2, 4), draws.integer(2, 3), draws.integer(5, 30), draws.uniform(2, 8), "ddim")
    yield (draws.integer(2, 4), draws.integer(2, 5), draws.integer(6, 30), 1.0, "dpm")
    yield (2, draws.integer(2, 3), draws.integer(6, 30), draws.uniform(2, 8), "pndm")
    yield (3, 1, draws.integer(6, 30), 1.0, "pndm")
    yield (1, 3, 7, 0.5, "euler")
    for scale in (1.01, draws.uniform(1.05, 1.45), 0.99, 0.0):  # the border is at 1, and nowhere else
        yield (2, 1, draws.integer(5, 30), scale, "ddim")


@functools.lru_cache(maxsize=4)
def _drawing(seed: int, prompts: tuple, steps: int) -> tuple:
    """Return the arguments of a drawing, after the pipeline: embeddings, noise, timesteps, sigmas and scale."""
    pipe, count = Pocket().resolve(), len(prompts)
    with torch.no_grad():
        negative = [NEGATIVE[number % len(NEGATIVE)] for number in range(count)]
        embeds = pipe.encode_prompt(list(prompts), pipe.device, 1, True, negative_prompt=negative)
    size = pipe.unet.config.sample_size
    generator = torch.Generator().manual_seed(500 + seed)
    noise = torch.randn(count, pipe.unet.config.in_channels, size, size, generator=generator)
    scheduler = euler(pipe)
    scheduler.set_timesteps(steps)
    return (*embeds, noise, scheduler.timesteps, scheduler.sigmas, GUIDANCE[steps])


def euler(pipe):
    """Return the Euler scheduler of the lesson for ``pipe``; it starts at the last timestep ("trailing")."""
    from diffusers import EulerDiscreteScheduler

    return EulerDiscreteScheduler.from_config(pipe.scheduler.config, timestep_spacing="trailing")


@functools.lru_cache(maxsize=4)
def _library_latents(seed: int, prompts: tuple, steps: int) -> torch.Tensor:
    """Return what StableDiffusionPipeline makes of the same embeddings and noise."""
    from diffusers import StableDiffusionPipeline

    pipe = Pocket().resolve()
    library = StableDiffusionPipeline(**pipe.components | {"scheduler": euler(pipe)}, requires_safety_checker=False)
    library.set_progress_bar_config(disable=True)
    prompt_embeds, negative_prompt_embeds, noise, *_ = _drawing(seed, prompts, steps)
    embeds = {"prompt_embeds": prompt_embeds, "negative_prompt_embeds": negative_prompt_embeds}
    settings = {"num_inference_steps": steps, "guidance_scale": GUIDANCE[steps], "output_type": "latent"}
    return library(latents=noise, **embeds, **settings).images


@torch.no_grad()
def _loop(pipe, text, negative, noise, timesteps, sigmas, scale, *, start=True, ruler=True, keep=False, order=1,
          base="uncond", sign=1, stop=None):  # fmt: skip
    latents = noise * (sigmas[0] if start else 1)
    for t, sigma, sigma_next in list(zip(timesteps, sigmas[:-1], sigmas[1:], strict=True))[:stop]:
        model_input = latents / (sigma**2 + 1) ** 0.5 if ruler else latents
        latents = model_input if keep else latents
        embeds, rows = torch.cat([negative, text]), torch.cat([model_input] * 2)
        uncond, cond = pipe.unet(rows, t, encoder_hidden_states=embeds).sample.chunk(2)[::order]
        noise_pred = {"uncond": uncond, "text": cond}[base] + scale * (cond - uncond)
        latents = latents + sign * (sigma_next - sigma) * noise_pred
    return latents


MISTAKES = {
    "the start noise must be as strong as the first sigma says: multiply it": {"start": False},
    "the network wants latents divided by the root of sigma^2 + 1": {"ruler": False},
    "only what the network is shown is divided by the root of sigma^2 + 1, the latents themselves are not": {
        "keep": True
    },
    "the two halves are mixed up: which rows had the prompt, and which the negative one": {"order": -1},
    "the push starts from the prediction without the prompt, not from that with it": {"base": "text"},
    "the latents move towards more noise: sigma_next - sigma is negative": {"sign": -1},
    "the last step is missing, which goes to sigma 0": {"stop": -1},
}


@functools.lru_cache(maxsize=2)
def _made_by_mistake(seed: int, prompts: tuple, steps: int) -> dict:
    """Return hint -> the latents that this mistake leads to."""
    pipe, given = Pocket().resolve(), _drawing(seed, prompts, steps)
    text, negative, noise, timesteps, sigmas, scale = given
    louder = noise * (1 + 1 / sigmas[0] ** 2) ** 0.5
    others = {
        "the guidance is missing: the latents are those of the prompt alone": (text, negative, noise, 1.0),
        "guidance_scale is an argument, not always 4": (text, negative, noise, 4.0),
        "every picture has its own negative prompt": (text, negative[:1].expand_as(negative), noise, scale),
        "every picture has its own prompt": (text[:1].expand_as(text), negative, noise, scale),
        "the start noise is multiplied by sigma itself, not by the root of sigma^2 + 1": (
            text,
            negative,
            louder,
            scale,
        ),
    }
    made = {hint: _loop(pipe, *given, **options) for hint, options in MISTAKES.items()}
    return made | {hint: _loop(pipe, *one, timesteps, sigmas, scale) for hint, (*one, scale) in others.items()}


@check.effect(without=(PIPELINE,))
def draw_latents(attempt, draws: Draws) -> str:
    """The whole loop without a scheduler: equal to the pipeline's, and recognised by the judge."""
    small = (draws.seed, ("a cat with green eyes", "a man wearing a red hat"), 3)
    latents = attempt(Pocket(), *_drawing(*small))
    if said := difference(latents, _library_latents(*small), atol=1e-2, rtol=1e-2):
        raise Wrong(_hint(latents, small) or f"compared with the pipeline's latents after three steps: {said}")
    large = (draws.seed, tuple(NAMED), STEPS)
    latents = attempt(Pocket(), *_drawing(*large))
    if not isinstance(latents, torch.Tensor) or latents.shape != _drawing(*large)[2].shape:
        raise Wrong("for two prompts it works, but for six of them the latents have another shape")
    share = judged(latents)
    if share < SHARE:
        raise Wrong(f"the judge finds {share:.0%} of what six prompts name, and {SHARE:.0%} are asked for")
    return f"equal to the pipeline's, and the judge finds at least {SHARE:.0%} of what six prompts name"


def _hint(latents, small) -> str | None:
    if not isinstance(latents, torch.Tensor) or latents.shape != _drawing(*small)[2].shape:
        return None
    made = _made_by_mistake(*small).items()
    return next((hint for hint, one in made if difference(latents, one, atol=1e-2, rtol=1e-2) is None), None)


def judged(latents: torch.Tensor) -> float:
    """Return the share of the attributes named by the six prompts that the judge finds in these six latents."""
    from sdlab import decode

    from ..judging import agreement, judge_images

    counts = agreement(judge_images(list(decode(Pocket().resolve(), latents))), list(NAMED.values())).values()
    return sum(right for right, _ in counts) / sum(count for _, count in counts)
