"""What platforms make of a class: names, odd zips, files beside a notebook, and no entry that stops the others."""

import csv
import io
import os
import sys
import warnings
import zipfile
from pathlib import Path, PurePosixPath

import nbformat
import numpy as np
import pytest

from sdcourse.checks.compare import difference
from sdcourse.checks.plain import plain
from sdcourse.cli import main
from sdcourse.grading.classroom import Row, locked, secret_of, write_csv
from sdcourse.grading.collect import find_submissions, read_beside, unpacked
from sdcourse.grading.names import owner_of
from sdlab import SdlabError

NOTEBOOK = nbformat.writes(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")]))


@pytest.mark.parametrize(
    ("name", "who"),
    [
        ("Ada Lovelace_123456_assignsubmission_file_/lab.ipynb", "Ada Lovelace"),
        ("Ada Lovelace_123456_assignsubmission_file_lab.ipynb", "Ada Lovelace"),
        ("lovelaceada_12345_678910_lab-1.ipynb", "lovelaceada"),
        ("lovelaceada_LATE_12345_678910_lab.ipynb", "lovelaceada"),
        ("Lab 1_alovelace_attempt_2026-05-01-12-30-15_lab.ipynb", "alovelace"),
        ("Ada Lovelace - 01_loss_and_gradient_descent.ipynb", "Ada Lovelace"),
        ("12345-67890 - Ada Lovelace - Oct 3, 2026 1030 AM/lab.ipynb", "Ada Lovelace"),
        ("ada/01_loss_and_gradient_descent/01_loss_and_gradient_descent.ipynb", "ada"),
        ("王小明/lab.ipynb", "王小明"),
        ("ada.ipynb.txt", "ada"),
    ],
)
def test_the_student_is_who_the_platform_says(name, who):
    assert owner_of(PurePosixPath(name)).who == who


def make_zip(file: Path, entries: dict[str, str]) -> Path:
    """Write a zip with these entries."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in entries.items():
            archive.writestr(name, text)
    return file


def students(path: Path, **options) -> list[str]:
    with unpacked(path, **options) as found:
        return [submission.student for submission in find_submissions(found)]


class OldZip(zipfile.ZipInfo):
    """An entry as old programs write it: the name in a code page, without a mark."""

    def __init__(self, raw: bytes):
        super().__init__("x")
        self.raw = raw

    def _encodeFilenameFlags(self):
        return self.raw, 0


@pytest.mark.parametrize(
    ("code_page", "name"),
    [("gbk", "王小明"), ("utf-8", "王小明"), ("cp850", "Jürgen Müller"), ("cp1252", "Çelik Öz"), ("cp1251", "Иванов")],
)
def test_names_in_old_code_pages_are_read(tmp_path, code_page, name):
    file = tmp_path / "s.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(OldZip(f"{name}/lab.ipynb".encode(code_page)), NOTEBOOK)
        archive.writestr(OldZip(f"{name}2/lab.ipynb".encode(code_page)), NOTEBOOK)
    if code_page != "cp1251":  # Cyrillic looks like Chinese: it must be said
        assert students(file) == [name, f"{name}2"]
    assert students(file, code_page=code_page) == [name, f"{name}2"]


def test_one_folder_at_the_top_of_a_zip_is_no_student(tmp_path):
    file = make_zip(tmp_path / "s.zip", {f"submissions/{who}/lab.ipynb": NOTEBOOK for who in ("Ada", "Bo")})
    assert students(file) == ["Ada", "Bo"]
    one = make_zip(tmp_path / "one.zip", {"submissions/Ada/lab.ipynb": NOTEBOOK})
    assert students(one) == ["Ada"]
    nbgraders = make_zip(tmp_path / "n.zip", {"ada/01_loss_and_gradient_descent/x.ipynb": NOTEBOOK})
    with unpacked(nbgraders) as found:
        (submission,) = find_submissions(found, labs=["01_loss_and_gradient_descent"])
    assert submission.student == "ada"


def test_two_students_of_one_name_are_told_apart(tmp_path):
    names = {f"Ada Lovelace_{number}_assignsubmission_file_/lab.ipynb": NOTEBOOK for number in (1, 2)}
    assert students(make_zip(tmp_path / "s.zip", names)) == ["Ada Lovelace (1)", "Ada Lovelace (2)"]


def test_one_bad_entry_costs_one_row(tmp_path):
    file = make_zip(tmp_path / "s.zip", {"Ada/lab.ipynb": NOTEBOOK, "Bo/lab.ipynb": NOTEBOOK, "Cy/lab.ipynb": NOTEBOOK,
                                         "Di/" + "x" * 200 + ".ipynb": NOTEBOOK})  # fmt: skip
    data = bytearray(file.read_bytes())
    place = data.find(b"nbformat", data.find(b"Bo/lab.ipynb"))
    data[place] ^= 1  # the checksum no longer fits
    central = data.find(b"PK\x01\x02")
    flags = data.find(b"PK\x01\x02", data.find(b"PK\x01\x02", central + 1) + 1)
    data[flags + 8] |= 1  # encrypted
    file.write_bytes(data)
    with unpacked(file) as found:
        rows = {one.student: one for one in find_submissions(found)}
    assert set(rows) == {"Ada", "Bo", "Cy", "Di"}
    assert rows["Ada"].problem == rows["Di"].problem == ""
    assert "damaged" in rows["Bo"].problem
    assert "encrypted" in rows["Cy"].problem


def test_the_same_entry_twice_is_two_rows_and_nothing_leaves_the_folder(tmp_path):
    file = tmp_path / "s.zip"
    with zipfile.ZipFile(file, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(2):
            archive.writestr("Ada/lab.ipynb", NOTEBOOK)
        archive.writestr("../../out.ipynb", NOTEBOOK)
        archive.writestr("Bo", "a file")
        archive.writestr("Bo/lab.ipynb", NOTEBOOK)
    with unpacked(file) as found:
        shown = [one.shown for one in find_submissions(found)]
        assert not (found.folder.parent.parent / "out.ipynb").exists()
    assert shown.count("Ada/lab.ipynb") == shown.count("Ada/lab (2).ipynb") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_no_utf8_is_a_row(tmp_path):
    folder = os.fsencode(tmp_path) + b"/M\xfcller"
    os.mkdir(folder)
    Path(os.fsdecode(folder), "lab.ipynb").write_text(NOTEBOOK)
    (submission,) = find_submissions(tmp_path)
    assert submission.student == "M\ufffdller"
    submission.page.encode()


def test_other_files_lie_beside_the_notebook_and_are_no_rows(tmp_path):
    for name in ("lab.ipynb", "helpers.py", "pictures/cat.png", "timestamp.txt"):
        (tmp_path / "Ada" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "Ada" / name).write_text(NOTEBOOK)
    (tmp_path / "Ada" / "link.py").symlink_to("/etc/passwd")
    (submission,) = find_submissions(tmp_path)
    files, left_out = read_beside(submission)
    assert sorted(files) == ["helpers.py", "pictures/cat.png"]
    assert left_out == []


def test_pages_of_an_earlier_run_are_no_submissions(tmp_path):
    (tmp_path / "Ada").mkdir()
    (tmp_path / "Ada" / "lab.ipynb").write_text(NOTEBOOK)
    (tmp_path / "pages" / "Ada").mkdir(parents=True)
    (tmp_path / "pages" / "Ada" / "lab.html").write_text("a page")
    assert len(find_submissions(tmp_path, leave_out=[tmp_path / "pages"])) == 1


def test_a_table_opens_in_excel_and_runs_nothing(tmp_path):
    names = ["王小明", "=1+1", "+1", "-1", "@SUM(1)", "\t=1", "bad \ud83d"]
    rows = [Row(name, f"{name}/lab.ipynb", status="graded", notes=[f"={name}"]) for name in names]
    write_csv(rows, tmp_path / "grades.csv")
    data = (tmp_path / "grades.csv").read_bytes()
    assert data.startswith(b"\xef\xbb\xbf")
    cells = [row["student"] for row in csv.DictReader(io.StringIO(data.decode("utf-8-sig")))]
    assert cells == ["王小明", "'=1+1", "'+1", "'-1", "'@SUM(1)", "'\t=1", "bad ?"]


def test_a_table_that_cannot_be_written_is_one_sentence_and_leaves_the_old_one(tmp_path):
    (tmp_path / "grades.csv").mkdir()
    with pytest.raises(SdlabError, match="could not be written"):
        write_csv([], tmp_path / "grades.csv")
    assert [file.name for file in tmp_path.iterdir()] == ["grades.csv"]


def test_two_runs_on_one_table_do_not_mix_and_a_secret_is_kept(tmp_path):
    with locked(tmp_path / "part"):
        secret = secret_of(tmp_path / "part")
        assert secret_of(tmp_path / "part") == secret
        with pytest.raises(SdlabError, match="Another run"), locked(tmp_path / "part"):
            pass
    assert secret_of(tmp_path / "part", 7) == 7


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--out", "."], "is a folder"),
        (["--feedback", "file"], "folder of pages"),
        (["--out", "file/grades.csv"], "could not be written"),
    ],
)
def test_places_are_looked_at_before_the_first_submission(tmp_path, monkeypatch, capsys, options, said):
    from conftest import ROOT

    (tmp_path / "file").write_text("")
    (tmp_path / "in" / "Ada").mkdir(parents=True)
    (tmp_path / "in" / "Ada" / "lab.ipynb").write_text(NOTEBOOK)
    monkeypatch.chdir(ROOT)
    places = [str(tmp_path / one) if not one.startswith("--") else one for one in options]
    assert main(["grade", str(tmp_path / "in"), *places, "--trust"]) == 2
    assert said in capsys.readouterr().err


def test_what_has_no_grade_is_said_loudly_and_by_the_exit_code(tmp_path, monkeypatch, capsys):
    from conftest import ROOT

    (tmp_path / "in" / "Ada").mkdir(parents=True)
    (tmp_path / "in" / "Ada" / "lab.ipynb").write_text("{")
    monkeypatch.chdir(ROOT)
    assert main(["grade", str(tmp_path / "in"), "--out", str(tmp_path / "g.csv"), "--trust", "--jobs", "1"]) == 3
    assert "NO GRADE, which is not 0 points" in capsys.readouterr().err
    assert (tmp_path / "g.csv").is_file() and (tmp_path / "g.html").is_file()
    assert not (tmp_path / "g.csv.part").exists()


def test_values_of_a_reasonable_kind_are_taken_for_what_they_are():
    from collections import Counter, OrderedDict, defaultdict, namedtuple

    import torch

    pair = namedtuple("Pair", "one two")
    for actual, expected in [
        (OrderedDict(a=1), {"a": 1}), (defaultdict(int, a=1), {"a": 1}), (Counter("a"), {"a": 1}), (pair(1, 2), (1, 2)),
        (np.float64(1.5), 1.5), (np.int64(3), 3), (np.bool_(True), True), (np.array([1.0, 2.0]), [1.0, 2.0]),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]), ([np.float32(0.5)], [0.5]),
        (1.25, torch.tensor(1.25, dtype=torch.float64)), (range(3), [0, 1, 2]),
    ]:  # fmt: skip
        assert difference(plain(actual), expected) is None, actual
    assert difference(10**400, 1.5) == "expected 1.5, got a number of 401 digits"
