"""What every way of steering checks before it touches a pipeline."""

import math

from ..errors import SdlabError


def check_weight(strength) -> float:
    """Return ``strength`` as a float; raise SdlabError if it is not a finite number."""
    if isinstance(strength, bool) or not isinstance(strength, int | float) or not math.isfinite(strength):
        raise SdlabError(f"strength={strength!r} must be a number: 0 is the base model, 1 the trained effect.")
    return float(strength)


def check_fits(wanted: dict, found: dict, *, what: str) -> None:
    """Raise SdlabError unless every shape that an adapter was ``wanted`` for is ``found`` in the model.

    wanted, found: name -> shape. The sentence names the first difference.
    """
    for name, shape in wanted.items():
        if name not in found:
            raise SdlabError(f"This {what} belongs to another model: the U-Net here has no '{name}'.")
        if tuple(shape) != tuple(found[name]):
            raise SdlabError(
                f"This {what} belongs to another model: it was made for {name} of the shape {list(shape)}, "
                f"but here it is {list(found[name])}."
            )
