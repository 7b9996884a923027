"""Controls for the lessons, from what ipywidgets 7.7 and 8.1 have in common; each stands beside a static figure."""

import io
import itertools

from ..compat import need
from ..drawing import DEFAULT_GUIDANCE, DEFAULT_STEPS, draw
from ..errors import SdlabError
from ..prompts import PromptWarning
from ..samplers import SAMPLERS


def to_png(image) -> bytes:
    """Return a PIL picture as the bytes of a PNG file, at least 256 pixels wide."""
    if image.width < 256:
        image = image.resize((256, 256 * image.height // image.width))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def drawing_panel(
    pipe,
    prompt: str,
    *,
    seed: int = 0,
    num_inference_steps: int = DEFAULT_STEPS,
    guidance_scale: float = DEFAULT_GUIDANCE,
):
    """Return controls (prompt, seed, steps, guidance, sampler) beside the picture they give.

    Every control can be reached and changed from the keyboard; the picture is drawn again when one is left.
    """
    ipywidgets = need("ipywidgets", of="A panel with controls")
    wide = {"layout": ipywidgets.Layout(width="420px"), "style": {"description_width": "110px"}}
    late = {"continuous_update": False, **wide}
    controls = {
        "prompt": ipywidgets.Text(value=prompt, description="prompt", **late),
        "seed": ipywidgets.IntSlider(value=seed, min=0, max=99, description="seed", **late),
        "num_inference_steps": ipywidgets.IntSlider(
            value=num_inference_steps, min=1, max=50, description="steps", **late
        ),
        "guidance_scale": ipywidgets.FloatSlider(
            value=guidance_scale, min=1, max=16, step=0.5, description="guidance", **late
        ),
        "sampler": ipywidgets.Dropdown(value="pndm", options=list(SAMPLERS), description="sampler", **wide),
    }
    picture = ipywidgets.Image(format="png", width=256, height=256)
    message = ipywidgets.HTML()

    def redraw(_change=None):
        values = {name: control.value for name, control in controls.items()}
        picture.value, message.value = _draw_or_explain(pipe, values, picture.value)

    for control in controls.values():
        control.observe(redraw, names="value")
    redraw()
    return ipywidgets.HBox([ipywidgets.VBox([*controls.values(), message]), picture])


def _draw_or_explain(pipe, values: dict, before: bytes) -> tuple[bytes, str]:
    """Return the new picture and a remark; the picture stays as it was when the values cannot be drawn."""
    import html
    import warnings

    prompt = values.pop("prompt")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", PromptWarning)
            image = draw(pipe, prompt, **values)
    except SdlabError as error:
        return before, html.escape(str(error))
    remarks = [str(item.message) for item in caught if issubclass(item.category, PromptWarning)]
    return to_png(image), html.escape(" ".join(remarks))


def explore(render, *, precompute: bool = False, **choices):
    """Return one slider for each of ``choices`` (name=[values, ...]) beside the picture of render(**values).

    render: a function of the names that returns a CourseFigure or a PIL picture; each picture is made once.
    A choice given as (values, start) begins at ``start``, otherwise at its first value.
    precompute: make all pictures now, so that every slider answers at once.
    Sliders can be reached with Tab and moved with the arrow keys.
    """
    ipywidgets = need("ipywidgets", of="A panel with controls")
    values, starts = {}, {}
    for name, choice in choices.items():
        with_start = isinstance(choice, tuple) and len(choice) == 2 and isinstance(choice[0], (list, tuple, range))
        values[name] = list(choice[0] if with_start else choice)
        starts[name] = choice[1] if with_start else next(iter(values[name]), None)
    _check_choices(values, starts)
    sliders = {name: _slider(ipywidgets, name, values[name], starts[name]) for name in values}
    made = {}
    if precompute:
        for combination in itertools.product(*values.values()):
            made[combination] = _to_bytes(render(**dict(zip(values, combination, strict=True))))
    layout = ipywidgets.Layout(max_width="100%", align_self="flex-start")  # a box would stretch it to its own width
    picture = ipywidgets.Image(format="png", layout=layout)

    def redraw(_change=None):
        chosen = tuple(slider.value for slider in sliders.values())
        if chosen not in made:
            made[chosen] = _to_bytes(render(**dict(zip(values, chosen, strict=True))))
        picture.value, picture.layout.width = made[chosen], f"{_width(made[chosen])}px"

    for slider in sliders.values():
        slider.observe(redraw, names="value")
    redraw()
    return ipywidgets.VBox([*sliders.values(), picture])


def _width(png: bytes) -> int:
    """Return the width that stands in the head of a PNG file."""
    return int.from_bytes(png[16:20], "big")


def _slider(ipywidgets, name: str, values: list, start):
    layout = {"layout": ipywidgets.Layout(width="420px"), "style": {"description_width": "140px"}}
    return ipywidgets.SelectionSlider(
        options=[(_label(value), value) for value in values], value=start, description=name.replace("_", " "), **layout
    )


def _label(value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _check_choices(values: dict, starts: dict) -> None:
    for name, options in values.items():
        if not options:
            raise SdlabError(f"There is nothing to choose for {name}: give a list of values, e.g. {name}=[1, 2, 3].")
        if starts[name] not in options:
            raise SdlabError(f"{name} cannot start at {starts[name]!r}: that is none of {options}.")


def _to_bytes(shown) -> bytes:
    """Return a CourseFigure or a PIL picture as a PNG that is quick to make (larger than the stored ones)."""
    import numpy as np
    from PIL import Image

    if hasattr(shown, "canvas"):
        shown.canvas.draw()
        shown = Image.fromarray(np.asarray(shown.canvas.buffer_rgba())).convert("RGB")
    if shown.width < 256:
        shown = shown.resize((256, 256 * shown.height // shown.width), Image.Resampling.NEAREST)
    stream = io.BytesIO()
    shown.save(stream, "PNG", compress_level=1)
    return stream.getvalue()
