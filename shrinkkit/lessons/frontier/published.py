"""Read the course's small tables of published figures: models, devices, training runs, claims.

Each row names where its figures were printed (`source`), and each row of models and devices says
how far to trust them (`confidence`):

- `strong`: printed in a paper, or in the maker's own datasheet or table;
- `weak`: printed only in a blog post, a model card or a later paper, or derived by us (such as the
  bandwidth of a phone whose maker publishes none), or contradicted by another page of the same
  maker. The `note` says which. Charts draw weak models hollow and call weak speeds "about".

A cell is empty where no source could be named. The files are plain CSV under data/frontier/: add
your own row, with its source, and every chart and widget shows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shrinkkit.errors import ShrinkkitError
from shrinkkit.system.files import data_dir

if TYPE_CHECKING:
    import pandas as pd

MMLU = "MMLU, 5 examples"  # the one protocol under which scores are compared
KG_PER_LB = 0.45359237  # exact, by definition


def load_models() -> pd.DataFrame:
    """Return published language models, oldest first: size, training tokens, score, source.

    Columns: name, released (date), kind, parameters (of a mixture of experts: all of them),
    training_tokens, n_layers, n_kv_heads, head_dim, benchmark (with its protocol), score,
    confidence, source, note.
    """
    import pandas as pd

    models = _read("models")
    models["released"] = pd.to_datetime(models["released"], format="%Y-%m")
    return models.sort_values(["released", "parameters"], ignore_index=True)


def load_devices() -> pd.DataFrame:
    """Return phones, laptops and GPUs: memory, bandwidth, 16-bit arithmetic, power, source.

    Columns: name, kind, memory_gib, bandwidth_gb_per_s (10**9 bytes), peak_tflops_16bit,
    power_watts, confidence, source, note; and memory_bytes, bandwidth_bytes_per_s, made of those.
    """
    devices = _read("devices")
    devices["memory_bytes"] = devices["memory_gib"] * 2.0**30
    devices["bandwidth_bytes_per_s"] = devices["bandwidth_gb_per_s"] * 1e9
    return devices


def load_training_runs() -> pd.DataFrame:
    """Return training runs whose GPU-hours (and mostly energy and CO2) were published."""
    runs = _read("training_runs")
    # As floats: 6 * parameters * tokens does not fit into pandas' 64-bit integers.
    return runs.astype({"parameters": float, "training_tokens": float})


def load_distilbert_glue() -> pd.DataFrame:
    """Return the table behind DistilBERT's claim as printed, one row a model, indexed by it."""
    return _read("distilbert_glue").set_index("model")


def load_carbon() -> pd.DataFrame:
    """Return the CO2 of a car's life and of trainings, in pounds, as Strubell et al. 2019 print it.

    Columns: name, co2e_lbs, source; and co2e_kg, made of the second.
    """
    carbon = _read("carbon")
    carbon["co2e_kg"] = carbon["co2e_lbs"] * KG_PER_LB
    return carbon


def gpt3_class(models: pd.DataFrame) -> pd.DataFrame:
    """Keep the models whose MMLU score, five examples, is at least GPT-3's."""
    compared = models[models["benchmark"] == MMLU]
    bar = compared.loc[compared["name"] == "GPT-3", "score"].iloc[0]
    return compared[compared["score"] >= bar].reset_index(drop=True)


def left_out(models: pd.DataFrame) -> pd.DataFrame:
    """Keep the models with an MMLU score of another protocol: no chart compares them."""
    has_mmlu = models["benchmark"].fillna("").str.startswith("MMLU")
    return models[has_mmlu & (models["benchmark"] != MMLU)].reset_index(drop=True)


def record_holders(models: pd.DataFrame) -> pd.DataFrame:
    """Keep, oldest first, each model that was smaller than every earlier one in the table."""
    ordered = models.sort_values(["released", "parameters"])
    smallest_before = ordered["parameters"].cummin().shift()
    is_record = smallest_before.isna() | (ordered["parameters"] < smallest_before)
    return ordered[is_record].reset_index(drop=True)


def _read(table: str) -> pd.DataFrame:
    import pandas as pd

    path = data_dir() / "frontier" / f"{table}.csv"
    if not path.is_file():
        raise ShrinkkitError(
            f"{path} is missing: it comes with the course's data. "
            "Restore it from the repository, or install shrinkkit again."
        )
    texts = {"note": str, "benchmark": str}
    rows = pd.read_csv(path, dtype=texts)
    return rows.fillna({"note": ""}) if "note" in rows else rows
