"""Nothing leaves the machine: with every socket refused, loading, drawing and the command line work."""

import os
import subprocess
import sys

import pytest

REFUSE_SOCKETS = """
import sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        print("REFUSED", event, arguments, file=sys.stderr)
        raise OSError(f"sockets are blocked in this test: {event}")

sys.addaudithook(refuse)
"""


def run_blocked(code: str, folder) -> subprocess.CompletedProcess:
    """Run code in a new Python that may open no connection, with an empty Hugging Face cache."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment["HF_HOME"] = str(folder)
    return subprocess.run(
        [sys.executable, "-c", REFUSE_SOCKETS + code], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_the_block_really_blocks(tmp_path):
    run = run_blocked("import socket; socket.create_connection(('127.0.0.1', 9))", tmp_path)
    assert "sockets are blocked" in run.stderr


@pytest.mark.parametrize(
    "code",
    [
        "from sdlab import draw, load_pipeline\ndraw(load_pipeline(), 'a cat', num_inference_steps=2)",
        "from sdcourse.judging.judge import load_judge\nload_judge()",
        "from sdcourse.cli import main\nsys.exit(main(['draw', 'a cat', '--steps', '2', '--out', 'cat.png']))",
        "from sdcourse.cli import main\nsys.exit(main(['portraits', '--n', '2']))",
        "from sdcourse.cli import main\nsys.exit(main(['doctor']))",
    ],
    ids=["draw", "judge", "draw command", "portraits command", "doctor command"],
)
def test_it_works_without_a_network(code, tmp_path):
    run = run_blocked(code, tmp_path)
    assert run.returncode == 0, run.stderr
    assert "REFUSED" not in run.stderr


def test_a_folder_loads_and_draws_without_a_network(tiny_pipeline_original, tmp_path):
    load = f"pipe = load_pipeline({str(tiny_pipeline_original)!r})"
    code = f"from sdlab import draw, load_pipeline\n{load}\ndraw(pipe, 'a cat', num_inference_steps=2)"
    run = run_blocked(code, tmp_path)
    assert run.returncode == 0, run.stderr
    assert "REFUSED" not in run.stderr
