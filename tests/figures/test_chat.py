"""Answers side by side: escaped, complete, and asked for by a button."""

from __future__ import annotations

import re

import pytest

from shrinkkit.errors import InputError
from shrinkkit.figures.chat import answers_table, ask_widget

MODELS = {"fp32": "large", "int4": "small"}


def cells(page):
    return re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", page)


def test_table_holds_every_answer_in_its_column():
    page = answers_table({"Q1": {"fp32": "a", "int4": "b"}, "Q2": {"fp32": "c", "int4": "d"}})
    assert cells(page) == ["question", "fp32", "int4", "Q1", "a", "b", "Q2", "c", "d"]


def test_what_a_model_writes_is_never_run():
    page = answers_table({"<b>?": {"fp32": "<script>alert('x')</script>"}})
    assert "<script" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize(
    "answers",
    [{}, {"Q": {}}, {"Q": {"a": "x"}, "R": {"b": "y"}}],
    ids=["none", "no model", "mixed"],
)
def test_table_needs_the_same_models(answers):
    with pytest.raises(InputError, match="the same models"):
        answers_table(answers)


def test_button_asks_every_model():
    box = ask_widget(MODELS, lambda model, text: f"{model} says {text}", "hello?")
    assert box.answers.value == ""
    box.button.click()
    assert cells(box.answers.value)[-3:] == ["hello?", "large says hello?", "small says hello?"]
    box.question.value = "again?"
    box.button.click()
    assert cells(box.answers.value)[-3:] == ["again?", "large says again?", "small says again?"]
    assert not box.button.disabled


def test_nothing_typed_asks_nobody():
    asked = []
    box = ask_widget(MODELS, lambda model, text: asked.append(text) or "", "   ")
    box.button.click()
    assert asked == []
    assert "Type a question" in box.answers.value


def test_an_error_is_shown_and_the_button_works_again():
    def ask(model, text):
        raise RuntimeError("out of <memory>")

    box = ask_widget(MODELS, ask, "hello?")
    box.button.click()
    assert "RuntimeError: out of &lt;memory&gt;" in box.answers.value
    assert not box.button.disabled


@pytest.mark.parametrize(("models", "ask"), [({}, print), (MODELS, "ask")], ids=["models", "ask"])
def test_wrong_input(models, ask):
    with pytest.raises(InputError, match="ask_widget needs"):
        ask_widget(models, ask)
