"""Models that were saved before the package moved house open, and give the same logits.

Made at commit fe78ebb from one random Llama (hidden 32, one block, vocabulary 32, tied).
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from shrinkkit import load_model
from tests import tiny

SAVED = Path(__file__).resolve().parents[2] / "data" / "saved_before"
LOGITS = load_file(SAVED / "logits.safetensors")


@pytest.mark.parametrize("name", LOGITS)
def test_it_opens_and_computes_what_it_did(name: str) -> None:
    tokens = tiny.tokens(4, 16, vocab_size=32)[:1, :4]
    found = tiny.logits(load_model(SAVED / name), tokens)[0, -1]
    assert torch.allclose(found, LOGITS[name], atol=1e-5)


def test_every_saved_folder_is_looked_at() -> None:
    assert set(LOGITS) == {path.name for path in SAVED.iterdir() if path.is_dir()}
