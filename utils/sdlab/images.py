"""A picture in every form: a file, an upload, a PIL picture, uint8 numbers, a float tensor in [0, 1] or in [-1, 1].

``prepare_image`` says in one sentence what is wrong with a source that is no picture, too small or too long.
"""

import io
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import SdlabError

SMALLEST = 32  # pixels of the shorter side; below that there is nothing to redraw
LONGEST = 4  # times the shorter side; of longer pictures a square shows too little
MOST_PIXELS = 100_000_000
SHARP = 64  # pictures up to this width are maps of numbers: enlarged by sharp squares, stored without loss


def prepare_image(source, size: int | tuple[int, int] = 128) -> Image.Image:
    """Return ``source`` as an RGB picture of ``size`` (a side, or width and height): upright, cut to its middle.

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
    return ImageOps.fit(picture, (size, size) if isinstance(size, int) else size, Image.Resampling.LANCZOS)


def prepare_mask(source, size: int | tuple[int, int] = 128) -> np.ndarray:
    """Return a mask as bool [size, size], True where it is white or True: there the picture is redrawn.

    source: a bool array [H, W], or whatever ``prepare_image`` takes. Raises SdlabError for a mask without any True.
    """
    mask = np.asarray(prepare_image(_as_mask(source), size).convert("L")) >= 128
    if not mask.any():
        raise SdlabError("The mask is black all over: make white (or True) what is to be redrawn.")
    return mask


def _as_mask(source):
    """Return a mask's source as something opaque: what is transparent in it is black, 0 and 1 are black and white."""
    if hasattr(source, "ndim"):
        source = np.asarray(source.detach().cpu() if hasattr(source, "detach") else source)
        source = source.squeeze() if source.ndim in (3, 4) and 1 in source.shape else source
        whole = source.dtype == bool or (np.issubdtype(source.dtype, np.integer) and source.size and source.max() <= 1)
        return source.astype(np.uint8) * 255 if whole else source
    picture = ImageOps.exif_transpose(read_picture(source))
    if not picture.has_transparency_data:
        return picture
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture).convert("RGB")


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


def as_pictures(images: torch.Tensor) -> list[np.ndarray]:
    """Return uint8 pictures [H, W, 3] of a batch [N, 3, H, W] around [-1, 1]; what lies outside is cut off."""
    if images.ndim != 4 or images.shape[1] != 3:
        raise SdlabError(f"A batch of pictures has the shape [N, 3, H, W], not {list(images.shape)}.")
    bytes_ = (images.float().cpu().clamp(-1, 1) / 2 + 0.5).mul(255).round().byte()
    return list(bytes_.permute(0, 2, 3, 1).numpy())


def same_width(pictures, width: int = 192) -> list:
    """Return PIL pictures, all ``width`` pixels wide: small maps of numbers enlarged by sharp squares."""
    from PIL import Image

    return [
        picture.resize(
            (width, round(width * picture.height / picture.width)),
            Image.Resampling.NEAREST if picture.width <= SHARP else Image.Resampling.LANCZOS,
        )
        for picture in to_pictures(pictures)
    ]


def to_batch(images, device="cpu") -> torch.Tensor:
    """Turn uint8 pictures [N, H, W, 3] (list, array or tensor) into floats [N, 3, H, W] in [-1, 1], as a VAE takes."""
    batch = images if isinstance(images, torch.Tensor) else torch.from_numpy(np.stack(images))
    return batch.to(device).permute(0, 3, 1, 2).float() / 127.5 - 1


def thumbnails(images) -> torch.Tensor:
    """Return pictures as rows whose Euclidean distance is the root mean square over 32x32 thumbnails in [0, 1]."""
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    small = torch.nn.functional.interpolate(batch, size=(32, 32), mode="area").flatten(1)
    return small / math.sqrt(small.shape[1])




def latent_picture(latents):
    """Show latents [1, 4, h, w] as a small RGB picture, uint8 [h, w, 3]: three of the channels, stretched to 0..255."""
    import numpy as np

    channels = latents[0, :3].float().cpu().numpy().transpose(1, 2, 0)
    low, high = np.quantile(channels, [0.01, 0.99])
    return (np.clip((channels - low) / (high - low), 0, 1) * 255).astype(np.uint8)
