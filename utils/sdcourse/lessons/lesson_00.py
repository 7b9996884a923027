"""Watch a pipeline draw once and keep what went in and out of each part: the map of lesson 00, with live shapes."""

from contextlib import contextmanager
from dataclasses import dataclass, field

from sdlab import draw
from sdlab.drawing import DEFAULT_GUIDANCE, DEFAULT_STEPS
from sdlab.figures import COLORS, new_figure
from sdlab.images import latent_picture

PARTS = {"text_encoder": "text encoder", "unet": "U-Net", "vae.decoder": "VAE decoder"}


@dataclass
class TracedPart:
    """One network of a pipeline: its class, its parameters, and what passed through it in one drawing."""

    name: str
    class_name: str
    parameters: int
    calls: int = 0
    inputs: list = field(default_factory=list)
    output: tuple = ()


@dataclass(frozen=True)
class Trace:
    """One drawing taken apart: ``parts`` by name, the start ``noise``, the last ``latents`` and the ``image``."""

    prompt: str
    tokens: int
    parts: dict
    noise: object
    latents: object
    image: object


@contextmanager
def _watch(module, part: TracedPart, first: list):
    def hook(_module, args, kwargs, output):
        tensors = [value for value in (*args, *kwargs.values()) if getattr(value, "ndim", 0) > 0]
        first.extend(tensors[:1] if part.calls == 0 else [])
        part.calls += 1
        part.inputs = [tuple(tensor.shape) for tensor in tensors]
        output = output[0] if not hasattr(output, "shape") else output
        part.output = tuple(output.shape)

    handle = module.register_forward_hook(hook, with_kwargs=True)
    try:
        yield part
    finally:
        handle.remove()


def trace(
    pipe,
    prompt: str,
    *,
    seed: int = 0,
    num_inference_steps: int = DEFAULT_STEPS,
    guidance_scale: float = DEFAULT_GUIDANCE,
) -> Trace:
    """Draw ``prompt`` once with hooks on the three networks; the hooks are gone afterwards."""
    from contextlib import ExitStack

    parts, first = {}, {name: [] for name in PARTS}
    with ExitStack() as stack:
        for name in PARTS:
            module = pipe
            for attribute in name.split("."):
                module = getattr(module, attribute)
            owner = getattr(pipe, name.split(".")[0])
            part = TracedPart(PARTS[name], type(owner).__name__, sum(weight.numel() for weight in module.parameters()))
            parts[name] = stack.enter_context(_watch(module, part, first[name]))
        image = draw(pipe, prompt, seed=seed, num_inference_steps=num_inference_steps, guidance_scale=guidance_scale)
    tokens = len(pipe.tokenizer(prompt).input_ids)
    return Trace(prompt, tokens, parts, first["unet"][0][:1], first["vae.decoder"][0], image)


def pipeline_map(pipe, prompt: str, **options):
    """Return the map of a pipeline as a figure: its three networks, and the shapes that really passed between them."""
    found = trace(pipe, prompt, **options)
    text, unet, decoder = (found.parts[name] for name in PARTS)
    shape = "x".join
    sizes = {
        "context": shape(map(str, text.output[1:])),
        "latents": shape(map(str, found.noise.shape[1:])),
        "image": shape(map(str, decoder.output[1:])),
    }
    alt = (
        f"Diagram: the prompt '{prompt}' becomes {found.tokens} tokens, the text encoder makes {sizes['context']} "
        f"numbers of them, the U-Net is called {unet.calls} times on {sizes['latents']} latents with them, and "
        f"the VAE decoder turns the last latents into a picture of {sizes['image']}."
    )
    figure, axes = new_figure(alt=alt, width=9.6, height=3.2)
    axes.set(xlim=(0, 96), ylim=(0, 32))
    axes.set_axis_off()
    _draw_boxes(axes, found, text, unet, decoder)
    _draw_flow(axes, found, sizes, unet)
    return figure


def _draw_boxes(axes, found, text, unet, decoder):
    boxes = (
        (14, text, COLORS[0], "CLIP"),
        (41, unet, COLORS[2], "called in a loop"),
        (67, decoder, COLORS[5], "called once"),
    )
    for left, part, color, note in boxes:
        axes.add_patch(_box(left, 12, 14, 11, color))
        axes.text(left + 7, 19.6, part.name, ha="center", fontsize=11, weight="bold", color=color)
        axes.text(left + 7, 16.6, f"{part.parameters:,}\nparameters", ha="center", va="center", fontsize=8)
        axes.text(left + 7, 13.2, note, ha="center", fontsize=8, style="italic")
    axes.text(5.5, 20.5, "\n".join(_wrap(f"“{found.prompt}”", 14)), ha="center", va="top", fontsize=9)


def _draw_flow(axes, found, sizes, unet):
    for start, end in ((10.5, 13.8), (28.2, 40.8), (55.2, 66.8), (81.2, 84.6)):
        axes.annotate("", (end, 17.5), (start, 17.5), arrowprops={"arrowstyle": "-|>", "color": "#444444", "lw": 1.6})
    axes.text(5.5, 13.6, f"{found.tokens} tokens", ha="center", fontsize=8)
    axes.text(34.5, 18.6, f"prompt_embeds\n{sizes['context']}", ha="center", fontsize=8)
    axes.text(61, 18.6, f"latents\n{sizes['latents']}", ha="center", fontsize=8)
    axes.annotate(
        "",
        (44, 23.2),
        (52, 23.2),
        arrowprops={"arrowstyle": "-|>", "color": "#444444", "lw": 1.6, "connectionstyle": "arc3,rad=0.9"},
    )
    axes.text(48, 28.6, f"scheduler: {unet.calls} calls", ha="center", fontsize=8)
    for picture, center, label in (
        (latent_picture(found.noise), (48, 5.6), f"noise {sizes['latents']}"),
        (latent_picture(found.latents), (61, 11.6), "last latents"),
        (found.image, (90, 17.5), f"image {sizes['image']}"),
    ):
        half = 5 if center[0] > 80 else 3.2
        axes.imshow(
            picture,
            extent=(center[0] - half, center[0] + half, center[1] - half, center[1] + half),
            aspect="auto",
            interpolation="nearest",
            zorder=3,
        )
        axes.text(center[0], center[1] - half - 1.8, label, ha="center", fontsize=8)
    axes.annotate("", (48, 11.8), (48, 9), arrowprops={"arrowstyle": "-|>", "color": "#444444", "lw": 1.6})


def _box(left, bottom, width, height, color):
    from matplotlib.patches import FancyBboxPatch

    return FancyBboxPatch(
        (left, bottom),
        width,
        height,
        boxstyle="round,pad=0.2,rounding_size=1.2",
        facecolor="white",
        edgecolor=color,
        linewidth=2,
    )


def _wrap(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width)
