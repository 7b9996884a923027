"""What Jupyter does and Sphinx would do otherwise: the anchors of headings, and the descriptions of pictures."""

from pathlib import Path

import nbformat
from docutils import nodes

PICTURES = ("image/png", "image/jpeg", "image/svg+xml")


def jupyter_anchor(title: str) -> str:
    """Return the anchor that Jupyter gives a heading, so that one link works in both."""
    return title.replace(" ", "-")


def descriptions(notebook) -> list[str]:
    """Return the alt text of every picture among a notebook's outputs, in their order."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            for kind in PICTURES:
                if kind in output.get("data", {}):
                    found.append(output.metadata.get(kind, {}).get("alt") or output.data.get("text/plain", ""))
                    break
    return found


def add_alt_texts(app, doctree) -> None:
    """Set ``alt`` of every picture that comes from an output; stop the build where one is left over."""
    source = Path(app.env.doc2path(app.env.docname))
    if source.suffix != ".ipynb":
        return
    texts = descriptions(nbformat.read(source, as_version=4))
    images = [node for node in doctree.findall(nodes.image) if "jupyter_execute" in node["uri"]]
    if len(images) != len(texts):
        raise ValueError(f"{source.name} stores {len(texts)} pictures, but its page shows {len(images)}.")
    for image, text in zip(images, texts, strict=True):
        image["alt"] = text
