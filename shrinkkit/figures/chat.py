"""Put the answers of several models side by side, and let a reader ask a question of their own.

`answers_table` writes a table for a web page, one column a model; text from a model is escaped, so
that an answer with angle brackets in it stays an answer. `ask_widget` is a text field and a button
above such a table.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets as ipw

from shrinkkit.errors import InputError

_LEFT = "text-align:left;vertical-align:top;white-space:pre-wrap"


def answers_table(answers: Mapping[str, Mapping[str, str]]) -> str:
    """Write questions and answers as an HTML table, one row a question, one column a model.

    answers: {question: {model's name: answer}}; the same models for every question.
    Returns HTML.
    Raises InputError for no questions, or different models.

    >>> answers_table({"1 < 2?": {"fp32": "Yes."}}).count("1 &lt; 2?")
    1
    """
    names = list(next(iter(answers.values()), ()))
    if not names or any(list(row) != names for row in answers.values()):
        raise InputError(
            "answers must hold at least one question, and the same models for each: "
            "{question: {'fp32': answer, 'int4': answer}}."
        )
    width = f"width:{100 // (len(names) + 1)}%"
    head = "".join(
        f'<th scope="col" style="{_LEFT};{width}">{html.escape(title)}</th>'
        for title in ("question", *names)
    )
    body = ""
    for question, row in answers.items():
        body += f'<tr><th scope="row" style="{_LEFT}">{html.escape(question)}</th>'
        body += "".join(f'<td style="{_LEFT}">{html.escape(row[n].strip())}</td>' for n in names)
        body += "</tr>"
    return (
        f'<table style="width:100%;table-layout:fixed"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


class AskBox(ipw.VBox):
    """A question, a button, and underneath what each model answers."""

    def __init__(
        self, models: Mapping[str, Any], ask: Callable[[Any, str], str], question: str
    ) -> None:
        self.question = ipw.Text(
            value=question,
            description="Question",
            continuous_update=False,
            layout=ipw.Layout(width="32em", max_width="100%"),
        )
        self.button = ipw.Button(description="Ask", button_style="primary")
        self.answers = ipw.HTML(layout=ipw.Layout(width="100%"))
        self._models, self._ask = dict(models), ask
        self.button.on_click(self._on_click)
        row = ipw.Box([self.question, self.button], layout=ipw.Layout(flex_flow="row wrap"))
        super().__init__([row, self.answers])

    def __repr__(self) -> str:
        """Say what to do where a notebook is read without a kernel."""
        return "Run this cell to ask a question of your own."

    def _on_click(self, _: Any = None) -> None:
        asked = self.question.value.strip()
        if not asked:
            self.answers.value = "<p>Type a question first.</p>"
            return
        self.button.disabled = True
        given: dict[str, str] = {}
        try:
            for name, model in self._models.items():
                self.answers.value = f"<p>{html.escape(name)} is writing …</p>"
                given[name] = self._ask(model, asked)
            self.answers.value = answers_table({asked: given})
        except Exception as error:  # a button has no cell to show a traceback in
            what = html.escape(f"{type(error).__name__}: {error}")
            self.answers.value = f"<p>That did not work: {what}</p>"
        finally:
            self.button.disabled = False


def ask_widget(
    models: Mapping[str, Any], ask: Callable[[Any, str], str], question: str = ""
) -> AskBox:
    """Make a text field with a button that asks every model what was typed.

    models: {name: model}.
    ask: called as ask(model, question); returns the answer.
    question: what stands in the field at first.
    Raises InputError for no models, or an `ask` that cannot be called.
    """
    if not models or not callable(ask):
        raise InputError("ask_widget needs models, {name: model}, and a function ask(model, text).")
    return AskBox(models, ask, question)
