"""Pictures in motion that every notebook viewer shows: an animated PNG.

JupyterLab, GitHub, nbconvert and MyST-NB all show outputs of the type image/png, and browsers play the animation in
it; outputs of the types image/gif and image/webp are dropped by nbconvert and image/webp also by MyST-NB. What cannot
play an animated PNG (a printed page) shows its still picture, which is the last frame.
"""

import base64
import io

from PIL import Image

from ..errors import SdlabError
from ..images import contact_sheet, to_pictures
from .style import _check_alt


class Animation:
    """Frames that show themselves, again and again, with an alt text; ``data`` is the PNG file."""

    kind = "image/png"

    def __init__(self, data: bytes, *, alt: str, width: int):
        self.data, self.alt, self.width = data, alt, width

    def _ipython_display_(self) -> None:
        from IPython.display import display

        metadata = {self.kind: {"alt": self.alt, "width": self.width}}
        display({self.kind: self.to_base64(), "text/plain": self.alt}, metadata=metadata, raw=True)

    def to_base64(self) -> str:
        """Return the file in base64."""
        return base64.b64encode(self.data).decode()


def animate(
    images, *, alt: str, seconds: float = 0.25, last_seconds: float = 2.5, colors: int = 32, pixels: int = 112
) -> Animation:
    """Return an animation of ``images``, each shown for ``seconds`` and the last one longer.

    images: two or more pictures of one size, as for ``show_images``. colors: what all frames share, and pixels: the
    most that a frame is wide; fewer make a smaller file. Shown about 256 pixels wide.
    Raises SdlabError for one picture, or for different sizes.
    """
    frames = to_pictures(images)
    if len(frames) < 2 or len({frame.size for frame in frames}) > 1:
        sizes = sorted({frame.size for frame in frames})
        raise SdlabError(f"An animation needs two or more pictures of one size, not {len(frames)} of sizes {sizes}.")
    scale = min(1.0, pixels / frames[0].width)
    frames = [frame.resize((round(frame.width * scale), round(frame.height * scale))) for frame in frames]
    sheet = contact_sheet(frames, gap=0)
    sheet = sheet.resize((sheet.width // 4, sheet.height // 4), Image.Resampling.NEAREST)  # enough to choose colours by
    palette = sheet.quantize(colors, kmeans=5, dither=Image.Dither.NONE)
    frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    times = [round(1000 * seconds)] * (len(frames) - 1) + [round(1000 * last_seconds)]
    stream = io.BytesIO()
    options = {"save_all": True, "default_image": True, "append_images": frames, "duration": times, "loop": 0}
    frames[-1].save(stream, "PNG", optimize=True, **options)  # the still picture comes first and is no frame
    return Animation(stream.getvalue(), alt=_check_alt(alt), width=max(256, frames[0].width))
