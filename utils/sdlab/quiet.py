"""Keep diffusers and transformers quiet where what they print says nothing to a learner."""

from contextlib import contextmanager


@contextmanager
def quiet(*, progress: bool = False):
    """Switch off the libraries' loading bars (unless ``progress``) and chatter below errors; restore both."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    libraries = (diffusers_logging, transformers_logging)
    before = [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries]
    try:
        for library in libraries:
            library.set_verbosity_error()
            if not progress:
                library.disable_progress_bar()
        yield
    finally:
        for library, (verbosity, bar) in zip(libraries, before, strict=True):
            library.set_verbosity(verbosity)
            if bar:
                library.enable_progress_bar()
