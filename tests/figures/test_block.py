"""The diagram of a block writes the shapes that it was given, and counts heads and weights."""

from __future__ import annotations

import pytest

from shrinkkit.errors import InputError
from shrinkkit.figures.block import draw_block

SHAPES = {
    "self_attn.q_proj.weight": (12, 12),
    "self_attn.k_proj.weight": (4, 12),
    "self_attn.v_proj.weight": (4, 12),
    "self_attn.o_proj.weight": (12, 12),
    "mlp.gate_proj.weight": (20, 12),
    "mlp.up_proj.weight": (20, 12),
    "mlp.down_proj.weight": (12, 20),
    "input_layernorm.weight": (12,),
    "post_attention_layernorm.weight": (12,),
}
TOTAL = 2 * 12 * 12 + 2 * 4 * 12 + 3 * 20 * 12 + 2 * 12  # by hand: 1,128


def texts(shapes=SHAPES):
    (ax,) = draw_block(shapes, head_dim=4, n_blocks=7).figure.axes
    return [text.get_text() for text in ax.texts], ax.get_title(loc="left")


def test_every_part_stands_in_the_figure_with_its_shape_and_weights():
    written, title = texts()
    assert title == f"One of 7 blocks: {TOTAL:,} parameters"
    for name in ("q", "k", "v", "o", "gate", "up", "down"):
        assert name in written
    assert written.count("norm") == 2
    assert {"4 × 12", "48", "20 × 12", "240", "12 × 20", "144"} <= set(written)
    assert written.count("+") == 2


def test_heads_are_counted():
    written, _ = texts()
    assert "attention\n3 query and\n1 key-value\nheads of 4" in written
    words = draw_block(SHAPES, head_dim=2).words
    assert "attention with 6 query and 2 key-value heads of 2" in words
    assert "k 4 by 12 = 48" in words
    assert f"{TOTAL:,} parameters" in words


def test_the_order_of_the_shapes_does_not_matter():
    backwards = dict(reversed(SHAPES.items()))
    assert draw_block(backwards, head_dim=4).words == draw_block(SHAPES, head_dim=4).words


@pytest.mark.parametrize(
    "shapes",
    [
        {},
        {name: shape for name, shape in SHAPES.items() if "gate" not in name},
        SHAPES | {"self_attn.q_proj.bias": (12,)},
    ],
    ids=["nothing", "a part is missing", "a bias"],
)
def test_another_block_is_refused(shapes):
    with pytest.raises(InputError, match="a block that can be drawn"):
        draw_block(shapes, head_dim=4)


def test_a_wrong_head_dim_is_refused():
    with pytest.raises(InputError, match="head_dim"):
        draw_block(SHAPES, head_dim=0)
