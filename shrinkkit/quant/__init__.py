"""Quantization: the same numbers in fewer bits.

Read in this order: `grids` (formats, rounding to a grid, bits into bytes: numbers, no layer),
`layers` (a layer that computes from packed weights, and its kernels), `ptq` (a whole model: rounded
without data, or with a little text by GPTQ, AWQ and SmoothQuant), `store` (saving, opening, and
quantizing a checkpoint larger than memory), `kv` (what a model keeps while it writes) and `qat`
(gradients of a staircase, a model that learns on its grid, an adapter beside frozen integers).
"""

from shrinkkit.quant.grids.affine import (
    choose_qparams,
    dequantize,
    expand,
    fake_quantize,
    group,
    quantize,
    search_qparams,
)
from shrinkkit.quant.grids.formats import FP8_E4M3, FP8_E5M2, MXFP4, NF4, Format, int_format
from shrinkkit.quant.grids.packing import pack, unpack
from shrinkkit.quant.kv.cache import QuantizedKVCache
from shrinkkit.quant.kv.rows import mix
from shrinkkit.quant.layers.embedding import QuantizedEmbedding
from shrinkkit.quant.layers.fused import compile_decoding, fuse_projections
from shrinkkit.quant.layers.linear import QuantizedLinear
from shrinkkit.quant.ptq.activations import (
    W8A8,
    W8A8Linear,
    input_maxima,
    int_matmul,
    quantize_activations,
    quantize_tokens,
)
from shrinkkit.quant.ptq.awq import output_error, search_scale
from shrinkkit.quant.ptq.budget import choose_formats
from shrinkkit.quant.ptq.calibrated import AWQ, GPTQ, awq_model, gptq_model
from shrinkkit.quant.ptq.gptq import Rounded, gptq
from shrinkkit.quant.ptq.model import RTN, dequantize_model, quantize_model
from shrinkkit.quant.ptq.rotation import Rotate, outlier_ratio, rotate, rotation_matrix
from shrinkkit.quant.ptq.smoothquant import SmoothQuant, smooth, smooth_quantize, smoothing_scale
from shrinkkit.quant.ptq.tuning import TuneScales, tune_scales
from shrinkkit.quant.qat.adapt import train_qat
from shrinkkit.quant.qat.prepare import FakeQuantLinear, convert_qat, prepare_qat
from shrinkkit.quant.qat.qlora import add_lora, load_lora, lora_layers, merge_lora
from shrinkkit.quant.qat.straight_through import (
    absmean_scale,
    fake_quantize_ste,
    lsq_gradient_scale,
    lsq_qparams,
    lsq_quantize,
    ternarize,
)
from shrinkkit.quant.store.io import load, save, tensors_of
from shrinkkit.quant.store.streaming import gptq_checkpoint
from shrinkkit.train.self_text import write_windows
