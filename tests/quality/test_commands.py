"""The commands on a real collection: its published figures."""

import json
from pathlib import Path

import pytest

from qwen_rerank.cli import main


@pytest.mark.slow
def test_scifact_before_and_after(scifact, oracle, tmp_path, monkeypatch, capfd):
    """BM25's lists are worth 0.686, and 0.914 after a server that knows the judgements.

    No order of them is worth more.
    """
    corpus, queries, qrels, before, after = (
        str(tmp_path / name) for name in ("corpus", "queries", "qrels", "before.tsv", "after.trec")
    )
    for path, texts in ((corpus, scifact.documents), (queries, scifact.queries)):
        lines = (json.dumps({"_id": name, "text": text}) for name, text in texts.items())
        Path(path).write_text("\n".join(lines))
    Path(qrels).write_text(
        "".join(
            f"{query} 0 {document} {grade}\n"
            for query, judged in scifact.judgements.items()
            for document, grade in judged.items()
        )
    )
    Path(before).write_text(
        "".join("\t".join([query, *found]) + "\n" for query, found in scifact.found.items())
    )
    monkeypatch.setenv("DASHSCOPE_BASE_URL", oracle["base_url"])
    monkeypatch.setenv("DASHSCOPE_API_KEY", oracle["api_key"])
    texts = ["--corpus", corpus, "--queries", queries]

    ranked = main(["rerank", "--run", before, *texts, "--output", after, "--format", "trec"])
    told = main(["evaluate", "--qrels", qrels, "--run", before, "--run", after])

    assert (ranked, told) == (0, 0)
    assert "nDCG@10 │ 0.686 │ 0.914" in " ".join(capfd.readouterr().out.split())
