"""Controls for the lessons, from what ipywidgets 7.7 and 8.1 have in common; each stands beside a static figure."""

import io

from .drawing import DEFAULT_GUIDANCE, DEFAULT_STEPS, SAMPLERS, PromptWarning, draw
from .errors import SdlabError


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
    import ipywidgets

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
