"""Wrong answers to lab 05."""

import numpy as np
import torch


def sampling(std_of, mean_first=True, axis=1, clamp=True):
    def sample_latents(moments, noise):
        half = moments.shape[axis] // 2
        mean, logvar = moments.split(half, dim=axis) if mean_first else moments.split(half, dim=axis)[::-1]
        return mean + std_of(logvar.clamp(-30, 20) if clamp else logvar) * noise

    return sample_latents


def sample_from_every_other_channel(moments, noise):
    return moments[:, ::2] + torch.exp(0.5 * moments[:, 1::2].clamp(-30, 20)) * noise


def sample_kept_between(low, high):
    def sample_latents(moments, noise):
        mean, logvar = moments.chunk(2, dim=1)
        return mean + (logvar.clamp(low, high) / 2).exp() * noise

    return sample_latents


def sample_in_place(moments, noise):
    mean, logvar = moments.chunk(2, dim=1)
    noise *= torch.exp(0.5 * logvar.clamp(-30, 20))
    return mean + noise


def squares_with(std_power=2, log_of=lambda ratio: (ratio**2).log(), minus=1, over=True):
    def kl_between(mean, std, other_mean, other_std):
        apart = (mean - other_mean) ** 2
        apart = apart / other_std**std_power if over else apart
        ratio = std / other_std
        return (apart + ratio**std_power - minus - log_of(ratio)).sum(dim=(1, 2, 3)) / 2

    return kl_between


def kl_with_a_plain_ratio(mean, std, other_mean, other_std):
    ratio = std / other_std
    return 0.5 * (((mean - other_mean) / other_std) ** 2 + ratio - 1 - 2 * ratio.log()).flatten(1).sum(dim=1)


def kl_summed_by(total):
    def kl_between(mean, std, other_mean, other_std):
        variance, other = std**2, other_std**2
        each = (mean - other_mean) ** 2 / other + variance / other - 1 - variance.log() + other.log()
        return total(each / 2)

    return kl_between


def kl_to_the_standard_curve(mean, std, other_mean, other_std):
    return 0.5 * (mean**2 + std**2 - 1 - (std**2).log()).sum(dim=(1, 2, 3))


def kl_the_other_way_round(mean, std, other_mean, other_std):
    return squares_with()(other_mean, other_std, mean, std)


def latents_with(factor_of, *, side_of=lambda side, factor: side // factor, times_of=None):
    def predict_latents(height, width, block_out_channels, latent_channels):
        factor = factor_of(block_out_channels)
        shape = [latent_channels, side_of(height, factor), side_of(width, factor)]
        fewer = times_of or (lambda h, w, shape: 3 * h * w / (shape[0] * shape[1] * shape[2]))
        return {"shape": shape, "times_fewer": fewer(height, width, shape)}

    return predict_latents


def right_factor(block_out_channels):
    return 2 ** (len(block_out_channels) - 1)


def latents_of_fractions(height, width, block_out_channels, latent_channels):
    right = latents_with(right_factor)(height, width, block_out_channels, latent_channels)
    factor = right_factor(block_out_channels)
    return {**right, "shape": [latent_channels, height / factor, width / factor]}


def latents_in_another_order(order):
    def predict_latents(height, width, block_out_channels, latent_channels):
        right = latents_with(right_factor)(height, width, block_out_channels, latent_channels)
        return {**right, "shape": order(*right["shape"])}

    return predict_latents


def latents_turned_round(height, width, block_out_channels, latent_channels):
    return latents_with(right_factor)(width, height, block_out_channels, latent_channels)


def latents_of_the_last_level(height, width, block_out_channels, latent_channels):
    return latents_with(right_factor)(height, width, block_out_channels, block_out_channels[-1])


def factor_without_the_mean(batches):
    number = sum(batch.numel() for batch in batches)
    return (number / sum(batch.double().square().sum().item() for batch in batches)) ** 0.5


def factor_in_half_precision(batches):
    number = sum(batch.numel() for batch in batches)
    mean = sum(batch.sum().item() for batch in batches) / number
    return (sum((batch**2).sum().item() for batch in batches) / number - mean**2) ** -0.5


def factor_in_single_precision(batches):
    batches = [batch.float() for batch in batches]
    number = sum(batch.numel() for batch in batches)
    mean = sum(batch.sum().item() for batch in batches) / number
    variance = sum((batch * batch).sum().item() for batch in batches) / number - mean**2
    return 1 / max(variance, 1e-12) ** 0.5


def factor_of_means_of_means(batches):
    return (
        average((b.double() ** 2).mean() for b in batches) - average(b.double().mean() for b in batches) ** 2
    ) ** -0.5


def average(values):
    values = [float(value) for value in values]
    return sum(values) / len(values)


def shirt_with(pixels_of=lambda x: x / 127.5 - 1, scale_of=lambda z, s: z * s, join=None):
    def new_shirt(pipe, person, clothes):
        pixels = pixels_of(torch.from_numpy(np.stack([person, clothes])).permute(0, 3, 1, 2).float())
        with torch.no_grad():
            z = pipe.vae.encode(pixels).latent_dist.mode()
        z = scale_of(z, pipe.vae.config.scaling_factor)
        return (join or cut_at(13))(z[:1], z[1:])

    return new_shirt


def cut_at(row):
    return lambda person, clothes: torch.cat([person[:, :, :row], clothes[:, :, row:]], dim=2)


def side_by_side(person, clothes):
    return torch.cat([clothes[..., :8], person[..., 8:]], dim=3)


def joined_in_pixels(pipe, person, clothes):
    joined = np.concatenate([person[:104], clothes[104:]])
    return shirt_with(join=lambda whole, _: whole)(pipe, joined, clothes)


def picture_for_latents(pipe, person, clothes):
    return np.concatenate([person[:104], clothes[104:]])


WRONG = {
    "sample_latents": [
        ("stretched by the variance", sampling(lambda logvar: logvar.exp())),
        ("logarithms of variances", sampling(lambda logvar: logvar)),
        ("undone with exp", sampling(lambda logvar: 0.5 * logvar)),
        ("between -30 and 20", sampling(lambda logvar: torch.exp(0.5 * logvar), clamp=False)),
        ("above 20", sample_kept_between(-30, 100)),
        ("below -30", sample_kept_between(-100, 20)),
        ("is -30, not -20", sample_kept_between(-20, 20)),
        ("before it is halved", sampling(lambda logvar: (logvar / 2).clamp(-30, 20).exp(), clamp=False)),
        ("not the standard deviation", sampling(lambda logvar: (logvar / 2).exp().clamp(-30, 20), clamp=False)),
        ("none of your own", lambda moments, noise: sample_kept_between(-30, 20)(moments, torch.randn_like(noise))),
        ("swapped", sampling(lambda logvar: torch.exp(0.5 * logvar), mean_first=False)),
        ("every other one", sample_from_every_other_channel),
        ("noise is missing", lambda moments, noise: moments[:, : moments.shape[1] // 2]),
        ("before it is added", sampling(lambda logvar: torch.ones_like(logvar))),
        ("in place", sample_in_place),
    ],
    "kl_between": [
        ("do not average", kl_summed_by(lambda each: each.mean(dim=(1, 2, 3)))),
        ("do not sum over the batch", kl_summed_by(torch.sum)),
        ("keep only the batch", kl_summed_by(lambda each: each)),
        ("half in front", kl_summed_by(lambda each: 2 * each.sum(dim=(1, 2, 3)))),
        ("-1 is missing", squares_with(minus=0)),
        ("formula has variances", squares_with(std_power=1, log_of=torch.log)),
        ("square the standard deviations", kl_with_a_plain_ratio),
        ("logarithm is of the variances", squares_with(log_of=torch.log)),
        ("swapped", kl_the_other_way_round),
        ("in the other's variance", squares_with(over=False)),
        ("not used", kl_to_the_standard_curve),
        ("expected a tensor, got None", lambda mean, std, other_mean, other_std: None),
    ],
    "predict_latents": [
        ("one halving less", latents_with(lambda blocks: 2 ** len(blocks))),
        ("not always 8", latents_with(lambda blocks: 8)),
        ("power of 2", latents_with(lambda blocks: 2 * (len(blocks) - 1))),
        ("rounded down", latents_with(right_factor, side_of=lambda side, factor: -(-side // factor))),
        ("not to the nearest", latents_with(right_factor, side_of=lambda side, factor: round(side / factor))),
        ("rounded down", latents_of_fractions),
        ("smaller still", latents_with(right_factor, times_of=lambda h, w, s: 3 * (h // s[1]) * (w // s[2]) / s[0])),
        ("divide with /", latents_with(right_factor, times_of=lambda h, w, s: 3 * h * w // (s[0] * s[1] * s[2]))),
        ("latents over pixels", latents_with(right_factor, times_of=lambda h, w, s: s[0] * s[1] * s[2] / (3 * h * w))),
        ("not always 48", latents_with(right_factor, times_of=lambda h, w, s: 48.0)),
        ("channels come first", latents_in_another_order(lambda channels, high, wide: [high, wide, channels])),
        ("has no batch", latents_in_another_order(lambda channels, high, wide: [1, channels, high, wide])),
        ("height comes before", latents_turned_round),
        ("three colours", latents_with(right_factor, times_of=lambda h, w, s: h * w / (s[0] * s[1] * s[2]))),
        ("channels too", latents_with(right_factor, times_of=lambda h, w, s: 3 * h * w / (s[1] * s[2]))),
        ("length of one side", latents_with(right_factor, times_of=lambda h, w, s: h // s[1])),
        ("not those of the last level", latents_of_the_last_level),
        (
            "the key 'times_fewer' is missing",
            lambda h, w, blocks, channels: {"shape": latents_with(right_factor)(h, w, blocks, channels)["shape"]},
        ),
    ],
    "scaling_of_batches": [
        ("not over the variance", lambda batches: 1 / torch.cat(batches).float().var().item()),
        ("that is the standard deviation", lambda batches: torch.cat(batches).float().std().item()),
        ("mean is not 0 here", factor_without_the_mean),
        ("differ in size and in mean", lambda batches: 1 / average(b.float().std() for b in batches)),
        ("means lie apart", lambda batches: average(b.float().var() for b in batches) ** -0.5),
        ("own factors", lambda batches: average(1 / b.float().std() for b in batches)),
        ("for all channels", lambda batches: 1 / average(torch.cat(batches).float().std(dim=(0, 2, 3)))),
        ("only the first batch", lambda batches: 1 / batches[0].float().std().item()),
        ("overflow", factor_in_half_precision),
        ("batches' means will not do", factor_of_means_of_means),
        ("too coarse", factor_in_single_precision),
        (".item() turns", lambda batches: 1 / torch.cat(batches).std()),
    ],
    "new_shirt": [
        ("factor is missing", shirt_with(scale_of=lambda z, s: z)),
        ("here multiply", shirt_with(scale_of=lambda z, s: z / s)),
        ("applied twice", shirt_with(scale_of=lambda z, s: z * s * s)),
        ("from -1 to 1", shirt_with(pixels_of=lambda x: x / 255)),
        ("not columns", shirt_with(join=side_by_side)),
        ("comes from the clothes", shirt_with(join=lambda person, clothes: cut_at(13)(clothes, person))),
        ("cut lower", shirt_with(join=cut_at(5))),
        ("cut higher", shirt_with(join=lambda person, clothes: person)),
        ("not their pixels", joined_in_pixels),
        ("return latents", picture_for_latents),
        ("return latents", lambda pipe, person, clothes: torch.zeros(4, 16, 16)),
        ("not the person's latents", lambda pipe, person, clothes: torch.zeros(1, 4, 16, 16)),
    ],
}
