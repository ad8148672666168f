"""The `qwen-rerank` command: its arguments and exit codes. What a command does lives elsewhere.

Importing this imports nothing heavy; each command imports what it needs when it is run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from qwen_rerank import __version__

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command that *argv*, or the process's own arguments, ask for.

    Returns:
        The exit code: 0 done, 1 failed or declined, 2 something is missing or wrong beforehand.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        match arguments.command:
            case "demo":
                if arguments.region and not arguments.live:
                    parser.error("--region needs --live: the emulator is in no region")
                from qwen_rerank.cli.demo import demo  # noqa: PLC0415  rich and both frameworks

                return demo(
                    live=arguments.live,
                    model=arguments.model,
                    region=arguments.region,
                    count=arguments.questions,
                    confirmed=arguments.yes,
                )
            case _:
                from qwen_rerank.cli.serve import list_faults, serve  # noqa: PLC0415  FastAPI

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
        description="DashScope's rerank models (qwen3-rerank and relatives) for LangChain and "
        "LlamaIndex: a demo and a local stand-in for the service, both without a key.",
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
    demo.add_argument("--region", help="with --live: such as cn-beijing or ap-southeast-1")
    demo.add_argument(
        "--questions",
        type=_positive,
        metavar="N",
        help="how many questions to use; default: all, or 12 with --live",
    )

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


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


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
    print(message, file=sys.stderr)
    return 2
