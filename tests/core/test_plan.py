import functools
from dataclasses import replace
from itertools import combinations, product

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from qwen_rerank._models import LIMITS, Limit, limits_for
from qwen_rerank._plan import Budget, _add_up, plan
from qwen_rerank._values import Item, Job, Prepared, Request
from qwen_rerank._wire import encode

_ROW = LIMITS["qwen3-rerank"]
_PAIRS = limits_for("any", "vllm", max_model_len=512)
_JOB = Job("qwen3-rerank", "q", ())


def _limits(documents=5, request=100, item=1_000, characters=300_000):
    # Half of each token limit is planned for, so that the planned numbers are those given here.
    return _ROW._replace(
        documents=Limit(documents, "", ""),
        item_tokens=Limit(2 * item, "", ""),
        request_tokens=Limit(2 * request, "", ""),
        item_characters=Limit(characters, "", ""),
        share=0.5,
    )


def _prepared(lengths, query=0, instruct=0):
    return Prepared(
        Item("q", query),
        Item("i", instruct),
        tuple(Item(f"text {i}", tokens) for i, tokens in enumerate(lengths)),
    )


def _requests(prepared, limits, job=_JOB):
    return plan(job, prepared, limits, limits.documents.value)


def _fits(prepared, limits):
    return Budget(limits, limits.documents.value).holds(prepared)


def _cost(request, prepared):
    per_document = prepared.query.tokens + prepared.instruct.tokens
    return sum(item.tokens + per_document for item in request.items)


def _fewest(lengths, per_document, limits):
    """The fewest order-preserving requests, by trying every last request."""
    most, budget = limits.documents.value, limits.planned_request_tokens

    @functools.cache
    def best(end):
        if end == 0:
            return 0
        return 1 + min(
            best(start)
            for start in range(end - 1, -1, -1)
            if end - start == 1
            or (
                end - start <= most
                and sum(lengths[start:end]) + (end - start) * per_document <= budget
            )
        )

    return best(len(lengths))


_LENGTHS = st.lists(st.integers(1, 120), max_size=14)
_CASE = {
    "lengths": _LENGTHS,
    "query": st.integers(0, 20),
    "instruct": st.integers(0, 20),
    "limits": st.builds(_limits, st.integers(1, 6), st.integers(20, 150)),
}


@given(**_CASE)
def test_no_request_is_too_large(lengths, query, instruct, limits):
    """Each item is in one request, in order, and none is over a limit unless it holds one item.

    Query and instruct are charged once per document, as the service documents it.
    """
    prepared = _prepared(lengths, query, instruct)

    requests = _requests(prepared, limits)

    assert prepared.items == tuple(item for request in requests for item in request.items)
    for request in requests:
        assert 1 <= len(request.items) <= limits.documents.value
        assert _cost(request, prepared) == request.tokens
        assert request.tokens <= limits.planned_request_tokens or len(request.items) == 1


def _sizes(requests):
    return [len(request.items) for request in requests]


def _can_differ(lengths, per_document, limits, count):
    """Whether *count* order-preserving requests can have sizes that all differ, by trying all."""
    most, budget = limits.documents.value, limits.planned_request_tokens

    def rest(start, used):
        if start == len(lengths) or len(used) == count:
            return start == len(lengths) and len(used) == count
        return any(
            rest(start + size, used | {size})
            for size in range(1, min(most, len(lengths) - start) + 1)
            if size not in used
            and (size == 1 or sum(lengths[start : start + size]) + size * per_document <= budget)
        )

    return rest(0, frozenset())


@given(**_CASE)
def test_no_more_requests_than_needed(lengths, query, instruct, limits):
    """No fewer would do; if as many can all differ in size, they do, so that a swap is found."""
    sizes = _sizes(_requests(_prepared(lengths, query, instruct), limits))

    assert _fewest(lengths, query + instruct, limits) == len(sizes)
    can = _can_differ(lengths, query + instruct, limits, len(sizes))
    assert (len(set(sizes)) == len(sizes)) is can


@given(st.integers(0, 1_500), st.integers(1, 500))
def test_sizes_of_short_texts(items, most):
    """Where tokens do not matter, sizes differ whenever they can, and are filled evenly."""
    sizes = _sizes(_requests(_prepared([1] * items), _limits(most, 10**9)))

    count = len(sizes)
    assert count == -(-items // most)
    if sizes and sum(range(count + 1)) <= items <= sum(most - less for less in range(count)):
        assert len(set(sizes)) == count
        assert max(sizes) - min(sizes) <= 2 * count
    elif sizes:
        assert max(sizes) == -(-items // count)


def test_sizes_of_long_texts():
    """Lists of real sizes, which are split by tokens, are told apart too."""
    lengths = [1 + 997 * i % 4_000 for i in range(400)]

    sizes = _sizes(_requests(_prepared(lengths, query=10), _ROW))

    assert len(sizes) > 5
    assert len(set(sizes)) == len(sizes)


def test_requests_carry_the_call():
    """A request has the job's model and options, and the query and instruction as prepared."""
    job = Job("m", "the query as given", (), instruct="the rules as given", fps=0.5, extra={"a": 1})
    prepared = replace(_prepared([1]), query=Item("q", 2, kind="image"))

    assert _requests(prepared, _limits(), job) == (
        Request("m", "q", "i", prepared.items, "image", 0.5, tokens=3, extra={"a": 1}),
    )


@given(st.lists(st.integers(0, 200).map(lambda size: "\x00" * (size // 9) + "a" * size)))
def test_bytes_are_a_limit_too(texts):
    """No body grows over the gateway's limit, whatever the tokens say; query and escapes count."""
    limits = _ROW._replace(body_bytes=Limit(1_500, "", ""))
    items = tuple(Item(text, 1) for text in texts)

    asked = Item("q" * 200, 1), Item("i" * 300, 1)
    requests = plan(_JOB, Prepared(*asked, items), limits, 500)

    assert items == tuple(item for request in requests for item in request.items)
    for request in requests:
        assert len(encode(request, "dashscope")) < 1_600 or len(request.items) == 1
    assert len(requests) <= len(encode(_all(items), "dashscope")) / 300 + 1


_LONG = "\x00" * 100  # 600 bytes


@pytest.mark.parametrize(
    ("query", "instruct", "texts", "most", "count"),
    [
        (_LONG, "", ["\x00" * 4] * 2, 650, 2),
        ("", _LONG, ["\x00" * 4] * 2, 650, 2),
        ("", "", ["\x00"] * 100, 1_003, 2),
        ("", "", ["\x00"] * 100, 1_004, 1),
        ("", "", ["a"] * 100, 504, 1),
        ("", "", ["a"] * 100, 503, 2),
    ],
)
def test_bytes_of_what_is_around(query, instruct, texts, most, count):
    """The query, the instruction, and what is around each text take bytes too."""
    limits = _ROW._replace(body_bytes=Limit(most / 0.95 + 0.01, "", ""))
    assert limits.planned_body_bytes == most
    prepared = Prepared(Item(query, 1), Item(instruct, 1), tuple(Item(text, 1) for text in texts))

    assert len(plan(_JOB, prepared, limits, 500)) == count


def _all(items):
    return Request("m", "q", None, items)


@given(**_CASE)
def test_bounds_that_fit_need_no_counting(lengths, query, instruct, limits):
    """If bounds fit, the true counts, which are smaller, need as many requests."""
    assume(_fits(_prepared(lengths, query, instruct), limits))

    smaller = _prepared([tokens // 2 for tokens in lengths], query // 2, instruct // 2)

    assert _fits(smaller, limits)
    assert len(_requests(smaller, limits)) == len(
        _requests(_prepared(lengths, query, instruct), limits)
    )


@pytest.mark.parametrize(
    ("prepared", "limits", "answer"),
    [
        (_prepared([]), _limits(), True),
        (_prepared([10] * 5), _limits(), True),
        (_prepared([10] * 6), _limits(), True),  # two requests, but by count alone
        (_prepared([30] * 5), _limits(), False),  # two requests because of the tokens
        (_prepared([10] * 5, query=20), _limits(), False),
        (_prepared([11]), _limits(item=10), False),
        (_prepared([10]), _limits(item=10), True),
        (_prepared([1], query=10), _limits(item=10), True),
        (_prepared([1], query=11), _limits(item=10), False),
        (_prepared([280], query=40, instruct=60), _PAIRS, True),
        (_prepared([281], query=40, instruct=60), _PAIRS, False),  # 380 for the three of them
        (_prepared([1]), _limits(characters=5), False),  # "text 0" has six
        (_prepared([1]), _limits(characters=6), True),
    ],
)
def test_fits(prepared, limits, answer):
    """Counting is skipped only where it cannot change anything."""
    assert answer is _fits(prepared, limits)


def test_kinds_are_mingled():
    """Each request takes its share of every kind, in the order of each."""
    texts = [Item(f"text {i}", 1) for i in range(6)]
    images = [Item(f"image {i}", 1, kind="image") for i in range(2)]

    requests = plan(_JOB, replace(_prepared([]), items=(*texts, *images)), _ROW, 4)

    assert [[item.text for item in request.items] for request in requests] == [
        ["text 0", "text 1", "image 0", "text 2"],
        ["text 3", "text 4", "image 1", "text 5"],
    ]


@pytest.mark.parametrize(
    ("texts", "images", "videos", "count"), [(7, 5, 3, 3), (0, 5, 3, 3), (0, 4, 0, 2), (0, 0, 5, 5)]
)
def test_images_and_videos_are_few(texts, images, videos, count):
    """No request has more of them than it may, and no more requests are made than that takes."""
    kinds = ["text"] * texts + ["video"] * videos + ["image"] * images
    items = tuple(Item(str(at), 1, kind=kind) for at, kind in enumerate(kinds))
    limits = _ROW._replace(images=Limit(2, "", ""), videos=Limit(1, "", ""))

    requests = plan(_JOB, replace(_prepared([]), items=items), limits, 500)

    assert len(requests) == count
    for request in requests:
        held = [item.kind for item in request.items]
        assert held.count("image") <= 2
        assert held.count("video") <= 1


def test_surplus():
    """What is over the fewest requests' tokens, query and template with each item counted."""
    limits = _limits(request=100)._replace(template_tokens=7)

    assert Budget(limits, 2).surplus(_prepared([50, 60, 70], query=10, instruct=3)) == 40


def test_sizes_that_add_up():
    """No sizes that would do are missed; where none is taken yet, none is looked for in vain."""
    for widest, count in product(range(1, 6), range(1, 4)):
        for taken in ((), (1,), (2,), (widest,), (1, 3)):
            used = {size for size in taken if size <= widest}
            free = [size for size in range(1, widest + 1) if size not in used]
            sums = {sum(sizes) for sizes in combinations(free, count)}
            for total in range(16):
                might = _add_up(count, total, widest, used)
                assert might or total not in sums
                assert not might or total in sums or (used and count > 1)


@pytest.mark.parametrize(
    ("lengths", "sizes"),
    [
        ([25] * 6, [2, 4]),
        ([20, 60, 10, 30, 30, 30, 60], [2, 4, 1]),
        ([90, 10, 10, 10, 50, 10, 30, 20, 30], [1, 5, 3]),
    ],
)
def test_sizes_that_take_a_search(lengths, sizes):
    """Where the nearest sizes do not work out others are tried, from full ones to a single item."""
    assert sizes == _sizes(_requests(_prepared(lengths), _limits(request=100)))


def test_sizes_of_many_requests():
    """However many they are, each is tried: the last two, full and alike, are told apart here."""
    full = [10**6 // size for size in range(1, 145) for _ in range(size)]
    limits = _limits(documents=155, request=10**6)

    sizes = _sizes(_requests(_prepared(full + [10**6 // 151] * 151 + [1_000] * 151), limits))

    assert sizes == [*range(1, 145), 150, 152]
