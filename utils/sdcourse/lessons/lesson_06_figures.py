"""Figures of lesson 06: matrices of similarity, shares with their intervals, and words on a map."""

import numpy as np
import torch

from sdlab.figures import COLORS, CourseFigure, new_figure

from .charts import MARKERS
from .lesson_06 import KINDS, Projection, Word, cosine, project


def plot_matching(panels: dict[str, torch.Tensor], images, captions, *, alt: str) -> CourseFigure:
    """Return matrices of similarity [captions, pictures], the pictures above them and the captions at the left."""
    low, high = (getattr(torch.stack(list(panels.values())), name)().item() for name in ("min", "max"))
    cell = min(0.75, (8.6 - 0.065 * max(map(len, captions))) / (len(images) * len(panels)))  # inches
    width = 1.0 + 0.065 * max(map(len, captions)) + cell * len(images) * len(panels)
    height = cell * (len(captions) + 1) + (0.45 if any(panels) else 0.15)
    figure, axes = new_figure(1, len(panels), alt=alt, width=width, height=height)
    for number, (axis, (title, matrix)) in enumerate(zip(np.atleast_1d(axes), panels.items(), strict=True)):
        shown = axis.imshow(matrix.numpy(), cmap="viridis", vmin=low, vmax=high)
        axis.set(xticks=[], yticks=range(len(captions)) if number == 0 else [])
        if number == 0:
            axis.set_yticklabels(captions, fontsize=8)
        axis.grid(False)
        axis.set_title(title, pad=72 * cell + 4)
        _pictures_above(axis, images)
    figure.colorbar(shown, ax=list(np.atleast_1d(axes)), shrink=0.7, pad=0.01, label="cosine")
    return figure


def _pictures_above(axis, images) -> None:
    """Put picture number i above column i."""
    count = len(images)
    for number, image in enumerate(images):
        inset = axis.inset_axes([(number + 0.04) / count, 1.01, 0.92 / count, 0.92 / count])
        inset.imshow(np.asarray(image))
        inset.set_axis_off()


def plot_vectors(prompt_embeds: torch.Tensor, tokens: list[str], *, alt: str) -> CourseFigure:
    """Return the numbers of prompt_embeds [1, tokens, width] as colours, the first places named."""
    values = prompt_embeds[0].float().cpu().numpy()
    limit = float(np.quantile(np.abs(values), 0.98))
    figure, axis = new_figure(alt=alt, width=8, height=4.2)
    shown = axis.imshow(values, cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
    places = list(range(0, len(tokens), 1 if len(tokens) < 20 else 2))
    axis.set(yticks=places, xlabel="number within the vector", ylabel="place")
    axis.set_yticklabels([f"{tokens[place]}  {place}" for place in places], fontsize=8)
    axis.grid(False)
    figure.colorbar(shown, ax=axis, pad=0.01)
    return figure


def plot_text_attention(heads: torch.Tensor, tokens: list[str], *, alt: str) -> CourseFigure:
    """Return the attention weights [heads, reader, read] of one layer, one panel for each of up to four heads.

    What a causal mask hides (the upper right) stays white.
    """
    count, hidden = min(4, len(heads)), np.triu(np.ones(heads.shape[-2:], dtype=bool), k=1)
    figure, axes = new_figure(1, count, alt=alt, width=9.6, height=3.1)
    for number, axis in enumerate(np.atleast_1d(axes)):
        shares = np.where(hidden, np.nan, heads[number].float().cpu().numpy())
        shown = axis.imshow(shares, cmap="viridis", vmin=0, vmax=1)
        axis.set_xticks(range(len(tokens)), tokens, rotation=90, fontsize=8)
        axis.set_yticks(range(len(tokens)), tokens if number == 0 else [""] * len(tokens), fontsize=8)
        axis.set_title(f"head {number}")
        axis.grid(False)
    np.atleast_1d(axes)[0].set_ylabel("this token ...")
    figure.supxlabel("... reads from these", fontsize=10)
    figure.colorbar(shown, ax=list(np.atleast_1d(axes)), shrink=0.7, pad=0.01, label="weight")
    return figure


def plot_cosines(panels: dict[str, torch.Tensor], labels: list[str], *, alt: str) -> CourseFigure:
    """Return square matrices of cosines side by side on one scale from -1 to 1."""
    figure, axes = new_figure(1, len(panels), alt=alt, width=9.6, height=0.9 + 2.9 * 3 / len(panels))
    for number, (axis, (title, matrix)) in enumerate(zip(np.atleast_1d(axes), panels.items(), strict=True)):
        shown = axis.imshow(matrix.numpy(), cmap="PuOr", vmin=-1, vmax=1)
        axis.set_yticks(range(len(labels)), labels if number == 0 else [""] * len(labels), fontsize=8)
        axis.set_xticks(range(len(labels)), labels, rotation=90, fontsize=8)
        axis.set_title(title)
        axis.grid(False)
    figure.colorbar(shown, ax=list(np.atleast_1d(axes)), shrink=0.7, pad=0.01, label="cosine")
    return figure



def plot_word_maps(projections: list[Projection], words: list[Word], *, alt: str) -> CourseFigure:
    """Return maps of the same words, two in a row; colour and marker show the kind."""
    figure, axes = new_figure((len(projections) + 1) // 2, 2, alt=alt, width=9.6, height=8.8)
    for axis, projection in zip(axes.flat, projections, strict=True):
        for number, kind in enumerate(KINDS):
            chosen = [row for row, word in enumerate(words) if word.kind == kind]
            style = {"color": "#777777" if kind == "never seen" else COLORS[(0, 5, 2, 1, 3)[number]]}
            if chosen:
                axis.scatter(*projection.points[chosen].T, s=26, marker=MARKERS[number], label=kind, **style)
        _label_points(axis, projection.points, [word.text for word in words])
        name = "PCA" if projection.method == "pca" else f"UMAP, seed {projection.seed}"
        axis.set(title=f"{name}: trustworthiness {projection.trust:.2f}", xticks=[], yticks=[])
        axis.margins(0.15, 0.08)
        axis.grid(False)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6)
    return figure


def _label_points(axis, points, texts) -> None:
    """Write each text beside its point, right or left of it, where it meets no point and no other text."""
    low, high = points.min(axis=0), points.max(axis=0)
    letter, line = (high - low) / (58, 40)  # the size of a letter, in units of the axes
    boxes = [(x - letter * 0.6, x + letter * 0.6, y) for x, y in points]
    for row in np.argsort(-points[:, 1]):
        (x, y), length = points[row], letter * len(texts[row])
        places = [(x + side, y + line * shift) for shift in (0, 0.9, -0.9, 1.8, -1.8, 2.7) for side in
                  (letter, -letter - length)]  # fmt: skip
        crowded = [
            sum(left < end and start < left + length and abs(up - other) < 0.85 * line for start, end, other in boxes)
            for left, up in places
        ]
        left, up = places[int(np.argmin(crowded))]
        boxes.append((left, left + length, up))
        axis.text(left, up, texts[row], fontsize=7.5, va="center")


class NearestPanel:
    """For the widget: the nearest words of a word, as bars and on a map.

    vectors: name -> vectors [N, width], one for each of ``words``. projections: methods of ``project`` for the maps.
    """

    def __init__(self, words: list[Word], vectors: dict[str, torch.Tensor], *, projections=("pca",)):
        self.words = words
        self.similarity = {name: cosine(rows, centred=True) for name, rows in vectors.items()}
        self.maps = {
            (name, method): project(rows, method).points for name, rows in vectors.items() for method in projections
        }

    def __call__(self, word: str, vectors: str, projection: str = "pca", *, count: int = 8) -> CourseFigure:
        names = [item.text for item in self.words]
        row = names.index(word)
        order = [other for other in self.similarity[vectors][row].argsort(descending=True).tolist() if other != row]
        nearest = order[:count][::-1]
        first = ", ".join(names[other] for other in nearest[:-4:-1])
        alt = f"Bars: the words nearest to {word} are {first}; beside them, their places on a map of all words"
        figure, (left, right) = new_figure(1, 2, alt=alt, width=8, height=3)
        figure.set_layout_engine("none")  # placed by hand: twice as fast
        left.set_position((0.14, 0.17, 0.38, 0.7))
        right.set_position((0.57, 0.17, 0.4, 0.7))
        left.barh([names[other] for other in nearest], self.similarity[vectors][row][nearest].tolist(), color=COLORS[4])
        left.set(xlim=(-0.2, 1), xlabel="centred cosine", title=f"nearest to “{word}” ({vectors})")
        points = self.maps[vectors, projection]
        right.scatter(*points.T, s=12, color="#bbbbbb")
        right.scatter(*points[nearest].T, s=30, color=COLORS[4], marker="s")
        right.scatter(*points[[row]].T, s=90, color=COLORS[5], marker="*")
        right.set(xticks=[], yticks=[], title=f"where they lie ({projection.upper()})")
        return figure
