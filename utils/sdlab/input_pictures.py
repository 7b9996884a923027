"""A picture of the learner's own as input: from a file, an upload, an array or a drawing, made square and RGB.

``prepare_image`` says in one sentence what is wrong with a source that is no picture, too small or too long.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import SdlabError
from .plotting import to_pictures

SMALLEST = 32  # pixels of the shorter side; below that there is nothing to redraw
LONGEST = 4  # times the shorter side; of longer pictures a square shows too little
MOST_PIXELS = 100_000_000


def prepare_image(source, size: int = 128) -> Image.Image:
    """Return ``source`` as an RGB picture of ``size`` x ``size`` pixels: turned upright, cut to its middle square.

    source: a PIL picture, a path, the bytes of a picture file, a uint8 array or a float tensor in [0, 1].
    Transparent pixels become white, 16-bit greys are scaled to 8 bits, of an animation the first frame is taken.
    Raises SdlabError: no picture, a broken file, a shorter side below 32 pixels, a side 4 times as long as the other.
    """
    picture = to_rgb(read_picture(source))
    short, long = sorted(picture.size)
    if short < SMALLEST:
        raise SdlabError(
            f"The picture has {picture.width} x {picture.height} pixels: each side must have at least {SMALLEST}."
        )
    if long >= LONGEST * short:
        raise SdlabError(
            f"The picture has {picture.width} x {picture.height} pixels: a square would show less than 1/{LONGEST} of "
            "it; crop the part you want first."
        )
    return ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS)


def prepare_mask(source, size: int = 128) -> np.ndarray:
    """Return a mask as bool [size, size], True where it is white or True: there the picture is redrawn.

    source: a bool array [H, W], or whatever ``prepare_image`` takes. Raises SdlabError for a mask without any True.
    """
    if isinstance(source, np.ndarray) and source.dtype == bool:
        source = Image.fromarray(source.astype(np.uint8) * 255)
    mask = np.asarray(prepare_image(source, size).convert("L")) >= 128
    if not mask.any():
        raise SdlabError("The mask is black all over: make white (or True) what is to be redrawn.")
    return mask


def read_picture(source) -> Image.Image:
    """Return ``source`` as a PIL picture in its own mode, completely read; raise SdlabError if it is none."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _open(io.BytesIO(bytes(source)), f"These {len(source):,} bytes")
    if isinstance(source, (str, Path)):
        return _open(_existing(source), str(source))
    if isinstance(source, Image.Image):
        return source
    if isinstance(source, np.ndarray) or hasattr(source, "detach"):
        pictures = to_pictures(source)
        if len(pictures) == 1:
            return pictures[0]
    raise SdlabError(
        f"A picture is a PIL picture, a path, the bytes of a file, or one array; not {type(source).__name__}"
        f"{f' of shape {list(source.shape)}' if hasattr(source, 'shape') else ''}."
    )


def _existing(source) -> Path:
    if "://" in str(source):
        raise SdlabError(f"{source} is an address on the web: download the picture and give the path of the file.")
    path = Path(source).expanduser()
    if not path.is_file():
        raise SdlabError(f"There is no file {source}: check the path (it is taken from the notebook's own folder).")
    return path


def _open(file, name: str) -> Image.Image:
    try:
        with Image.open(file) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise SdlabError(f"{name} has {picture.width} x {picture.height} pixels: make it smaller first.")
            picture.load()
            return picture
    except UnidentifiedImageError:
        raise SdlabError(f"{name} cannot be read as a picture: give a PNG, JPEG, WebP or GIF file.") from None
    except Image.DecompressionBombError:
        raise SdlabError(f"{name} has too many pixels: make the picture smaller first.") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise SdlabError(f"{name} is a damaged picture ({error}): save it again.") from None


def to_rgb(picture: Image.Image) -> Image.Image:
    """Return a PIL picture of any mode upright and in RGB; what is transparent becomes white."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I") or picture.mode == "F":
        return _from_wide(picture)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")
    return picture.convert("RGB")


def _from_wide(picture: Image.Image) -> Image.Image:
    """Scale greys of more than 8 bits: from 0..65535 if a value is above 255, floats from 0..1 if none is above 1."""
    values = np.asarray(picture, dtype=np.float64)
    top = 65535 if values.max() > 255 else 1 if picture.mode == "F" and values.max() <= 1 else 255
    return Image.fromarray((values / top * 255).clip(0, 255).round().astype(np.uint8)).convert("RGB")


def uploaded_pictures(value) -> dict[str, bytes]:
    """Return {file name: bytes} of the ``value`` of an ipywidgets FileUpload, of version 7 (a dict) or 8 (a tuple)."""
    if isinstance(value, dict):
        return {name: bytes(item["content"]) for name, item in value.items()}
    return {item["name"]: bytes(item["content"]) for item in value}
