"""The live service, asked with your key: what could not be verified without one.

    DASHSCOPE_API_KEY=sk-... make live

sends 40 to 60 requests with about 120,000 tokens, most of them for the doctor: by the list price
CNY 0.06 in Beijing (qwen3-rerank CNY 0.5 a million tokens), USD 0.012 in Singapore. That is by our
count; with the template around each pair, which nobody documents, it may be twice as much.
Region, workspace and host are those of the environment. With QWEN_RERANK_LIVE_URL set to the base
URL of an emulator on this machine, that is asked instead, which is how this file itself is tested.

A test that fails here is news: the library, the emulator or the vendor's page is wrong.
"""

import asyncio
import json
import sys
from io import BytesIO

import pytest
from PIL import Image as Drawing

from qwen_rerank import AuthenticationError, Image, RequestError, Reranker
from qwen_rerank.cli import main

pytestmark = pytest.mark.live

QUERY = "What sleeps upside down in a cave?"
ANSWER = "A bat sleeps upside down, often in a cave."
TEXTS = ["Green tea is harvested in spring.", ANSWER, "Caves are cold all year.", " \n"]
BAD_KEY = "sk-00000000000000000000000000000000"
PROTOCOLS = pytest.mark.parametrize("protocol", ["dashscope", "compatible"])


def ranked(reranker, texts=TEXTS, *, native=False, **options):
    """A ranking, by either way."""
    if not native:
        with reranker:
            return reranker.rerank(QUERY, texts, **options)

    async def aranked():
        async with reranker:
            return await reranker.arerank(QUERY, texts, **options)

    return asyncio.run(aranked())


def test_the_core():
    """Sync and async, by either protocol: the answer wins, usage is told, scores are probabilities.

    They are the same by every way, but for rounding.
    """
    first, *others = (
        ranked(Reranker(protocol=protocol), native=native, instruct="Retrieve what answers.")
        for protocol in ("dashscope", "compatible")
        for native in (False, True)
    )

    assert first[0].document == ANSWER
    assert [hit.score is None for hit in first] == [False, False, False, True]
    assert all(0 <= hit.score <= 1 for hit in first[:3])
    for ranking in (first, *others):
        assert ranking.usage.requests == 1
        assert ranking.usage.tokens > 0
        assert ranking.request_ids
        assert [hit.index for hit in ranking] == [hit.index for hit in first]
        for one, other in zip(ranking[:3], first[:3], strict=True):
            assert one.score == pytest.approx(other.score, abs=0.01)


@PROTOCOLS
def test_more_documents_than_a_request_takes(protocol):
    """A list over 500 is answered, over two requests, and each document has its score."""
    texts = [f"Room {number}." for number in range(520)]
    texts[510] = ANSWER
    ranking = ranked(Reranker(protocol=protocol), texts)

    assert ranking[0].index == 510
    assert len(ranking) == 520
    assert ranking.usage.requests == 2
    assert all(hit.score is not None for hit in ranking)


def test_the_estimate_is_near_the_bill():
    """What estimate() counts is no less than a quarter of the bill, nor more than all of it."""
    with Reranker() as reranker:
        estimate = reranker.estimate(QUERY, TEXTS)
        billed = reranker.rerank(QUERY, TEXTS).usage.tokens

    assert billed / 4 < estimate.tokens <= 1.05 * billed


def test_langchain():
    """LangChain's compressor, awaited."""
    from langchain_core.documents import Document

    import langchain_qwen_rerank

    documents = [Document(text, id=str(place)) for place, text in enumerate(TEXTS)]
    with langchain_qwen_rerank.QwenRerank(top_n=2) as reranker:
        found = asyncio.run(reranker.acompress_documents(documents, QUERY))

    assert len(found) == 2
    assert found[0].id == "1"
    assert all(0 <= document.metadata["relevance_score"] <= 1 for document in found)


def test_llama_index():
    """LlamaIndex's node postprocessor."""
    from llama_index.core.schema import NodeWithScore, TextNode

    import llama_index_qwen_rerank

    nodes = [NodeWithScore(node=TextNode(text=text)) for text in TEXTS]
    with llama_index_qwen_rerank.QwenRerank(top_n=2) as reranker:
        found = reranker.postprocess_nodes(nodes, query_str=QUERY)

    assert found[0].node.text == ANSWER
    assert len(found) == 2


@pytest.mark.usefixtures("beijing")
def test_an_image():
    """qwen3-vl-rerank takes an image as a data URI beside texts."""
    file = BytesIO()
    Drawing.new("RGB", (64, 64), "red").save(file, "png")
    with Reranker(model="qwen3-vl-rerank") as reranker:
        ranking = reranker.rerank(
            "something red", ["Green tea is harvested in spring.", Image(data=file.getvalue())]
        )

    assert ranking[0].kind == "image"
    assert ranking.usage.tokens > 0


@pytest.mark.usefixtures("beijing")
@pytest.mark.parametrize("model", ["gte-rerank-v2", "qwen3.7-text-rerank"])
def test_other_models(model):
    """The other text models answer on the native protocol."""
    assert ranked(Reranker(model=model))[0].document == ANSWER


@PROTOCOLS
def test_a_bad_key(protocol):
    """A wrong key is an AuthenticationError with its code, whichever envelope it comes in."""
    with pytest.raises(AuthenticationError) as caught:
        ranked(Reranker(protocol=protocol, api_key=BAD_KEY))

    error = caught.value
    assert error.status == 401
    assert error.code.lower().replace("_", "") == "invalidapikey"
    assert "region" in error.hint
    assert BAD_KEY not in str(error) + repr(vars(error))


@PROTOCOLS
@pytest.mark.parametrize("model", ["gte-rerank", "no-such-model-of-this-name"])
def test_a_model_that_is_none(protocol, model):
    """A retired model and one that never was are the caller's mistake, with a way out."""
    with pytest.raises((RequestError, AuthenticationError)) as caught:
        ranked(Reranker(protocol=protocol, model=model))

    assert caught.value.hint


def test_the_model_that_the_compatible_protocol_lacks():
    """qwen3-vl-rerank on the flat route is refused with the setting that helps."""
    with pytest.raises(RequestError, match="protocol='dashscope'"):
        ranked(Reranker(protocol="compatible", model="qwen3-vl-rerank"))


def test_the_doctor(capsys, tmp_path):
    """The doctor finds nothing wrong and has an answer to every question."""
    file = tmp_path / "report.json"
    code = main(["doctor", "--yes", "--json", str(file)])
    report = json.loads(file.read_text())

    shown = capsys.readouterr().out
    with capsys.disabled():
        sys.stdout.write(shown)  # what the first one with a key wants to read
    assert report["problems"] == []
    assert code == 0
    assert report["spent"]["tokens"] <= 2 * report["planned"]["tokens"]
