"""The course's one matplotlib style, and pictures in a row with their titles and an alt text.

Figures show themselves in a notebook with their description: as ``alt`` in the metadata of the PNG, which
nbconvert and others turn into the HTML attribute, and as the output's plain text.
"""

import base64
import io
import math

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageFile

from .errors import SdlabError

# Okabe and Ito's colours, which people with any kind of colour vision can tell apart
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
STYLE = {
    "axes.prop_cycle": matplotlib.cycler(color=COLORS),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 11,
    "grid.color": "#dddddd",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "legend.frameon": False,
    "lines.linewidth": 2,
    "image.cmap": "viridis",
    "figure.facecolor": "white",
}
DPI = 100
MAX_WIDTH = 960  # pixels: what a notebook's column shows without scaling
SHARP = 64  # pictures up to this width are maps of numbers: enlarged by sharp squares, stored without loss
_GAP = 8
_TITLE = 22  # pixels for one line of a title


class CourseFigure(Figure):
    """A matplotlib figure that shows itself once, small, and with an alt text."""

    alt = ""
    kind = "image/png"  # "image/jpeg" for figures that hold nothing but pictures
    quality = 84  # of a JPEG; less for many small pictures

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(
            {self.kind: self.to_base64(), "text/plain": self.alt},
            metadata={self.kind: {"alt": self.alt}},
            raw=True,
        )

    def to_base64(self) -> str:
        """Return the figure in base64: a PNG of at most 256 colours, or a JPEG, whichever ``kind`` says."""
        with matplotlib.rc_context(STYLE):
            self.canvas.draw()
        picture = Image.fromarray(np.asarray(self.canvas.buffer_rgba())).convert("RGB")
        stream = io.BytesIO()
        if self.kind == "image/jpeg":
            ImageFile.MAXBLOCK = max(ImageFile.MAXBLOCK, 3 * picture.width * picture.height)  # pure noise needs it
            picture.save(stream, "JPEG", quality=self.quality, subsampling=0, optimize=True)
        else:
            picture.quantize(256, dither=Image.Dither.NONE).save(stream, "PNG", optimize=True)
        return base64.b64encode(stream.getvalue()).decode()


def new_figure(rows: int = 1, columns: int = 1, *, alt: str, width: float = 8.0, height: float = 3.2):
    """Return a figure of ``width`` x ``height`` inches in the course's style, and its axes.

    Like ``plt.subplots``; ``alt`` says in words what the figure shows. End the cell with the figure to show it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with matplotlib.rc_context(STYLE):
        figure = CourseFigure(figsize=(width, height), dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        figure.alt = _check_alt(alt)
        return figure, figure.subplots(rows, columns)


def show_images(
    images, titles=None, *, columns: int | None = None, scale: float | None = None, alt: str | None = None
) -> CourseFigure:
    """Return a figure with the pictures in rows, each with its title.

    images: one or many PIL pictures, uint8 arrays or float tensors in [0, 1]; [h, w, 3], [3, h, w] or [h, w].
    columns: pictures in a row; by default all, up to 6. scale: screen pixels for a pixel of the picture.
    alt: what is to be seen, in words; by default made from the titles.
    Raises SdlabError for values outside [0, 1], other shapes, or as many titles as there are not pictures.
    """
    pictures = to_pictures(images)
    titles = [titles] if isinstance(titles, str) else list(titles or [])
    if titles and len(titles) != len(pictures):
        raise SdlabError(
            f"There are {len(pictures)} pictures but {len(titles)} titles: give one title a picture."
        )
    columns = min(columns or 6, len(pictures))
    kind = "image/jpeg" if max(picture.width for picture in pictures) > SHARP else "image/png"
    pictures = [_resize(picture, _scale(picture, columns, scale)) for picture in pictures]
    figure = _picture_grid(pictures, titles, columns)
    figure.kind = kind
    figure.alt = _check_alt(alt or _default_alt(len(pictures), titles))
    return figure


def contact_sheet(images, columns: int = 8, *, gap: int = 2) -> Image.Image:
    """Return one PIL picture with all ``images`` in rows of ``columns``, ``gap`` white pixels apart."""
    pictures = to_pictures(images)
    columns = min(columns, len(pictures))
    width = max(picture.width for picture in pictures) + gap
    height = max(picture.height for picture in pictures) + gap
    sheet = Image.new(
        "RGB", (columns * width - gap, math.ceil(len(pictures) / columns) * height - gap), "white"
    )
    for index, picture in enumerate(pictures):
        sheet.paste(picture, (index % columns * width, index // columns * height))
    return sheet


def to_pictures(images) -> list[Image.Image]:
    """Return RGB PIL pictures of one picture, a list of them, or a batch [n, h, w, 3] or [n, 3, h, w]."""
    if isinstance(images, Image.Image) or (hasattr(images, "ndim") and images.ndim in (2, 3)):
        images = [images]
    pictures = [_to_picture(image) for image in images]
    if not pictures:
        raise SdlabError("There is no picture to show: the list is empty.")
    return pictures


def _to_picture(image) -> Image.Image:
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    if hasattr(image, "detach"):
        image = image.detach().float().cpu().numpy()
    image = np.asarray(image)
    if image.ndim == 3 and image.shape[0] in (1, 3) and image.shape[-1] not in (1, 3):
        image = image.transpose(1, 2, 0)
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[-1] != 3):
        raise SdlabError(f"A picture has the shape [h, w, 3], [3, h, w] or [h, w], not {list(image.shape)}.")
    return Image.fromarray(_to_uint8(image)).convert("RGB")


def _to_uint8(image: np.ndarray) -> np.ndarray:
    if image.dtype == np.uint8:
        return image
    image = image.astype(np.float32)
    if not (image.min() >= -1e-4 and image.max() <= 1 + 1e-4):  # also catches NaN
        raise SdlabError(
            f"A float picture has values in [0, 1], not {image.min():.3g} to {image.max():.3g}: "
            "rescale it, for example (image / 2 + 0.5).clamp(0, 1)."
        )
    return (image.clip(0, 1) * 255).round().astype(np.uint8)


def _scale(picture: Image.Image, columns: int, scale: float | None) -> float:
    """Return ``scale``, or one that makes small pictures at least 128 pixels wide and lets the row fit."""
    wanted = scale or max(1, round(128 / picture.width))
    return min(wanted, (MAX_WIDTH / columns - _GAP) / picture.width)


def _resize(picture: Image.Image, scale: float) -> Image.Image:
    """Enlarge small maps by sharp squares, everything else smoothly."""
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    sharp = scale > 1 and picture.width <= SHARP
    return picture.resize(size, Image.Resampling.NEAREST if sharp else Image.Resampling.LANCZOS)


def _picture_grid(pictures: list[Image.Image], titles: list[str], columns: int) -> CourseFigure:
    """Place every picture on whole pixels, so that it is stored exactly as it is."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    cell_width = max(picture.width for picture in pictures) + _GAP
    lines = max((title.count("\n") + 1 for title in titles), default=0)
    cell_height = max(picture.height for picture in pictures) + _GAP + _TITLE * lines
    rows = math.ceil(len(pictures) / columns)
    width, height = columns * cell_width, rows * cell_height
    with matplotlib.rc_context(STYLE):
        figure = CourseFigure(figsize=(width / DPI, height / DPI), dpi=DPI)
        FigureCanvasAgg(figure)
        for index, picture in enumerate(pictures):
            left = index % columns * cell_width + _GAP // 2
            bottom = height - (index // columns + 1) * cell_height + _GAP // 2
            axes = figure.add_axes(
                (left / width, bottom / height, picture.width / width, picture.height / height)
            )
            axes.imshow(picture, interpolation="none", aspect="auto")
            axes.set_axis_off()
            if titles:
                axes.set_title(titles[index], fontsize=_title_size(titles, cell_width), pad=3)
    return figure


def _title_size(titles: list[str], cell_width: int) -> float:
    """Return the font size at which the longest line of the titles fits above its picture."""
    longest = max(len(line) for title in titles for line in title.split("\n"))
    return max(6.0, min(10.0, cell_width / max(1, longest) / 0.85))


def _default_alt(count: int, titles: list[str]) -> str:
    start = "A picture" if count == 1 else f"{count} pictures"
    named = "; ".join(title.replace("\n", " ") for title in titles if title)
    return f"{start}: {named}" if named else start


def _check_alt(alt: str) -> str:
    if not isinstance(alt, str) or not alt.strip():
        raise SdlabError(
            f"alt={alt!r} is empty: say in words what the figure shows, for readers who cannot see it."
        )
    return " ".join(alt.split())
