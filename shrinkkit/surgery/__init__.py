"""Find, watch, replace and rescale the parts of a transformers model."""

from shrinkkit.surgery.invariance import norm_groups, rescale
from shrinkkit.surgery.parts import (
    capture_inputs,
    clone,
    decoder_blocks,
    find_linears,
    replace_module,
    watch_inputs,
)

__all__ = [
    "capture_inputs",
    "clone",
    "decoder_blocks",
    "find_linears",
    "norm_groups",
    "replace_module",
    "rescale",
    "watch_inputs",
]
