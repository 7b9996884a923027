"""Wrong answers to lab 12."""

import math

import torch

from sdcourse.checks.lab_12_patients import CASES


def flops(times=2, products=2, kv=2, out=1, rows=None, share=lambda heads: 1):
    def flops_of_attention(cells, width, tokens, text_width, heads):
        count, read = (tokens, text_width) if rows is None else rows(cells, width, tokens, text_width)
        linear = times * (cells * width**2 * (1 + out) + kv * count * read * width)
        return {"linear": linear, "attention": times * products * cells * tokens * width * share(heads)}

    return flops_of_attention


def flops_of_self_attention(cells, width, tokens, text_width, heads):
    linear = 4 * cells * width**2 + 4 * tokens * text_width * width
    return {"linear": linear, "attention": 2 * 2 * cells**2 * width}


def flops_with_linear_layers_in_each_head(cells, width, tokens, text_width, heads):
    kinds = flops()(cells, width, tokens, text_width, heads)
    return kinds | {"linear": heads * kinds["linear"]}


def flops_in_all(cells, width, tokens, text_width, heads):
    return sum(flops()(cells, width, tokens, text_width, heads).values())


def growth(parameters=2, convolution=(2, 2), attention=(1, 4), pairs=(0, 4), parameters_side=0):
    def predict_growth(wider, larger):
        return {
            "parameters": wider**parameters * larger**parameters_side,
            "convolution": wider ** convolution[0] * larger ** convolution[1],
            "attention": wider ** attention[0] * larger ** attention[1],
            "pairs": wider ** pairs[0] * larger ** pairs[1],
        }

    return predict_growth


def growth_as_a_list(wider, larger):
    return list(growth()(wider, larger).values())


def rounding(nearest=round, smallest=True, vanish=False, overflow="inf", digits=0, find=math.frexp, bias_less=1):
    def round_to(value, exponent_bits, fraction_bits):
        if value == 0:
            return value
        bias = 2 ** (exponent_bits - 1) - bias_less
        exponent = find(value)[1] - 1
        if vanish and exponent < 1 - bias:
            return 0.0
        if smallest:
            exponent = max(exponent, 1 - bias)
        step = 2.0 ** (exponent - fraction_bits + digits)
        found, largest = nearest(value / step) * step, (2 - 2.0**-fraction_bits) * 2.0**bias
        if overflow == "early":
            return found if abs(value) <= largest else math.copysign(math.inf, value)
        if abs(found) < largest or (abs(found) == largest and overflow != "soon") or overflow == "no":
            return found
        return {"plus": math.inf, "top": math.copysign(largest, value)}.get(overflow, math.copysign(math.inf, value))

    return round_to


def rounding_by_type(value, exponent_bits, fraction_bits):
    types = {10: torch.float16, 7: torch.bfloat16, 2: torch.float8_e5m2, 23: torch.float32}
    return torch.tensor(value).to(types.get(fraction_bits, torch.float16)).item()


def away_from_zero(number):
    return math.floor(number + 0.5) if number > 0 else math.ceil(number - 0.5)


def rounding_by_decimals(value, exponent_bits, fraction_bits):
    return round(value, fraction_bits)


def rounding_by_log(value, exponent_bits, fraction_bits):
    step = 2.0 ** (math.floor(math.log2(abs(value))) - fraction_bits)
    return round(value / step) * step


def loop_tests(record, pipe, close):
    """Test what comes after the U-Net: guidance, schedule, VAE."""
    from diffusers import DDIMScheduler

    from sdlab.latents import decode_latents

    scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    scheduler.set_timesteps(len(record["timesteps"]))
    uncond, text, latents = (record[key] for key in ("noise_pred_uncond", "noise_pred_text", "latents"))
    if not close(uncond + record["guidance_scale"] * (text - uncond), record["noise_pred"]):
        return "guidance turned round"
    last = scheduler.step(record["noise_pred"][-1:], record["timesteps"][-1], latents[-2:-1]).prev_sample
    if not close(last, latents[-1:]):
        return "wrong schedule"
    return "nothing" if close(decode_latents(pipe, latents[-1:])[0], record["image"]) else "scaling factor forgotten"


def near(one, other, atol=1e-3):
    return torch.allclose(one, other, atol=atol)


def diagnose_the_loop_only(record, pipe):
    return loop_tests(record, pipe, near)


def diagnose_the_unet_first(record, pipe):
    from sdlab import encode_prompt, predict_noise

    embeds, _ = encode_prompt(pipe, record["prompt"])
    healthy = predict_noise(pipe, record["latents"][-2:-1], record["timesteps"][-1], embeds)[1]
    if not near(healthy, record["noise_pred_text"][-1:], 1e-5):
        return "LoRA attached"
    return "start noise too strong" if record["latents"][0].std() > 1.2 else loop_tests(record, pipe, near)


def diagnose_bit_for_bit(record, pipe):
    from sdlab import encode_prompt, predict_noise

    embeds, _ = encode_prompt(pipe, record["prompt"])
    healthy = predict_noise(pipe, record["latents"][:1], record["timesteps"][0], embeds)[1]
    return loop_tests(record, pipe, near) if torch.equal(healthy, record["noise_pred_text"][:1]) else "LoRA attached"


def diagnose_with_the_papers_guidance(record, pipe):
    uncond, text = record["noise_pred_uncond"], record["noise_pred_text"]
    if torch.equal(uncond, text):
        return "text ignored"
    guided = text + record["guidance_scale"] * (text - uncond)
    return "nothing" if near(guided, record["noise_pred"]) else "guidance turned round"


def diagnose_with_a_scheduler_out_of_the_box(record, pipe):
    from diffusers import DDIMScheduler

    if record["skips"].min() == 0:
        return "skip cut"
    scheduler = DDIMScheduler()
    scheduler.set_timesteps(len(record["timesteps"]))
    stepped = scheduler.step(record["noise_pred"][:1], record["timesteps"][0], record["latents"][:1])
    return "nothing" if near(stepped.prev_sample, record["latents"][1:2]) else "wrong schedule"


def diagnose_in_place(record, pipe):
    record["latents"] /= record["latents"].std()
    return "nothing"


WRONG = {
    "flops_of_attention": [
        ("factor of 2", flops(times=1)),
        ("more heads are not more work", flops(share=lambda heads: heads)),
        ("all heads together", flops(share=lambda heads: 1 / heads)),
        ("before and after the heads", flops_with_linear_layers_in_each_head),
        ("two products", flops(products=1)),
        ("to_out.0", flops(out=0)),
        ("keys and values are both", flops(kv=1)),
        ("not of the cells", flops(rows=lambda c, w, t, x: (c, w))),
        ("for each token", flops(rows=lambda c, w, t, x: (c, x))),
        ("not width", flops(rows=lambda c, w, t, x: (t, w))),
        ("not cells cells", flops_of_self_attention),
        ("expected a dictionary, got a number", flops_in_all),
        ("key 'linear' is missing", lambda c, w, t, x, h: {"attention": 4 * c * t * w}),
    ],
    "predict_growth": [
        ("square of the width", growth(parameters=1)),
        ("how large the picture", growth(parameters_side=2)),
        ("a convolution visits each", growth(convolution=(2, 1))),
        ("work grows with its parameters", growth(convolution=(1, 2))),
        ("fourth power", growth(attention=(1, 2), pairs=(0, 2))),
        ("each cell with each cell", growth(pairs=(0, 2))),
        ("both products work on pairs", growth(attention=(1, 2))),
        ("width itself", growth(attention=(2, 4))),
        ("with the width too", growth(attention=(0, 4))),
        ("one number a pair", growth(pairs=(1, 4))),
        ("not the area", growth(convolution=(2, 1), attention=(1, 2), pairs=(0, 2))),
        ("expected a dictionary", growth_as_a_list),
    ],
    "round_to": [
        ("becomes infinite", rounding(overflow="no")),
        ("not the largest number", rounding(overflow="top")),
        ("then vanishes", rounding(smallest=False)),
        ("still numbers", rounding(vanish=True)),
        ("do not cut off", rounding(nearest=math.trunc)),
        ("even neighbour", rounding(nearest=away_from_zero)),
        ("-inf", rounding(overflow="plus")),
        ("leading 1", rounding(digits=1)),
        ("take 1 off", rounding(find=lambda value: (0, math.frexp(value)[1] + 1))),
        ("cuts towards 0", rounding(find=lambda value: (0, int(math.log2(abs(value))) + 1))),
        ("less 1", rounding(bias_less=0)),
        ("not always down", rounding(nearest=math.floor)),
        ("round first", rounding(overflow="early")),
        ("itself still fits", rounding(overflow="soon")),
        ("exponent_bits = 3", rounding_by_type),
        ("expected", rounding_by_decimals),
        ("ValueError", rounding_by_log),
    ],
    "diagnose": [
        ("they do not all have 'nothing'", lambda record, pipe: "nothing"),
        ("return a name", lambda record, pipe: ["nothing"]),
        ("none of the names", lambda record, pipe: "LoRA"),
        ("return a name", lambda record, pipe: list(CASES).index("nothing")),
        ("they do not all have 'skip cut'", lambda record, pipe: "skip cut"),
        ("too many are called healthy", diagnose_the_loop_only),
        ("taken for 'LoRA attached'", diagnose_the_unet_first),
        ("within rounding", diagnose_bit_for_bit),
        ("said to have 'guidance turned round'", diagnose_with_the_papers_guidance),
        ("said to have 'wrong schedule'", diagnose_with_a_scheduler_out_of_the_box),
        ("in place", diagnose_in_place),
    ],
    "verdicts": [
        ("return a dictionary", lambda: ["late text ignored", "two colours swapped", "LoRA attached"]),
        ("none of the names", lambda: {1: "late text ignored", 2: "colours swapped", 3: "LoRA attached"}),
        ("none of the three", lambda: {1: "LoRA attached", 2: "late text ignored", 3: "two colours swapped"}),
        ("patient 1 does not have", lambda: {1: "seed ignored", 2: "two colours swapped", 3: "LoRA attached"}),
        ("patient 2 does not have", lambda: {1: "late text ignored", 2: "red read as blue", 3: "LoRA attached"}),
        ("Patient(0)", lambda: {1: "late text ignored", 2: "two colours swapped", 3: "nothing"}),
    ],
}
