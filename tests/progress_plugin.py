"""Say what is running: a line for each file that is done, instead of a dot for each test. ``-p progress_plugin``

    34 %   2:51  course/05_latent_space.ipynb: 31 passed   (running: tests/test_training.py, course/06_...ipynb)
"""

import time
from collections import Counter, defaultdict

import pytest


class Progress:
    """What is still to come of each file, and what came of it."""

    def __init__(self):
        self.start = time.monotonic()
        self.left: dict[str, set] = {}
        self.total = 0
        self.outcomes: dict[str, Counter] = defaultdict(Counter)
        self.running: dict[str, None] = {}  # in the order of their beginning

    def expect(self, names) -> None:
        """Take in the tests that will run; called again with the same ones by another process, it changes nothing."""
        if not self.total:
            self.total = len(names)
            for name in names:
                self.left.setdefault(name.split("::")[0], set()).add(name)

    def begin(self, name: str) -> None:
        """Note that a test has begun."""
        if self.left.get(name.split("::")[0]):
            self.running[name.split("::")[0]] = None

    def end(self, name: str, outcome: str) -> str:
        """Note what came of a test; return the line of its file if it was the last one, else nothing."""
        file = name.split("::")[0]
        self.outcomes[file][outcome] += 1
        self.left.get(file, set()).discard(name)
        if self.left.get(file):
            return ""
        self.running.pop(file, None)
        done = self.total - sum(map(len, self.left.values()))
        seconds = int(time.monotonic() - self.start)
        said = ", ".join(f"{count} {what}" for what, count in self.outcomes[file].items())
        others = f"   (running: {', '.join(self.running)})" if self.running else ""
        return f"{100 * done // max(self.total, 1):3} % {seconds // 60:3}:{seconds % 60:02}  {file}: {said}{others}"


@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    """Watch in the process that reports, not in those that test."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Watcher(config), "progress-watcher")


class Watcher:
    """Feeds a :class:`Progress` from pytest's hooks and prints its lines."""

    def __init__(self, config):
        self.config, self.progress = config, Progress()
        self.worst: dict[str, str] = {}  # test -> the worst outcome of its parts: set-up, call, teardown

    def pytest_collection_finish(self, session):
        """Without processes of its own pytest collects here."""
        if session.items:
            self.progress.expect([item.nodeid for item in session.items])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node, ids):
        """With processes, each of them collects the same tests."""
        self.progress.expect(ids)

    def pytest_runtest_logstart(self, nodeid):
        """A test begins."""
        self.progress.begin(nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report):
        """No letters: what went well is counted, and what did not has its line at once."""
        if hasattr(report, "wasxfail"):
            return None
        if report.failed:
            return ("failed" if report.when == "call" else "error", "", "")
        return ("skipped" if report.skipped else "passed" if report.when == "call" else "", "", "")

    def pytest_runtest_logreport(self, report):
        """A test has ended when it is torn down."""
        found = (self.worst.get(report.nodeid, "passed"), report.outcome)
        self.worst[report.nodeid] = max(found, key=("passed", "skipped", "failed").index)
        terminal = self.config.pluginmanager.get_plugin("terminalreporter")
        if report.failed:
            terminal.write_line(f"  FAILED  {report.nodeid}", red=True)
        if report.when == "teardown" and (line := self.progress.end(report.nodeid, self.worst.pop(report.nodeid))):
            terminal.write_line(line)
