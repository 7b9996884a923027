"""Run lessons, solutions and labs as on other processors, and say which cells come out otherwise than stored.

    python tests/processors.py                          # everything this machine can play, with 1 and with 2 threads
    python tests/processors.py sse41 avx2 --threads 1   # two of them
    python tests/processors.py native course/02*.ipynb  # one lesson, as this machine is

Another processor adds the same numbers in another order, and its last digits are others. The instructions that torch,
oneDNN, MKL, NumPy and Numba may use are set by environment variables; a machine can play what is older than itself.
Printed are, for each processor, the cells that fail, and the cells that came nearest to failing: how far their
pictures and numbers are from the stored ones, in shares of what is allowed (see notebook_plugin.py).
"""

import argparse
import math
import os
import platform
import resource
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "build" / "processors"
FOLDERS = ("course", "solutions", "labs")
SANITIZE = ROOT / "tests" / "nbval_sanitize.cfg"
SETTINGS = {  # name -> (what may be used by torch, oneDNN, MKL; levels of NumPy; Numba's name of it)
    "sse41": ("default", "SSE41", "SSE4_2", (), "nehalem"),
    "avx2": ("avx2", "AVX2", "AVX2", ("X86_V3", "AVX2", "FMA3"), "haswell"),
    "avx512": ("avx512", "AVX512_CORE", "AVX512", ("X86_V3", "AVX2", "FMA3", "X86_V4", "AVX512_SKX"), "skylake-avx512"),
    "amx": ("avx512", "AVX512_CORE_AMX", "AVX512", None, ""),
    "native": ("", "", "", None, ""),
}
PLAYED = {"sse41": "DEFAULT", "avx2": "AVX2", "avx512": "AVX512", "amx": "AVX512"}  # what torch calls it


@dataclass
class Report:
    """What came of one run: cells that failed (name -> reason), and how far the others were off (kind -> list)."""

    cells: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    far: dict[str, list[tuple[float, str]]] = field(default_factory=lambda: {"pictures": [], "numbers": []})

    def nearest_miss(self, kind: str) -> tuple[float, str]:
        """Return the largest distance of a cell that did not fail, and the cell."""
        return max(((share, name) for share, name in self.far[kind] if name not in self.failed), default=(0.0, ""))


def numpy_features(kept: tuple | None) -> str:
    """Return the features that NumPy must leave alone to use only those ``kept`` (None: all of this machine's)."""
    if kept is None:
        return ""
    code = "from numpy._core._multiarray_umath import __cpu_dispatch__ as names; print(*names)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return " ".join(name for name in found.split() if name not in kept)


def environment(name: str, threads: int) -> dict[str, str]:
    """Return the environment that plays the processor ``name`` with so many threads."""
    aten, onednn, mkl, numpy, numba = SETTINGS[name]
    wanted = {"ATEN_CPU_CAPABILITY": aten, "ONEDNN_MAX_CPU_ISA": onednn, "MKL_ENABLE_INSTRUCTIONS": mkl,
              "NPY_DISABLE_CPU_FEATURES": numpy_features(numpy), "NUMBA_CPU_NAME": numba}  # fmt: skip
    path = os.pathsep.join([str(ROOT / "tests"), str(ROOT / "utils")])
    fixed = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false",
             "PYTHONPATH": path, "PYTHONWARNINGS": "", "SDLAB_DEVICE": "cpu"}  # fmt: skip
    return os.environ | fixed | {variable: value for variable, value in wanted.items() if value}


def why_not(name: str) -> str:
    """Return why this machine cannot play the processor ``name``; empty if it can."""
    if name == "native":
        return ""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return f"this is {platform.machine()}"
    code = "import torch; print(torch.backends.cpu.get_cpu_capability())"
    command = [sys.executable, "-c", code]
    played = subprocess.run(command, env=environment(name, 1), capture_output=True, text=True, check=True).stdout
    if played.strip() != PLAYED[name]:
        return f"torch uses {played.strip()} here"
    information = Path("/proc/cpuinfo")
    if name == "amx" and not (information.exists() and "amx_tile" in information.read_text()):
        return "it has no AMX"
    return ""


def pytest_command(paths: list[str], *, lax: bool, report: Path) -> list[str]:
    """Return the command that runs notebooks and writes what came of each cell to ``report``."""
    mode = ["--nbval-lax"] if lax else ["--nbval", f"--nbval-sanitize-with={SANITIZE}"]
    limits = ["--nbval-cell-timeout=600", "--nbval-kernel-startup-timeout=600"]
    quiet = ["-q", "-p", "no:cacheprovider", "--tb=no", "-o", "junit_logging=no", f"--junitxml={report}"]
    spread = ["-n", "2", "--dist", "loadfile"]
    return [sys.executable, "-m", "pytest", "-p", "notebook_plugin", *mode, "--nbval-current-env", *limits, *spread,
            *quiet, *paths]  # fmt: skip


def read_report(file: Path, report: Report) -> None:
    """Add what ``file``, a JUnit report, says of its cells to ``report``."""
    for case in ElementTree.parse(file).iter("testcase"):
        name = f"{case.get('classname', '').replace('.', '/')} {case.get('name')}"
        report.cells += 1
        for trouble in [*case.findall("failure"), *case.findall("error")]:
            lines = [line.strip() for line in f"{trouble.get('message')}\n{trouble.text}".splitlines()]
            report.failed[name] = next((line for line in lines if line.startswith("Cell ")), lines[0])[:200]
        for item in case.iter("property"):
            if item.get("name") in report.far:
                report.far[item.get("name")].append((float(item.get("value")), name))


def play(name: str, threads: int, paths: list[str]) -> Report:
    """Run the notebooks of ``paths`` as on the processor ``name``."""
    report = Report()
    labs = [path for path in paths if "labs" in Path(path).parts]
    for lax, some in ((False, [path for path in paths if path not in labs]), (True, labs)):
        file = RESULTS / f"{name}-{threads}-{'labs' if lax else 'stored'}.xml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        if some:
            command = pytest_command(some, lax=lax, report=file)
            subprocess.run(command, cwd=ROOT, env=environment(name, threads), stdout=sys.stderr)
            read_report(file, report)
    return report


def print_report(title: str, report: Report, seconds: float) -> None:
    """Print one processor's part of the table."""
    print(f"\n{title}: {report.cells} cells, {len(report.failed)} differ, {seconds / 60:.1f} minutes of processor time")
    for cell, reason in report.failed.items():
        print(f"  DIFFERS  {cell}: {reason}")
    for kind in report.far:
        share, cell = report.nearest_miss(kind)
        largest = "infinitely" if math.isinf(share) else f"{share:.0%}"
        print(f"  {kind:8} at most {largest} of what is allowed ({cell or 'none compared'})")
    sys.stdout.flush()


def used() -> float:
    """Return the processor seconds of all children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def main(argv: list[str] | None = None) -> int:
    """Play the processors asked for; return 1 if any cell differs on any of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help=f"processors ({', '.join(SETTINGS)}) and notebooks or folders")
    parser.add_argument("--threads", default="1,2", help="numbers of threads, with commas (default 1,2)")
    options = parser.parse_intermixed_args(argv)
    names = [word for word in options.what if word in SETTINGS] or list(SETTINGS)
    paths = [word for word in options.what if word not in SETTINGS] or list(FOLDERS)
    worst = 0
    for name in names:
        if problem := why_not(name):
            print(f"\n{name}: not played, {problem}")
            continue
        for threads in map(int, options.threads.split(",")):
            before = used()
            report = play(name, threads, paths)
            print_report(f"{name}, threads: {threads}", report, used() - before)
            worst = max(worst, bool(report.failed) or not report.cells)
    return worst


if __name__ == "__main__":
    sys.exit(main())
