"""Build the book, a site that needs no network: ``python utils/book/build.py build/book`` (or ``make book``).

The pages are the stored lessons, the labs and the glossary, in the folders they have in the repository, so that the
links between them lead to the same places. Nothing is run.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

from sphinx.cmd.build import build_main

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
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
    """Write the book's pages to ``source``, a folder that is made anew."""
    shutil.rmtree(source, ignore_errors=True)
    ignored = shutil.ignore_patterns(".*", "LICENSE", "README.md")
    for folder in ("course", "labs"):
        shutil.copytree(ROOT / folder, source / folder, ignore=ignored)
    (source / CARD).parent.mkdir(parents=True)
    shutil.copy(ROOT / CARD, source / CARD)
    (source / "index.md").write_text(index(), encoding="utf-8")


def index() -> str:
    """Return the first page: the README's promise and picture, and the list of all pages."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    promise = readme.split("\n\n")[1]
    alt = readme.split("![", 1)[1].split("]", 1)[0]
    lessons = [f"{file.stem[:2]} {title(file)} <course/{file.stem}>" for file in _sorted("course/[0-9]*.ipynb")]
    labs = [f"{title(file).removeprefix('Lab ')} <labs/{file.stem}/{file.stem}>" for file in _sorted("labs/*/*.ipynb")]
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
    """Build the site in ``target``; any warning is an error. Return Sphinx's exit code."""
    source = target.parent / f"{target.name}-pages"
    lay_out(source)
    options = ["-E", "-a", "-b", "html", "-c", str(HERE), "-d", str(target.parent / f"{target.name}-doctrees")]
    return build_main([*options, "--fail-on-warning", "--keep-going", "--quiet", str(source), str(target)])


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
