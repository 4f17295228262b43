"""Tasks: the right answer is the right one, nothing gives it away, and there is room to fail."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from shrinkkit.errors import InputError
from shrinkkit.sources.articles import wikipedia_articles
from shrinkkit.sources.tasks import (
    AnalogyTask,
    ClassificationTask,
    RetrievalTask,
    load_task,
)
from shrinkkit.sources.tasks.sentences import mask_title, split_sentences
from shrinkkit.sources.text import split_articles


@pytest.fixture(scope="module")
def evaluation() -> dict[str, str]:
    return {article.title: article.text for article in split_articles(wikipedia_articles())[1]}


@pytest.fixture(scope="module")
def topics() -> ClassificationTask:
    return load_task("topics")


@pytest.fixture(scope="module")
def retrieval() -> RetrievalTask:
    return load_task("retrieval")


@pytest.fixture(scope="module")
def analogies() -> AnalogyTask:
    return load_task("analogies")


# Topics.


def test_topics_learn_from_eight_passages_each_and_are_judged_by_all_others(
    topics: ClassificationTask,
) -> None:
    assert len(topics.label_names) == len(set(topics.label_names)) == 40
    assert Counter(topics.train.labels) == dict.fromkeys(range(40), 8)
    assert set(topics.test.labels) == set(range(40))
    assert len(topics.test) > 3_000
    assert not len(topics.choice)


def test_topics_can_be_fewer() -> None:
    few = load_task("topics", n_topics=5, n_train=3, n_test=2)
    assert Counter(few.train.labels) == dict.fromkeys(range(5), 3)
    assert Counter(few.test.labels) == dict.fromkeys(range(5), 2)


def test_topics_come_from_the_article_they_name(
    topics: ClassificationTask, evaluation: dict[str, str]
) -> None:
    """Each passage's longest unmasked stretch stands in its article, and in no other."""
    passages = topics.train.texts + topics.test.texts
    labels = topics.train.labels + topics.test.labels
    for passage, label in zip(passages, labels, strict=True):
        stretch = max(passage.split("…"), key=len).strip()
        sentence = max(split_sentences(stretch), key=len)[:60]
        titles = [title for title, text in evaluation.items() if sentence in text]
        assert topics.label_names[label] in titles, sentence


def test_topics_hide_the_title(topics: ClassificationTask) -> None:
    for passage, label in zip(topics.test.texts, topics.test.labels, strict=True):
        words = [word for word in re.findall(r"\w+", topics.label_names[label]) if len(word) > 3]
        found = {word.casefold() for word in re.findall(r"\w+", passage)}
        assert found.isdisjoint(word.casefold() for word in words)


def test_topics_train_and_test_paragraphs_differ(
    topics: ClassificationTask, evaluation: dict[str, str]
) -> None:
    assert set(topics.train.texts).isdisjoint(topics.test.texts)
    assert set(topics.train.groups).isdisjoint(topics.test.groups)
    for part in (topics.train, topics.test):
        for passage, label, group in zip(part.texts, part.labels, part.groups, strict=True):
            title, _, number = group.rpartition(", paragraph ")
            assert title == topics.label_names[label]
            stretch = max(passage.split("…"), key=len).strip()
            piece = max(split_sentences(stretch), key=len)[:60]
            assert piece in evaluation[title].split("\n\n")[int(number)]


@pytest.mark.parametrize("name", ["topics", "retrieval"])
def test_seeds(name: str) -> None:
    assert load_task(name, seed=1) == load_task(name, seed=1)
    assert load_task(name, seed=1) != load_task(name, seed=2)


# Retrieval.


def test_every_sentence_of_every_passage_asks_once(
    retrieval: RetrievalTask, evaluation: dict[str, str]
) -> None:
    n = len(retrieval.queries) // 4
    assert len(retrieval.queries) == len(retrieval.passages) == 4 * n > 5_000
    assert retrieval.targets == tuple(range(4 * n))
    assert retrieval.groups == tuple(range(n)) * 4
    texts = list(evaluation.values())
    for start in range(0, n, 50):
        rows = range(start, 4 * n, n)  # one passage in all rounds
        whole = {retrieval.queries[i] for i in rows}
        assert len(whole) == 4
        block = next(
            block
            for text in texts
            for block in text.split("\n\n")
            if all(sentence in block for sentence in whole)
        )
        for i in rows:
            assert retrieval.queries[i] not in retrieval.passages[i]
            left = sorted(whole - {retrieval.queries[i]}, key=block.index)
            assert " ".join(left) == retrieval.passages[i]


def test_hardly_a_query_stands_in_a_passage_of_its_round(retrieval: RetrievalTask) -> None:
    n = len(retrieval.queries) // 4
    everything = "\n".join(retrieval.passages[:n])
    said_twice = sum(query in everything for query in retrieval.queries[:n])
    assert said_twice <= 10


def test_fewer_passages_and_rounds() -> None:
    few = load_task("retrieval", n_passages=30, n_rounds=2)
    assert (len(few.queries), len(few.passages), few.n_rounds) == (60, 60, 2)


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
        ("topics", {"n_topics": 60}, "n_topics must be at most 4"),
        ("topics", {"n_train": 10_000}, "n_topics must be at most 0 with n_train=10000"),
        ("topics", {"n_topics": None}, "n_topics must be a whole number"),
        ("topics", {"seed": 1.5}, "seed must be a whole number"),
        ("retrieval", {"n_passages": 10**6}, "n_passages must be at most"),
        ("retrieval", {"n_rounds": 5}, "n_rounds must be at most 4"),
        ("sentiment", {"n_train": 3}, "a size of the task 'sentiment'"),
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
