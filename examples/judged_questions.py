"""Ranks the judged questions of the demo and writes what `qwen-rerank evaluate` reads.

    python examples/judged_questions.py demo

The folder then holds qrels.txt, the judgements, and reranked.jsonl, what the reranker made of a
weak first stage, with scores. Judged are the topics of Python's own reference, so of each the best
passage counts. The scores are those of an emulator, which compares words: they show how to find a
threshold, and are no measure of a Qwen model. With your key in DASHSCOPE_API_KEY and without
base_url and api_key below it asks the service, for about 1,200,000 tokens. It was never run
against the live service.

It takes: pip install ".[all]"
"""

import json
import operator
import sys
from pathlib import Path

from qwen_rerank import Reranker
from qwen_rerank.cli.demo.corpus import load_passages, load_questions
from qwen_rerank.cli.demo.first_stage import embed
from qwen_rerank.emulator import Emulator

RETRIEVED = 50


def main(folder: Path) -> None:
    """Writes both files."""
    folder.mkdir(parents=True, exist_ok=True)
    passages, questions = load_passages(), load_questions()
    vectors = [embed(passage.text) for passage in passages]
    with (
        Emulator() as emulator,
        (folder / "qrels.txt").open("w") as qrels,
        (folder / "reranked.jsonl").open("w") as reranked,
    ):
        reranker = Reranker(base_url=emulator.base_url, api_key=emulator.api_key)
        for question in questions:
            for topic, grade in question.grades.items():
                qrels.write(f"{question.id} 0 {topic} {grade}\n")
            asked = embed(question.text)
            near = sorted(
                range(len(passages)),
                key=lambda at: round(-sum(map(operator.mul, asked, vectors[at])), 9),
            )[:RETRIEVED]
            scores: dict[str, float | None] = {}
            for hit in reranker.rerank(question.text, [passages[at].text for at in near]):
                scores.setdefault(passages[near[hit.index]].topic, hit.score)
            results = [{"id": topic, "score": score} for topic, score in scores.items()]
            reranked.write(json.dumps({"id": question.id, "results": results}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
