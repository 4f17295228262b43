"""Make a model smaller by a list of steps, each of them data: in Python, or in a YAML file.

small = shrink(model, [SmoothQuant(alpha=0.5), W8A8()], calibration=text.calibration())
small.model, small.rows
"""

from shrinkkit.recipes.apply import Shrunk, shrink
from shrinkkit.recipes.written import read_recipe, write_recipe
