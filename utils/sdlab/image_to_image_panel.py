"""A panel to redraw a picture of one's own: upload, prompt, strength and seed beside the input and the result."""

import html
import warnings

from .drawing import PromptWarning
from .errors import SdlabError
from .image_to_image import DEFAULT_STRENGTH, redraw
from .input_pictures import prepare_image, uploaded_pictures
from .widgets import to_png


def redraw_panel(pipe, image, prompt: str, *, strength: float = DEFAULT_STRENGTH, seed: int = 0):
    """Return controls (upload, prompt, strength, seed) beside the picture that goes in and the one that comes out.

    image: shown until one is uploaded; whatever ``prepare_image`` takes. Needs ipywidgets 7.7 or 8.
    Every control can be reached from the keyboard; what cannot be drawn is explained below them.
    """
    import ipywidgets

    wide = {"layout": ipywidgets.Layout(width="420px"), "style": {"description_width": "110px"}}
    late = {"continuous_update": False, **wide}
    upload = ipywidgets.FileUpload(accept="image/*", multiple=False, description="your picture")
    controls = {
        "prompt": ipywidgets.Text(value=prompt, description="prompt", **late),
        "strength": ipywidgets.FloatSlider(value=strength, min=0, max=1, step=0.05, description="strength", **late),
        "seed": ipywidgets.IntSlider(value=seed, min=0, max=99, description="seed", **late),
    }
    before, after = (ipywidgets.Image(format="png", width=256, height=256) for _ in range(2))
    message = ipywidgets.HTML()

    def update(_change=None):
        source = next(iter(uploaded_pictures(upload.value).values()), image)
        values = {name: control.value for name, control in controls.items()}
        pictures, message.value = _redraw_or_explain(pipe, source, values)
        if pictures:
            before.value, after.value = map(to_png, pictures)

    for control in (upload, *controls.values()):
        control.observe(update, names="value")
    update()
    return ipywidgets.HBox([ipywidgets.VBox([upload, *controls.values(), message]), before, after])


def _redraw_or_explain(pipe, source, values: dict) -> tuple[tuple, str]:
    """Return (input, result) and a remark; no pictures, and the reason, when the input cannot be drawn."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", PromptWarning)
            picture = prepare_image(source, pipe.unet.config.sample_size * pipe.vae_scale_factor)
            drawn = redraw(pipe, picture, **values)
    except SdlabError as error:
        return (), html.escape(str(error))
    remarks = [str(item.message) for item in caught if issubclass(item.category, PromptWarning)]
    return (picture, drawn), html.escape(" ".join(remarks))
