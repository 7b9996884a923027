"""Nothing leaves the machine: with every socket refused, loading, drawing and the command line work."""

import json
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


COMMAND = "from sdcourse.cli import main\nassert main({}) == 0"
WORK = {
    "draw": "from sdlab import draw, load_pipeline\ndraw(load_pipeline(), 'a cat', num_inference_steps=2)",
    "judge": "from sdcourse.judging.judge import load_judge\nload_judge()",
    "draw command": COMMAND.format(["draw", "a cat", "--steps", "2", "--out", "cat.png"]),
    "portraits command": COMMAND.format(["portraits", "--n", "2"]),
    "doctor command": COMMAND.format(["doctor"]),
    "folder": "from sdlab import draw, load_pipeline\ndraw(load_pipeline(FOLDER), 'a cat', num_inference_steps=2)",
}
ONE_BY_ONE = """
import json, traceback

said = {}
for name, code in WORK.items():
    try:
        exec(code, {"FOLDER": FOLDER})
        said[name] = ""
    except BaseException:
        said[name] = traceback.format_exc()
with open("said.json", "w") as file:
    json.dump(said, file)
"""


@pytest.fixture(scope="module")
def offline(tiny_pipeline_original, tmp_path_factory):
    """What came of each piece of work, done one after the other in one new Python; importing is most of the time."""
    folder = tmp_path_factory.mktemp("offline")
    given = f"WORK, FOLDER = {WORK!r}, {str(tiny_pipeline_original)!r}\n"
    run = run_blocked(given + ONE_BY_ONE, folder)
    return json.loads((folder / "said.json").read_text()), run.stderr


@pytest.mark.parametrize("name", WORK)
def test_it_works_without_a_network(offline, name):
    said, complaints = offline
    assert said[name] == ""
    assert "REFUSED" not in complaints
