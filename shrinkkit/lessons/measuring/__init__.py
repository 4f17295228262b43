"""Lesson 02's room: a model's whole footprint, its roofline, and the judges of its exercises."""

from shrinkkit.lessons.measuring.figures import draw_roofline
from shrinkkit.lessons.measuring.process import footprint
from shrinkkit.measure.tasks.analogies import right_answers
