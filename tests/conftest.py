"""What every test shares: an offline hub in a temporary folder, own results, tiny models."""

from __future__ import annotations

import gc
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Before anything imports huggingface_hub, which reads these once.
_SESSION = Path(tempfile.mkdtemp(prefix="shrinkkit-tests-"))
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["HF_HOME"] = str(_SESSION / "hf")
os.environ["SHRINKKIT_RESULTS"] = str(_SESSION / "results")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402, F401

from tests import tiny  # noqa: E402

torch.set_num_threads(min(2, torch.get_num_threads()))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let the workers of pytest-xdist begin with what takes longest, and end together."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.hookimpl(optionalhook=True)  # there is no such hook without pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Send a file's tests to one worker, which makes their fixtures once, or a lesson's of a file.

    Nothing else is kept apart: a test that measures time has a clock of its own, and one that
    measures memory looks at its own process.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFileAndLesson(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            lesson = re.search(r"\[(\d\d_\w+)", nodeid)
            return nodeid.partition("::")[0] + (f" {lesson[1]}" if lesson else "")

    config.option.loadscopereorder = False  # files with many tests are not those that take long
    return ByFileAndLesson(config, log)


def pytest_collection_finish() -> None:
    """Take what the imports made, by far the most objects, out of every collection to come."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    shutil.rmtree(_SESSION, ignore_errors=True)


@pytest.fixture
def isolated_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of this test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("SHRINKKIT_CACHE", str(folder))
    return folder


@pytest.fixture
def notes(tmp_path: Path) -> Iterator[Path]:
    """A folder with somebody's work, which has to be there at the end of the test."""
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    yield folder
    assert (folder / "thesis.txt").read_text() == "mine"


@pytest.fixture(scope="session")
def tiny_llama():
    """A random Llama: hidden 64, 2 layers, 4 query and 2 key-value heads, vocabulary 256, tied.

    Shared by the whole session: copy it (copy.deepcopy) before changing it.
    """
    return tiny.llama(**tiny.LARGER, tie_word_embeddings=True)


@pytest.fixture(scope="session")
def tokens():
    """Windows of token ids [32, 24] for `tiny_llama`."""
    return tiny.tokens(32, 24)


@pytest.fixture(scope="session")
def tiny_bert():
    """A random BERT encoder: hidden 32, 2 layers, vocabulary 256. Copy it before changing it."""
    return tiny.bert(vocab_size=256, max_position_embeddings=128)


@pytest.fixture(scope="session")
def tiny_gpt2():
    """A random GPT-2: hidden 16, 2 layers. Copy it before changing it."""
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 32, "n_positions": 16}
    return tiny.model("GPT2LMHeadModel", **sizes)


@pytest.fixture(scope="session")
def tiny_tokenizer():
    """A tokenizer with one token per byte, 256 in all: it fits `tiny_llama`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_llama, tiny_tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two of them as `save_pretrained` writes them."""
    folder = tmp_path_factory.mktemp("tiny") / "tiny-llama"
    tiny_llama.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder
