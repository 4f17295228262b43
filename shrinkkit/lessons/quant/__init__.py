"""Lesson 03's room: figures for the lesson, and the judges of its exercises."""

from shrinkkit.lessons.quant.figures import draw_bounds, draw_codes, draw_levels_in_use, draw_ways
from shrinkkit.lessons.quant.number_line import draw_number_line, number_line_widget, sample_row
