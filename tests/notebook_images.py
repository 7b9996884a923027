"""Compare the pictures of a notebook loosely: nbval compares text and leaves pictures out."""

import base64
import io

import numpy as np
from PIL import Image

LARGEST_DIFFERENCE = 0.02
FORMATS = ("image/png", "image/jpeg")


def pictures_of(outputs) -> list[str]:
    """Return the base64 text of every picture among a cell's outputs."""
    bundles = [output.get("data", {}) for output in outputs]
    return [bundle[kind] for bundle in bundles for kind in FORMATS if kind in bundle]


def thumbnail(picture: str) -> np.ndarray:
    """Return a picture as [48, 48, 3] numbers in [0, 1], each the mean of a box."""
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    return np.asarray(image.resize((48, 48), Image.Resampling.BOX), dtype=np.float32) / 255


def difference(stored: str, fresh: str) -> float:
    """Return the root mean square difference of two pictures, seen from afar."""
    return float(np.sqrt(np.mean((thumbnail(stored) - thumbnail(fresh)) ** 2)))


def count_pictures(stored_outputs, fresh_outputs) -> str:
    """Return that another number of pictures is shown, in one sentence; empty if it is the same."""
    stored, fresh = len(pictures_of(stored_outputs)), len(pictures_of(fresh_outputs))
    return f"The cell shows {fresh} pictures; {stored} are stored." if stored != fresh else ""


def picture_distance(stored_outputs, fresh_outputs) -> float:
    """Return the largest difference of the pictures of two runs of a cell, one by one; 0 if there are none."""
    pairs = zip(pictures_of(stored_outputs), pictures_of(fresh_outputs), strict=False)
    return max((difference(*pair) for pair in pairs), default=0.0)


def compare_pictures(stored_outputs, fresh_outputs) -> str:
    """Return what differs between the pictures of two runs of a cell, in one sentence; empty if nothing does."""
    if problem := count_pictures(stored_outputs, fresh_outputs):
        return problem
    for number, pair in enumerate(zip(pictures_of(stored_outputs), pictures_of(fresh_outputs), strict=True), 1):
        if (found := difference(*pair)) > LARGEST_DIFFERENCE:
            return f"Picture {number} differs from the stored one: RMSE {found:.3f} > {LARGEST_DIFFERENCE}."
    return ""
