"""Explore a lesson's numbers by moving sliders: ipywidgets and matplotlib, nothing else.

A widget here redraws the very figure that stands beside it in the lesson, so a reader without a
kernel misses the moving and nothing else. See `shrinkkit.widgets.frontier`.
"""
