"""Lesson 10, measured: what a redrawn picture keeps of its source, and a panel to try it."""

import html
import warnings

import numpy as np
import torch

from sdlab import SdlabError, prepare_image, redraw
from sdlab.figures.widgets import to_png
from sdlab.image_to_image import DEFAULT_STRENGTH
from sdlab.images import thumbnails, to_pictures, uploaded_pictures
from sdlab.prompts import PromptWarning

from ..judging import share


def shares(readings, wanted: list[dict], names) -> dict:
    """Return the ``measures.rate`` at which readings show the wanted value, over all pictures and all ``names``."""
    marks = [
        reading.values[name] == values[name]
        for reading, values in zip(readings, wanted, strict=True)
        for name in names
    ]
    return share(sum(marks), len(marks))


def thumbnail_distance(pictures, others) -> torch.Tensor:
    """Return the root mean square [n] between pictures and others, as thumbnails of 32 x 32 pixels in [0, 1]."""
    first, second = (thumbnails([np.asarray(item) for item in to_pictures(part)]) for part in (pictures, others))
    return (first - second).norm(dim=1)


def brightness(pictures) -> np.ndarray:
    """Return the mean [n] of all pixels of each picture: 0 black, 1 white."""
    return np.array([np.asarray(picture).mean() / 255 for picture in to_pictures(pictures)])


def pixels_of(cells: torch.Tensor, factor: int = 8) -> np.ndarray:
    """Return the masks bool [n, H, W] of the pixels under the cells [n, 1, h, w] of latents."""
    large = cells.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)
    return large[:, 0].cpu().numpy() > 0.5


def seam(picture, mask: np.ndarray) -> float:
    """Return the mean jump (0..1) from pixel to pixel across the border of ``mask``, bool [H, W]."""
    pixels = np.asarray(to_pictures(picture)[0]) / 255
    across = np.abs(np.diff(pixels, axis=1)).mean(axis=-1)[mask[:, 1:] != mask[:, :-1]]
    down = np.abs(np.diff(pixels, axis=0)).mean(axis=-1)[mask[1:] != mask[:-1]]
    return float(np.concatenate([across, down]).mean())


def steps_outside(masks: np.ndarray) -> np.ndarray:
    """Return for every pixel how far it lies outside its mask [n, H, W]: 0 inside, then 1, 2, ... (also diagonally)."""
    reached = torch.from_numpy(np.asarray(masks)).float()[:, None]
    far = np.full(reached[:, 0].shape, -1)
    for distance in range(max(far.shape[1:])):
        far[(far < 0) & (reached[:, 0].numpy() > 0)] = distance
        reached = torch.nn.functional.max_pool2d(reached, 3, stride=1, padding=1)
    return far


def change_by_distance(pictures, others, masks: np.ndarray, distances: list[int]) -> list[float]:
    """Return the mean absolute difference of pictures and others at each of ``distances`` (pixels) from the mask."""
    far = steps_outside(masks)
    change = np.stack([
        np.abs(np.asarray(one, dtype=float) - np.asarray(other, dtype=float)).mean(axis=-1) / 255
        for one, other in zip(to_pictures(pictures), to_pictures(others), strict=True)
    ])
    return [float(change[far == distance].mean()) for distance in distances]


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
