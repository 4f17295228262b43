"""What several lessons draw: one style, words beside every picture, sliders that redraw it."""

from shrinkkit.figures.bars import draw_bars
from shrinkkit.figures.block import draw_block
from shrinkkit.figures.chat import answers_table, ask_widget
from shrinkkit.figures.lines import draw_lines
from shrinkkit.figures.style import PALETTE, course_style, show
from shrinkkit.figures.tradeoff import draw_cost, draw_sweep
from shrinkkit.figures.words import count
