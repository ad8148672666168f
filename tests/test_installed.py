"""Which code is tested, and that importing it is silent."""

import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import pytest

PACKAGES = ["qwen_rerank", "langchain_qwen_rerank", "llama_index_qwen_rerank"]
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", PACKAGES)
def test_the_right_code_is_tested(name):
    """It is the code beside the tests or, where `nox` took that away, the installed wheel's."""
    beside = ROOT / name
    expected = beside if beside.is_dir() else Path(sysconfig.get_path("purelib")) / name

    assert Path(find_spec(name).origin).parent == expected


@pytest.mark.parametrize(
    ("name", "framework"),
    [
        ("langchain_qwen_rerank", "langchain_core"),
        ("llama_index_qwen_rerank", "llama_index"),
        ("qwen_rerank", None),
    ],
)
def test_imports(name, framework):
    """Without a warning and without the SDK."""
    if framework is not None:
        pytest.importorskip(framework)
    code = f"import sys; from {name} import *; assert 'dashscope' not in sys.modules"
    done = subprocess.run(  # noqa: S603  our own interpreter
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
