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
