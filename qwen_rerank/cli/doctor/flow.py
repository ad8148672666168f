"""`qwen-rerank doctor`: the flow and the report. What is asked and how it looks lives elsewhere."""

import time
from contextlib import closing, suppress
from dataclasses import asdict
from typing import Any, Literal

from rich.console import Console

from qwen_rerank import (
    AuthenticationError,
    QuotaError,
    Ranking,
    RequestError,
    Reranker,
    RerankError,
)
from qwen_rerank.cli._key import reranker_options
from qwen_rerank.cli._terminal import agreed, open_console, waiting
from qwen_rerank.cli._troubles import tell
from qwen_rerank.cli._words import complaint, spelled
from qwen_rerank.cli.doctor import chart
from qwen_rerank.cli.doctor.exams import (
    CANDIDATES,
    DEFAULT_INSTRUCT,
    EXAMS,
    QUERY,
    judged_first,
)
from qwen_rerank.cli.doctor.probe import Probe, Rehearsal, count
from qwen_rerank.cli.doctor.report import Report
from qwen_rerank.cli.doctor.setup import setup_of

__all__ = ["doctor"]

_SECONDS = 60.0
_TITLES = {
    "score_independence": "score independence",
    "over_long": "over-long documents",
    "instruct": "instruct",
    "protocols": "protocols",
    "blanks": "blank documents",
    "latency": "latency",
}


def doctor(*, report: str | None = None, confirmed: bool = False, **connection: Any) -> int:
    """Shows the set-up, makes one call, and measures what the vendor's pages leave open.

    Args:
        report: A file for the report as JSON.
        confirmed: Send without asking.
        connection: What is asked, where, and with which key: of `reranker_options`.

    Returns:
        The exit code: 0 if all was answered, 1 if something was not, or the user declined.

    Raises:
        ImportError: Something of the extra ``cli`` is not installed.
        ValueError: *report* cannot be written, or a variable that is named holds nothing.
    """
    options = reranker_options(**connection, timeout=_SECONDS)
    visit = _Visit(open_console(), Report(report, EXAMS))
    try:
        reranker = Reranker(**options)
    except ValueError as error:
        visit.failed("set-up", "Wrong set-up", *complaint(error, "doctor"))
        return visit.end()
    with closing(reranker):
        probe = Probe(reranker)
        sources = {
            "api_key": f"the environment variable {connection['key_variable']}",
            "model": "--model" if "model" in options else "default",
            "protocol": next(
                (f"--{name}" for name in ("protocol", "server") if name in options), "default"
            ),
        }
        try:
            visit.show_setup(reranker, probe, sources)
        except RequestError as error:  # a proxy or certificates that cannot be followed
            visit.refused("set-up", error)
            return visit.end()
        visit.announce(reranker, probe)
        if not confirmed and not agreed(visit.console):
            tell("Nothing was sent.")
            return 1
        try:
            visit.examine(reranker, probe)
        finally:  # Ctrl-C too: it was paid for
            visit.report.write()
    return visit.end()


class _Visit:
    """One visit to the doctor: what was found, shown as it comes and kept for the report."""

    def __init__(self, console: Console, report: Report) -> None:
        self.console = console
        self.report = report
        self._findings: dict[str, Any] = {}

    def show_setup(self, reranker: Reranker, probe: Probe, sources: dict[str, str]) -> None:
        """Shows which key, region, host, protocol and model are used, and where each came from."""
        kept = setup_of(reranker, probe, sources)
        self.report.fields["setup"] = kept
        shown = dict(kept)
        if reranker.server is None:
            del shown["length"]
        if kept["certificates"]["value"] is None:
            shown["certificates"] = {"value": "not needed", "found_in": None}
        place, region = kept["region"], probe.region
        if region is not None:
            shown["region"] = place | {"value": f"{place['value']} ({region.city})"}
        self.console.print(
            chart.heading("Set-up"),
            chart.rows(
                (name, each["value"] or "none", each["found_in"] or "")
                for name, each in shown.items()
            ),
            "",
        )
        for doubt in probe.doubts:
            self.console.print(chart.doubt(spelled(doubt, "doctor")), "")

    def announce(self, reranker: Reranker, probe: Probe) -> None:
        """Says what the rest will cost at most."""
        rehearsals = [Rehearsal(probe.terms, refuses=refuses) for refuses in (False, True)]
        with waiting(self.console, "Counting tokens"):
            first = reranker.estimate(QUERY, CANDIDATES)
            for rehearsal in rehearsals:
                for exam in EXAMS.values():
                    with suppress(RequestError):  # it would end there too, and the next begin
                        exam(rehearsal)
        planned = {
            "requests": first.requests + max(each.requests for each in rehearsals),
            "tokens": first.tokens + max(each.tokens for each in rehearsals),
            "least_tokens": first.tokens + min(each.tokens for each in rehearsals),
            "instruct_tokens": 0,
        }
        if probe.has_default_instruct:
            documents = len(CANDIDATES) + max(each.uninstructed for each in rehearsals)
            planned["instruct_tokens"] = documents * count(DEFAULT_INSTRUCT)
        price = probe.price
        self.report.fields["planned"] = {
            **planned,
            **_cost(probe, planned["tokens"]),
            "price_per_million": None if price is None else price.per_million,
            "price_source": None if price is None else price.source,
            "price_date": None if price is None else price.date,
        }
        self.console.print(
            chart.heading("Cost"),
            chart.intention(
                **planned, cost=_shown_cost(probe, planned["tokens"]), where=probe.endpoint.host
            ),
            "",
        )
        self.report.write()

    def examine(self, reranker: Reranker, probe: Probe) -> None:
        """Goes from the network to the finer questions, as far as it gets."""
        try:
            if self._reach(probe) and self._call(reranker):
                self._examine(probe, reranker.model)
        finally:
            self._show(reranker, probe)

    def _examine(self, probe: Probe, model: str) -> None:
        for name, exam in EXAMS.items():
            try:
                with waiting(self.console, f"Measuring: {_TITLES[name]}"):
                    self._findings[name] = finding = exam(probe)
            except RerankError as error:
                self.refused(_TITLES[name], error)
                if isinstance(error, AuthenticationError | QuotaError):
                    break
            else:
                self.report.fields[name] = asdict(finding)
                self.report.write()
        if others := probe.models - {model}:
            self.failed(
                "model",
                "Another model",
                f"Asked for {model}, it answers that it used {', '.join(sorted(others))}.",
                "A server with one model may answer to any name: give --model the one it has.",
            )

    def _show(self, reranker: Reranker, probe: Probe) -> None:
        measured = dict(self._findings)
        latency = measured.pop("latency", None)
        if measured:
            self.console.print(chart.heading("Measured"), chart.answers(measured), "")
        if latency is not None:
            self.console.print(chart.heading("Latency"), chart.latencies(latency), "")
        self._total(reranker, probe)

    def failed(self, during: str, error: str, facts: str, fix: str | None, **more: Any) -> None:
        """Shows a problem and keeps it."""
        self.report.fields["problems"].append(
            {"during": during, "error": error, "message": facts, "hint": fix, **more}
        )
        self.console.print(chart.problem(error, facts, fix), "")

    def end(self) -> int:
        """Writes the report; the exit code."""
        self.report.write()
        return 1 if self.report.fields["problems"] else 0

    def _reach(self, probe: Probe) -> bool:
        self.console.print(chart.heading("Reachability"))
        try:
            with waiting(self.console, f"Connecting to {probe.endpoint.host}"):
                reach = probe.reach()
        except RerankError as error:
            return self.refused("reachability", error)
        self.report.fields["reach"] = reach._asdict()
        self.console.print(chart.reached(reach), "")
        return True

    def _call(self, reranker: Reranker) -> bool:
        self.console.print(chart.heading("One call"))
        self.report.is_asked = True
        try:
            with waiting(self.console, "Calling"):
                started = time.perf_counter()
                ranking = reranker.rerank(QUERY, CANDIDATES)
        except RerankError as error:
            return self.refused("call", error)
        seconds = time.perf_counter() - started
        tokens = ranking.usage.tokens
        scores = _by_index(ranking)
        verdict, rival = judged_first(scores)
        self.report.fields["call"] = {
            "seconds": seconds,
            "tokens": tokens,
            "request_id": next(iter(ranking.request_ids), None),
            "scores": scores,
            "best_first": verdict == "best",
        }
        self.console.print(
            chart.rows(
                (
                    ("query", QUERY, ""),
                    *((f"{hit.score:.4f}", str(hit.document), "") for hit in ranking),
                    ("tokens", "not reported" if tokens is None else f"{tokens:,}", ""),
                    ("request id", ", ".join(ranking.request_ids) or "none", ""),
                )
            ),
            "",
        )
        if verdict == "equal":
            self.failed(
                "call",
                "Equal scores",
                f"All three texts score {ranking[0].score:.4f}.",
                "It ranks nothing: check that it is a rerank model that was started as one.",
            )
        elif verdict != "best":
            how = "finds as good" if verdict == "tied" else "prefers"
            self.failed(
                "call",
                "A tie" if verdict == "tied" else "Wrong order",
                f"Asked {QUERY!r}, the model {how}: {CANDIDATES[rival]!r}.",
                "Check that it is a rerank model, and with servers of your own that its prompt "
                "template is the one it was trained with.",
            )
        if any(score is not None and score < 0 for score in scores):
            self.failed(
                "call",
                "Negative scores",
                "Some scores are negative, and those of a reranker are from 0 to 1 as a rule.",
                "They are raw scores, which are fine to rank by if that is meant, or similarities "
                "of an embedding model: vLLM makes one of a Qwen3-Reranker that it serves without "
                "--hf-overrides.",
            )
        return True

    def refused(self, during: str, error: RerankError) -> Literal[False]:
        self.failed(
            during,
            type(error).__name__,
            *complaint(error, "doctor"),
            code=error.code,
            status=error.status,
            request_id=error.request_id,
        )
        return False

    def _total(self, reranker: Reranker, probe: Probe) -> None:
        usage = reranker.usage + probe.usage
        requests, tokens = usage.requests, usage.tokens
        self.report.fields["spent"] = {
            "requests": requests,
            "tokens": tokens,
            **_cost(probe, tokens),
        }
        open_questions = [
            title
            for name, title in _TITLES.items()
            if name not in self._findings and self.report.fields["call"] is not None
        ]
        self.console.print(
            chart.spent(
                requests=requests,
                tokens=tokens,
                cost=_shown_cost(probe, tokens),
                problems=open_questions,
            )
        )


def _by_index(ranking: Ranking) -> list[float | None]:
    return [hit.score for hit in sorted(ranking, key=lambda hit: hit.index)]


def _cost(probe: Probe, tokens: int | None) -> dict[str, Any]:
    price = probe.price
    if price is None or tokens is None:
        return {"cost": None, "currency": None}
    return {"cost": round(price.per_million * tokens / 1e6, 6), "currency": price.currency}


def _shown_cost(probe: Probe, tokens: int | None) -> str | None:
    price = probe.price
    if price is None or tokens is None:
        return None
    return f"{price.currency} {price.per_million * tokens / 1e6:.4f}"
