"""The course's one matplotlib style, and figures that show themselves with an alt text.

A figure shows itself in a notebook with its description: as ``alt`` in the metadata of the PNG, which nbconvert and
others turn into the HTML attribute, and as the output's plain text.
"""

import base64
import io

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageFile

from ..errors import SdlabError

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


def _check_alt(alt: str) -> str:
    if not isinstance(alt, str) or not alt.strip():
        raise SdlabError(
            f"alt={alt!r} is empty: say in words what the figure shows, for readers who cannot see it."
        )
    return " ".join(alt.split())
