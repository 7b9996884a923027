"""The house style of figures, pictures in rows, heat maps over pictures, the letter U, and controls.

Every figure carries an ``alt`` text, shows itself at the end of a cell, and stands for itself without a kernel.
"""

from .animation import animate
from .attention import overlay, short_names, show_heat_maps, show_map_grid, show_text_attention, show_token_mass
from .pictures import picture_table, show_images, show_rows
from .style import COLORS, CourseFigure, new_figure
from .tables import Table
from .unet import draw_unet
from .widgets import drawing_panel, explore

__all__ = [
    "COLORS",
    "CourseFigure",
    "Table",
    "animate",
    "draw_unet",
    "drawing_panel",
    "explore",
    "new_figure",
    "overlay",
    "picture_table",
    "short_names",
    "show_heat_maps",
    "show_images",
    "show_map_grid",
    "show_rows",
    "show_text_attention",
    "show_token_mass",
]
