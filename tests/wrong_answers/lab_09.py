"""Wrong answers to lab 09."""

import torch


def guided(rescale, swap=False, from_text=False):
    def guide_batch(noise_pred, guidance_scale, guidance_rescale):
        n = len(noise_pred) // 2
        uncond, text = noise_pred[:n], noise_pred[n:]
        if swap:
            uncond, text = text, uncond
        guided = (text if from_text else uncond) + guidance_scale * (text - uncond)
        return rescale(guided, uncond, text, guidance_rescale)

    return guide_batch


def spread(x, dim=(1, 2, 3)):
    return x.std(dim=dim, keepdim=True)


def mixed(dim=(1, 2, 3)):
    def rescale(guided, uncond, text, share):
        return share * guided * spread(text, dim) / spread(guided, dim) + (1 - share) * guided

    return rescale


def from_the_mixture_turned_round(guided, uncond, text, share):
    return (1 - share) * guided * spread(text) / spread(guided) + share * guided


def from_the_unconditional(guided, uncond, text, share):
    return share * guided * spread(uncond) / spread(guided) + (1 - share) * guided


def upside_down(guided, uncond, text, share):
    return share * guided * spread(guided) / spread(text) + (1 - share) * guided


def from_the_variances(guided, uncond, text, share):
    return (
        share * guided * text.var((1, 2, 3), keepdim=True) / guided.var((1, 2, 3), keepdim=True) + (1 - share) * guided
    )


def by_their_length(guided, uncond, text, share):
    length = [x.flatten(1).norm(dim=1)[:, None, None, None] for x in (text, guided)]
    return share * guided * length[0] / length[1] + (1 - share) * guided


def interleaved(noise_pred, guidance_scale, guidance_rescale):
    uncond, text = noise_pred[::2], noise_pred[1::2]
    return mixed()(uncond + guidance_scale * (text - uncond), uncond, text, guidance_rescale)


def both_halves(noise_pred, guidance_scale, guidance_rescale):
    return torch.cat([guided(mixed())(noise_pred, guidance_scale, guidance_rescale)] * 2)


def steps_of(linspace=None, leading=None, trailing=None, turn=True):
    """Timesteps from three functions of (steps, all timesteps), each smallest first."""

    def spaced_timesteps(num_inference_steps, spacing, num_train_timesteps):
        rules = {
            "linspace": linspace or (lambda n, count: torch.linspace(0, count - 1, n).tolist()),
            "leading": leading or (lambda n, count: [count // n * i + 1 for i in range(n)]),
            "trailing": trailing or (lambda n, count: [round(count / n * i) - 1 for i in range(1, n + 1)]),
        }
        found = rules[spacing](num_inference_steps, num_train_timesteps)
        return found[::-1] if turn else found

    return spaced_timesteps


def leading_for_all(num_inference_steps, spacing, num_train_timesteps):
    return steps_of()(num_inference_steps, "leading", num_train_timesteps)


def trailing_for_all(num_inference_steps, spacing, num_train_timesteps):
    return steps_of()(num_inference_steps, "trailing", num_train_timesteps)


def timesteps_without_return(num_inference_steps, spacing, num_train_timesteps):
    steps_of()(num_inference_steps, spacing, num_train_timesteps)


def noise_of(seed, shape):
    return torch.randn(*shape, generator=torch.Generator("cpu").manual_seed(seed))


def one_generator(seeds, shape, sigma):
    generator = torch.Generator().manual_seed(seeds[0])
    return sigma * torch.randn(len(seeds), *shape, generator=generator)


def scaled_twice(seeds, shape, sigma):
    return torch.stack([noise_of(seed, shape) for seed in seeds]) / (1 + sigma**2) ** 0.5


def exactly_sigma(seeds, shape, sigma):
    noise = torch.stack([noise_of(seed, shape) for seed in seeds])
    return noise / noise.std() * sigma


def evenly_drawn(seeds, shape, sigma):
    return torch.stack([torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]) * sigma


def without_stacking(seeds, shape, sigma):
    return [noise_of(seed, shape) * sigma for seed in seeds]


def side_by_side(seeds, shape, sigma):
    return torch.cat([noise_of(seed, shape) * sigma for seed in seeds])


def cost(calls=None, rows=None):
    def predict_cost(prompts, images_per_prompt, num_inference_steps, guidance_scale, sampler):
        pictures, steps = prompts * images_per_prompt, num_inference_steps + (sampler == "pndm")
        twice = 1 + (guidance_scale > 1)
        return {
            "calls": calls(pictures, steps, twice, sampler) if calls else steps,
            "rows": rows(pictures, steps, twice, prompts) if rows else pictures * twice,
        }

    return predict_cost


def cost_with_guidance_if(guided):
    def predict_cost(prompts, images_per_prompt, num_inference_steps, guidance_scale, sampler):
        rows = prompts * images_per_prompt * (2 if guided(guidance_scale) else 1)
        return {"calls": num_inference_steps + (sampler == "pndm"), "rows": rows}

    return predict_cost


@torch.no_grad()
def loop(
    pipe, prompt_embeds, negative_prompt_embeds, noise, timesteps, sigmas, guidance_scale, *, start=None, show=None,
    guide=None, move=None, count=None, order=None,
):  # fmt: skip
    """Draw in the right way but for what is given."""
    latents = noise * (sigmas[0] if start is None else start)
    order = order or (negative_prompt_embeds, prompt_embeds)
    for i in range(len(timesteps) if count is None else count(len(timesteps))):
        shown = latents / (sigmas[i] ** 2 + 1).sqrt() if show is None else show(latents, sigmas[i])
        a = pipe.unet(shown, timesteps[i], encoder_hidden_states=order[0]).sample
        b = pipe.unet(shown, timesteps[i], encoder_hidden_states=order[1]).sample
        noise_pred = a + guidance_scale * (b - a) if guide is None else guide(a, b, guidance_scale)
        latents = latents + (sigmas[i + 1] - sigmas[i] if move is None else move(sigmas, i)) * noise_pred
    return latents


def looping(**options):
    return lambda *given: loop(*given, **options)


def loop_with_the_prompts_swapped(*given):
    return loop(*given, order=(given[1], given[2]))


def loop_with_one_negative_prompt(pipe, text, negative, *rest):
    return loop(pipe, text, negative[:1].repeat(len(negative), 1, 1), *rest)


def loop_that_starts_too_loud(*given):
    return loop(*given, start=(given[5][0] ** 2 + 1) ** 0.5)


@torch.no_grad()
def loop_that_shrinks(pipe, text, negative, noise, timesteps, sigmas, guidance_scale):
    latents = noise * sigmas[0]
    for i, t in enumerate(timesteps):
        latents = latents / (sigmas[i] ** 2 + 1) ** 0.5
        a, b = (pipe.unet(latents, t, encoder_hidden_states=embeds).sample for embeds in (negative, text))
        latents = latents + (sigmas[i + 1] - sigmas[i]) * (a + guidance_scale * (b - a))
    return latents


@torch.no_grad()
def loop_for_one_picture(pipe, text, negative, noise, timesteps, sigmas, guidance_scale):
    return loop(pipe, text[:1], negative[:1], noise[:1], timesteps, sigmas, guidance_scale)


def loop_in_place(pipe, text, negative, noise, timesteps, sigmas, guidance_scale):
    noise *= sigmas[0]
    return noise


def guide_that_clamps(most):
    def guide_batch(noise_pred, guidance_scale, guidance_rescale):
        guide = guided(mixed())
        return guide(noise_pred, guidance_scale, guidance_rescale).clamp(-most, most)

    return guide_batch


@torch.no_grad()
def drawn_by_the_pipeline(pipe, prompt_embeds, negative_prompt_embeds, noise, timesteps, sigmas, guidance_scale):
    from diffusers import StableDiffusionPipeline

    from sdcourse.checks.lab_09 import euler

    library = StableDiffusionPipeline(**pipe.components | {"scheduler": euler(pipe)}, requires_safety_checker=False)
    library.set_progress_bar_config(disable=True)
    return library(
        prompt_embeds=prompt_embeds, negative_prompt_embeds=negative_prompt_embeds, latents=noise,
        num_inference_steps=len(timesteps), guidance_scale=guidance_scale, output_type="latent",
    ).images  # fmt: skip


WRONG = {
    "guide_batch": [
        ("values differ", guide_that_clamps(4)),
        ("values differ", guide_that_clamps(20)),
        ("halves are swapped", guided(mixed(), swap=True)),
        ("not from that with it", guided(mixed(), from_text=True)),
        ("is ignored", guided(lambda guided, uncond, text, share: guided)),
        ("mix the rescaled", guided(lambda guided, uncond, text, share: guided * spread(text) / spread(guided))),
        ("wrong way round", guided(from_the_mixture_turned_round)),
        ("prediction with the prompt", guided(from_the_unconditional)),
        ("leave axis 0 out", guided(mixed(dim=(0, 1, 2, 3)))),
        ("over its channels too", guided(mixed(dim=(2, 3)))),
        ("upside down", guided(upside_down)),
        ("do not alternate", interleaved),
        ("not of variances", guided(from_the_variances)),
        ("not always 0.7", guided(lambda guided, uncond, text, share: mixed()(guided, uncond, text, 0.7))),
        ("around the mean", guided(by_their_length)),
        ("expected the shape", both_halves),
    ],
    "spaced_timesteps": [
        ("largest first", steps_of(turn=False)),
        ("the 1 is missing", steps_of(leading=lambda n, count: [count // n * i for i in range(n)])),
        ("a whole number", steps_of(leading=lambda n, count: [count / n * i + 1 for i in range(n)])),
        ("subtract 1", steps_of(trailing=lambda n, count: [round(count / n * i) for i in range(1, n + 1)])),
        ("do not cut it off", steps_of(trailing=lambda n, count: [int(count / n * i) - 1 for i in range(1, n + 1)])),
        (
            "keep their fractions",
            steps_of(linspace=lambda n, count: [round(i * (count - 1) / (n - 1)) for i in range(n)]),
        ),
        ("no timestep behind it", steps_of(linspace=lambda n, count: torch.linspace(0, count, n).tolist())),
        ("distances between them", steps_of(linspace=lambda n, count: [i * (count - 1) / n for i in range(n)])),
        (
            "with its fraction",
            steps_of(trailing=lambda n, count: [count - i * (count // n) - 1 for i in reversed(range(n))]),
        ),
        ("rounding is missing", steps_of(trailing=lambda n, count: [count / n * i - 1 for i in range(1, n + 1)])),
        ("first round", steps_of(trailing=lambda n, count: [round(count / n * i - 1) for i in range(1, n + 1)])),
        (
            "to the even number, as",
            steps_of(trailing=lambda n, count: [int(count / n * i + 0.5) - 1 for i in range(1, n + 1)]),
        ),
        ("not always 1000", lambda num_inference_steps, spacing, _: steps_of()(num_inference_steps, spacing, 1000)),
        ("'leading' for all", leading_for_all),
        ("'trailing' for all", trailing_for_all),
        ("is a return missing?", timesteps_without_return),
    ],
    "start_latents": [
        ("not scaled", lambda seeds, shape, sigma: torch.stack([noise_of(seed, shape) for seed in seeds])),
        ("do not divide", lambda seeds, shape, sigma: torch.stack([noise_of(seed, shape) for seed in seeds]) / sigma),
        ("belongs to what the network is shown", scaled_twice),
        ("not a variance", lambda seeds, shape, sigma: torch.stack([noise_of(s, shape) for s in seeds]) * sigma**0.5),
        ("from one generator", one_generator),
        ("the same noise", lambda seeds, shape, sigma: noise_of(seeds[0], shape).repeat(len(seeds), 1, 1, 1) * sigma),
        ("0, 1, 2", lambda seeds, shape, sigma: torch.stack([noise_of(i, shape) for i in range(len(seeds))]) * sigma),
        (
            "and those that follow",
            lambda seeds, shape, sigma: torch.stack([noise_of(seeds[0] + i, shape) for i in range(len(seeds))]) * sigma,
        ),
        ("not always 14.6", lambda seeds, shape, sigma: torch.stack([noise_of(s, shape) for s in seeds]) * 14.6),
        ("not sorted", lambda seeds, shape, sigma: torch.stack([noise_of(s, shape) for s in sorted(seeds)]) * sigma),
        (
            "not always 4",
            lambda seeds, shape, sigma: torch.stack([noise_of(s, (4, *shape[1:])) for s in seeds]) * sigma,
        ),
        ("do not divide by", exactly_sigma),
        ("not rand", evenly_drawn),
        ("got a list", without_stacking),
        ("expected the shape", side_by_side),
    ],
    "predict_cost": [
        ("not somewhere further up", cost_with_guidance_if(lambda scale: scale >= 1.5)),
        ("however little", cost_with_guidance_if(lambda scale: scale > 1.02)),
        ("one call more than steps", cost(calls=lambda pictures, steps, twice, sampler: steps - (sampler == "pndm"))),
        ("not one less", cost(calls=lambda pictures, steps, twice, sampler: steps - 2 * (sampler == "pndm"))),
        ("is not needed", cost(rows=lambda pictures, steps, twice, prompts: 2 * pictures)),
        ("two rows", cost(rows=lambda pictures, steps, twice, prompts: pictures)),
        ("does not double the calls", cost(lambda p, steps, twice, _: twice * steps, lambda p, s, t, _: p)),
        ("several rows", cost(rows=lambda pictures, steps, twice, prompts: prompts * twice)),
        ("not over all calls", cost(rows=lambda pictures, steps, twice, prompts: pictures * steps * twice)),
        ("not more calls", cost(lambda p, steps, twice, _: p * steps, lambda p, s, twice, _: twice)),
        ("exactly 1", cost_with_guidance_if(lambda scale: scale >= 1)),
        ("below 1", cost_with_guidance_if(lambda scale: scale != 1)),
        (
            "not every step",
            cost(calls=lambda p, steps, twice, sampler: 2 * (steps - 1) if sampler == "pndm" else steps),
        ),
        ("not one for all", cost(rows=lambda pictures, steps, twice, prompts: pictures + twice - 1)),
        ("not euler", cost(calls=lambda p, steps, twice, sampler: steps + (sampler == "euler") - (sampler == "pndm"))),
        ("not dpm", cost(calls=lambda p, steps, twice, sampler: steps + (sampler == "dpm") - (sampler == "pndm"))),
        ("'rows' is missing", lambda prompts, images, steps, scale, sampler: {"calls": steps}),
        ("got a list", lambda prompts, images, steps, scale, sampler: (steps, prompts * images)),
    ],
    "draw_latents": [
        ("without the library's pipeline", drawn_by_the_pipeline),
        ("as strong as the first sigma", looping(start=1)),
        ("divided by the root", looping(show=lambda latents, sigma: latents)),
        ("latents themselves are not", loop_that_shrinks),
        ("from that with it", looping(guide=lambda a, b, scale: b + scale * (b - a))),
        ("guidance is missing", looping(guide=lambda a, b, scale: b)),
        ("halves are mixed up", loop_with_the_prompts_swapped),
        ("not always 4", looping(guide=lambda a, b, scale: a + 4 * (b - a))),
        ("its own negative prompt", loop_with_one_negative_prompt),
        ("its own prompt", lambda pipe, text, *rest: loop(pipe, torch.stack([text[0]] * len(text)), *rest)),
        ("by sigma itself", loop_that_starts_too_loud),
        ("towards more noise", looping(move=lambda sigmas, i: sigmas[i] - sigmas[i + 1])),
        ("last step is missing", looping(count=lambda steps: steps - 1)),
        ("expected the shape", loop_for_one_picture),
        ("in place", loop_in_place),
        ("values differ", lambda pipe, text, negative, noise, *rest: noise),
    ],
}
