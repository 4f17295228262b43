"""Tasks: the right answer is the right one, nothing gives it away, and there is room to fail."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from shrinkkit.errors import InputError
from shrinkkit.sources.articles import wikipedia_articles
from shrinkkit.sources.tasks import (
    AnalogyTask,
    RetrievalTask,
    TopicsTask,
    load_task,
    mask_title,
    split_sentences,
)
from shrinkkit.sources.text import split_articles


@pytest.fixture(scope="module")
def evaluation() -> dict[str, str]:
    return {article.title: article.text for article in split_articles(wikipedia_articles())[1]}


@pytest.fixture(scope="module")
def topics() -> TopicsTask:
    return load_task("topics")


@pytest.fixture(scope="module")
def retrieval() -> RetrievalTask:
    return load_task("retrieval")


@pytest.fixture(scope="module")
def analogies() -> AnalogyTask:
    return load_task("analogies")


# Topics.


def test_topics_are_balanced(topics: TopicsTask) -> None:
    assert len(topics.label_names) == len(set(topics.label_names)) == 40
    assert Counter(topics.train_labels) == dict.fromkeys(range(40), 8)
    assert Counter(topics.test_labels) == dict.fromkeys(range(40), 8)
    assert len(topics.train_passages) == len(topics.test_passages) == 320


def test_topics_come_from_the_article_they_name(
    topics: TopicsTask, evaluation: dict[str, str]
) -> None:
    """Each passage's longest unmasked stretch stands in its article, and in no other."""
    passages = topics.train_passages + topics.test_passages
    labels = topics.train_labels + topics.test_labels
    for passage, label in zip(passages, labels, strict=True):
        stretch = max(passage.split("…"), key=len).strip()
        sentence = max(split_sentences(stretch), key=len)[:60]
        titles = [title for title, text in evaluation.items() if sentence in text]
        assert topics.label_names[label] in titles, sentence


def test_topics_hide_the_title(topics: TopicsTask) -> None:
    for passage, label in zip(topics.test_passages, topics.test_labels, strict=True):
        words = [word for word in re.findall(r"\w+", topics.label_names[label]) if len(word) > 3]
        found = {word.casefold() for word in re.findall(r"\w+", passage)}
        assert found.isdisjoint(word.casefold() for word in words)


def test_topics_test_passages_are_new(topics: TopicsTask) -> None:
    assert set(topics.train_passages).isdisjoint(topics.test_passages)
    assert len(set(topics.test_passages)) > 315


def test_topics_train_and_test_paragraphs_differ(
    topics: TopicsTask, evaluation: dict[str, str]
) -> None:
    def paragraphs(passages: tuple[str, ...], labels: tuple[int, ...]) -> set[str]:
        found = set()
        for passage, label in zip(passages, labels, strict=True):
            piece = max(passage.split("…"), key=len).strip()[:50]
            blocks = evaluation[topics.label_names[label]].split("\n\n")
            found |= {block for block in blocks if piece in block}
        return found

    train = paragraphs(topics.train_passages, topics.train_labels)
    test = paragraphs(topics.test_passages, topics.test_labels)
    assert len(train) > 200
    assert train.isdisjoint(test)


@pytest.mark.parametrize("name", ["topics", "retrieval"])
def test_seeds(name: str) -> None:
    assert load_task(name, seed=1) == load_task(name, seed=1)
    assert load_task(name, seed=1) != load_task(name, seed=2)


# Retrieval.


def test_queries_were_taken_out_of_their_passage(
    retrieval: RetrievalTask, evaluation: dict[str, str]
) -> None:
    assert len(retrieval.queries) == len(set(retrieval.targets)) == 300
    assert len(retrieval.passages) == 1000
    texts = list(evaluation.values())
    for query, target in zip(retrieval.queries, retrieval.targets, strict=True):
        passage = retrieval.passages[target]
        assert query not in passage
        start = split_sentences(passage)[0]
        blocks = [block for text in texts for block in text.split("\n\n") if start in block]
        assert any(query in block for block in blocks), query


def test_no_query_stands_in_any_passage(retrieval: RetrievalTask) -> None:
    everything = "\n".join(retrieval.passages)
    assert sum(query in everything for query in retrieval.queries) <= 3  # sentences said twice


def test_passages_do_not_give_themselves_away_by_length(retrieval: RetrievalTask) -> None:
    asked = set(retrieval.targets)
    n_sentences = Counter(
        (i in asked, len(split_sentences(passage))) for i, passage in enumerate(retrieval.passages)
    )
    assert n_sentences[True, 3] + n_sentences[False, 3] > 980


# Analogies.


def test_analogy_prompts_by_hand(analogies: AnalogyTask) -> None:
    first = analogies.sections["capital-common-countries"][0]
    assert first.prompt == "Athens is the capital of Greece. Baghdad is the capital of"
    assert first.candidates[first.answer] == "Iraq"
    opposite = analogies.sections["gram2-opposite"][0]
    assert opposite.prompt.startswith("The opposite of acceptable is unacceptable. The opposite of")
    assert opposite.candidates[opposite.answer] == "unaware"


def test_analogy_sections(analogies: AnalogyTask) -> None:
    sizes = {name: (len(q), len(q[0].candidates)) for name, q in analogies.sections.items()}
    assert len(sizes) == 14
    assert sizes["capital-world"] == (4524, 116)
    assert sizes["gram2-opposite"] == (812, 29)
    assert sizes["capital-common-countries"] == (506, 23)
    for questions in analogies.sections.values():
        assert {q.answer for q in questions} == set(range(len(questions[0].candidates)))


def test_analogy_samples(analogies: AnalogyTask) -> None:
    sample = analogies.questions("capital-world", 60, seed=1)
    assert sample == analogies.questions("capital-world", 60, seed=1)
    assert sample[:20] == analogies.questions("capital-world", 20, seed=1)
    assert sample != analogies.questions("capital-world", 60, seed=2)
    assert len({question.answer for question in sample}) == 60  # no capital twice
    counts = Counter(q.answer for q in analogies.questions("gram2-opposite", 60))
    assert set(counts.values()) == {2, 3}  # 29 answers: 60 = 2 x 29 + 2
    everything = analogies.questions("gram2-opposite")
    assert Counter(everything) == Counter(analogies.sections["gram2-opposite"])


# Arguments.


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("topic", {}, "Did you mean 'topics'"),
        ("topics", {"n_topic": 3}, "Did you mean 'n_topics'"),
        ("topics", {"n_topics": 1}, "n_topics must be a whole number of at least 2"),
        ("topics", {"n_topics": 49}, "n_topics must be at most 4"),
        ("topics", {"n_train": 10_000}, "n_topics must be at most 0 with n_train=10000"),
        ("topics", {"seed": 1.5}, "seed must be a whole number"),
        ("retrieval", {"n_passages": 10**6}, "n_passages must be at most"),
        (
            "retrieval",
            {"n_queries": 200, "n_passages": 100},
            "n_queries must be at most n_passages",
        ),
        ("analogies", {"n_queries": 3}, "a size of the task 'analogies'"),
    ],
)
def test_wrong_arguments(name: str, options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        load_task(name, **options)


def test_wrong_analogy_arguments(analogies: AnalogyTask) -> None:
    with pytest.raises(InputError, match="Did you mean 'capital-world'"):
        analogies.questions("capitals-world")
    for n_questions in (0, 813, 2.5):
        with pytest.raises(InputError, match="n_questions must be a whole number from 1 to 812"):
            analogies.questions("gram2-opposite", n_questions)


# The two small tools.


@pytest.mark.parametrize(
    ("paragraph", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("It cost 3.5 million. Then more.", ["It cost 3.5 million.", "Then more."]),
        ("J. R. Smith vs. Dr. Jones. Next.", ["J. R. Smith vs. Dr. Jones.", "Next."]),
        ('He said "no." She left.', ['He said "no."', "She left."]),
        ("no capital. follows here", ["no capital. follows here"]),
        ("", []),
    ],
)
def test_split_sentences(paragraph: str, expected: list[str]) -> None:
    assert split_sentences(paragraph) == expected


@pytest.mark.parametrize(
    ("passage", "title", "expected"),
    [
        ("Astronomers and astronomy.", "Astronomer", "… and …."),
        ("The Angolan economy grew.", "Economy of Angola", "The … … grew."),
        ("An American in Paris by an American.", "An American in Paris", "… … in … by … …."),
        ("Art is long; articles are not.", "Art", "… is long; articles are not."),
        ("Nothing here.", "Zebra", "Nothing here."),
        ("Anything.", "!", "Anything."),
    ],
)
def test_mask_title(passage: str, title: str, expected: str) -> None:
    assert mask_title(passage, title) == expected
