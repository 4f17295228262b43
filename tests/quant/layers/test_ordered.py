"""A packed layer whose groups are not runs of columns."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from shrinkkit.errors import InputError
from shrinkkit.export.pack_quantized import scheme_of
from shrinkkit.quant import Format, QuantizedLinear, dequantize, dequantize_model
from shrinkkit.quant.layers.fused import stack
from shrinkkit.quant.layers.ordered import OrderedLinear
from tests.tiny import normal

FMT = Format(4, False, "per_group", 16, scale_bits=32)
FAST = Format(4, False, "per_group", 32)  # torch's 4-bit kernel


def made(fmt: Format = FMT, out: int = 32, columns: int = 96, *, bias: bool = False):
    """Return (a layer, the weight that it means), the groups drawn."""
    draw = torch.Generator().manual_seed(0)
    q = torch.randint(16, (out, columns), generator=draw)
    n_groups = columns // fmt.group_size
    scale = (torch.rand(out, n_groups, generator=draw) + 0.5).bfloat16().float()
    zero_point = torch.randint(16, (out, n_groups), generator=draw)
    index = (torch.randperm(columns, generator=draw) // fmt.group_size).int()
    weight = torch.stack(
        [scale[:, g] * (q[:, j] - zero_point[:, g]) for j, g in enumerate(index.tolist())], dim=1
    )
    own = normal(out) if bias else None
    return OrderedLinear.from_group_index(q, scale, zero_point, index, fmt, own), weight, q, index


@pytest.mark.parametrize("fmt", [FMT, FAST], ids=["unpack", "int4"])
def test_weight_integers_and_rows_are_in_the_models_order(fmt: Format) -> None:
    layer, weight, q, _ = made(fmt)
    assert layer.kernel == ("unpack" if fmt is FMT else "int4")
    assert torch.equal(layer.dequantize(), weight)
    assert torch.equal(layer.integers().long(), q)
    assert torch.equal(layer.rows(torch.tensor([[3, 0]])), weight[[3, 0]][None])
    assert torch.equal(layer.weight + 0, weight)
    assert torch.equal(dequantize_model(nn.Sequential(layer))[0].weight, weight)


def test_groups_are_runs_in_the_order_that_is_stored() -> None:
    layer, weight, _, index = made()
    assert torch.equal(index[layer.order], torch.arange(96).int() // 16)
    assert torch.equal(dequantize(*layer.qparams(), FMT), weight[:, layer.order])


@pytest.mark.parametrize("fmt", [FMT, FAST], ids=["unpack", "int4"])
@pytest.mark.parametrize("rows", [(3,), (2, 5), (400,)], ids=str)
def test_it_multiplies(fmt: Format, rows: tuple[int, ...]) -> None:
    layer, weight, *_ = made(fmt, bias=True)
    x = normal(*rows, 96, seed=1)
    expected = x @ weight.t() + layer.bias
    tolerance = 1e-5 if fmt is FMT else 2e-2  # the kernel's x is bfloat16
    with torch.no_grad():
        assert (layer(x) - expected).abs().max() < tolerance * expected.abs().max()


def test_gradients_pass() -> None:
    layer, weight, *_ = made()
    x = normal(4, 96, seed=1).requires_grad_()
    layer(x).sum().backward()
    assert torch.allclose(x.grad, weight.sum(dim=0).expand(4, -1), atol=1e-4)
    assert torch.allclose(layer(x), x @ weight.t(), atol=1e-3)


def test_groups_in_their_place_make_a_plain_layer() -> None:
    q, ones = torch.ones(32, 96).long(), torch.ones(32, 6)
    index = torch.arange(96).int() // 16
    layer = OrderedLinear.from_group_index(q, ones, ones.long(), index, FMT)
    assert type(layer) is QuantizedLinear


@pytest.mark.parametrize("change", [(0, 1), (5, 99), (7, -1)], ids=["size", "above", "below"])
def test_groups_of_another_size_are_refused(change: tuple[int, int]) -> None:
    index = torch.arange(96).int() // 16
    index[change[0]] = change[1]
    q, ones = torch.ones(32, 96).long(), torch.ones(32, 6)
    with pytest.raises(InputError, match="groups of 16"):
        OrderedLinear.from_group_index(q, ones, ones.long(), index, FMT)


def test_it_follows_and_copies_like_its_kind() -> None:
    layer, weight, *_ = made(bias=True)
    half = copy.deepcopy(layer).to(torch.bfloat16)
    assert (half.dtype, half.bias.dtype, half.order.dtype) == (*[torch.bfloat16] * 2, torch.int32)
    assert torch.equal(half.dequantize(), weight)
    assert half.qweight.dtype == torch.uint8  # not the order: peft looks for the device there


def test_the_order_counts() -> None:
    layer, *_ = made()
    plain = QuantizedLinear.from_integers(*layer.qparams(), FMT)
    assert layer.nbytes == plain.nbytes + 4 * 96
    assert layer.bits_per_weight == plain.bits_per_weight + 4 * 96 * 8 / (32 * 96)


def test_what_wants_runs_of_columns_refuses() -> None:
    layer, *_ = made()
    with pytest.raises(InputError, match="act-order"):
        scheme_of(layer)
    with pytest.raises(InputError, match="OrderedLinear"):
        stack([layer, layer])
