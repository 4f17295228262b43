"""A room for each lesson, named after the prefix of its checks, and the chart that they share.

| in a room | what |
| --- | --- |
| `figures` | what the lesson draws, and the widget that redraws it |
| `exercises` | the judges of its exercises: inputs, comparisons, EXERCISES |
| `truths` | what right answers are, worked out without the package |
| `mistakes` | the usual wrong answers, as functions |

A lesson imports its room (`from shrinkkit.lessons.gptq import draw_related`); `checks.check` finds
the judges by the prefix. A figure moves to `figures/` when a second lesson needs it.
"""
