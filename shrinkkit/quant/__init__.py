"""Quantization: the same numbers in fewer bits.

Read in this order: `formats` (the grids), `affine` (rounding to a grid), `packing` (bits into
bytes), `linear` (a layer that computes from packed weights) with its `kernels`, `model` (a whole
model) and `io` (saving it). Activations: `activations` (integers times integers) and `smoothquant`
(making them easier to round). With data: `gptq` and `awq` (better integers and scales for one
layer), `calibrated` (for a whole model), `budget` (which layer gets how many bits), `tuning`
(scales that learn from the float model) and `streaming` (for a checkpoint larger than memory, with
`skeleton`, `partial` and `finishing`). For what a model keeps while it writes: `kv_rows` and
`kv_cache`.
"""

from shrinkkit.quant.activations import (
    W8A8Linear,
    input_maxima,
    int_matmul,
    quantize_activations,
    quantize_tokens,
)
from shrinkkit.quant.affine import (
    choose_qparams,
    dequantize,
    expand,
    fake_quantize,
    group,
    quantize,
    search_qparams,
)
from shrinkkit.quant.budget import choose_formats
from shrinkkit.quant.calibrated import awq_model, gptq_model
from shrinkkit.quant.formats import FP8_E4M3, FP8_E5M2, MXFP4, NF4, Format, int_format
from shrinkkit.quant.gptq import Rounded, gptq
from shrinkkit.quant.io import load, save, tensors_of
from shrinkkit.quant.kv_cache import QuantizedKVCache
from shrinkkit.quant.linear import QuantizedEmbedding, QuantizedLinear
from shrinkkit.quant.model import dequantize_model, quantize_model
from shrinkkit.quant.packing import pack, unpack
from shrinkkit.quant.smoothquant import smooth, smooth_quantize, smoothing_scale
from shrinkkit.quant.streaming import gptq_checkpoint
from shrinkkit.quant.tuning import tune_scales

__all__ = [
    "awq_model",
    "FP8_E4M3",
    "FP8_E5M2",
    "MXFP4",
    "NF4",
    "Format",
    "QuantizedEmbedding",
    "QuantizedKVCache",
    "QuantizedLinear",
    "Rounded",
    "W8A8Linear",
    "choose_formats",
    "choose_qparams",
    "dequantize",
    "dequantize_model",
    "expand",
    "fake_quantize",
    "gptq",
    "gptq_checkpoint",
    "gptq_model",
    "group",
    "input_maxima",
    "int_format",
    "int_matmul",
    "load",
    "pack",
    "quantize",
    "quantize_activations",
    "quantize_model",
    "quantize_tokens",
    "save",
    "search_qparams",
    "smooth",
    "smooth_quantize",
    "smoothing_scale",
    "tensors_of",
    "tune_scales",
    "unpack",
]
