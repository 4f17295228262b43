"""Lesson 02's room: a model's whole footprint, and the judges of its exercises."""

from shrinkkit.lessons.measuring.process import footprint
