"""Steps: validated when made, printed as they are typed, handed to verbs whole or in parts."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from shrinkkit.errors import InputError
from shrinkkit.quant import AWQ, GPTQ, RTN, W8A8, Rotate, SmoothQuant, TuneScales, gptq_model
from shrinkkit.quant import quantize_model as rounded
from tests import tiny

TEXT = tiny.tokens(4, 16)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: RTN(bits=9), "bits must be a whole number"),
        (lambda: RTN(head_bits=1), "bits must be a whole number"),
        (lambda: GPTQ(group_size=0), "group_size must be a whole number"),
        (lambda: GPTQ(damping=2), "damping must be from 0 to 1"),
        (lambda: GPTQ(act_order=True, static_groups=False), "needs static_groups=True"),
        (lambda: GPTQ(batch_size=0), "batch_size must be a whole number"),
        (lambda: AWQ(rounding="floor"), "rounding must be one of 'nearest', 'gptq'"),
        (lambda: AWQ(rounding="gptq", damping=2.0), "damping must be from 0 to 1"),
        (lambda: SmoothQuant(alpha=1.5), "alpha must be a number from 0 to 1"),
        (lambda: W8A8("per_channel"), "activations must be one of"),
        (lambda: Rotate(seed=-1), "seed must be a whole number"),
        (lambda: TuneScales(steps=0), "steps must be a whole number"),
    ],
)
def test_a_bad_setting_is_refused_when_the_step_is_made(make, says: str) -> None:
    with pytest.raises(InputError, match=says):
        make()


def test_a_step_is_data() -> None:
    step = GPTQ(bits=3, group_size=32)
    assert step == GPTQ(3, 32)
    assert eval(str(step)) == step
    assert str(GPTQ()) == "GPTQ()"
    with pytest.raises(FrozenInstanceError):
        step.bits = 4


def test_a_verb_takes_the_step_or_its_settings(tiny_llama) -> None:
    whole = gptq_model(tiny_llama, TEXT, GPTQ(4, 32, damping=0.1))
    parts = gptq_model(tiny_llama, TEXT, 4, group_size=32, damping=0.1)
    assert tiny.same_tensors(whole, parts)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda m: gptq_model(m, TEXT, dampin=0.1), "no setting 'dampin'. Did you mean 'damping'"),
        (lambda m: gptq_model(m, TEXT, AWQ()), "A AWQ was given where a GPTQ belongs"),
        (lambda m: gptq_model(m, TEXT, GPTQ(), damping=0.1), "damping cannot be given beside"),
        (lambda m: rounded(m, RTN(4), 32), "group_size cannot be given beside"),
        (lambda m: rounded(m, 4, colour="red"), "no setting 'colour'. It has bits, group_size"),
    ],
)
def test_a_verbs_settings_are_its_steps(call, says: str, tiny_llama) -> None:
    with pytest.raises(InputError, match=says):
        call(tiny_llama)
