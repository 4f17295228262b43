"""Hub names, through transformers' and datasets' real download code.

The hub is one of our own on 127.0.0.1, with just enough of the protocol: folders laid out as
root/models/owner/name/... and root/datasets/owner/name/... are served under the same paths and
headers as the real hub's. The libraries read the hub's address once, when they are imported, so
the downloads run in a fresh process.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from tests.processes import run_python, serve
from tests.quant.store.publisher import Writer, publish

pytestmark = pytest.mark.slow

COMMIT = "0123456789abcdef0123456789abcdef01234567"


README = """---
configs:
- config_name: wikitext-2-raw-v1
  data_files:
  - split: test
    path: wikitext-2-raw-v1/test-*
- config_name: empty
  data_files:
  - split: test
    path: empty/test-*
---
"""
LINES = [
    "",
    " = Cats = ",
    "",
    " Cats sleep . ",
    " = = Food = = ",
    " They eat . ",
    " = Dogs = ",
    " Bark . ",
]
CLIENT = """
import json, sys
from shrinkkit.errors import ShrinkkitError
from shrinkkit.train.lm import read_corpus
from shrinkkit.loading import load_model
from shrinkkit.sources.models import checkpoint_folder, load_tokenizer
from shrinkkit.sources.text import load_text

def attempt(call):
    try:
        return call()
    except ShrinkkitError as error:
        return [type(error).__name__, str(error)]

model, tokenizer = load_model("tiny/llama"), load_tokenizer("tiny/llama")
text = load_text("tiny/wikitext", tokenizer)
corpus = read_corpus("tiny/wikitext", split="test", vocab_size=257, seq_len=8, held_out=["Dogs"])
answers = {
    "corpus": [list(corpus.titles), corpus.tokenizer.decode(corpus.stream.tolist())],
    "model": [type(model).__name__, model.config._name_or_path, model.lm_head.weight.sum().item()],
    "published": [type(load_model("tiny/gptq").lm_head).__name__, *sorted(
        {type(m).__name__ for m in load_model("tiny/gptq").modules() if hasattr(m, "format")}
    )],
    "marlin": attempt(lambda: load_model("tiny/marlin")),
    "articles": [[article.title, article.text] for article in text.articles],
    "windows": list(text.evaluation(1, 4).shape),
    "column": attempt(lambda: load_text("tiny/wikitext", tokenizer, column="body")),
    "empty": attempt(lambda: load_text("tiny/wikitext", tokenizer, config="empty")),
    "split": attempt(lambda: load_text("tiny/wikitext", tokenizer, split="train")),
    "no dataset": attempt(lambda: load_text("tiny/nothing", tokenizer)),
    "no model": attempt(lambda: load_model("tiny/lama")),
    "pickle": attempt(lambda: load_model("tiny/pickle")),
    "folder": sorted(path.name for path in checkpoint_folder("tiny/llama").iterdir()),
    "pickled folder": sorted(path.name for path in checkpoint_folder("tiny/pickle").iterdir()),
    "no folder": attempt(lambda: checkpoint_folder("tiny/lama")),
}
print(json.dumps(answers))
"""


class _Handler(BaseHTTPRequestHandler):
    root: Path
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        asked = self.rfile.read(length).decode()
        if "json" in self.headers.get("Content-Type", ""):
            paths = json.loads(asked)["paths"]
        else:
            paths = parse_qs(asked).get("paths", [])
        self._answer(with_body=True, only=set(paths))

    def _answer(self, *, with_body: bool, only: set[str] | None = None) -> None:
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        if parts[0] == "api":
            self._api(parts[1:], only, with_body)
            return
        kind, parts = ("datasets", parts[1:]) if parts[0] == "datasets" else ("models", parts)
        repo = self.root / kind / "/".join(parts[:2])
        if not repo.is_dir() or len(parts) < 5 or parts[2] != "resolve":
            self._send(404, b"", with_body, {"X-Error-Code": "RepoNotFound"})
            return
        file = repo / "/".join(parts[4:])
        if not file.is_file():
            headers = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}
            self._send(404, b"", with_body, headers)
            return
        body = file.read_bytes()
        etag = f'"{hashlib.sha256(body).hexdigest()[:40]}"'
        self._send(200, body, with_body, {"ETag": etag, "X-Repo-Commit": COMMIT})

    def _api(self, parts: list[str], only: set[str] | None, with_body: bool) -> None:
        repo = self.root / "/".join(parts[:3])
        if len(parts) < 3 or not repo.is_dir():
            self._send(404, b"{}", with_body, {"X-Error-Code": "RepoNotFound"})
            return
        files = sorted(part for part in repo.rglob("*") if part.is_file())
        names = [file.relative_to(repo).as_posix() for file in files]
        if len(parts) > 3 and parts[3] in ("tree", "paths-info"):
            folder = repo / "/".join(parts[5:])
            if not folder.is_dir():
                self._send(404, b"{}", with_body, {"X-Error-Code": "EntryNotFound"})
                return
            entries = files if only is not None else sorted(folder.iterdir())
            answer: object = [
                {
                    "type": "directory" if entry.is_dir() else "file",
                    "path": entry.relative_to(repo).as_posix(),
                    "size": entry.stat().st_size,
                    "oid": COMMIT,
                }
                for entry in entries
                if only is None or entry.relative_to(repo).as_posix() in only
            ]
        elif len(parts) > 3 and parts[3] in ("commits", "discussions"):
            answer = []
        else:
            answer = {
                "id": "/".join(parts[1:3]),
                "sha": COMMIT,
                "private": False,
                "gated": False,
                "tags": [],
                "siblings": [{"rfilename": name} for name in names],
            }
        headers = {"Content-Type": "application/json"}
        self._send(200, json.dumps(answer).encode(), with_body, headers)

    def _send(self, code: int, body: bytes, with_body: bool, headers: dict[str, str]) -> None:
        self.send_response(code)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)


@pytest.fixture(scope="module")
def downloaded(
    tiny_checkpoint: Path, tiny_llama, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[object]]:
    """What a fresh process gets from the hub."""
    import pandas as pd
    import torch

    root = tmp_path_factory.mktemp("hub")
    pickle, data = root / "models/tiny/pickle", root / "datasets/tiny/wikitext"
    shutil.copytree(tiny_checkpoint, root / "models/tiny/llama")
    shutil.copytree(tiny_checkpoint, pickle, ignore=shutil.ignore_patterns("*.safetensors"))
    torch.save({}, pickle / "pytorch_model.bin")
    publish(tiny_llama, root / "models/tiny/gptq", Writer())
    publish(tiny_llama, root / "models/tiny/marlin", Writer(layout="marlin"))
    for config, lines in (("wikitext-2-raw-v1", LINES), ("empty", ["", ""])):
        (data / config).mkdir(parents=True)
        pd.DataFrame({"text": lines}).to_parquet(data / config / "test-00000-of-00001.parquet")
    (data / "README.md").write_text(README)
    with serve(type("Handler", (_Handler,), {"root": root})) as address:
        own = {"HF_HOME": str(root / "home"), "HF_HUB_DISABLE_XET": "1"}
        done = run_python("-c", CLIENT, HF_ENDPOINT=address, HF_HUB_OFFLINE="0", **own)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_model_is_downloaded(downloaded: dict[str, list[object]], tiny_llama) -> None:
    kind, name, total = downloaded["model"]
    assert (kind, name) == ("LlamaForCausalLM", "tiny/llama")
    assert total == pytest.approx(tiny_llama.lm_head.weight.sum().item(), rel=1e-6)


def test_a_published_checkpoint_is_fetched_and_opened(downloaded: dict[str, list[object]]) -> None:
    assert downloaded["published"] == ["Linear", "QuantizedLinear"]
    kind, message = downloaded["marlin"]
    assert kind == "InputError"
    assert "its layout is 'marlin'" in message


def test_a_checkpoints_files_are_downloaded(downloaded: dict[str, list[object]]) -> None:
    wanted = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert wanted <= set(downloaded["folder"])
    assert "config.json" in downloaded["pickled folder"]
    assert "pytorch_model.bin" not in downloaded["pickled folder"]


def test_a_dataset_can_be_trained_on(downloaded: dict[str, list[object]]) -> None:
    assert downloaded["corpus"] == [["Cats"], "<|endoftext|>Cats sleep .\nThey eat ."]


def test_a_dataset_is_downloaded(downloaded: dict[str, list[object]]) -> None:
    assert downloaded["articles"] == [["Cats", "Cats sleep .\nThey eat ."], ["Dogs", "Bark ."]]
    assert downloaded["windows"] == [1, 4]


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("column", "column must be one of 'text' in 'tiny/wikitext', but 'body' was given"),
        ("empty", "holds no text"),
        ("split", "config 'wikitext-2-raw-v1', split 'train') could not be opened"),
        ("no dataset", "'tiny/nothing' doesn't exist on the Hub"),
        ("no model", "has no open model 'tiny/lama' (misspelt, private or gated?)"),
        ("no folder", "has no open model 'tiny/lama' (misspelt, private or gated?)"),
        ("pickle", "shrinkkit reads weights from safetensors only, never from pickle"),
    ],
)
def test_what_is_not_there_is_said(
    case: str, message: str, downloaded: dict[str, list[object]]
) -> None:
    kind, said = downloaded[case]
    assert kind == "InputError"
    assert message in str(said)


def test_no_network_is_found_out_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(_Handler) as address:
        pass  # its port is closed again
    code = """
import time
from shrinkkit.loading import load_model
start = time.monotonic()
try:
    load_model("tiny/llama")
except Exception as error:
    print(round(time.monotonic() - start), type(error).__name__, str(error))
"""
    for name in [name for name in os.environ if "proxy" in name.lower()]:
        monkeypatch.delenv(name)
    done = run_python("-c", code, HF_ENDPOINT=address, HF_HUB_OFFLINE="0")
    seconds, kind, said = done.stdout.split(maxsplit=2)
    assert (kind, "could not be reached" in said) == ("AssetError", True), done.stderr
    assert int(seconds) < 20  # the hub's client alone would try for 25 seconds
