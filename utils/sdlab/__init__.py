"""Inside Stable Diffusion: the small package under the course.

``import sdlab`` is light; torch and diffusers are imported by the first call that needs them.
"""

from importlib import import_module

from .errors import SdlabError

__version__ = "0.1.0"

_LAZY = {
    "load_pipeline": "pipeline",
    "draw": "drawing",
    "check_prompt": "drawing",
    "show_images": "plotting",
    "contact_sheet": "plotting",
}
__all__ = ["SdlabError", "__version__", *_LAZY]


def __getattr__(name: str):
    """Import the module that holds ``name`` the first time it is asked for."""
    if name not in _LAZY:
        raise AttributeError(f"module 'sdlab' has no attribute {name!r}")
    return getattr(import_module(f".{_LAZY[name]}", __name__), name)


def __dir__() -> list[str]:
    """List the public names, also those not imported yet."""
    return sorted(__all__)
