"""Every number that a training run depends on, as frozen data.

Two runs with equal settings, text and machine give the same weights, bit for bit; so a checkpoint
carries its settings, and a run that goes on from it must bring the same one.

The shape is Llama's (Touvron et al. 2023, arXiv 2302.13971): rotary positions, RMS norms, SwiGLU,
grouped-query attention, and one matrix for embedding and output, which in a small model is a large
part of all weights.

The learning rate rises over the first steps, because early gradients are large and one-sided, and
then falls in a straight line to zero: the last tenth of the fall is where a small model gains most.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from shrinkkit.errors import InputError, require_choice, require_int


@dataclass(frozen=True)
class Settings:
    """Shape of the model, optimizer, schedule and text windows of one run.

    hidden, layers, heads, kv_heads, intermediate, vocab_size: the shape; heads divides hidden,
        kv_heads divides heads.
    seq_len: tokens of a window, and the model's longest input.
    steps, batch_size: optimizer steps, and windows in each.
    micro_batch: windows computed at once; smaller takes less memory, and on a CPU is often faster
        because the activations stay in its caches. It changes the sums' last bits.
    optimizer: "muon" (Muon for the matrices of the blocks, AdamW for everything else) or "adamw".
    learning_rate: peak, for AdamW; matrix_learning_rate: peak, for Muon (in AdamW's units).
    weight_decay: of the blocks' matrices.
    warm_up: fraction of the steps in which the learning rate rises.
    precision: "fp32", or "bf16" for bfloat16 arithmetic over fp32 weights (pays on a GPU).
    seed: of the first weights and of the windows' order.
    Raises InputError for a number out of range.

    >>> Settings(hidden=64, layers=2, heads=2, kv_heads=1, intermediate=128).n_parameters()
    336192
    """

    hidden: int = 320
    layers: int = 4
    heads: int = 5
    kv_heads: int = 1
    intermediate: int = 896
    vocab_size: int = 4096
    seq_len: int = 512
    steps: int = 2000
    batch_size: int = 12
    micro_batch: int = 6
    optimizer: str = "muon"
    learning_rate: float = 3e-3
    matrix_learning_rate: float = 5e-3
    weight_decay: float = 0.1
    warm_up: float = 0.05
    precision: str = "fp32"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("hidden", "layers", "heads", "kv_heads", "intermediate", "steps"):
            require_int(name, getattr(self, name), 1)
        require_int("batch_size", self.batch_size, 1)
        require_int("micro_batch", self.micro_batch, 1)
        require_int("vocab_size", self.vocab_size, 257, 2**20)
        require_int("seq_len", self.seq_len, 8)
        require_int("seed", self.seed, 0)
        require_choice("optimizer", self.optimizer, ("muon", "adamw"))
        require_choice("precision", self.precision, ("fp32", "bf16"))
        for name in ("learning_rate", "matrix_learning_rate"):
            value = getattr(self, name)
            if not (isinstance(value, (int, float)) and 0 < value < 1):
                raise InputError(f"{name} must lie between 0 and 1, but {value!r} was given.")
        for name in ("weight_decay", "warm_up"):
            value = getattr(self, name)
            if not (isinstance(value, (int, float)) and 0 <= value < 1):
                raise InputError(f"{name} must be at least 0 and below 1, but {value!r} was given.")
        for name, whole, part in (
            ("heads", self.hidden, self.heads),
            ("kv_heads", self.heads, self.kv_heads),
        ):
            if whole % part:
                raise InputError(f"{name}={part} must divide {whole}.")
        if self.hidden // self.heads % 2:
            raise InputError(
                f"hidden / heads = {self.hidden // self.heads} must be even: rotary positions turn "
                "pairs of numbers."
            )

    def learning_rate_factor(self, step: int) -> float:
        """Return what the peak learning rate is multiplied by: up, then down in a straight line.

        >>> settings = Settings(steps=100, warm_up=0.1)
        >>> [round(settings.learning_rate_factor(step), 2) for step in (0, 9, 54, 99)]
        [0.1, 1.0, 0.51, 0.01]
        """
        rise = max(1, round(self.steps * self.warm_up))
        if step < rise:
            return (step + 1) / rise
        return (self.steps - step) / (self.steps - rise + 1)

    def n_parameters(self) -> int:
        """Count the weights, the shared embedding once."""
        head = self.hidden // self.heads
        attention = 2 * self.hidden * self.hidden + 2 * self.hidden * self.kv_heads * head
        block = attention + 3 * self.hidden * self.intermediate + 2 * self.hidden
        return self.vocab_size * self.hidden + self.layers * block + self.hidden

    def n_tokens(self) -> int:
        """Count the tokens that the run reads."""
        return self.steps * self.batch_size * self.seq_len

    def with_(self, **changes: Any) -> Settings:
        """Return settings with some numbers changed; None leaves a number as it is.

        Raises InputError for a name that settings do not have.
        """
        for name in changes:
            require_choice("settings field", name, list(asdict(self)))
        return replace(self, **{key: value for key, value in changes.items() if value is not None})


PRESETS: dict[str, Settings] = {
    "storybook": Settings(),
    # the same windows in the same order for as many steps, a fifth of the weights; the wider a
    # matrix, the smaller the steps that it bears
    "storybook-small": Settings(hidden=128, heads=2, intermediate=320, matrix_learning_rate=1e-2),
    "tiny": Settings(hidden=64, layers=2, heads=2, intermediate=176, steps=300, batch_size=8),
}
