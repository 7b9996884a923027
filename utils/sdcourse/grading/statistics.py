"""How a class did: each question, how many were right, and what was wrong most often. No names: a page to discuss."""

import html
import re
from collections import Counter
from pathlib import Path

from ..checks.outcome import NOT_ATTEMPTED, RIGHT
from .classroom import Row, write_whole

REASONS = 3  # shown for each question
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>How the class did</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>body {{ font-family: sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }}
table {{ border-collapse: collapse; width: 100% }} td, th {{ padding: .4em .6em; text-align: left; vertical-align: top;
border-bottom: 1px solid #ccc }} td.number {{ text-align: right; white-space: nowrap }}
.bar {{ background: #e4e4e4; width: 8em; height: .8em }} .bar div {{ background: #0072b2; height: .8em }}</style></head>
<body><h1>How the class did</h1>{body}</body></html>
"""


def reason_in(line: str) -> str:
    """Return what is wrong in the line of a question, without the numbers of one learner's answer."""
    text = line.split(": ", 1)[-1].rstrip(".")
    if re.match(r"for \w+ = |item \d|expected ", text) or text.startswith("for "):
        return "another value than expected"
    return re.sub(r" \([^()]*(\([^()]*\)[^()]*)*\)$", "", text)


def questions_of(rows: list[Row]) -> dict[str, dict[str, dict]]:
    """Return {lab: {question: counts}}; counts: right, of, not attempted, to mark, and reasons [(text, how many)]."""
    labs: dict[str, dict[str, dict]] = {}
    for row in rows:
        if row.status != "graded":
            continue
        for question in row.questions:
            of_lab = labs.setdefault(row.lab, {})
            counts = of_lab.setdefault(question["name"], {"right": 0, "of": 0, "not attempted": 0, "to mark": 0,
                                                          "reasons": Counter()})  # fmt: skip
            counts["of"] += 1
            if question["score"] is None:
                counts["to mark"] += 1
            elif question["status"] in (RIGHT, NOT_ATTEMPTED):
                counts[question["status"]] += 1
            else:
                counts["reasons"][reason_in(question["line"])] += 1
    for questions in labs.values():
        for counts in questions.values():
            counts["reasons"] = counts["reasons"].most_common(REASONS)
    return dict(sorted(labs.items()))


def write_statistics(rows: list[Row], file: Path) -> None:
    """Write the page; raise SdlabError if it cannot be written."""
    body = [_lab(lab, questions) for lab, questions in questions_of(rows).items()]
    write_whole(PAGE.format(body="".join(body) or "<p>Nothing was graded.</p>"), file)


def _lab(lab: str, questions: dict[str, dict]) -> str:
    lines = "".join(_question(name, counts) for name, counts in questions.items())
    head = "<tr><th>question</th><th>right</th><th></th><th>not attempted</th><th>most frequent reasons</th></tr>"
    return f"<h2>{html.escape(lab)}</h2><table>{head}{lines}</table>"


def _question(name: str, counts: dict) -> str:
    share = counts["right"] / counts["of"]
    right = f"{counts['to mark']} to be marked" if counts["to mark"] else f"{counts['right']} of {counts['of']}"
    bar = "" if counts["to mark"] else f'<div class="bar"><div style="width: {share:.0%}"></div></div>'
    reasons = "<br>".join(f"{count} x {html.escape(text)}" for text, count in counts["reasons"])
    return (f"<tr><td>{html.escape(name.removeprefix('check-'))}</td><td class=number>{right}</td><td>{bar}</td>"
            f"<td class=number>{counts['not attempted']}</td><td>{reasons}</td></tr>")  # fmt: skip
