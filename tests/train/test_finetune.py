"""Fine-tuning: it learns, it chooses by the right part, it is repeatable, it saves."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from shrinkkit.errors import InputError
from shrinkkit.measure import classification_score, label_scores
from shrinkkit.quant import quantize_model
from shrinkkit.train.finetune import _batches, finetune, with_head
from tests.measure.conftest import topics

TRAIN = [(letters * n, label) for n in (2, 3, 4, 5) for label, letters in enumerate(("ab", "xy"))]
CHOICE = [("aab", 0), ("yxx", 1), ("ba", 0), ("yx", 1)]
TEST = [("abba", 0), ("xyyx", 1)]
FEW = {"batch_size": 4, "learning_rate": 5e-3, "seed": 1}


@pytest.fixture(scope="module")
def task():
    return topics(TRAIN, TEST, ("ab", "xy"), choice=CHOICE)


@pytest.fixture(scope="module")
def tuned(tiny_bert, tiny_tokenizer, task):
    return finetune(tiny_bert, tiny_tokenizer, task, epochs=6, **FEW)


def test_it_learns_and_leaves_the_encoder_as_it_was(tiny_bert, tiny_tokenizer, task) -> None:
    before = copy.deepcopy(tiny_bert.state_dict())
    tuned = finetune(tiny_bert, tiny_tokenizer, task, epochs=6, **FEW)
    for name, weight in tiny_bert.state_dict().items():
        assert torch.equal(weight, before[name])
    assert classification_score(tuned.model, tiny_tokenizer, task).accuracy == 1.0
    losses = [row["loss"] for row in tuned.epochs]
    assert losses[-1] < losses[0] / 2
    assert not tuned.model.training
    assert all(weight.grad is None for weight in tuned.model.parameters())


def test_the_best_epoch_on_choice_is_kept(tuned, tiny_tokenizer, task) -> None:
    by_epoch = [row["choice"] for row in tuned.epochs]
    assert [row["epoch"] for row in tuned.epochs] == [1, 2, 3, 4, 5, 6]
    assert by_epoch[tuned.best_epoch - 1] == max(by_epoch)
    assert tuned.best_epoch == 1 + by_epoch.index(max(by_epoch))
    kept = classification_score(tuned.model, tiny_tokenizer, task, "choice").accuracy
    assert kept == max(by_epoch)


def test_choosing_never_reads_the_test_part(tiny_bert, tiny_tokenizer, task) -> None:
    other = topics(TRAIN, [(text, 1 - label) for text, label in TEST], ("ab", "xy"), choice=CHOICE)
    one, two = (
        finetune(tiny_bert, tiny_tokenizer, t, epochs=2, **FEW).model for t in (task, other)
    )
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, two.state_dict()[name])


def test_a_seed_repeats_and_leaves_the_global_generator_alone(
    tiny_bert, tiny_tokenizer, task
) -> None:
    torch.manual_seed(7)
    runs = [finetune(tiny_bert, tiny_tokenizer, task, epochs=1, **FEW).model for _ in range(2)]
    after = torch.rand(1)
    torch.manual_seed(7)
    assert torch.equal(after, torch.rand(1))
    assert torch.equal(runs[0].classifier.weight, runs[1].classifier.weight)
    other = finetune(tiny_bert, tiny_tokenizer, task, epochs=1, **{**FEW, "seed": 2}).model
    assert not torch.equal(other.classifier.weight, runs[0].classifier.weight)


def test_it_is_a_stock_class_that_saves_and_opens(tuned, tiny_tokenizer, task, tmp_path) -> None:
    tuned.model.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert again.config.id2label == {0: "ab", 1: "xy"}
    texts = list(task.test.texts)
    expected = label_scores(tuned.model, tiny_tokenizer, texts)
    assert torch.equal(label_scores(again, tiny_tokenizer, texts), expected)


def test_a_head_that_is_there_goes_on_learning(tuned, task) -> None:
    again = with_head(tuned.model, task)
    assert torch.equal(again.classifier.weight, tuned.model.classifier.weight)
    three = topics([("a", 0), ("b", 1), ("c", 2)], TEST, ("a", "b", "c"))
    assert with_head(tuned.model, three).classifier.out_features == 3


def test_batches_hold_every_text_once_an_epoch_and_pad_little() -> None:
    lengths = torch.randint(5, 60, (1000,), generator=torch.Generator().manual_seed(0)).tolist()
    batches = _batches(lengths, 32, 2, seed=0)
    assert len(batches) == 2 * 32
    for epoch in (batches[:32], batches[32:]):
        assert sorted(torch.cat(epoch).tolist()) == list(range(1000))
    padded = sum(len(b) * max(lengths[i] for i in b.tolist()) for b in batches[:32])
    assert padded < 1.15 * sum(lengths)
    assert not torch.equal(torch.cat(batches[:32]), torch.cat(batches[32:]))


def test_a_compressed_classifier_is_judged_like_any_other(tuned, tiny_tokenizer, task) -> None:
    small = quantize_model(tuned.model, 8)
    assert classification_score(small, tiny_tokenizer, task).accuracy == 1.0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"n_train": 9}, "n_train"),
        ({"learning_rate": 2}, "learning_rate"),
        ({"max_length": 0}, "max_length"),
    ],
)
def test_bad_numbers(tiny_bert, tiny_tokenizer, task, options, words) -> None:
    with pytest.raises(InputError, match=words):
        finetune(tiny_bert, tiny_tokenizer, task, **options)


def test_what_cannot_be_fine_tuned(tiny_bert, tiny_tokenizer, task, tuned) -> None:
    with pytest.raises(InputError):
        finetune(quantize_model(tiny_bert, 8), tiny_tokenizer, task)
    other = topics([("a", 0), ("b", 1), ("c", 2)], [("a", 0), ("c", 2)], ("a", "b", "c"))
    with pytest.raises(InputError, match="chooses among 2 labels and 'topics' has 3"):
        classification_score(tuned.model, tiny_tokenizer, other)
