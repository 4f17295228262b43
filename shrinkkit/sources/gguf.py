"""Turn a GGUF file into a folder that transformers opens: fp32 safetensors, config, tokenizer.

GGUF is llama.cpp's file format: one file with the weights in small blocks of 4 to 8 bits, the
settings of the architecture and the tokenizer. transformers reads it and de-quantises each block
(for Q4_1: `weight = scale * q + minimum`, 32 weights to a block), but marks the model as a GGUF
one and refuses to save it again. So a fresh, unmarked model takes over the weights and is saved.

The tokenizer needs one repair. GGUF only names how text is cut before the byte-pair merges
("smollm"), and transformers assumes GPT-2's cut for every such file. SmolLM also sets each digit
apart; without that, a double space before a number would become other tokens than the model was
trained on.
"""

from __future__ import annotations

from pathlib import Path

import torch


def unpack_gguf(path: str | Path, folder: str | Path) -> None:
    """Write the fp32 model and tokenizer of a Llama-architecture GGUF file into `folder`.

    path: the GGUF file. Its folder must not hold files of another model.
    folder: an existing, empty folder.
    """
    from transformers import AutoModelForCausalLM, LlamaForCausalLM

    path, folder = Path(path).expanduser(), Path(folder).expanduser()
    marked = AutoModelForCausalLM.from_pretrained(
        str(path.parent), gguf_file=path.name, dtype=torch.float32
    )
    marks = {"quantization_config", "_model_name_or_path"}
    settings = {k: v for k, v in marked.config.to_dict().items() if k not in marks}
    config = type(marked.config).from_dict(settings)
    with torch.random.fork_rng(devices=[]):  # a first load must not shift the caller's seeds
        model = LlamaForCausalLM(config)
    model.load_state_dict(marked.state_dict())
    model.generation_config = marked.generation_config
    model.save_pretrained(folder)
    _unpack_tokenizer(path, folder, config.max_position_embeddings)


def _unpack_tokenizer(path: Path, folder: Path, max_length: int) -> None:
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.model_max_length = max_length
    tokenizer.save_pretrained(folder)
