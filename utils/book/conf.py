"""Sphinx's settings for the book; ``build.py`` beside this file lays out the pages and calls Sphinx."""

from pages import add_alt_texts

project = "Inside Stable Diffusion"
author = "the authors of Inside Stable Diffusion"
copyright = "The authors; text and figures CC BY 4.0, code Apache-2.0"
language = "en"

extensions = ["myst_nb", "sphinx-mathjax-offline"]
exclude_patterns = ["_build"]
nb_execution_mode = "off"  # the pages show what is stored in the notebooks; tests run them
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 4
myst_heading_slug_func = "pages.jupyter_anchor"
suppress_warnings = ["misc.highlighting_failure"]  # a cell may begin with Jupyter's % or !

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_show_sourcelink = False
html_theme_options = {
    "use_download_button": True,
    "use_fullscreen_button": True,
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "home_page_in_toc": True,
}


def setup(app):
    """Give every picture the description that is stored with it."""
    app.connect("doctree-read", add_alt_texts)
