"""Show a model some text, block by block, and collect what a method needs of it."""

from shrinkkit.calibration.accumulators import Hessian, Maxima
from shrinkkit.calibration.walk import Walk, calibrate

__all__ = ["Hessian", "Maxima", "Walk", "calibrate"]
