#!/usr/bin/env bash
# Seen with langgraph 1.0.10 and langgraph-prebuilt 1.0.13, Python 3.11.
#
# Whoever pins langgraph 1.0.10 gets a langgraph-prebuilt that needs a newer langgraph. Either's
# requirements allow the other, pip finds nothing broken, and agents cannot be imported. Output:
#
#     langgraph 1.0.10 asks for langgraph-prebuilt<1.1.0,>=1.0.8
#     langgraph-prebuilt 1.0.13 asks for langgraph: False
#     No broken requirements found.
#     ImportError: cannot import name 'ExecutionInfo' from 'langgraph.runtime'
#
# Exits with an error if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet langgraph==1.0.10 langgraph-prebuilt==1.0.13
cat >"$folder/run.py" <<'PYTHON'
import subprocess
import sys
from importlib.metadata import requires, version

(asked,) = [each for each in requires("langgraph") if each.startswith("langgraph-prebuilt")]
print("langgraph", version("langgraph"), "asks for", asked)
back = any(each.startswith(("langgraph<", "langgraph>")) for each in requires("langgraph-prebuilt"))
print("langgraph-prebuilt", version("langgraph-prebuilt"), "asks for langgraph:", back)
subprocess.run([sys.executable, "-m", "pip", "check"], check=True)
try:
    import langgraph.prebuilt
except ImportError as error:
    print(f"{type(error).__name__}: {str(error).partition(' (')[0]}")
PYTHON
diff <(sed -n 's/^#     //p' "$0") <("$folder/venv/bin/python" -u "$folder/run.py")
