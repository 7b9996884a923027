"""The book: built without warnings, then read in a real browser that cannot reach any other machine.

Screenshots are kept in the folder that the environment variable SDLAB_SCREENSHOTS names.
"""

import http.server
import re
import subprocess
import sys
import threading
from functools import partial

import nbformat
import pytest

from browser import chromium, keep, watched, why_not
from conftest import ROOT

BOOK = ROOT / "utils" / "book"
LESSON = "course/08_cross_attention"

pytest.importorskip("sphinx", reason="the book's packages are not installed: make book")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("book") / "site"
    command = [sys.executable, str(BOOK / "build.py"), str(folder)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


@pytest.fixture(scope="module")
def address(site):
    """Serve the site as a web server would."""
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def browser():
    if why_not():
        pytest.skip(why_not())
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser, address):
    """A page that may only ask ``address``; what goes wrong on it fails the test."""
    page, wrong = watched(browser, address)
    page.route(lambda url: not url.startswith((address, "data:", "blob:")), lambda route: route.abort())
    page.on("response", lambda reply: wrong.append(f"{reply.status} {reply.url}") if reply.status >= 400 else None)
    yield page
    page.close()
    assert wrong == []


def test_every_lesson_lab_and_the_glossary_have_a_page(site):
    stems = [*(ROOT / "course").glob("[0-9]*.ipynb"), *(ROOT / "labs").glob("*/*.ipynb"), ROOT / "course/glossary.md"]
    missing = [file for file in stems if not (site / file.relative_to(ROOT)).with_suffix(".html").is_file()]
    assert missing == [] and len(stems) == 26


def test_pages_name_no_other_machine_but_in_links_to_read(site):
    for page in site.rglob("*.html"):
        loaded = re.findall(r"<(?:script|img|iframe|link)[^>]*\b(?:src|href)=\"(https?://[^\"]+)", page.read_text())
        assert loaded == [], page.name


def test_links_and_anchors_inside_the_book_lead_somewhere(site):
    ids = {page: set(re.findall(r'\bid="([^"]+)"', page.read_text())) for page in site.rglob("*.html")}
    broken = []
    for page in ids:
        body = page.read_text().split("<article", 1)[-1].split("</article", 1)[0]
        for link in re.findall(r'<a[^>]*\bhref="([^"]+)"', body):
            target, _, anchor = link.partition("#")
            if re.match(r"\w+:", link):
                continue
            file = (page.parent / target).resolve() if target else page
            known = file.is_file() and (not anchor or file.suffix != ".html" or anchor in ids.get(file, ids[page]))
            broken += [] if known else [f"{page.name}: {link}"]
    assert broken == []


def test_the_colab_cell_is_left_out(site):
    assert "google.colab" not in (site / f"{LESSON}.html").read_text()


def test_a_lesson_shows_its_figures_with_their_descriptions_and_formulas(page, address):
    page.goto(f"{address}/{LESSON}.html")
    page.wait_for_selector("mjx-container")
    figures = page.locator(".cell_output img")
    stored = nbformat.read(ROOT / f"{LESSON}.ipynb", as_version=4)
    kinds = [set(output.get("data", {})) for cell in stored.cells for output in cell.get("outputs", [])]
    assert figures.count() == sum(bool(kind & {"image/png", "image/jpeg"}) for kind in kinds) > 5
    for index in range(figures.count()):
        figure = figures.nth(index)
        figure.scroll_into_view_if_needed()
        assert figure.evaluate("image => image.decode().then(() => image.naturalWidth)") > 50
        assert len(figure.get_attribute("alt").split()) >= 3
    assert page.locator("mjx-merror").count() == 0
    page.evaluate("window.scrollTo(0, 0)")
    keep(page, "book lesson 08")


def test_the_glossary_leads_to_the_section_that_introduces_a_word(page, address):
    page.goto(f"{address}/course/glossary.html")
    keep(page, "book glossary")
    page.locator("tr", has_text="classifier-free guidance").locator("a").click()
    page.wait_for_url("**/course/09_text_to_image.html#*")
    assert "What does guidance do?" in page.locator(":target h2").first.inner_text()


def test_search_finds_and_dark_mode_is_dark(page, address):
    page.goto(f"{address}/search.html?q=hypernetwork")
    page.wait_for_selector("ul.search li a")
    assert page.locator("ul.search li a", has_text="Steer the model").count() >= 1
    keep(page, "book search")
    page.goto(f"{address}/index.html")
    colour = "getComputedStyle(document.body).backgroundColor"
    page.evaluate("document.documentElement.dataset.theme = 'light'")
    light = page.evaluate(colour)
    page.locator(".theme-switch-button:visible").first.click()
    page.locator(".theme-switch-container [data-mode=dark]:visible").last.click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.evaluate(colour) != light
    keep(page, "book start dark")
