import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_rerank.emulator._scorer import lexical_score
from qwen_rerank.emulator._service import Question, RefusedError, Service
from qwen_rerank.emulator._tokenizer import qwen_tokenizer


def service(score=lexical_score, over_long="truncate", *, shuffle=False):
    """Return a service with the Qwen vocabulary."""
    return Service(qwen_tokenizer(), score, over_long, shuffle)


def question(query="q", documents=("d",), model="qwen3-rerank", **options):
    """Return a question."""
    return Question(model, query, tuple(documents), **options)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(1, 15))
def test_results_are_the_head_of_one_order(scores, top_n):
    """Results are sorted by score, then by index; top_n takes the head, or all."""
    documents = [f"{score} {place}" for place, score in enumerate(scores)]
    by_digit = service(lambda _, document: int(document.split()[0]))
    every = by_digit.answer(question(documents=documents)).results
    head = by_digit.answer(question(documents=documents, top_n=top_n)).results

    assert list(every) == sorted(enumerate(scores), key=lambda result: (-result[1], result[0]))
    assert head == every[:top_n]


def test_usage_charges_the_query_once_per_document():
    """tokens(query) * documents + sum(tokens(document))."""
    asked = question("hello world", ["one", "one two", "2024"])

    assert service().answer(asked).tokens == 2 * 3 + 1 + 2 + 4


@pytest.mark.parametrize(("model", "charged"), [("qwen3-rerank", 2 * 3), ("gte-rerank-v2", 0)])
def test_usage_charges_the_instruction_once_per_document(model, charged):
    """An instruction is charged like the query, by the models that heed it."""
    plain = service().answer(question("q", ["a", "b"], model)).tokens
    instructed = service().answer(question("q", ["a", "b"], model, instruct="find the answer"))

    assert instructed.tokens - plain == charged


def test_over_long_items_are_cut():
    """What is beyond the model's item limit is neither scored nor charged, query included."""
    long = "word " * 5_000 + "needle"
    answer = service().answer(question("needle", [long]))
    query = service().answer(question(long, ["x"]))

    assert answer.results == ((0, lexical_score("needle", "word")),)
    assert answer.tokens == qwen_tokenizer().count("needle") + 4_000
    assert query.tokens == 4_001


@pytest.mark.parametrize(
    "asked", [question("q", ["word " * 5_000]), question("word " * 5_000, ["d"])]
)
def test_over_long_items_are_refused_if_so_configured(asked):
    """The newest vendor page says 400 instead of cutting."""
    with pytest.raises(RefusedError, match=r"^Range of input length should be \[1, 4000\]$"):
        service(over_long="refuse").answer(asked)


def test_the_request_limit_counts_the_query_with_every_document():
    """A request over the model's token limit is refused; one that just reaches it is served."""
    document = " word" * 3_999  # with the query 4,000 tokens of 120,000

    assert service().answer(question("q", [document] * 30)).tokens == 120_000
    with pytest.raises(RefusedError, match="Range of input length") as caught:
        service().answer(question("q", [document] * 31))
    assert (caught.value.status, caught.value.code) == (400, "InvalidParameter")


@pytest.mark.parametrize(
    ("model", "count", "most"),
    [("qwen3-rerank", 0, 500), ("qwen3-rerank", 501, 500), ("qwen3-vl-rerank", 101, 100)],
)
def test_the_number_of_documents_is_limited(model, count, most):
    """No documents, or more than the model takes, are refused with the text that was seen."""
    expected = (
        "Value error, batch size of documents is invalid, "
        f"it should not be empty or larger than {most}.: input.documents"
    )
    with pytest.raises(RefusedError) as caught:
        service().answer(question(documents=["d"] * count, model=model))

    assert str(caught.value) == expected
    assert caught.value.inner


def test_a_document_of_too_many_characters_is_named():
    """A document over 300,000 characters is refused, and its index told."""
    documents = ["d", "x" * 300_000, "x" * 300_001]
    expected = (
        "Value error, document index:2 is invalid, "
        "it should not be larger than 300000: input.documents"
    )
    with pytest.raises(RefusedError) as caught:
        service().answer(question(documents=documents))

    assert str(caught.value) == expected


@pytest.mark.parametrize("blank", ["", " ", "\n\t", "\u3000"])
def test_one_blank_text_fails_the_request(blank):
    """A blank document among good ones fails them all, and so does a blank query."""
    said = r"^text input should not be empty\.: input\."
    with pytest.raises(RefusedError, match=f"{said}documents$") as told:
        service().answer(question(documents=["good", blank]))
    assert not told.value.inner
    with pytest.raises(RefusedError, match=f"{said}query$"):
        service().answer(question(query=blank))
