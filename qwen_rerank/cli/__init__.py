"""The `qwen-rerank` command: its arguments and exit codes. What a command does lives elsewhere.

Importing this imports nothing heavy; each command imports what it needs when it is run.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from qwen_rerank import __version__

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command that *argv*, or the process's own arguments, ask for.

    Returns:
        The exit code: 0 done, 1 failed or declined, 2 something is missing or wrong beforehand;
        `rerank` has more, which its help says.
    """
    try:
        return _run(_parser(), argv)
    except BrokenPipeError:  # whoever reads our output has seen enough
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    arguments = parser.parse_args(argv)
    try:
        match arguments.command:
            case "demo":
                if arguments.region and not arguments.live:
                    parser.error("--region needs --live: the emulator is in no region")
                from qwen_rerank.cli.demo.flow import demo  # noqa: PLC0415  rich and both frameworks

                return demo(
                    live=arguments.live,
                    model=arguments.model,
                    region=arguments.region,
                    count=arguments.questions,
                    confirmed=arguments.yes,
                )
            case "doctor":
                from qwen_rerank.cli.doctor.flow import doctor  # noqa: PLC0415  rich

                return doctor(
                    model=arguments.model,
                    region=arguments.region,
                    workspace=arguments.workspace,
                    base_url=arguments.base_url,
                    protocol=arguments.protocol,
                    server=arguments.server,
                    max_model_len=arguments.max_model_len,
                    key_variable=arguments.api_key_env,
                    header_variables=arguments.header_env,
                    allow_http=arguments.allow_http,
                    report=arguments.json,
                    confirmed=arguments.yes,
                )
            case "rerank":
                return _rerank(parser, arguments)
            case "evaluate":
                from qwen_rerank.cli.evaluate.flow import (  # noqa: PLC0415  rich and ir_measures
                    DEFAULT_MEASURES,
                    evaluate,
                )

                return evaluate(
                    arguments.qrels,
                    arguments.run,
                    measures=arguments.measure or DEFAULT_MEASURES,
                    changed=arguments.changed,
                    as_json=arguments.json,
                )
            case _:
                from qwen_rerank.cli.serve.flow import list_faults, serve  # noqa: PLC0415  FastAPI

                if arguments.list_faults:
                    return list_faults()
                return serve(
                    host=arguments.host,
                    port=arguments.port,
                    api_key=arguments.api_key,
                    over_long=arguments.over_long,
                    faults=arguments.fault,
                )
    except ImportError as error:
        return _fail(
            f"qwen-rerank {arguments.command} needs {_missing(error)}, which is not installed: "
            'pip install "qwen-rerank[all]"'
        )
    except ValueError as error:  # a setting refused before anything was sent
        return _fail(f"qwen-rerank {arguments.command}: {error}")
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="qwen-rerank",
        description="DashScope's rerank models (qwen3-rerank and relatives): is the key good, "
        "rerank a file, measure it, and without a key a demo and a local stand-in.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    demo = commands.add_parser(
        "demo",
        help="rerank the Python language reference through both frameworks, and measure it",
        description="Retrieves passages of the Python language reference with each framework's own "
        "in-memory vector store, reranks them, and measures the order before and after. Without "
        "--live everything stays on this machine and the scores are a lexical stand-in's.",
    )
    demo.add_argument("--live", action="store_true", help="ask DashScope itself, with your key")
    demo.add_argument("--yes", action="store_true", help="with --live: send without asking")
    demo.add_argument("--model", default="qwen3-rerank", help="default: %(default)s")
    demo.add_argument("--region", help="with --live: such as cn-beijing (Beijing)")
    demo.add_argument(
        "--questions",
        type=_positive,
        metavar="N",
        help="how many questions to use; default: all, or 12 with --live",
    )

    _add_doctor(commands)
    _add_rerank(commands)
    _add_evaluate(commands)

    serve = commands.add_parser(
        "serve",
        help="run the local emulator until Ctrl-C",
        description="Answers DashScope's rerank protocols on this machine. The scores are a "
        "lexical stand-in's, not the Qwen models'.",
    )
    serve.add_argument("--host", default="127.0.0.1", help="loopback only; default: %(default)s")
    serve.add_argument("--port", default=8000, type=_port, help="0 for any; default: %(default)s")
    serve.add_argument(
        "--api-key", default="sk-emulator", help="what callers must present; default: %(default)s"
    )
    serve.add_argument(
        "--over-long",
        default="truncate",
        choices=("truncate", "refuse"),
        help="items over the model's token limit; default: %(default)s",
    )
    serve.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="NAME[:WHEN]",
        help="what goes wrong, with all requests or with :first=N, :nth=N, :percent=P or "
        ":holding=TEXT; may be given several times",
    )
    serve.add_argument(
        "--list-faults", action="store_true", help="print the names for --fault, and end"
    )
    return parser


def _add_doctor(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    doctor = commands.add_parser(
        "doctor",
        help="find out whether your key, region and model work, and what the service really does",
        description="Shows which key, region, host and model are used and where each was found, "
        "makes one call, and measures what the vendor's pages leave open. It says what that costs "
        "and asks before anything is sent. Against `qwen-rerank serve` the answers are those of a "
        "lexical stand-in.",
    )
    _add_connection(doctor)
    doctor.add_argument("--json", type=Path, metavar="FILE", help="write the findings there too")
    doctor.add_argument("--yes", action="store_true", help="send without asking")


def _add_connection(command: argparse.ArgumentParser) -> None:
    """What is asked, where, and with which key: never the key itself, which others would see."""
    command.add_argument("--model", help="default: qwen3-rerank")
    command.add_argument("--region", help="such as ap-southeast-1 (Singapore)")
    command.add_argument("--workspace", metavar="ID", help="Model Studio workspace")
    command.add_argument("--base-url", metavar="URL", help="such as https://host/api/v1")
    command.add_argument(
        "--protocol", choices=("dashscope", "compatible"), help="default: dashscope"
    )
    command.add_argument(
        "--server",
        metavar="KIND",
        help="what answers at --base-url, if it is a server of your own, such as vllm; speaks the "
        "compatible protocol",
    )
    command.add_argument(
        "--max-model-len",
        type=_positive,
        metavar="TOKENS",
        help="with --server: what query, document and template may have together; default: asked "
        "of the server, if it tells",
    )
    command.add_argument("--api-key", action=_RefusedKey, nargs="?", help=argparse.SUPPRESS)
    command.add_argument(
        "--api-key-env",
        metavar="NAME",
        help="environment variable with the key to send, whatever the host; without it, the key "
        "that is found is sent to Alibaba Cloud and this machine only",
    )
    command.add_argument(
        "--header-env",
        action="append",
        default=[],
        metavar="NAME=VARIABLE",
        help="one more header for every request, such as a gateway asks for, and the environment "
        "variable with its value; may be repeated",
    )
    command.add_argument(
        "--allow-http", action="store_true", help="send over plain http to another machine"
    )


class _RefusedKey(argparse.Action):
    """Else argparse would print what it does not know: the key."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        parser.error("a key is no argument, because others see those: use --api-key-env NAME")


def _add_rerank(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    rerank = commands.add_parser(
        "rerank",
        help="rerank a file of candidate lists, or a TREC run, of any size",
        description="Ranks every line of INPUT, a JSON object with query and documents, or every "
        "query of --run, and writes each as soon as it is finished. Exit codes: 0 all ranked, 1 "
        "stopped before the end, 2 something is wrong beforehand, 3 stopped by --max-tokens, 4 all "
        "done but some lines failed. Against `qwen-rerank serve` the scores are those of a lexical "
        "stand-in.",
    )
    rerank.add_argument("input", nargs="?", metavar="INPUT", help="JSON lines, .gz too; - is stdin")
    rerank.add_argument("--run", metavar="FILE", help="a TREC run instead of INPUT; - is stdin")
    rerank.add_argument("--corpus", metavar="FILE", help="with --run: JSON lines with _id and text")
    rerank.add_argument(
        "--queries", metavar="FILE", help="with --run: the same, or an id, a tab and a text a line"
    )
    rerank.add_argument("--output", required=True, metavar="FILE", help="- is standard output")
    rerank.add_argument(
        "--format", choices=("jsonl", "trec"), default="jsonl", help="default: %(default)s"
    )
    rerank.add_argument(
        "--errors", metavar="FILE", help="where failed lines go; default: told on standard error"
    )
    rerank.add_argument(
        "--resume", action="store_true", help="go on with the output of an earlier run"
    )
    _add_connection(rerank)
    rerank.add_argument("--instruct", metavar="TEXT", help="what counts as relevant, in English")
    rerank.add_argument(
        "--long-query",
        choices=("head", "tail"),
        help="which end of a query over the model's limit is asked; default: head",
    )
    rerank.add_argument("--top-n", type=_positive, metavar="N", help="default: all")
    rerank.add_argument(
        "--concurrency",
        type=_positive,
        default=8,
        metavar="N",
        help="requests in flight, and lines too; default: %(default)s",
    )
    rerank.add_argument(
        "--timeout",
        type=_seconds,
        default=60.0,
        metavar="SECONDS",
        help="for a line; default: %(default)g",
    )
    rerank.add_argument(
        "--patience",
        type=_seconds,
        default=600.0,
        metavar="SECONDS",
        help="stop when the service answers no line for so long; default: %(default)g",
    )
    rerank.add_argument(
        "--max-tokens",
        type=_positive,
        metavar="N",
        help="start no more lines when this run has been billed about N tokens",
    )


def _rerank(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    if (arguments.input is None) == (arguments.run is None):
        parser.error("rerank takes either INPUT or --run")
    texts = (arguments.corpus, arguments.queries)
    if any((text is None) != (arguments.run is None) for text in texts):
        parser.error("--run, --corpus and --queries belong together")
    from qwen_rerank.cli.rerank.flow import Lists, Run, rerank  # noqa: PLC0415  rich

    return rerank(
        Lists(arguments.input) if arguments.run is None else Run(arguments.run, *texts),
        arguments.output,
        options={
            "model": arguments.model,
            "instruct": arguments.instruct,
            "long_query": arguments.long_query,
            "top_n": arguments.top_n,
            "region": arguments.region,
            "workspace": arguments.workspace,
            "base_url": arguments.base_url,
            "protocol": arguments.protocol or ("compatible" if arguments.server else None),
            "server": arguments.server,
            "max_model_len": arguments.max_model_len,
            "allow_http": arguments.allow_http,
            "max_concurrency": arguments.concurrency,
            "timeout": arguments.timeout,
        },
        key_variable=arguments.api_key_env,
        header_variables=arguments.header_env,
        fmt=arguments.format,
        errors=arguments.errors,
        resume=arguments.resume,
        max_tokens=arguments.max_tokens,
        patience=arguments.patience,
    )


def _add_evaluate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="measure runs before and after reranking against judgements",
        description="Measures every --run, and compares each with the first: per query, with a "
        "paired test. What a lexical stand-in ranked says nothing about the Qwen models.",
    )
    evaluate.add_argument(
        "--qrels", required=True, metavar="FILE", help="judgements, as TREC or BEIR have them"
    )
    evaluate.add_argument(
        "--run",
        required=True,
        action="append",
        metavar="[NAME=]FILE",
        help="a TREC run, the JSON lines of `qwen-rerank rerank`, or lines of a query and its "
        "documents with tabs between; several times, the first is what the others are compared to",
    )
    evaluate.add_argument(
        "--measure",
        action="append",
        metavar="NAME",
        help="as ir_measures has them, several times; default: nDCG@10, RR (its mean is the MRR) "
        "and R@100 (recall)",
    )
    evaluate.add_argument(
        "--changed",
        type=_positive,
        default=5,
        metavar="N",
        help="how many of the most changed queries to show; default: %(default)s",
    )
    evaluate.add_argument("--json", action="store_true", help="print JSON, with every query")


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 2**16):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: 0 to 65535")
    return int(text)


def _missing(error: BaseException) -> str:
    """The package behind an import error: the first cause knows, the last one only reports it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (getattr(error, "name", None) or "a package").partition(".")[0]


def _fail(message: str) -> int:
    tame = (each if each.isprintable() or each == "\n" else repr(each)[1:-1] for each in message)
    print("".join(tame), file=sys.stderr)
    return 2
