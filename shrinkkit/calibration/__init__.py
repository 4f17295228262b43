"""Show a model some text, block by block, and collect what a method needs of it."""

from shrinkkit.calibration.accumulators import Hessian, Maxima, Rows, Several
from shrinkkit.calibration.free_groups import free_groups
from shrinkkit.calibration.stand_ins import Block
from shrinkkit.calibration.walk import Observed, Walk
