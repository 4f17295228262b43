"""The packed layer: every kernel against the de-quantised weight, storage, dtypes, gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import linear

from shrinkkit.errors import InputError
from shrinkkit.quant import (
    NF4,
    Format,
    QuantizedEmbedding,
    QuantizedLinear,
    W8A8Linear,
    choose_qparams,
    int_format,
    quantize,
)
from shrinkkit.quant.layers import kernels
from tests.tiny import normal

FORMATS = {
    "int8": int_format(8),
    "int8-tensor": Format(8, True, "per_tensor"),
    "int8-asymmetric": int_format(8, symmetric=False),
    "int8-exact-scales": int_format(8, scale_bits=32),
    "int4-g64": int_format(4, group_size=64),
    "int4-g128-short": int_format(4, group_size=128),
    "int4-g32-symmetric": int_format(4, group_size=32, symmetric=True),
    "int4-row": int_format(4, symmetric=False),
    "int4-g48": int_format(4, group_size=48),
    "int3-g64": int_format(3, group_size=64),
    "int2-row": int_format(2, symmetric=False),
    "int4-g32-small-scales": int_format(4, group_size=32, scale_bits=6),
    "int3-g32-small-scales": int_format(3, group_size=32, scale_bits=5),
    "nf4": NF4,
}
EXPECTED_KERNEL = {
    "int8": "int8", "int8-tensor": "int8", "int4-g64": "int4", "int4-g128-short": "int4",
    "int4-g32-symmetric": "int4", "int4-row": "int4", "int4-g32-small-scales": "int4",
}  # fmt: skip


def packable(out_features, in_features, bias=False):
    layer = nn.Linear(in_features, out_features, bias=bias)
    with torch.no_grad():
        layer.weight.copy_(normal(out_features, in_features))
        if bias:
            layer.bias.copy_(normal(out_features, seed=7))
    return layer


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("shape", [(64, 192), (48, 576)], ids=str)
@pytest.mark.parametrize("rows", [1, 7, 40, 300])
def test_every_kernel_computes_from_the_dequantized_weight(name, shape, rows):
    layer = packable(*shape, bias=True)
    packed = QuantizedLinear.from_linear(layer, FORMATS[name])
    x = normal(rows, shape[1])
    expected = linear(x, packed.dequantize(), layer.bias)
    with torch.no_grad():
        got = packed(x)
    assert got.dtype == x.dtype
    assert got.shape == expected.shape
    # bfloat16 keeps 8 bits of each x: a relative error near 2**-9 of the row's size
    assert (got - expected).norm() <= 0.004 * expected.norm()


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("shape", [(64, 192), (48, 576), (128, 256)], ids=str)
def test_integers_and_some_rows_come_back_exactly_from_every_layout(name, shape):
    fmt = FORMATS[name]
    weight = packable(*shape).weight.detach()
    scale, zero_point = choose_qparams(weight, fmt)
    q = quantize(weight, scale, zero_point, fmt)
    packed = QuantizedLinear.from_integers(q, scale, zero_point, fmt)
    got_q, got_scale, got_zero = packed.qparams()
    assert torch.equal(got_q, q)
    assert got_q.dtype == q.dtype
    assert torch.equal(got_scale, scale)
    assert torch.equal(got_zero, zero_point)
    index = torch.tensor([[shape[0] - 1, 0, 33], [33, 17, 47]])
    assert torch.equal(packed.rows(index), packed.dequantize()[index])


def test_the_expected_kernels_run_where_torch_has_them():
    chosen = {
        name: QuantizedLinear.from_linear(packable(64, 192), fmt).kernel
        for name, fmt in FORMATS.items()
    }
    known = {
        "int8": hasattr(torch.ops.aten, "_weight_int8pack_mm"),
        "int4": hasattr(torch.ops.aten, "_weight_int4pack_mm_for_cpu"),
    }
    expected = {name: EXPECTED_KERNEL.get(name, "unpack") for name in FORMATS}
    assert chosen == {n: k if known.get(k, True) else "unpack" for n, k in expected.items()}


@pytest.mark.parametrize("name", ["int8", "int4-g64", "int3-g64"])
def test_a_missing_kernel_falls_back_to_the_same_numbers(name, monkeypatch):
    layer, x = packable(64, 192), normal(3, 192)
    fast = QuantizedLinear.from_linear(layer, FORMATS[name])
    monkeypatch.setattr("shrinkkit.quant.layers.linear.choose_kernel", lambda *a: kernels.UNPACK)
    slow = QuantizedLinear.from_linear(layer, FORMATS[name])
    assert slow.kernel == "unpack"
    assert torch.equal(fast.dequantize(), slow.dequantize())
    with torch.no_grad():
        torch.testing.assert_close(fast(x), slow(x), rtol=0.02, atol=0.12)


@pytest.mark.parametrize(
    ("bfloat16", "vnni", "tolerance"),
    [(True, True, 4e-3), (False, True, 1e-4), (False, False, 1e-5)],
    ids=["bfloat16-units", "vnni-only", "neither"],
)
def test_int8_prefill_gives_the_same_answer_on_every_processor(
    bfloat16, vnni, tolerance, monkeypatch
):
    packed, x = QuantizedLinear.from_linear(packable(64, 192), FORMATS["int8"]), normal(32, 192)
    expected = linear(x, packed.dequantize())
    monkeypatch.setattr(kernels.kernel, "has_bfloat16_units", lambda: bfloat16)
    monkeypatch.setattr(kernels.kernel, "has_vnni", lambda: vnni)
    with torch.no_grad():
        assert (packed(x) - expected).norm() <= tolerance * expected.norm()


def test_an_unknown_4_bit_layout_is_read_through_the_identity(monkeypatch):
    packed = QuantizedLinear.from_linear(packable(64, 192), FORMATS["int4-g64"])
    expected = packed.integers()
    monkeypatch.setattr(kernels.int4, "_layout", lambda: None)
    assert torch.equal(packed.integers(), expected)


@pytest.mark.parametrize(
    ("name", "bits"), [("int8", 8), ("int4-g64", 4.5), ("int3-g64", 3 + 24 / 64)]
)
def test_bytes_in_memory_are_the_packed_ones(name, bits):
    packed = QuantizedLinear.from_linear(packable(512, 576), FORMATS[name])
    assert packed.nbytes * 8 / (512 * 576) == pytest.approx(bits, abs=0.07)
    assert packed.nbytes == sum(t.untyped_storage().nbytes() for t in packed.buffers())


@pytest.mark.parametrize("name", ["int4-g64", "w8a8"])
def test_gradients_reach_what_stands_in_front(name):
    packed = QuantizedLinear.from_linear(packable(64, 192), FORMATS.get(name, FORMATS["int8"]))
    packed = W8A8Linear.from_quantized(packed) if name == "w8a8" else packed
    x = normal(2, 192).requires_grad_()
    packed(x).sum().backward()
    torch.testing.assert_close(x.grad, packed.dequantize().sum(0).expand(2, -1))


def test_casting_the_model_leaves_packed_tensors_alone():
    packed = QuantizedLinear.from_linear(packable(64, 192, bias=True), FORMATS["int4-g64"])
    before = packed.dequantize()
    cast = copy.deepcopy(packed).to(torch.float16).float().bfloat16()
    assert torch.equal(cast.dequantize(), before)
    assert cast.bias.dtype == torch.bfloat16
    assert cast(normal(2, 192).bfloat16()).dtype == torch.bfloat16
    assert kernels.choose_kernel(packed.format, packed.shape, "cuda").name == "unpack"


@pytest.mark.parametrize("name", ["int8", "int4-g64", "int3-g64", "nf4", "int8-tensor"])
def test_embedding_looks_up_the_dequantized_rows(name):
    table = QuantizedLinear.from_linear(packable(64, 192), FORMATS[name])
    index = torch.tensor([[0, 5], [63, 5]])
    torch.testing.assert_close(QuantizedEmbedding(table)(index), table.dequantize()[index])
    tied = QuantizedEmbedding(table, tied=True)
    assert torch.equal(tied(index), QuantizedEmbedding(table)(index))
    assert not list(tied.buffers())
    assert list(QuantizedEmbedding(table).buffers())
    pair = copy.deepcopy(nn.ModuleList([table, tied]))
    assert pair[1].source is pair[0]


def test_nan_weights_and_large_groups_are_refused():
    layer = packable(16, 32)
    with torch.no_grad():
        layer.weight[3, 4] = float("nan")
    with pytest.raises(InputError, match="1 NaN"):
        QuantizedLinear.from_linear(layer, int_format(8))
    with pytest.raises(InputError, match="group_size=64 is larger than the row"):
        QuantizedLinear.from_linear(packable(16, 32), int_format(4, group_size=64))
