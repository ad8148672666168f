import subprocess
import sys

import pytest

import qwen_rerank.emulator


def test_exports_are_sorted_and_there():
    """The package exports exactly Emulator, FAULTS, LoggedRequest and Reply."""
    exported = qwen_rerank.emulator.__all__

    assert exported == sorted(exported) == ["Emulator", "FAULTS", "LoggedRequest", "Reply"]
    assert all(hasattr(qwen_rerank.emulator, name) for name in exported)


def run(code):
    """Run *code* in a process of its own."""
    return subprocess.run(  # noqa: S603
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("missing", ["fastapi", "uvicorn"])
def test_a_missing_extra_is_named(missing):
    """Without FastAPI or uvicorn the import fails with one sentence that names the extra."""
    done = run(f"import sys; sys.modules[{missing!r}] = None; import qwen_rerank.emulator")

    last = done.stderr.strip().splitlines()[-1]
    expected = 'The emulator needs FastAPI and uvicorn: pip install "qwen-rerank[emulator]"'

    assert last == f"ImportError: {expected}"


def test_no_other_package_of_ours_and_no_dashscope_is_imported():
    """The emulator is a second opinion: it uses neither the client nor the vendor's SDK."""
    done = run(
        "import sys, qwen_rerank; before = set(sys.modules)\n"
        "from qwen_rerank.emulator import Emulator\n"
        "with Emulator(): pass\n"
        "new = set(sys.modules) - before\n"
        "print([m for m in new if m.startswith('dashscope')],\n"
        "      [m for m in new if m.startswith('qwen_rerank.')\n"
        "       and not m.startswith('qwen_rerank.emulator')])"
    )

    assert (done.stdout.strip(), done.stderr) == ("[] []", "")
