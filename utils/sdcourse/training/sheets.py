"""Sheets of sample pictures beside a run's log."""

from pathlib import Path

import numpy as np
from PIL import Image


def save_sheet(images, file, *, columns=8):
    """Write uint8 pictures [N, H, W, 3] as one PNG, `columns` in a row."""
    images = np.asarray(images)
    height, width = images.shape[1:3]
    rows = -(-len(images) // columns)
    sheet = np.full((rows * height, columns * width, 3), 255, dtype=np.uint8)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = image
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(file)
