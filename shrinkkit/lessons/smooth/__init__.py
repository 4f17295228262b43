"""Lesson 04's room: figures for the lesson, and the judges of its exercises."""

from shrinkkit.lessons.smooth.figures import (
    draw_channels,
    draw_smoothing,
    sample_layer,
    smoothing_widget,
)
