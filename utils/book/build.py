"""Build the book, a site that needs no network: ``python utils/book/build.py build/book`` (or ``make book``).

The pages are the stored lessons, the labs and the glossary, in the folders they have in the repository, so that the
links between them lead to the same places. Nothing is run.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from sphinx.cmd.build import build_main

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LESSONS, LABS = "course/[0-9]*.ipynb", "labs/*/[0-9]*.ipynb"
CARD = Path("utils/sdlab/models/pocket/README.md")

INDEX = """# Inside Stable Diffusion

{promise}

![{alt}](course/gallery.png)

*Drawn by the model that this course is about, on a CPU.*

This is the course to read. To run it, to move its sliders and to have your answers checked, take the repository:
`make lab` opens the first lesson in JupyterLab. Every notebook can also be downloaded from the top of its page.

```{{toctree}}
:caption: Lessons
:maxdepth: 1

{lessons}
```

```{{toctree}}
:caption: Labs
:maxdepth: 1

{labs}
```

```{{toctree}}
:caption: To look things up
:maxdepth: 1

course/glossary
{card}
```
"""


def lay_out(source: Path) -> None:
    """Write the book's pages to ``source``, an empty folder."""
    pictures = [file for folder in ("course", CARD.parent) for file in _sorted(f"{folder}/*.[jp][pn]g")]
    for file in [*_sorted(LESSONS), *_sorted(LABS), *pictures, ROOT / "course" / "glossary.md", ROOT / CARD]:
        target = source / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    (source / "index.md").write_text(index(), encoding="utf-8")


def index() -> str:
    """Return the first page: the README's promise and picture, and the list of all pages."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    promise = readme.split("\n\n")[1]
    alt = readme.split("![", 1)[1].split("]", 1)[0]
    lessons = [f"{file.stem[:2]} {title(file)} <course/{file.stem}>" for file in _sorted(LESSONS)]
    labs = [f"{title(file).removeprefix('Lab ')} <labs/{file.stem}/{file.stem}>" for file in _sorted(LABS)]
    return INDEX.format(
        promise=promise,
        alt=alt,
        lessons="\n".join(lessons),
        labs="\n".join(labs),
        card=CARD.with_suffix("").as_posix(),
    )


def title(file: Path) -> str:
    """Return the heading with which a notebook begins."""
    first = json.loads(file.read_text(encoding="utf-8"))["cells"][0]["source"]
    return "".join(first).splitlines()[0].removeprefix("# ")


def _sorted(pattern: str) -> list[Path]:
    return sorted(ROOT.glob(pattern))


def build(target: Path) -> int:
    """Build the site in ``target``; any warning is an error. Return Sphinx's exit code.

    A site that is there is replaced when the new one is whole; a folder that holds anything else is left alone.
    """
    if target.exists() and any(target.iterdir()) and not (target / ".buildinfo").is_file():
        print(f"{target} holds something else than a book: choose another folder.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder) / "pages", Path(folder) / "site"
        source.mkdir()
        lay_out(source)
        options = ["-b", "html", "-c", str(HERE), "-d", f"{folder}/doctrees", "--fail-on-warning", "--keep-going"]
        code = build_main([*options, "--quiet", str(source), str(made)])
        if code == 0:
            shutil.rmtree(target, ignore_errors=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(made, target)
    return code


def main(argv: list[str] | None = None) -> int:
    """Build the book; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("target", type=Path, help="folder for the site, for example build/book")
    target = parser.parse_args(argv).target.resolve()
    sys.path.insert(0, str(HERE))
    code = build(target)
    print(f"The book is in {target}: open index.html in a browser." if code == 0 else "The book was not built.")
    return code


if __name__ == "__main__":
    sys.exit(main())
