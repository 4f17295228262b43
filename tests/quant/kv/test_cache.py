"""The quantized cache: by hand, against a cache of rounded floats, and inside `generate`."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import DynamicCache

from shrinkkit.errors import InputError
from shrinkkit.quant.kv.cache import QuantizedKVCache
from shrinkkit.quant.kv.rows import from_rows, mix, round_rows, to_rows

BITS = [2, 4, 8]


def random_states(tokens, batch=2, heads=2, head_dim=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, batch, heads, tokens, head_dim, generator=generator)  # keys and values


def fed(cache, states, steps):
    """Feed keys and values to layer 0, so many tokens at a time; return the last answer."""
    answer, start = None, 0
    for step in steps:
        keys, values = states[:, :, :, start : start + step]
        answer = cache.update(keys, values, layer_idx=0)
        start += step
    assert start == states.shape[3]
    return answer


def stored(cache):
    """Every tensor that layer 0 holds."""
    found = []
    for lane in cache.layers[0]._lanes:
        packed = lane.packed
        found += [] if packed is None else [packed.codes, packed.scale, packed.zero_point]
        found.append(lane.window)
    return found


class RoundedFloats(DynamicCache):
    """The same policy without packing: raw floats are kept and rounded anew at each call."""

    def __init__(self, bits: int, group_size: int) -> None:
        super().__init__()
        self.bits, self.group_size, self.raw = bits, group_size, {}

    def _round(self, states, granularity):
        rows = to_rows(states, granularity, self.group_size)
        rounded = round_rows(rows, self.bits, self.group_size).dequantize()
        return from_rows(rounded, granularity, states.shape[-1])

    def update(self, key_states, value_states, layer_idx, *args, **kwargs):
        before = self.raw.get(layer_idx)
        n_before = 0 if before is None else before[0].shape[2]
        old = before or (key_states[:, :, :0], value_states[:, :, :0])
        keys, values = (
            torch.cat(pair, dim=2) for pair in zip(old, (key_states, value_states), strict=True)
        )
        self.raw[layer_idx] = keys, values
        full = n_before - n_before % self.group_size
        past = self._round(keys[:, :, :full], "per_channel") if full else keys[:, :, :0]
        values = mix(self._round(mix(values), "per_token"))
        super().update(key_states, value_states, layer_idx)  # for its count of tokens
        return torch.cat([past, keys[:, :, full:]], dim=2), values


def test_two_by_four_by_hand():
    # Two values of four channels, a scale for each token: 0..3 in 3 steps of 1, where the zero
    # point is -2 (q = -2 stands for 0), and 4..10 in 3 steps of 2, where it is -4.
    values = torch.tensor([[[[0.0, 0.9, 2.2, 3.0], [4.0, 6.4, 7.2, 10.0]]]])
    rounded = torch.tensor([[[[0.0, 1.0, 2.0, 3.0], [4.0, 6.0, 8.0, 10.0]]]])
    # The same numbers as keys: four tokens of two channels, a scale for each channel.
    keys, rounded_keys = values.transpose(2, 3), rounded.transpose(2, 3)
    cache = QuantizedKVCache(bits=2, group_size=4, mix_values=False)
    empty = torch.zeros(1, 1, 2, 4)
    got_keys, got_values = cache.update(keys, torch.cat([values, empty], 2), layer_idx=0)
    assert torch.equal(got_keys, keys), "the first tokens see their own keys in float"
    assert torch.equal(got_values[:, :, :2], rounded)
    late = torch.full((1, 1, 1, 2), 7.7)
    got_keys, _ = cache.update(late, empty[:, :, :1], layer_idx=0)
    assert torch.equal(got_keys, torch.cat([rounded_keys, late], dim=2))
    # Keys: two rows of a byte, a scale (2) and a zero point (1); and a late key of 2 floats.
    # Values: five tokens of a byte, a scale and a zero point.
    assert cache.nbytes == 2 * (1 + 3) + 2 * 4 + 5 * (1 + 3)


@pytest.mark.parametrize("bits", BITS)
def test_a_model_reads_what_a_cache_of_rounded_floats_gives(tiny_llama, bits):
    tokens = torch.randint(3, 256, (2, 29), generator=torch.Generator().manual_seed(1))
    ours, reference = QuantizedKVCache(bits, group_size=8), RoundedFloats(bits, 8)
    with torch.no_grad():
        for part in tokens.split([19, 1, 1, 3, 1, 1, 3], dim=1):
            got = tiny_llama(part, past_key_values=ours).logits
            expected = tiny_llama(part, past_key_values=reference).logits
            torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("residual", [0, 3, 8], ids=lambda n: f"residual {n}")
@pytest.mark.parametrize("keys", ["per_channel", "per_token"])
def test_what_is_stored_does_not_depend_on_how_the_tokens_came(residual, keys):
    states = random_states(21)
    caches = [QuantizedKVCache(4, group_size=4, residual=residual, keys=keys) for _ in range(3)]
    for cache, steps in zip(caches, ([21], [1] * 21, [7, 1, 1, 12]), strict=True):
        fed(cache, states, steps)
    for once, one_by_one, mixed in zip(*map(stored, caches), strict=True):
        assert torch.equal(once, one_by_one)
        assert torch.equal(once, mixed)


@pytest.mark.parametrize("bits", BITS)
def test_memory_is_what_the_formula_says(bits):
    batch, heads, head_dim, tokens, group_size, residual = 2, 3, 16, 45, 8, 5
    states = random_states(tokens, batch, heads, head_dim)
    cache = QuantizedKVCache(bits, group_size=group_size, residual=residual)
    fed(cache, states, [tokens])
    packed_keys = (tokens - residual) // group_size * group_size  # 40 of 45
    rows_of_keys = packed_keys // group_size * head_dim
    bytes_of_keys = rows_of_keys * (group_size * bits // 8 + 2 + 1)
    bytes_of_values = (tokens - residual) * (head_dim * bits // 8 + head_dim // group_size * 3)
    in_float = (tokens - packed_keys + residual) * head_dim * 4
    expected = batch * heads * (bytes_of_keys + bytes_of_values + in_float)
    assert cache.nbytes == expected == sum(tensor.nbytes for tensor in stored(cache))
    storages = sum(tensor.untyped_storage().nbytes() for tensor in stored(cache))
    assert storages == expected, "a view keeps more memory alive than it shows"


def test_more_bits_err_less():
    states = random_states(32)
    errors = []
    for bits in range(2, 9):
        cache = QuantizedKVCache(bits, group_size=8)
        fed(cache, states, [32])
        late = states[:, :, :, :1]
        keys, values = cache.update(*late, layer_idx=0)
        errors.append(sum((a[:, :, :32] - b).norm() for a, b in zip((keys, values), states)))  # noqa: B905
    assert errors == sorted(errors, reverse=True)


def test_mixing_helps_values_with_a_channel_that_stands_out():
    states = random_states(32, head_dim=64)
    states[1, ..., 5] *= 20

    def error(mix_values):
        _, values = fed(QuantizedKVCache(4, mix_values=mix_values), states, [32])
        return (values - states[1]).norm()

    assert error(True) < 0.7 * error(False)


def test_keys_per_channel_contain_a_channel_that_stands_out():
    states = random_states(64, head_dim=64)
    states[0, ..., 5] = states[0, ..., 5] + 20

    def error(kind):
        cache = QuantizedKVCache(4, keys=kind)
        fed(cache, states, [64])
        keys, _ = cache.update(*states[:, :, :, :1], layer_idx=0)
        return (keys[:, :, :64] - states[0])[..., torch.arange(64) != 5].norm()

    assert error("per_channel") < 0.3 * error("per_token")


def greedy(model, tokens, cache, **how):
    options = {"max_new_tokens": 32, "do_sample": False, "pad_token_id": 2, "eos_token_id": None}
    return model.generate(tokens, past_key_values=cache, **(options | how))


def test_generate_with_eight_bits_writes_what_float_writes(tiny_llama):
    """Wherever the float model prefers its first choice by a clear margin."""
    tokens = torch.randint(3, 256, (2, 12), generator=torch.Generator().manual_seed(3))
    floats = greedy(tiny_llama, tokens, DynamicCache())
    cache = QuantizedKVCache(8, group_size=8)
    ours = greedy(tiny_llama, tokens, cache)
    assert ours.shape == floats.shape == (2, 44)
    with torch.no_grad():
        first, second = tiny_llama(floats).logits.topk(2).values.unbind(-1)
    for row in range(2):
        differ = (ours[row] != floats[row]).nonzero()
        if len(differ):  # the token at a place was chosen one place before
            place = differ[0].item() - 1
            assert first[row, place] - second[row, place] < 0.02
    assert (ours == floats).float().mean() > 0.9
    assert cache.get_seq_length() == 43  # the last token is never read


def test_beams_carry_their_own_past(tiny_llama):
    tokens = torch.randint(3, 256, (2, 12), generator=torch.Generator().manual_seed(4))
    beams = {"num_beams": 3, "max_new_tokens": 8}
    floats = greedy(tiny_llama, tokens, DynamicCache(), **beams)
    assert torch.equal(
        greedy(tiny_llama, tokens, QuantizedKVCache(8, group_size=4), **beams), floats
    )


def test_reordering_moves_whole_sequences():
    states = random_states(11)
    cache, turned = QuantizedKVCache(4, group_size=4), QuantizedKVCache(4, group_size=4)
    fed(cache, states, [11])
    cache.reorder_cache(torch.tensor([1, 0]))
    fed(turned, states.flip(1), [11])
    assert all(torch.equal(a, b) for a, b in zip(stored(cache), stored(turned), strict=True))
    cache.batch_repeat_interleave(3)
    assert [len(tensor) for tensor in stored(cache)] == [6] * len(stored(cache))
    cache.batch_select_indices(torch.tensor([0, 3]))
    assert all(torch.equal(a, b) for a, b in zip(stored(cache), stored(turned), strict=True))


@pytest.mark.parametrize("remove", [0, 1, 3, 6, 11, 20])
def test_cropping_forgets_the_last_tokens_and_keeps_the_others(remove):
    states = random_states(11)
    cache = QuantizedKVCache(4, group_size=4)
    fed(cache, states, [11])
    before = [lane.read() for lane in cache.layers[0]._lanes]
    cache.crop(-remove)
    keep = max(0, 11 - remove)
    assert cache.get_seq_length() == keep
    for lane, old in zip(cache.layers[0]._lanes, before, strict=True):
        torch.testing.assert_close(lane.read(), old[:, :, :keep])
    fed(cache, states[:, :, :, :2], [1, 1])
    assert cache.get_seq_length() == keep + 2


def test_a_copy_goes_its_own_way():
    cache = QuantizedKVCache(4, group_size=4)
    fed(cache, random_states(9), [9])
    other = copy.deepcopy(cache)
    fed(other, random_states(3, seed=5), [3])
    assert (cache.get_seq_length(), other.get_seq_length()) == (9, 12)


def test_reset_empties_it():
    states = random_states(9)
    cache, fresh = QuantizedKVCache(4, group_size=4), QuantizedKVCache(4, group_size=4)
    assert cache.nbytes == cache.get_seq_length() == 0
    fed(cache, random_states(5, seed=7), [5])
    cache.reset()
    assert cache.nbytes == cache.get_seq_length() == 0
    fed(cache, states, [9])
    fed(fresh, states, [9])
    assert all(torch.equal(a, b) for a, b in zip(stored(cache), stored(fresh), strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("tokens", [1, 4, 9])
def test_what_comes_back_has_the_dtype_of_what_came(dtype, tokens):
    states = random_states(tokens).to(dtype)
    cache = QuantizedKVCache(8, group_size=4)
    keys, values = fed(cache, states, [tokens])
    assert keys.dtype == values.dtype == dtype
    torch.testing.assert_close(keys, states[0])
    torch.testing.assert_close(values.float(), states[1].float(), rtol=0.02, atol=0.05)


@pytest.mark.parametrize("group_size", [64, 10, 1], ids=lambda g: f"g{g}")
@pytest.mark.parametrize("bits", [3, 4])
def test_a_group_that_does_not_divide(group_size, bits):
    """More than the channels, no divisor of them, and a scale for every number."""
    states = random_states(23)
    cache = QuantizedKVCache(bits, group_size=group_size)
    fed(cache, states, [20, 1, 1, 1])
    keys, values = cache.update(*states[:, :, :, :1], layer_idx=0)
    assert (keys[:, :, :23] - states[0]).abs().mean() < 0.3
    assert (values[:, :, :23] - states[1]).abs().mean() < 0.3


def test_a_padded_batch_is_read_like_each_text_alone(tiny_llama):
    """Padding stands in the cache, and the mask hides it: 8 bits are near enough to compare."""
    tokens = torch.randint(3, 256, (2, 12), generator=torch.Generator().manual_seed(6))
    mask = torch.ones_like(tokens)
    mask[0, :5] = 0
    both = greedy(tiny_llama, tokens, QuantizedKVCache(8, group_size=4), attention_mask=mask)
    alone = greedy(tiny_llama, tokens[:1, 5:], DynamicCache())
    assert (both[0, 12:16] == alone[0, 7:11]).all()


def test_nan_is_refused():
    states = random_states(4)
    states[0, 0, 0, 0, 0] = float("nan")
    with pytest.raises(InputError, match="1 NaN"):
        fed(QuantizedKVCache(4, group_size=4), states, [4])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"bits": 1}, "bits must be a whole number from 2 to 8, but 1 was given"),
        ({"bits": 4.0}, "bits must be a whole number from 2 to 8, but 4.0 was given"),
        ({"group_size": 0}, "group_size must be a whole number of at least 1, but 0"),
        ({"residual": -1}, "residual must be a whole number of at least 0, but -1"),
        ({"keys": "per_chanel"}, "keys must be one of .* Did you mean 'per_channel'"),
        ({"values": "per_group"}, "values must be one of 'per_channel', 'per_token'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_arguments_are_named(arguments, words):
    with pytest.raises(InputError, match=words):
        QuantizedKVCache(**arguments)


def test_cropping_to_a_length_is_refused():
    cache = QuantizedKVCache(4, group_size=4)
    fed(cache, random_states(9), [9])
    with pytest.raises(InputError, match="tokens_to_remove must be 0 or negative, but 4"):
        cache.crop(4)
