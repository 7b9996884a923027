"""A JupyterLab of its own in a real headless Chromium: open a notebook, run it, look at what is shown."""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
MILLISECONDS = 600_000  # for what hangs

_STATE = """() => {
  const code = window.jupyterapp.shell.currentWidget.content.widgets.filter(cell => cell.model.type == 'code');
  return [code.length, code.filter(cell => cell.model.executionCount != null).length,
          code.filter(cell => cell.model.executionState == 'running').length];
}"""


def why_not() -> str | None:
    """Return why no browser test can run here, or None."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "Playwright is not installed: pip install playwright"
    return None if CHROMIUM else "there is no Chromium on this machine"


def keep(page, name: str) -> None:
    """Keep a screenshot in the folder that SDLAB_SCREENSHOTS names; without it, do nothing."""
    if folder := os.environ.get("SDLAB_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png")


@contextlib.contextmanager
def chromium():
    """Give a headless Chromium, driven by Playwright."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def watched(browser, *allowed: str):
    """Open a page; return it and a list that collects its errors and what it asks of addresses not ``allowed``."""
    page, wrong = browser.new_page(viewport={"width": 1400, "height": 1000}), []
    local = (*allowed, "data:", "blob:")
    page.on("pageerror", lambda error: wrong.append(f"error {error}"))
    page.on(
        "request",
        lambda request: None if request.url.startswith(local) else wrong.append(f"asked {request.url}"),
    )
    return page, wrong


@contextlib.contextmanager
def jupyterlab(root: Path, own: Path):
    """Serve ``root``; give the address with a token. Settings and data are kept in ``own``."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    folders = {f"JUPYTER_{name}_DIR": str(own / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    settings = own / "lab" / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    environment = (
        os.environ | folders | {"JUPYTERLAB_SETTINGS_DIR": str(own / "lab" / "settings"), "OMP_NUM_THREADS": "1"}
    )
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--allow-root",
               f"--IdentityProvider.token={token}", "--LabApp.expose_app_in_browser=True",
               f"--ServerApp.root_dir={root}"]  # fmt: skip
    with (own / "server.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait_for(port)
        yield f"http://127.0.0.1:{port}/lab", token
    finally:
        server.terminate()
        server.wait(timeout=600)


def _wait_for(port: int) -> None:
    for _ in range(3000):  # ten minutes: a limit for what hangs
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.2)
    raise TimeoutError("JupyterLab did not start")


class LabPage:
    """A notebook opened in JupyterLab, with what went wrong on the page and what it asked of other machines."""

    def __init__(self, browser, address: str, token: str, notebook: str):
        self.page, self.wrong = watched(browser, "http://127.0.0.1", "ws://127.0.0.1")
        page = self.page
        page.set_default_timeout(MILLISECONDS)
        page.goto(f"{address}/tree/{notebook}?token={token}&reset")
        page.wait_for_function("window.jupyterapp && window.jupyterapp.restored", timeout=MILLISECONDS)
        page.evaluate("window.jupyterapp.restored")
        ready = "() => window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status == 'idle'"
        page.wait_for_function(ready, timeout=MILLISECONDS)

    def run_all(self) -> tuple[int, int]:
        """Run all cells and wait; return how many code cells there are and how many have run."""
        self._execute("notebook:run-all-cells")
        ended = f"() => {{ const [total, done, running] = ({_STATE})(); return total == done && !running; }}"
        self.page.wait_for_function(ended)
        total, done, _ = self.page.evaluate(_STATE)
        return total, done

    def _execute(self, command: str) -> None:
        """Run a command of JupyterLab and wait until it has ended: cells, until they have run."""
        self.page.evaluate(f"window.jupyterapp.commands.execute('{command}').then(() => null)")

    def show_cell(self, index: int) -> None:
        """Scroll to a cell and select it."""
        self.page.evaluate(
            """async index => {
                 const notebook = window.jupyterapp.shell.currentWidget.content;
                 notebook.activeCellIndex = index;
                 await notebook.scrollToItem(index, 'start');
               }""",
            index,
        )
        self.cell(index).wait_for(state="visible")

    def index_of(self, text: str) -> int:
        """Return the number of the first code cell whose source contains ``text``."""
        find = """text => window.jupyterapp.shell.currentWidget.content.widgets.findIndex(
                    cell => cell.model.type == 'code' && cell.model.sharedModel.getSource().includes(text))"""
        index = self.page.evaluate(find, text)
        assert index >= 0, f"no cell contains {text!r}"
        return index

    def cell(self, index: int):
        """Return the element of a cell."""
        return self.page.locator(f'.jp-Notebook .jp-Cell[data-windowed-list-index="{index}"]')

    def write(self, index: int, source: str) -> None:
        """Replace the source of a cell."""
        self.page.evaluate(
            "([i, s]) => window.jupyterapp.shell.currentWidget.content.widgets[i].model.sharedModel.setSource(s)",
            [index, source],
        )

    def run_cell(self, index: int) -> None:
        """Run one cell and wait for its end."""
        self.show_cell(index)
        self._execute("notebook:run-cell")


@contextlib.contextmanager
def opened(root: Path, notebook: str, own: Path):
    """Give a :class:`LabPage` with a notebook below ``root`` open in it."""
    with jupyterlab(root, own) as (address, token), chromium() as browser:
        yield LabPage(browser, address, token, notebook)
