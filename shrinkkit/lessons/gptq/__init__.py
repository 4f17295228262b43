"""Lesson 05's room: figures for the lesson, and the judges of its exercises."""

from shrinkkit.lessons.gptq.figures import draw_related, draw_two_weights, surgery_widget
