"""Lesson 07's room: figures for the lesson, and the judges of its exercises."""

from shrinkkit.lessons.qat.figures import (
    draw_methods,
    draw_staircase,
    draw_step_gradient,
    staircase_widget,
)
