"""Change what the skip connections of a U-Net carry while it draws: thinned, blurred, or none at all."""

from contextlib import ExitStack

import torch

from ..compat import right_hand_blocks, unet_of
from ..errors import SdlabError, context
from .recording import check_positions

SKIPS = "skips"


@context
def edit_skips(pipe, edit, skips):
    """Give the skip connections ``skips`` to ``edit`` before they are read: ``with edit_skips(pipe, blur, [11]): ...``.

    edit: function of maps [images, channels, height, width] that returns such maps. skips: numbers as in
    ``unet_table(pipe).skips``, 0 is read first. The U-Net is as before afterwards, also after an error.
    Raises SdlabError for a number that is no skip connection.
    """
    readers = list(_skip_readers(unet_of(pipe)).values())
    if not callable(edit):
        raise SdlabError(f"edit={edit!r} must be a function of maps [images, channels, height, width].")
    skips = check_positions("skips", skips) if skips else ()
    wrong = [number for number in skips if number not in range(len(readers))]
    if wrong:
        raise SdlabError(f"There is no skip connection {wrong[0]!r}: this U-Net has 0 to {len(readers) - 1}.")
    with ExitStack() as stack:
        for number in skips:
            reader, below = readers[number]
            stack.callback(reader.register_forward_pre_hook(_editor(edit, below)).remove)
        yield


def _editor(edit, below: int):
    def hook(_module, args):
        hidden_states, *rest = args
        return torch.cat([hidden_states[:, :below], edit(hidden_states[:, below:])], dim=1), *rest

    return hook


def _skip_readers(unet) -> dict:
    """Return {'skips.i': (right-hand ResnetBlock, how many of its input channels come from below)}."""
    return {f"{SKIPS}.{number}": found[1:] for number, found in enumerate(right_hand_blocks(unet))}
