"""Training loops: a few steps (`descent`), text that a model writes itself, whole runs (`lm`)."""

from shrinkkit.train.self_text import write_windows
