"""Lesson 06's room: figures for the lesson, and the judges of its exercises."""

from shrinkkit.lessons.awq.figures import draw_ranked, draw_scaling, scaling_widget
