"""Lesson 08's room: figures for the lesson, and the judges of its exercises."""

from shrinkkit.lessons.kv.figures import (
    draw_bits,
    draw_channels,
    draw_growth,
    draw_sawtooth,
    draw_serving,
    kv_widget,
)
