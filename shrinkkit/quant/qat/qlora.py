"""QLoRA: a frozen packed model, and a small float adapter beside each layer that learns.

A packed weight cannot take a training step: its next value is a whole grid step away. LoRA (Hu et
al. 2021, arXiv 2106.09685) leaves it alone and adds a thin detour,

    y = x @ weight.T + (alpha / rank) * (x @ a.T) @ b.T      a: [rank, in], b: [out, rank]

with b zero at the start, so that the model begins as it is. QLoRA (Dettmers et al. 2023, arXiv
2305.14314) puts the detour beside 4-bit weights: gradients flow *through* the de-quantised weight
to the layers below and *into* a and b alone. Memory is the packed model plus gradients and Adam's
numbers for a few percent of the weights.

Hugging Face's `peft` does the bookkeeping: which layers, freezing, saving the adapter. It knows
packed layers of some libraries; ours is made known through its hook for custom layers, and
`LoraQuantizedLinear` says what the detour is.

The adapter can be added into the weight only where the weight can hold it. Rounding the sum back to
the grid throws most of a small update away, since whatever is below half a step vanishes, and the
rounding error of the base comes anew. So `merge_lora` returns float layers; packing those again is
a second quantization, with its own loss.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from shrinkkit.errors import InputError, require_int
from shrinkkit.quant.layers.linear import QuantizedLinear
from shrinkkit.quant.layers.seal import unseal
from shrinkkit.surgery.matrices import matrix
from shrinkkit.surgery.parts import clone, find_linears, replace_module

if TYPE_CHECKING:
    from peft import PeftModel


def _lora_layer() -> type:
    """Make the adapter's class; in a function, because peft takes seconds to import."""
    from peft.tuners.lora import LoraLayer

    class LoraQuantizedLinear(nn.Module, LoraLayer):
        """peft's LoRA around a QuantizedLinear: y = base(x) + scaling * b(a(x))."""

        def __init__(
            self, base_layer: QuantizedLinear, adapter_name: str, config: Any, **settings: Any
        ) -> None:
            super().__init__()
            with warnings.catch_warnings():  # "Unsupported layer type", which is why this is here
                warnings.simplefilter("ignore")
                LoraLayer.__init__(self, base_layer)
            self._active_adapter = adapter_name
            rank, alpha = settings["r"], settings["lora_alpha"]
            self.update_layer(adapter_name, rank, lora_alpha=alpha, config=config)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.base_layer(x)
            for name in [] if self.disable_adapters else self.active_adapters:
                a, b = self.lora_A[name], self.lora_B[name]
                detour = b(a(self.lora_dropout[name](x.to(a.weight.dtype))))
                y = y + (detour * self.scaling[name]).to(y.dtype)
            return y

        def update(self) -> torch.Tensor:
            """Return what the active adapters add to the weight, [out, in]: scaling * b @ a."""
            added = torch.zeros(self.base_layer.shape)
            for name in self.active_adapters:
                b, a = self.lora_B[name].weight, self.lora_A[name].weight
                added = added + (self.scaling[name] * (b @ a)).detach().cpu()
            return added

        def merge(self, *_: Any, **__: Any) -> None:
            raise InputError(
                "A packed layer cannot take its adapter in: most of it is smaller than half a "
                "step of the grid. merge_lora(model) gives float layers that hold the sum."
            )

        unmerge = merge

    return LoraQuantizedLinear


_CLASS: list[type] = []  # made once, so that layers of two models have one class


def add_lora(
    model: nn.Module,
    rank: int = 8,
    alpha: float | None = None,
    *,
    include: str | tuple[str, ...] = "*",
    exclude: str | tuple[str, ...] = (),
    seed: int = 0,
    inplace: bool = False,
) -> PeftModel:
    """Put a trainable LoRA adapter beside each packed linear layer of a model.

    Dettmers et al. 2023 (arXiv 2305.14314), section 3, equation 5; every linear gets an adapter, as
    the paper found necessary. At first the adapter adds nothing.

    model: a quantized transformers model, such as `quantize_model(model, NF4)` returns.
    rank: of the adapter; alpha: its size, y gains alpha / rank * detour; None: 2 * rank.
    include, exclude: globs over layer names.
    seed: of a's random start.
    inplace: wrap `model` itself instead of a copy.
    Returns peft's model: adapters trainable, all else frozen. Its `save_pretrained` writes the
    adapter alone, and `load_lora` opens it again.
    Raises InputError: a model with nothing packed or with adapters already, rank below 1.
    """
    from peft import LoraConfig, get_peft_model

    require_int("rank", rank, 1)
    alpha = 2 * rank if alpha is None else alpha
    if not (isinstance(alpha, (int, float)) and alpha > 0):
        raise InputError(f"alpha must be above 0, but {alpha!r} was given.")
    names = _packed_layers(model, include, exclude)
    model = model if inplace else clone(model)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=names, lora_dropout=0.0)
    _make_known(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with warnings.catch_warnings():  # peft asks transformers for a name that is being retired
            warnings.simplefilter("ignore", FutureWarning)
            return get_peft_model(model, config)


def _make_known(config: Any) -> None:
    """Tell a peft configuration what goes beside a packed layer."""
    if not _CLASS:
        _CLASS.append(_lora_layer())
    config._register_custom_module({QuantizedLinear: _CLASS[0]})


def _packed_layers(
    model: nn.Module, include: str | tuple[str, ...] = "*", exclude: str | tuple[str, ...] = ()
) -> list[str]:
    """Return the packed layers that an adapter can be put beside, by glob on their full names.

    Raises InputError for a model that has an adapter already, or no packed layer.
    """
    found = find_linears(model, include, exclude)
    packed = [name for name, layer in found.items() if isinstance(layer, QuantizedLinear)]
    if lora_layers(model):
        raise InputError(
            "This model has a LoRA adapter already. Train it, or start from the packed model. (A "
            "notebook cell that was run twice is the usual cause.)"
        )
    if not packed:
        raise InputError(
            "This model has no packed layer to put an adapter beside; quantize it first, as in "
            "add_lora(quantize_model(model, bits=4))."
        )
    return packed


def load_lora(model: nn.Module, folder: str | Path, *, inplace: bool = False) -> PeftModel:
    """Open an adapter that was saved from `add_lora`'s model, beside the layers of a packed model.

    model: quantized like the one that the adapter was trained with: its numbers are corrections
        of that model's.
    folder: that `save_pretrained` wrote.
    inplace: wrap `model` itself instead of a copy.
    Returns peft's model, as add_lora does; `train_qat` goes on with it, `merge_lora` merges it.
    Raises InputError: no adapter in the folder, a model that has one already, has nothing packed,
    or lacks a layer of the adapter.
    """
    from peft import PeftConfig, PeftModel

    folder = Path(folder).expanduser()
    if not (folder / "adapter_config.json").is_file():
        raise InputError(
            f"{folder} holds no adapter (adapter_config.json is missing); it is what "
            "add_lora(model).save_pretrained(folder) writes."
        )
    packed = _packed_layers(model)
    config = PeftConfig.from_pretrained(folder)
    absent = sorted(set(config.target_modules) - set(packed))
    if absent:
        raise InputError(
            f"The adapter in {folder} was trained with other layers: {len(absent)} of its layers "
            f"are not packed in this model, {absent[0]} the first."
        )
    _make_known(config)
    with warnings.catch_warnings():  # peft asks transformers for a name that is being retired
        warnings.simplefilter("ignore", FutureWarning)
        base = model if inplace else clone(model)
        return PeftModel.from_pretrained(base, folder, config=config, is_trainable=True)


def lora_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers with an adapter, {name: layer}; each has `base_layer` and `update()`.

    >>> lora_layers(nn.Linear(2, 2))
    {}
    """
    classes = tuple(_CLASS)
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, classes)}


def merge_lora(model: PeftModel) -> nn.Module:
    """Add the adapters into float weights: weight = dequantize(base) + alpha / rank * b @ a.

    model: of `add_lora`, trained or not; it is left as it is.
    Returns the transformers model with ordinary float linears where adapters were, in eval mode.
    It computes what the adapted model does, to float rounding, and is as large as a float model.
    Raises InputError for a model without adapters.
    """
    if not lora_layers(model):
        raise InputError("This model has no LoRA adapter to merge; give one of add_lora(model).")
    merged = unseal(clone(model).get_base_model())
    for name, layer in lora_layers(merged).items():
        base = layer.base_layer
        plain = base.plain()
        matrix(plain).copy_(base.dequantize() + layer.update().to(base.device))
        replace_module(merged, name, plain)
    return merged.eval()
