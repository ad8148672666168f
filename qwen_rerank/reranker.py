"""One call through the rooms: check, prepare, recall, plan, drive, merge.

What is asked, sent and ranked is decided there; here, what would hold up an event loop, how wide
requests are, what an answer has cost and whether a failure is raised.

What is built on it: `standalone` for users of no framework, `framework` for the classes of others.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import math
from collections.abc import (
    Callable,
    Collection,
    Container,
    Coroutine,
    Hashable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial, reduce
from itertools import chain
from operator import add
from types import TracebackType
from typing import Any, ClassVar, NamedTuple, Self, TypedDict, TypeVar, cast

from pydantic import PrivateAttr
from typing_extensions import override

from qwen_rerank import _drive, _endpoint, _fields, _loop, _tokens, _told
from qwen_rerank._advice import advise, said
from qwen_rerank._clients import Client
from qwen_rerank._in_flight import Tell
from qwen_rerank._load import check, load, texts_only
from qwen_rerank._merge import merge, passed_through
from qwen_rerank._models import LIMITS, UNTOLD, ModelLimits, limits_for, price_of
from qwen_rerank._outage import Watch
from qwen_rerank._plan import Budget, plan
from qwen_rerank._prepare import bounded, is_blank, measure, prepare
from qwen_rerank._recall import keys, recall, remember
from qwen_rerank._refusal import exhausted, listed
from qwen_rerank._servers import spoken
from qwen_rerank._shared import Shared
from qwen_rerank._turns import turn_at
from qwen_rerank._values import (
    Estimate,
    Item,
    Job,
    Loaded,
    Outcome,
    Prepared,
    Price,
    Ranking,
    Reply,
    Request,
    Scored,
    Usage,
    positions,
)
from qwen_rerank.errors import DeadlineError, QuotaError, RequestError, RerankError
from qwen_rerank.media import Candidate, Image, Parts
from qwen_rerank.settings import RerankSettings

__all__ = ["BaseReranker", "CallOptions"]

_log = logging.getLogger("qwen_rerank")

_T = TypeVar("_T")

_ONE = (str, bytes, Mapping)  # which can be iterated over, and are no list

_ORDER = "The query comes first, and then the documents: rerank(query, documents)."

# As many documents, or characters of texts, are checked, planned and merged in about 5 ms, for
# which threads keep the interpreter to themselves anyway.
_MANY, _MUCH = 500, 1_000_000

# Who waits little for an answer misses one sooner, and shall not do without for long.
_PAUSED_TIMEOUTS = 10


class CallOptions(TypedDict, total=False):
    """Options that can be given to one call; one that is absent is the object's own."""

    model: str
    top_n: int | None
    instruct: str | None
    score_threshold: float | None


class _Asked(NamedTuple):
    """A call half way: what it takes, what is known of it already, and what has to be asked.

    With a cache also what each item to be asked is called among all calls, and how many of these
    had settled when the cache was read.
    """

    prepared: Prepared
    known: tuple[Scored, ...]
    requests: tuple[Request, ...]
    names: Mapping[Item, Hashable]
    settled: int

    def only(self, names: list[Hashable]) -> tuple[Item, ...]:
        """The items of *names*."""
        wanted = set(names)
        return tuple(item for item, name in self.names.items() if name in wanted)


class _Answered(NamedTuple):
    """What became of the asking.

    It is put together on the engine's loop, and looked through where that holds up nobody else.
    """

    sent: tuple[tuple[tuple[Request, ...], Outcome], ...] = ()
    known: tuple[Scored, ...] = ()
    found: Mapping[Hashable, float] = {}
    failure: RerankError | None = None

    @property
    def replies(self) -> Iterator[tuple[Request, Reply]]:
        """This call's own requests that were answered, and their answers."""
        return (
            (request, reply)
            for requests, outcome in self.sent
            for request, reply in zip(requests, outcome.replies, strict=True)
            if reply is not None
        )

    @property
    def new(self) -> Iterator[Scored]:
        """Every item that they answer, with its score."""
        return chain.from_iterable(
            zip(request.items, reply.scores, strict=True) for request, reply in self.replies
        )

    def free(self, asked: _Asked) -> list[Scored]:
        """Likewise what was known or asked for by others."""
        found = ((item, name) for item, name in asked.names.items() if name in self.found)
        return [*asked.known, *self.known, *((item, self.found[name]) for item, name in found)]


class BaseReranker(RerankSettings):
    """The options, calls and lifetimes that `Reranker` and every framework's class share.

    One object may be used from many threads and event loops at once.
    """

    _held: Shared = PrivateAttr(default_factory=Shared)
    _is_borrowed: bool = PrivateAttr(default=False)

    _anew: ClassVar[tuple[str, ...]] = (*RerankSettings._anew, "_held", "_is_borrowed")

    def with_options(self, **options: Any) -> Self:
        """One like this with other *options*, sharing its connections, its limits and its usage.

        It is cheap, so make one for a single call where the call itself takes no options. This
        object stays as it is, whatever other threads and tasks do with it, and what is assigned to
        it later is not seen by those made before. Its ``usage`` and theirs are one sum, and closing
        one of them closes the connections of all. `model_copy` makes one with its own.

        Args:
            **options: Any but ``max_concurrency``, which is a limit of them all.

        Raises:
            ValueError: An option is unknown or wrong.
        """
        made = copy.copy(self)
        made._held, made._is_borrowed = self._shared, True
        made._assign(options)
        return made

    def _as_it_is(self) -> Self:
        """This object for one call, which does not see what is assigned meanwhile."""
        made = object.__new__(type(self))
        made._become(self)
        for name in ("__dict__", "__pydantic_private__"):
            object.__setattr__(made, name, dict(getattr(self, name)))
        return made

    @property
    def _shared(self) -> Shared:
        shared: Shared = self._private("_held")
        return shared

    @property
    def _known_endpoint(self) -> _endpoint.Endpoint | None:
        endpoint: _endpoint.Endpoint | None = self._private("_resolved").endpoint
        return endpoint

    def _private(self, name: str) -> Any:
        # Past pydantic, which takes 40 times as long to find one, several times in each call.
        return cast("dict[str, Any]", self.__pydantic_private__)[name]

    @override
    def _assign(self, options: dict[str, Any]) -> None:
        if self._is_borrowed and "max_concurrency" in options:
            options.clear()
            raise ValueError(
                "max_concurrency: is a limit of the object that with_options() was called on, and "
                "of all that it gave; model_copy(update=...) makes one with its own"
            )
        super()._assign(options)

    @override
    def _settle(self, given: Collection[str]) -> None:
        super()._settle(given)
        if "max_concurrency" in given:
            self._shared.width = self.max_concurrency

    def _rank(
        self,
        query: str | Image,
        documents: Iterable[Candidate],
        options: CallOptions,
        *,
        lenient: Container[int] = (),
        rank_fields: Sequence[str] | None = None,
    ) -> Ranking:
        """The ranking of *documents* for *query*. See `Reranker.rerank`.

        Args:
            query: As for `Reranker.rerank`.
            documents: Likewise.
            options: Likewise; emptied if one is refused, since it may be the key in a wrong place.
            lenient: Positions of documents that the caller did not make: one that cannot be sent is
                left unscored with a warning, where it would else be an error.
            rank_fields: As for `Reranker.rerank`.
        """
        now = self._as_it_is()
        deadline = _drive.deadline_in(now.timeout)
        job = now._job(query, documents, options, rank_fields)
        if not job.documents:
            return Ranking((), job.model)
        try:
            return now._ranked(job, lenient, deadline)
        except (OSError, RuntimeError) as error:
            if (failure := exhausted(error)) is None:
                raise
        return now._without_scores(job, failure, Usage(), ())

    def _ranked(self, job: Job, lenient: Container[int], deadline: float) -> Ranking:
        line = self._line()
        try:
            prepared = prepare(job, self._loaded(job, lenient, deadline))
            if self._is_to_be_asked(job, prepared, line, deadline):
                _told.learn_length(line, job.model, deadline)
            asked = self._begun(job, lenient, line, deadline, prepared=prepared)
        except TimeoutError:
            return self._without_scores(job, _late_at_once(), Usage(), ())
        answered = _Answered()
        if asked.requests:
            answered = _loop.run(partial(self._answered, job, asked, line, deadline))
        return self._concluded(job, asked, answered, line)

    async def _arank(
        self,
        query: str | Image,
        documents: Iterable[Candidate],
        options: CallOptions,
        *,
        lenient: Container[int] = (),
        rank_fields: Sequence[str] | None = None,
        deadline: float | None = None,
    ) -> Ranking:
        """`_rank` for a running event loop; what would block it is done in a thread.

        Its time may have begun before, and end at *deadline*.
        """
        now = self._as_it_is()
        if deadline is None:
            deadline = _drive.deadline_in(now.timeout)
        if isinstance(documents, Iterable) and not isinstance(documents, _ONE):
            documents = tuple(documents)  # in this thread, whatever it is
        given = query, documents, options, rank_fields
        is_long = _are_many(documents)
        if is_long:
            job = await _loop.soon(_drive.left(deadline), now._job, *given)
        else:
            job = now._job(*given)
        if not job.documents:
            return Ranking((), job.model)
        if job.dicts and not is_long:
            is_long = _are_many(job.documents)
        try:
            return await now._aranked(job, lenient, deadline, is_long=is_long)
        except (OSError, RuntimeError) as error:
            if (failure := exhausted(error)) is None:
                raise
        return now._without_scores(job, failure, Usage(), ())

    async def _aranked(
        self, job: Job, lenient: Container[int], deadline: float, *, is_long: bool
    ) -> Ranking:
        prepared = prepare(job) if job.is_text and not is_long else None
        line, asked = self._open_line(), None
        try:
            if line is not None and prepared is not None:
                asked = self._at_once(job, prepared, line, deadline)
            if line is None or asked is None:
                async with asyncio.timeout(_drive.left(deadline)):
                    line = line or await self._aline()
                    if self._is_to_be_asked(job, prepared, line, deadline):
                        await _told.alearn_length(line, job.model, deadline)
                    begin = partial(self._begun, job, lenient, line, deadline, prepared=prepared)
                    asked = await _loop.aside(begin, threads=self._threads(job))
        except TimeoutError:
            return self._without_scores(job, _late_at_once(), Usage(), ())
        answered = (
            await _loop.wait(partial(self._answered, job, asked, line, deadline))
            if asked.requests
            else _Answered()
        )
        if is_long:
            conclude = partial(self._concluded, job, asked, answered, line)
            return await _loop.soon(_drive.left(deadline), conclude)
        return self._concluded(job, asked, answered, line)

    def _at_once(
        self, job: Job, prepared: Prepared, line: _drive.Line, deadline: float
    ) -> _Asked | None:
        """What `_begun` returns, if nothing of that would hold up an event loop."""
        if self._is_cache_slow(job) or self._is_to_be_asked(job, prepared, line, deadline):
            return None
        if (budget := self._budget(job, line)) is None or not budget.holds(prepared):
            return None
        return self._asked(job, prepared, line, deadline)

    async def _apart(
        self,
        objects: Iterable[object],
        function: Callable[..., _T],
        *arguments: Any,
        may_hang: bool = False,
    ) -> _T:
        """What *function* returns; if there are many *objects*, from a thread, with the context.

        That is one of this reranker's own if it *may_hang*, which no other is to feel; else one of
        those of all, since its own may be held up by files and a cache.
        """
        if not _are_many(objects):
            return function(*arguments)
        threads = None
        if may_hang:
            if self._shared.live is None:  # imports
                await _loop.soon(self.timeout, self._shared.open, self.max_concurrency)
            threads = self._shared.open(self.max_concurrency).aside
        return await _loop.soon(self.timeout, function, *arguments, threads=threads)

    def _estimate(
        self,
        query: str | Image,
        documents: Iterable[Candidate],
        options: CallOptions,
        *,
        lenient: Container[int] = (),
        rank_fields: Sequence[str] | None = None,
        price_per_million: float | None = None,
    ) -> Estimate:
        """What `_rank` would take for the same arguments. See `Reranker.estimate`."""
        job = self._job(query, documents, options, rank_fields)
        line = self._line()
        prepared = prepare(job, self._loaded(job, lenient, deadline=math.inf))
        deadline = _drive.deadline_in(self.timeout)
        if self._is_to_be_asked(job, prepared, line, deadline):
            _told.learn_length(line, job.model, deadline)
        prepared = self._measured(job, prepared, line, deadline=math.inf, budget=None)
        asked = self._asked(job, prepared, line, deadline=math.inf)
        tokens = sum(request.tokens for request in asked.requests)
        listed = _price(job, line, *asked.requests)
        price = listed.per_million if listed and price_per_million is None else price_per_million
        return Estimate(
            requests=len(asked.requests),
            tokens=tokens,
            truncated=asked.prepared.truncated,
            query_truncated=asked.prepared.query_truncated,
            cache_hits=len(asked.known),
            cost=None if price is None else price * tokens / 1e6,
            list_price=listed if price_per_million is None else None,
        )

    @property
    def usage(self) -> Usage:
        """What all calls of this object have cost so far, with every answer to calls that failed.

        A copy and an unpickled object begin at nothing. What `with_options` gave counts together
        with what it was called on.
        """
        return self._shared.spent

    def warm_up(self) -> None:
        """Loads the tokenizer and opens a connection, so that the first question does not wait.

        Raises:
            ServiceError: The host cannot be reached.
        """
        _tokens.tokenizer()
        _drive.warm(self._line(), _drive.deadline_in(self.timeout))

    async def awarm_up(self) -> None:
        """`warm_up` for a running event loop."""
        # Nothing of this is given up half way, but a busy thread is not waited for without end.
        line = await _loop.soon(self.timeout, self._open, self.async_client, self.async_http_client)
        await _loop.soon(self.timeout, _tokens.tokenizer)
        await _drive.awarm(line, _drive.deadline_in(self.timeout))

    def close(self) -> None:
        """Closes the connections; those of calls under way when these have ended.

        The object stays usable: the next call opens new ones.
        """
        if (transport := self._shared.transport()) is not None:
            _loop.run(lambda _: transport.close())

    async def aclose(self) -> None:
        """`close` for a running event loop."""
        if (transport := self._shared.transport()) is not None:
            await _loop.wait(lambda _: transport.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _job(
        self,
        query: str | Image,
        documents: Iterable[Candidate],
        options: CallOptions,
        rank_fields: Sequence[str] | None = None,
    ) -> Job:
        """The call as a frozen value, or the reason why it cannot be made."""
        if isinstance(query, str):
            if is_blank(query := query.strip()):
                raise RequestError("query is blank")
        elif not isinstance(query, Image):
            raise RequestError(
                f"query must be a str or an Image, not {type(query).__name__}",
                hint=_ORDER if isinstance(documents, str) else None,
            )
        if isinstance(documents, _ONE) or not isinstance(documents, Iterable):
            kind = type(documents).__name__
            hint = _ORDER if isinstance(documents, str) else None
            raise RequestError(f"documents must be a list, not one {kind}", hint=hint)
        given, fields = tuple(documents), _fields.checked(rank_fields)
        dicts: dict[int, Mapping[str, object]] = {}
        is_text = isinstance(query, str)
        if {str}.issuperset(map(type, given)):
            ranked = cast("tuple[Parts, ...]", given)
        else:
            parts: list[Parts] = []
            for position, document in enumerate(given):
                if isinstance(document, Mapping):
                    dicts[position] = document
                    parts.append(_fields.rendered(document, fields, position))
                    continue
                if not isinstance(document, str):
                    is_text = False
                    check(document, position)
                parts.append(document)
            ranked = tuple(parts)
        wanted = self._wanted(options)
        fps = self.fps
        if fps is not None and not self._takes_media(wanted["model"]):
            fps = None
        return Job(
            query=query,
            documents=ranked,
            **wanted,
            fps=fps,
            is_text=is_text,
            dicts=dicts,
            extra=self.extra_body or {},
        )

    def _wanted(self, options: CallOptions) -> dict[str, Any]:
        """The options of one call: the object's own, and *options*, checked."""
        given = cast("dict[str, Any]", options)
        wanted = {name: getattr(self, name) for name in CallOptions.__annotations__}
        problem: Exception | None = None
        if unknown := [name for name in given if name not in wanted]:
            name = unknown[0]
            if name in type(self).model_fields:
                why = f"; with_options({name}=...) takes it"
            else:
                why = self._meant(name, wanted)
            problem = TypeError(f"unexpected option {name!r} for one call{why}")
        elif given:
            try:
                wanted |= self._for_this_call(given)
            except ValueError as error:
                problem = RequestError(said(error))
        if problem is not None:
            given.clear()  # for the sake of who prints the frames that hold it
            raise problem  # outside the handler, so that it holds no other error
        if wanted["instruct"] is not None and spoken(self.protocol, self.server).instruct is None:
            raise RequestError(
                f"instruct is given, and a server of the kind {self.server!r} takes none",
                hint=advise("Leave {instruct=:change} out, or use a {server='vllm'}."),
            )
        return wanted

    def _loaded(self, job: Job, lenient: Container[int], deadline: float) -> Loaded:
        """The images and videos of *job*, read; takes time, so not on an event loop.

        Raises:
            TimeoutError: The deadline passed meanwhile.
        """
        if job.is_text:
            return Loaded()
        hint = texts_only(job.model, self.protocol, self.server)
        check = partial(_check, deadline)
        loaded = load(job, self.mixed, lenient, hint, videos=self.server is None, check=check)
        if loaded.ignored and self.mixed != "text":
            self._warn_once(
                job.model,
                "%s: ranked by the text alone, because %s takes texts only here; what is beside it "
                "is ignored. %s Or set mixed='text' if that is meant.",
                listed(loaded.ignored).capitalize(),
                job.model,
                hint,
            )
        return loaded

    def _warn_once(self, about: str, message: str, *values: object) -> None:
        """Logs what is so at every call, by the object's own options; only the first says it."""
        if about not in (told := self._shared.told):
            told.add(about)
            _log.warning(message, *values)

    def _takes_media(self, model: str | None = None) -> bool:
        """Whether *model*, or the object's own, takes images and videos by this protocol."""
        return texts_only(model or self.model, self.protocol, self.server) is None

    def _width(self, limits: ModelLimits) -> int:
        """Documents per request."""
        most = limits.documents.value
        given = self.max_documents_per_request or most
        # A server of one's own may have been started with any limit; DashScope's are what they are.
        return given if self.server is not None else min(given, most)

    def _limits(self, model: str, line: _drive.Line) -> ModelLimits:
        """What *model* accepts, by these options and by what its server told."""
        return limits_for(
            model,
            self.server,
            max_model_len=self.max_model_len or line.lengths.told.get((line.endpoint.url, model)),
            max_tokens_per_doc=self.max_tokens_per_doc,
        )

    def _is_to_be_asked(
        self, job: Job, prepared: Prepared | None, line: _drive.Line, deadline: float
    ) -> bool:
        """Whether its server has to be asked how long a text may be: not for short ones."""
        if self.max_model_len is not None or self.max_tokens_per_doc is not None:
            return False
        if spoken(self.protocol, self.server).length is None or job.model in LIMITS:
            return False
        if self._is_out(job, line):
            return False
        if not line.lengths.is_to_be_asked(line.endpoint.url, job.model, deadline):
            return False
        least = limits_for(job.model, self.server, max_model_len=UNTOLD.value)
        return prepared is None or not Budget(least, self._width(least)).holds(prepared)

    def _budget(self, job: Job, line: _drive.Line) -> Budget | None:
        """What is to be proven before anything is sent; None if all lengths have to be counted."""
        if self._pace is not None and self._pace.counts_tokens:
            return None
        limits = self._limits(job.model, line)
        return Budget(limits, self._width(limits))

    def _measured(
        self,
        job: Job,
        prepared: Prepared,
        line: _drive.Line,
        deadline: float,
        budget: Budget | None,
    ) -> Prepared:
        """*prepared* with its lengths known by the cheapest way that proves enough.

        That is by bytes, by a closer bound, or by counting, the longest first. May load the
        tokenizer, so not on an event loop.

        Raises:
            TimeoutError: The deadline passed meanwhile.
        """
        if budget is not None and budget.holds(prepared):
            return prepared
        prepared = bounded(prepared)
        if budget is not None and budget.holds(prepared):
            return prepared
        return measure(
            prepared,
            self._limits(job.model, line),
            _tokens.tokenizer().watched(partial(_check, deadline)),
            self.long_documents,
            long_query=self.long_query,
            budget=budget,
        )

    def _begun(
        self,
        job: Job,
        lenient: Container[int],
        line: _drive.Line,
        deadline: float,
        *,
        prepared: Prepared | None = None,
    ) -> _Asked:
        """*job* up to the point where it is sent; reads images and the cache, counts lengths.

        Raises:
            TimeoutError: The deadline passed meanwhile.
        """
        if prepared is None:
            prepared = prepare(job, self._loaded(job, lenient, deadline))
        measured = self._measured(job, prepared, line, deadline, self._budget(job, line))
        return self._asked(job, measured, line, deadline)

    def _asked(
        self,
        job: Job,
        prepared: Prepared,
        line: _drive.Line,
        deadline: float,
    ) -> _Asked:
        """*job*, whose lengths are known, up to the point where it is sent; reads the cache.

        Raises:
            TimeoutError: The deadline passed meanwhile, and something is to be sent.
        """
        check = partial(_check, deadline)
        limits = self._limits(job.model, line)
        if prepared.truncated and limits.pair_tokens is UNTOLD:
            self._warn_once(
                f"length of {job.model}",
                "%s: cut, because %s may have been served with no more than %d tokens for query "
                "and document together: nothing tells. %s",
                listed(prepared.truncated).capitalize(),
                job.model,
                UNTOLD.value,
                advise("Set {max_model_len=} if it is more."),
            )
        known: tuple[Scored, ...] = ()
        unknown, names, settled = prepared, {}, 0
        if (cache := self.cache) is not None:
            settled = _loop.engine().in_flight.settled  # before the cache is read
            with turn_at(cache, min(self.timeout, _drive.left(deadline))) as is_mine:
                if is_mine:
                    known, unknown = recall(
                        job, prepared, line.place, cache, limits.scores, check=check
                    )
            under = keys(job, unknown, unknown.items, line.place)
            names = dict(zip(unknown.items, ((id(cache), key) for key in under), strict=True))
        requests = plan(job, unknown, limits, self._width(limits))
        if requests:
            check()
        return _Asked(prepared, known, requests, names, settled)

    def _answered(
        self, job: Job, asked: _Asked, line: _drive.Line, deadline: float, caller: _loop.Caller
    ) -> Coroutine[Any, Any, _Answered]:
        """The scores of what has to be asked; on the engine's loop."""
        if not asked.names:
            return self._sent(job, asked, line, deadline, caller)
        return self._once(job, asked, line, deadline, caller)

    async def _once(
        self, job: Job, asked: _Asked, line: _drive.Line, deadline: float, caller: _loop.Caller
    ) -> _Answered:
        """Likewise with a cache: what others ask for already is not asked for but waited for."""
        names, in_flight = [*asked.names.values()], _loop.engine().in_flight
        done = _Answered()
        came: list[Scored] = []  # and is not kept yet
        remember = partial(self._remember, job, asked, came, line, deadline)

        async def ask(mine: list[Hashable], tell: Tell) -> bool:
            nonlocal done
            ahead = asked
            # The requests may be other ones, and the cache may know more by now.
            if mine != names or in_flight.settled != asked.settled:

                def again() -> _Asked:
                    prepared = replace(asked.prepared, items=asked.only(mine))
                    return self._asked(job, prepared, line, deadline)

                try:
                    async with asyncio.timeout(_drive.left(deadline)):
                        ahead = await _loop.beside(caller, again, threads=self._threads(job))
                except TimeoutError:
                    return False
                tell({asked.names[item]: score for item, score in ahead.known})

            def hear(scored: Sequence[Scored]) -> None:
                came.extend(scored)
                tell({asked.names[item]: score for item, score in scored})

            one = await self._sent(job, ahead, line, deadline, caller, hear=hear)
            known = (*done.known, *ahead.known) if ahead is not asked else done.known
            done = _Answered((*done.sent, *one.sent), known, failure=one.failure)
            return one.failure is None

        try:
            found = await in_flight.once(
                names,
                ask,
                lambda: self._kept(job, remember, deadline, caller, came),
                # Who holds up a loop must wait for nothing that may need that loop to go on.
                share=caller.awaits or caller.loop is None,
                left=partial(_drive.left, deadline),
            )
        except BaseException:  # a cancellation too: what came is paid for
            if came:
                self._kept_aside(job, remember)
            raise
        done = done._replace(found=found)
        got = len(done.known) + len(found) + sum(len(reply.scores) for _, reply in done.replies)
        if done.failure is None and got < len(names):
            missing = asked.names.keys() - {item for item, _ in (*done.free(asked), *done.new)}
            done = done._replace(failure=line.endpoint.late(positions(missing)))
        return done

    async def _sent(
        self,
        job: Job,
        asked: _Asked,
        line: _drive.Line,
        deadline: float,
        caller: _loop.Caller,
        *,
        hear: Callable[[Sequence[Scored]], None] | None = None,
    ) -> _Answered:
        """What came of the requests of *asked*; each reply is heard when it comes."""
        watch = self._watch(job, asked, line, deadline)
        outcome = watch.spared
        if outcome is None:
            meter = partial(self._metered, (job, line), hear)
            outcome = await _drive.drive(asked.requests, line, deadline, meter, caller)
        watch.ended(outcome)
        if outcome.failure is not None:
            line.lengths.doubt(line.endpoint.url, job.model)
        return _Answered(((asked.requests, outcome),), failure=outcome.failure)

    def _metered(
        self,
        of: tuple[Job, _drive.Line],
        hear: Callable[[Sequence[Scored]], None] | None,
        request: Request,
        reply: Reply,
    ) -> None:
        """Counts what *reply* cost as it comes: it is billed whatever becomes of its call."""
        self._shared.count(_paid(*of, request, reply))
        if hear is not None:
            hear([*zip(request.items, reply.scores, strict=True)])

    async def _kept(
        self,
        job: Job,
        remember: Callable[[], None],
        deadline: float,
        caller: _loop.Caller,
        came: Sequence[Scored],
    ) -> None:
        """Calls *remember* where the cache is used; an awaited call waits until its deadline."""
        if not came:
            return
        if not caller.awaits:
            await _loop.beside(caller, remember)
        elif not self._is_cache_slow(job):
            remember()
        else:
            # Not cancelled when its time is over, nor if none is left: the scores are paid for.
            left = _drive.left(deadline)
            kept = _loop.aside(remember, threads=self._threads(job))
            await asyncio.wait({kept}, timeout=left)
            if kept.done():
                kept.result()
            elif left:
                _log.warning("The cache was too slow to write before the deadline.")

    def _kept_aside(self, job: Job, remember: Callable[[], None]) -> None:
        """Calls *remember* for a call that is given up, and that so waits for nothing slow."""
        if self._is_cache_slow(job):
            with contextlib.suppress(RuntimeError):  # the process is ending, and waits for the loop
                _loop.aside(remember, threads=self._threads(job))
                return
        remember()

    def _is_cache_slow(self, job: Job) -> bool:
        """Whether what is done with the cache would hold up a loop; digests of images do too."""
        return self.cache is not None and not (type(self.cache) is dict and job.is_text)

    def _threads(self, job: Job) -> ThreadPoolExecutor | None:
        """Where a cache or files of the caller's may be waited for, if *job* has any."""
        if self.cache is None and job.is_text:
            return None
        return self._shared.open(self.max_concurrency).aside

    def _remember(
        self, job: Job, asked: _Asked, came: list[Scored], line: _drive.Line, deadline: float
    ) -> None:
        """Keeps what *came*, which was paid for, whether the call succeeded or not; empties it.

        A call that is given up before that has begun does it once more.
        """
        if self.cache is not None:
            with turn_at(self.cache, _drive.left(deadline)) as is_mine:
                if is_mine:
                    scored, came[:] = tuple(came), ()
                    scores = limits_for(job.model, self.server).scores
                    remember(job, asked.prepared, scored, line.place, self.cache, scores)
                else:
                    _log.warning("The cache was in use too long, so these scores are not kept.")

    def _concluded(
        self, job: Job, asked: _Asked, answered: _Answered, line: _drive.Line
    ) -> Ranking:
        answers, free = [*answered.replies], answered.free(asked)
        replies = [reply for _, reply in answers]
        if self.server is not None:
            for used in {reply.model for reply in replies} - {None, job.model}:
                self._warn_once(
                    f"{used} for {job.model}",
                    "Asked for %s, %s answers that it used %s: a server with one model may answer "
                    "to any name.",
                    job.model,
                    line.endpoint.host,
                    line.endpoint.masked(used),
                )
        spent = [_paid(job, line, *answer) for answer in answers]
        if free:
            saved = Usage(cache_hits=len(free))
            if (price := _price(job, line)) is not None:
                saved = replace(saved, cost=0.0, currency=price.currency)
            self._shared.count(saved)
            spent.append(saved)
        usage = reduce(add, spent) if spent else Usage()
        ids = tuple(reply.request_id for reply in replies if reply.request_id)
        if answered.failure is not None:
            unsendable = asked.prepared.unsendable
            return self._without_scores(job, answered.failure, usage, ids, unsendable)
        return merge(job, asked.prepared, chain(free, answered.new), usage, ids)

    def _watch(self, job: Job, asked: _Asked, line: _drive.Line, deadline: float) -> Watch:
        """Whether an outage is known, which spares those alone who can do without a ranking."""
        pause = min(self.outage_pause, _PAUSED_TIMEOUTS * self.timeout)
        return self._shared.outages.watch(
            asked.requests,
            route=self._route(job, line),
            host=line.endpoint.host,
            pause=pause if self.on_error == "passthrough" else 0.0,
            lease=_drive.left(deadline),
        )

    def _is_out(self, job: Job, line: _drive.Line) -> bool:
        """Whether an outage is known."""
        return self.on_error == "passthrough" and self._shared.outages.is_known(
            self._route(job, line)
        )

    def _route(self, job: Job, line: _drive.Line) -> Hashable:
        """What an outage is known of."""
        through = id(self.http_client), id(self.async_http_client)
        return line.endpoint, through, job.model

    def _without_scores(
        self,
        job: Job,
        failure: RerankError,
        usage: Usage,
        request_ids: tuple[str, ...],
        unsendable: tuple[tuple[int, str], ...] = (),
    ) -> Ranking:
        """What ``on_error`` says is to be done after *failure*."""
        if self.on_error == "raise" or not failure.passes_through:
            raise failure
        _log.log(
            logging.ERROR if isinstance(failure, QuotaError) else logging.WARNING,
            "No ranking, so %s passed through in %s original order: %s: %s",
            "1 document is" if (count := len(job.documents)) == 1 else f"{count} documents are",
            "its" if count == 1 else "their",
            type(failure).__name__,
            " ".join(str(failure).split()),
        )
        return passed_through(job, failure, usage, request_ids, unsendable)

    @property
    def _pace(self) -> _drive.Pace | None:
        """The framework's rate limiter; the core has none."""
        return None

    def _line(self) -> _drive.Line:
        return self._open(self.client, self.http_client)

    async def _aline(self) -> _drive.Line:
        if (line := self._open_line()) is not None:
            return line
        # Imports, reads files.
        return await _loop.aside(self._open, self.async_client, self.async_http_client)

    def _open_line(self) -> _drive.Line | None:
        """The line for awaited calls, if it can be had at once."""
        key_to_find = self.client is not None and self.async_client is None
        if key_to_find or self._shared.live is None or self._known_endpoint is None:
            return None
        return self._open(self.async_client, self.async_http_client)

    def _open(self, sdk_client: Any, http_client: Any) -> _drive.Line:
        live = self._shared.open(self.max_concurrency)
        endpoint = self._endpoint_of(sdk_client)
        if sdk_client is not None:
            http_client = sdk_client.transport.http_client
        return _drive.Line(
            endpoint,
            self.protocol,
            live.transport,
            None if http_client is None else Client(http_client),
            live.gate,
            self.max_retries,
            live.lengths,
            self._pace,
            self.server,
        )

    def _endpoint_of(self, sdk_client: Any) -> _endpoint.Endpoint:
        """Where a call goes: through *sdk_client*, or else by itself.

        Raises:
            RequestError: There is nowhere to go, or no key to go with.
        """
        has_other = sdk_client is None and (
            self.client is not None or self.async_client is not None
        )
        try:
            if sdk_client is not None:
                return _endpoint.borrowed(
                    str(sdk_client.transport.http_client.base_url),
                    api_key=self._key,
                    workspace=self.workspace,
                    protocol=self.protocol,
                    server=self.server,
                    headers=self._more_headers,
                    given=self._given(),
                )
            if has_other:
                # A client was injected for the other kind of call, with a key that is not ours.
                return self._resolve(key_required=True)
            if (resolved := self._known_endpoint) is None:
                resolved = self._resolved.endpoint = self._resolve()
        except ValueError as error:
            problem = said(error)
        else:
            return resolved
        hint = advise(
            (
                "{client=:now} is for sync calls alone: give {async_client=} too.",
                "{async_client=:now} is for awaited calls alone: give {client=} too.",
            ),
            given=self._given() if has_other else {},
        )
        raise RequestError(problem, hint=hint or None)  # outside the handler, as in `_resolve`


def _check(deadline: float) -> None:
    """Raises TimeoutError once *deadline* has passed."""
    if not _drive.left(deadline):
        raise TimeoutError


def _late_at_once() -> DeadlineError:
    return DeadlineError(
        "The call's timeout ran out before anything could be sent.",
        hint=advise("{timeout=:change} is for the whole call, in seconds: raise it."),
    )


def _are_many(objects: Iterable[object]) -> bool:
    """Whether what is done with each of *objects* would hold up an event loop."""
    if not isinstance(objects, list | tuple):
        return False
    return len(objects) > _MANY or sum([len(it) for it in objects if isinstance(it, str)]) > _MUCH


def _price(job: Job, line: _drive.Line, *asked: Request) -> Price | None:
    """The list price of what is *asked*; of images it is known, but not how they are counted."""
    is_known = all(request.is_text for request in asked)
    return price_of(job.model, line.endpoint.region) if is_known else None


def _paid(job: Job, line: _drive.Line, request: Request, reply: Reply) -> Usage:
    price = _price(job, line, request)
    if price is None or reply.tokens is None:
        return Usage(1, reply.tokens)
    cost = price.per_million * reply.tokens / 1e6
    return Usage(1, reply.tokens, cost=cost, currency=price.currency)
