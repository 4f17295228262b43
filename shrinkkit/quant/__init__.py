"""Quantization: the same numbers in fewer bits.

Read in this order: `formats` (the grids), `affine` (rounding to a grid), `packing` (bits into
bytes), `linear` (a layer that computes from packed weights) with its `kernels`, `model` (a whole
model) and `io` (saving it). Activations: `activations` (integers times integers), `smoothquant`
(making them easier to round) and `rotation` (making their outliers vanish). With data: `gptq` and
`awq` (better integers and scales for one layer), `calibrated` (for a whole model), `budget` (which
layer gets how many bits), `tuning` (scales that learn from the float model) and `streaming` (for a
checkpoint larger than memory, with `skeleton`, `partial` and `finishing`). For a model that writes:
`kv_rows` and `kv_cache` (what it keeps) and `decoding` (fused projections, a compiled step). With
training: `straight_through` (gradients of a staircase), `qat` (a model that learns on its grid),
`qat_training` (the loop) and `qlora` (an adapter beside frozen integers).
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
from shrinkkit.quant.decoding import compile_decoding, fuse_projections
from shrinkkit.quant.formats import FP8_E4M3, FP8_E5M2, MXFP4, NF4, Format, int_format
from shrinkkit.quant.gptq import Rounded, gptq
from shrinkkit.quant.io import load, save, tensors_of
from shrinkkit.quant.kv_cache import QuantizedKVCache
from shrinkkit.quant.linear import QuantizedEmbedding, QuantizedLinear
from shrinkkit.quant.model import dequantize_model, quantize_model
from shrinkkit.quant.packing import pack, unpack
from shrinkkit.quant.qat import FakeQuantLinear, convert_qat, prepare_qat
from shrinkkit.quant.qat_training import train_qat, write_windows
from shrinkkit.quant.qlora import add_lora, lora_layers, merge_lora
from shrinkkit.quant.rotation import rotate
from shrinkkit.quant.smoothquant import smooth, smooth_quantize, smoothing_scale
from shrinkkit.quant.straight_through import (
    absmean_scale,
    fake_quantize_ste,
    lsq_gradient_scale,
    lsq_qparams,
    lsq_quantize,
    ternarize,
)
from shrinkkit.quant.streaming import gptq_checkpoint
from shrinkkit.quant.tuning import tune_scales

__all__ = [
    "FP8_E4M3",
    "FP8_E5M2",
    "MXFP4",
    "NF4",
    "FakeQuantLinear",
    "Format",
    "QuantizedEmbedding",
    "QuantizedKVCache",
    "QuantizedLinear",
    "Rounded",
    "W8A8Linear",
    "absmean_scale",
    "add_lora",
    "awq_model",
    "choose_formats",
    "choose_qparams",
    "compile_decoding",
    "convert_qat",
    "dequantize",
    "dequantize_model",
    "expand",
    "fake_quantize",
    "fake_quantize_ste",
    "fuse_projections",
    "gptq",
    "gptq_checkpoint",
    "gptq_model",
    "group",
    "input_maxima",
    "int_format",
    "int_matmul",
    "load",
    "lora_layers",
    "lsq_gradient_scale",
    "lsq_qparams",
    "lsq_quantize",
    "merge_lora",
    "pack",
    "prepare_qat",
    "quantize",
    "quantize_activations",
    "quantize_model",
    "quantize_tokens",
    "rotate",
    "save",
    "search_qparams",
    "smooth",
    "smooth_quantize",
    "smoothing_scale",
    "tensors_of",
    "ternarize",
    "train_qat",
    "tune_scales",
    "unpack",
    "write_windows",
]
