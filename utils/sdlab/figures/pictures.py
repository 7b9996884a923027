"""Pictures in rows, with their titles: enlarged sharply where they are maps of numbers, smoothly elsewhere."""

import math

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..errors import SdlabError
from ..images import SHARP, to_pictures
from .style import DPI, STYLE, CourseFigure, _check_alt, new_figure

MAX_WIDTH = 960  # pixels: what a notebook's column shows without scaling
_GAP = 8
_TITLE = 22  # pixels for one line of a title
QUALITY = 35  # of the many small pictures in this lesson


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


def picture_table(
    rows: dict[str, list], columns: list[str], *, alt: str, notes: dict[str, list[str]] | None = None, size: float = 1.0
) -> CourseFigure:
    """Return pictures in named rows and columns, each with a short note under it.

    rows: name -> pictures, as many as ``columns``. notes: name -> texts. size: inches of a picture.
    """
    if any(len(pictures) != len(columns) for pictures in rows.values()):
        raise SdlabError(f"Every row must have {len(columns)} pictures: one for each of the columns.")
    longest = max((len(line) for name in rows for line in name.split("\n")), default=0)
    beside, gap, under = 0.12 + 0.082 * longest, 0.06, 0.2 if notes else 0.0
    above = 0.05 + 0.17 * max((name.count("\n") + 1 for name in columns if name), default=0)
    width = beside + (size + gap) * len(columns)
    height = above + (size + gap + under) * len(rows)
    figure, axes = new_figure(len(rows), len(columns), alt=alt, width=width, height=height)
    figure.set_layout_engine("none")
    figure.kind, figure.quality = "image/jpeg", QUALITY
    for line, (name, pictures) in enumerate(rows.items()):
        bottom = height - above - size - line * (size + gap + under)
        for column, picture in enumerate(to_pictures(pictures)):
            axis = np.asarray(axes).reshape(len(rows), len(columns))[line, column]
            left = beside + column * (size + gap)
            axis.set_position((left / width, bottom / height, size / width, size / height))
            axis.imshow(picture)
            axis.set_axis_off()
            axis.set_title(columns[column] if line == 0 else "", fontsize=9.5, pad=3)
            note = (notes or {}).get(name, [""] * len(columns))[column]
            figure.text((left + size / 2) / width, (bottom - 0.03) / height, note, ha="center", va="top", fontsize=8.5)
        figure.text((beside - 0.08) / width, (bottom + size / 2) / height, name, ha="right", va="center", fontsize=9.5)
    return figure


def show_rows(rows: dict, columns: list | None = None, *, alt: str, size: int = 60) -> CourseFigure:
    """Return rows of pictures, label -> pictures, each ``size`` pixels wide, stored small.

    columns: what stands below each column; by default its number, from 1.
    """
    columns = columns or list(range(1, 1 + max(len(pictures) for pictures in rows.values())))
    font, step, line = ImageFont.load_default(13), size + 3, 20
    sheet = Image.new("RGB", (len(columns) * step, len(rows) * (step + line) + line), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (label, pictures) in enumerate(rows.items()):
        top = row * (step + line)
        draw.text((1, top + 2), str(label), fill="black", font=font)
        for column, picture in enumerate(to_pictures(pictures)):
            sheet.paste(picture.resize((size, size), Image.Resampling.LANCZOS), (column * step, top + line))
    for column, label in enumerate(columns):
        draw.text((column * step + size // 2, sheet.height - line), str(label), fill="black", font=font, anchor="ma")
    figure = show_images(sheet, scale=1, alt=alt)
    figure.quality = 66
    return figure
