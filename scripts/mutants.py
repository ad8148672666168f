"""Runs mutmut on what `[tool.mutmut]` names, and says which changes of it no test sees.

    python scripts/mutants.py [pattern ...]

It always begins anew: mutmut itself lets a verdict stand when tests change. A survivor fails the
run unless mutants.toml says why it is no other program; so does a line there that has no survivor.
With patterns of mutants' names, as mutmut takes them, only those are looked at.
"""

import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[1]
MUTMUT = Path(sys.executable).with_name("mutmut")
SAME = Path(__file__).with_suffix(".toml")
KILLED = ("killed", "timeout", "segfault")
_RESULT = re.compile(r"^ *((\S+)\.x[_\u01c1](\S+)__mutmut_\d+): (.+)$", re.MULTILINE)


def _mutmut(*arguments: str) -> str:
    done = subprocess.run(
        [MUTMUT, *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def change(name: str) -> str:
    """What the mutant *name* changes, and into what, on one line."""
    lines = _mutmut("show", name).splitlines()
    old, new = (
        " ".join(line[1:].strip() for line in lines if re.match(rf"{sign}(?!{sign}{sign} )", line))
        for sign in ("-", r"\+")
    )
    return f"{old} -> {new}"


def main(patterns: list[str]) -> int:
    """Runs them; the exit code, 1 if something is not as mutants.toml says."""
    shutil.rmtree(ROOT / "mutants", ignore_errors=True)
    if code := subprocess.run([MUTMUT, "run", *patterns], cwd=ROOT, check=False).returncode:
        return code
    known = {
        f"{where}: {each}"
        for where, same in tomllib.loads(SAME.read_text(encoding="utf-8")).items()
        for each in same
    }
    count: Counter[tuple[str, str]] = Counter()
    survivors: dict[str, str] = {}
    for name, module, function, status in _RESULT.findall(_mutmut("results", "--all", "true")):
        if patterns and not any(fnmatch(name, pattern) for pattern in patterns):
            continue
        count[module, "mutants"] += 1
        count[module, "killed" if status in KILLED else "survived"] += 1
        if status not in KILLED:
            where = f"{module}.{function}".replace("\u01c1", ".").removeprefix("qwen_rerank.")
            survivors[name] = f"{where}: {change(name)}"
    print(f"\n{'module':24}{'mutants':>9}{'killed':>9}{'survived':>9}")
    for module in sorted({module for module, _ in count}):
        numbers = [count[module, column] for column in ("mutants", "killed", "survived")]
        print(f"{module:24}" + "".join(f"{number:9,}" for number in numbers))
    unseen = {name: said for name, said in survivors.items() if said not in known}
    stale = [] if patterns else sorted(known.difference(survivors.values()))
    print(f"\n{len(survivors) - len(unseen)} of the survivors are no other program: {SAME.name}")
    for name, said in unseen.items():
        print(f"survived: {name}\n    {said}")
    for said in stale:
        print(f"in {SAME.name}, and none survived: {said}")
    return 1 if unseen or stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
