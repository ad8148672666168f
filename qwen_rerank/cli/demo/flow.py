"""`qwen-rerank demo`: the flow, one function per step. How things look or count lives elsewhere."""

import os
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from qwen_rerank import Reranker, RerankError
from qwen_rerank.cli._terminal import agreed, open_console, progress, waiting
from qwen_rerank.cli._troubles import tell
from qwen_rerank.cli._words import complaint
from qwen_rerank.cli.demo import report
from qwen_rerank.cli.demo.corpus import Passage, Question, load_passages, load_questions
from qwen_rerank.cli.demo.measure import Found, Result, Trial, judge

if TYPE_CHECKING:
    from qwen_rerank.cli.demo.frameworks import Framework

__all__ = ["demo"]

_RETRIEVED = 100
_LIVE_QUESTIONS = 12
_CHARACTERS_PER_TOKEN = 4  # English prose and code in Qwen's vocabulary: 4.3 to 4.6


def demo(*, live: bool, model: str, region: str | None, count: int | None, confirmed: bool) -> int:
    """Retrieves, reranks, measures and shows.

    Args:
        live: Ask DashScope instead of the emulator.
        model: Name of the rerank model.
        region: Region of DashScope, or None for the one the library finds.
        count: How many questions to use; None for all, or a dozen if *live*.
        confirmed: Send without asking.

    Returns:
        The exit code.

    Raises:
        ImportError: Something of the extra ``demo`` is not installed.
        ValueError: There is no key, or a setting is wrong.
    """
    options: dict[str, Any] = {"model": model}
    host = None
    if live:
        options["region"] = region
        # Without a key, say so before anything is loaded.
        host = Reranker(**options)._line().endpoint.host
    console = open_console()
    passages = load_passages()
    questions = _spread(load_questions(), count or (_LIVE_QUESTIONS if live else None))
    with ExitStack() as stack:
        frameworks = _opened(console, stack, passages, options, live=live)
        console.print(
            report.explanation(
                passages=len(passages),
                questions=len(questions),
                retrieved=_RETRIEVED,
                host=host,
                model=model,
            )
        )
        candidates = _retrieved(console, frameworks, questions)
        if host is not None:
            _announce(console, frameworks, questions, candidates, host)
            if not confirmed and not agreed(console):
                tell("Nothing was sent.")
                return 1
        try:
            results = _reranked(console, frameworks, questions, candidates)
        except RerankError as error:
            told = "\n".join(filter(None, complaint(error, "demo")))
            tell(f"{type(error).__name__}: {told}")
            return 1
    for sample in report.samples(results):
        console.print(sample)
    stand_in = "the lexical stand-in: no measure of the Qwen models"
    scorer = stand_in if host is None else f"{model} at {host}"
    console.print(report.summary(results, scorer))
    command = Path(sys.executable).with_name("qwen-rerank")  # for shells that do not find it
    called = command.name if shutil.which(command.name) else os.path.relpath(command)
    console.print(report.next_steps(called, live=live))
    return 0


def _spread(questions: Sequence[Question], count: int | None) -> Sequence[Question]:
    """*count* of *questions* at even distances, so that every part of the list has its share."""
    count = min(count or len(questions), len(questions))
    return [questions[place * len(questions) // count] for place in range(count)]


def _opened(
    console: Console,
    stack: ExitStack,
    passages: Sequence[Passage],
    options: dict[str, Any],
    *,
    live: bool,
) -> list["Framework[Any]"]:
    """Both frameworks with the passages in their stores, connected until *stack* is closed."""
    with waiting(console, "Loading LangChain and LlamaIndex"):
        from qwen_rerank.cli.demo.frameworks import FRAMEWORKS  # noqa: PLC0415  takes three seconds

        if not live:
            from qwen_rerank.emulator import Emulator  # noqa: PLC0415  likewise, and not if live

            emulator = stack.enter_context(Emulator())
            options = options | {"base_url": emulator.base_url, "api_key": emulator.api_key}
        return [
            stack.enter_context(closing(framework(passages, **options))) for framework in FRAMEWORKS
        ]


def _retrieved(
    console: Console, frameworks: Sequence["Framework[Any]"], questions: Sequence[Question]
) -> list[list[Any]]:
    """For each framework, what it finds for each question."""
    with progress(console) as bar:
        return [
            [
                framework.retrieve(question.text, _RETRIEVED)
                for question in bar.track(questions, description=f"{framework.name} retrieves")
            ]
            for framework in frameworks
        ]


def _announce(
    console: Console,
    frameworks: Sequence["Framework[Any]"],
    questions: Sequence[Question],
    candidates: Sequence[Sequence[Any]],
    host: str,
) -> None:
    """Says what will be sent where, roughly: a model with small limits takes more requests."""
    characters = sum(
        len(question.text) + len(found.passage.text)  # the query is billed with every document
        for framework, lists in zip(frameworks, candidates, strict=True)
        for question, candidate in zip(questions, lists, strict=True)
        for found in framework.read(candidate)
    )
    console.print(
        report.intention(
            requests=len(frameworks) * len(questions),
            retrieved=_RETRIEVED,
            tokens=characters // _CHARACTERS_PER_TOKEN,
            model=frameworks[0].model,
            host=host,
        )
    )


def _reranked(
    console: Console,
    frameworks: Sequence["Framework[Any]"],
    questions: Sequence[Question],
    candidates: Sequence[Sequence[Any]],
) -> list[Result]:
    """The figures of each framework, one framework after the other."""
    results = []
    with progress(console) as bar:
        for framework, lists in zip(frameworks, candidates, strict=True):
            before = [framework.read(candidate) for candidate in lists]
            started = time.perf_counter()
            pairs = zip(questions, lists, strict=True)
            description = f"{framework.name} reranks"
            after = [
                framework.read(framework.rerank(question.text, candidate))
                for question, candidate in bar.track(
                    pairs, total=len(questions), description=description
                )
            ]
            seconds = time.perf_counter() - started
            trials = _trials(questions, before, after)
            results.append(Result(framework.name, trials, framework.usage, seconds))
    return results


def _trials(
    questions: Sequence[Question],
    before: Sequence[Sequence[Found]],
    after: Sequence[Sequence[Found]],
) -> tuple[Trial, ...]:
    judged = zip(questions, judge(questions, before), judge(questions, after), strict=True)
    return tuple(Trial(*one) for one in judged)
