"""A report's folder holds what this program wrote, whole files only, and nothing of anybody else is ever lost."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from neuronagent.errors import IndexMismatchError, StorageError
from neuronagent.service.reporting.folder import ReportFolder, opened
from neuronagent.service.reporting.manifest import MANIFEST, PARTIAL

ABOUT = {"fingerprint": "f0", "model": "made/model"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "report"


def put(folder: Path, **files: str) -> ReportFolder:
    """A run that puts these files, `_` for the dot in their names."""
    with opened(folder, ABOUT) as report:
        for name, text in files.items():
            report.put(name.replace("_", "."), text.encode())
    return report


def content(folder: Path) -> dict[str, bytes]:
    """What is there, links as what they point to, but for the list."""
    return {
        path.relative_to(folder).as_posix(): os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
        for path in folder.rglob("*")
        if path.name != MANIFEST and (path.is_symlink() or path.is_file())
    }


def listed(folder: Path) -> list[str]:
    return [json.loads(line)["name"] for line in (folder / MANIFEST).read_text().splitlines()[1:]]


# What is written


def test_a_new_folder_is_made_with_its_parents_and_holds_the_files_and_their_list(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    report = put(folder, a_html="A", b_json="{}")
    assert content(folder) == {"a.html": b"A", "b.json": b"{}"}
    assert (report.written, report.unchanged, report.bytes) == (2, 0, 3)
    head, *rest = (json.loads(line) for line in (folder / MANIFEST).read_text().splitlines())
    assert head == {"neuronagent_report": 1, **ABOUT}
    assert [line["name"] for line in rest] == ["a.html", "b.json"]


def test_an_empty_folder_is_written_into_and_a_link_to_one_too(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    put(tmp_path / "link", a_html="A")
    assert content(tmp_path / "there") == {"a.html": b"A"}
    assert (tmp_path / "link").is_symlink()


def test_the_home_of_nobody_is_a_name_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    put(Path("~nobody-of-this-name"), a_html="A")
    assert content(tmp_path / "~nobody-of-this-name") == {"a.html": b"A"}


def test_a_file_of_the_same_content_is_not_touched_and_one_of_another_is_replaced(folder: Path) -> None:
    put(folder, a_html="A", b_html="B")
    before = {name: (folder / name).stat() for name in ("a.html", "b.html", MANIFEST)}
    put(folder, a_html="A", b_html="B")
    assert (folder / MANIFEST).stat() == before[MANIFEST]
    report = put(folder, a_html="A", b_html="changed")
    assert (report.written, report.unchanged) == (1, 1)
    assert (folder / "a.html").stat() == before["a.html"]
    assert (folder / "b.html").stat().st_ino != before["b.html"].st_ino
    assert content(folder) == {"a.html": b"A", "b.html": b"changed"}


def test_files_of_earlier_runs_stay_and_are_known(folder: Path) -> None:
    put(folder, a_html="A")
    report = put(folder, b_html="B")
    assert set(report.names) == {"a.html", "b.html"}
    assert content(folder) == {"a.html": b"A", "b.html": b"B"}


def test_a_file_that_was_deleted_is_written_again(folder: Path) -> None:
    put(folder, a_html="A", b_html="B")
    (folder / "a.html").unlink()
    report = put(folder, a_html="A", b_html="B")
    assert (report.written, report.unchanged) == (1, 1)
    assert content(folder) == {"a.html": b"A", "b.html": b"B"}


def test_a_note_stays_with_its_file_and_changes_without_it(folder: Path) -> None:
    with opened(folder, ABOUT) as report:
        report.put("a.html", b"A", {"key": "one"})
    with opened(folder, ABOUT) as report:
        assert report.note("a.html") == {"key": "one"}
        assert report.note("absent.html") == {}
        assert not report.put("a.html", b"A", {"key": "two"})
    with opened(folder, ABOUT) as report:
        assert report.note("a.html") == {"key": "two"}


def test_files_may_lie_one_folder_deeper(folder: Path) -> None:
    with opened(folder, ABOUT) as report:
        assert report.put("figures/classes.svg", b"<svg/>")
        assert not report.put("figures/classes.svg", b"<svg/>")
    assert content(folder) == {"figures/classes.svg": b"<svg/>"}


@pytest.mark.parametrize(
    "name", ["../a.html", "/a.html", "a/b/c.html", ".a.html", "", "a/", "a\nb.html", "a/../b.html", MANIFEST, PARTIAL]
)
def test_no_name_leads_out_of_the_folder_or_hides(folder: Path, name: str) -> None:
    with opened(folder, ABOUT) as report, pytest.raises(ValueError, match="no name"):
        report.put(name, b"")
    assert not folder.exists()


def test_a_folder_that_was_copied_or_moved_is_known_by_its_content(folder: Path, tmp_path: Path) -> None:
    put(folder, a_html="A", b_html="B")
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)
    report = put(tmp_path / "copy", a_html="A", b_html="B")
    assert (report.written, report.unchanged) == (0, 2)


def test_the_list_is_written_anew_when_most_of_it_no_longer_matters(folder: Path) -> None:
    for place in range(3):
        with opened(folder, ABOUT) as report:
            for turn in range(150):
                report.put("a.html", f"{place} {turn}".encode())
    assert len(listed(folder)) < 300
    assert listed(folder)[0] == "a.html"
    assert put(folder, a_html="2 149").unchanged == 1


# What is refused


def check_first(folder: Path) -> None:
    with opened(folder, ABOUT) as report:
        report.check(["a.html"])
        report.put("never.html", b"never")


def refused(folder: Path, match: str, error: type[Exception] = StorageError) -> None:
    """A run that puts `a.html` is refused, and changes nothing."""
    before = content(folder) if folder.is_dir() else folder.read_bytes()
    with pytest.raises(error, match=match):
        check_first(folder)
    assert (content(folder) if folder.is_dir() else folder.read_bytes()) == before


def test_a_file_is_no_folder(folder: Path) -> None:
    folder.write_text("mine")
    refused(folder, "is no folder; name a new")
    with pytest.raises(StorageError, match="is no folder"), opened(folder / "below", ABOUT):
        pass


def test_a_folder_that_cannot_be_made_is_refused() -> None:
    with pytest.raises(StorageError, match="cannot be written"), opened("/proc/neuronagent-report", ABOUT):
        pass


def test_a_folder_with_anything_else_in_it_is_refused(folder: Path) -> None:
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    refused(folder, r"holds something else than a report \(notes.txt\)")
    assert not (folder / MANIFEST).exists()


def test_the_report_of_another_index_is_refused(folder: Path) -> None:
    with opened(folder, {"fingerprint": "f1", "model": "another"}) as report:
        report.put("a.html", b"A")
    refused(folder, "another index, f1 of another", IndexMismatchError)


def test_a_page_that_somebody_changed_is_refused_and_named(folder: Path) -> None:
    put(folder, a_html="A", b_html="B")
    (folder / "b.html").write_text("B, with my notes")
    refused(folder, r"b\.html was changed since it was written")


def test_a_page_that_is_changed_during_the_run_is_not_lost(folder: Path) -> None:
    put(folder, a_html="A")
    with opened(folder, ABOUT) as report:
        (folder / "a.html").write_text("mine now")
        with pytest.raises(StorageError, match="changed by somebody else"):
            report.put("a.html", b"B")
    assert content(folder) == {"a.html": b"mine now"}


def test_somebody_elses_files_in_the_folder_are_left_alone_and_never_overwritten(folder: Path) -> None:
    put(folder, b_html="B")
    (folder / "notes.txt").write_text("mine")
    (folder / "a.html").write_text("mine too")
    refused(folder, r"a\.html was not written by a report")
    with pytest.raises(StorageError, match="not written by a report"):
        put(folder, a_html="A")
    put(folder, b_html="another B")
    assert content(folder) == {"b.html": b"another B", "notes.txt": b"mine", "a.html": b"mine too"}


def test_links_within_the_folder_are_not_followed(folder: Path, tmp_path: Path) -> None:
    put(folder, b_html="B", c_html="C")
    outside = tmp_path / "outside.html"
    outside.write_text("C")
    (folder / "a.html").symlink_to(outside)
    refused(folder, r"a\.html was not written by a report")
    (tmp_path / "elsewhere").mkdir()
    (folder / "figures").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="figures is no folder"), opened(folder, ABOUT) as report:
        report.put("figures/a.svg", b"A")
    assert not any((tmp_path / "elsewhere").iterdir())
    (folder / "c.html").unlink()
    (folder / "c.html").symlink_to(outside)
    refused(folder, r"c\.html was changed")
    assert outside.read_text() == "C"


@pytest.mark.parametrize("first", ["", "no list\n", "[]\n", '{"neuronagent_report":2,"fingerprint":"f0"}\n', "{}"])
def test_a_list_of_another_kind_is_refused(folder: Path, first: str) -> None:
    folder.mkdir()
    (folder / MANIFEST).write_text(first)
    (folder / "a.html").write_text("mine")
    refused(folder, "holds something else" if not first else "not a list that this version writes")


def test_a_list_that_names_files_elsewhere_is_not_believed(folder: Path, tmp_path: Path) -> None:
    put(folder, a_html="A")
    (tmp_path / "outside.html").write_text("mine")
    line = json.loads((folder / MANIFEST).read_text().splitlines()[1])
    more = [line | {"name": "../outside.html"}, line | {"size": "3"}, {"name": "b.html"}, [1], 7]
    with (folder / MANIFEST).open("a") as file:
        file.writelines(json.dumps(each) + "\n" for each in more)
    report = put(folder, a_html="A")
    assert set(report.names) == {"a.html"}
    assert (tmp_path / "outside.html").read_text() == "mine"


def test_two_runs_at_once_are_one_run_and_a_refusal(folder: Path) -> None:
    with opened(folder, ABOUT) as report:
        report.put("a.html", b"A")
        with pytest.raises(StorageError, match="another process is writing a report"), opened(folder, ABOUT):
            pass
        report.put("b.html", b"B")
    assert content(folder) == {"a.html": b"A", "b.html": b"B"}


# Runs that end early


def test_a_run_that_writes_nothing_leaves_nothing(tmp_path: Path) -> None:
    with opened(tmp_path / "a" / "b", ABOUT):
        pass
    (tmp_path / "empty").mkdir()
    with pytest.raises(KeyError), opened(tmp_path / "empty", ABOUT):
        raise KeyError
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


def test_a_list_for_which_there_is_no_room_is_not_torn(folder: Path) -> None:
    put(folder, a_html="A")
    with opened(folder, ABOUT) as report:
        full = pytest.raises(StorageError, match=f"{MANIFEST} cannot be written: file too large")
        with files_no_longer_than((folder / MANIFEST).stat().st_size + 20), full:
            report.put("b.html", b"B")
        assert report.put("b.html", b"B")
    assert listed(folder) == ["a.html", "b.html"]
    assert put(folder, a_html="A", b_html="B").unchanged == 2


@pytest.mark.parametrize("cut", [1, 7, 40])
def test_a_torn_last_line_and_a_half_written_file_are_cleared_away(folder: Path, cut: int) -> None:
    put(folder, a_html="A")
    put(folder, b_html="B")
    whole = (folder / MANIFEST).read_bytes()
    (folder / MANIFEST).write_bytes(whole[:-cut])
    (folder / "b.html").unlink()  # its line is torn: it had not been put in place
    (folder / PARTIAL).write_text("half a pa")
    put(folder, c_html="C")
    assert content(folder) == {"a.html": b"A", "c.html": b"C"}
    assert listed(folder) == ["a.html", "c.html"]


def test_a_file_that_was_listed_and_never_came_leaves_the_one_before_it_known(folder: Path) -> None:
    put(folder, a_html="A")
    line = json.loads((folder / MANIFEST).read_text().splitlines()[1])
    with (folder / MANIFEST).open("a") as file:
        file.write(json.dumps(line | {"sha256": "0" * 64, "size": 9}) + "\n")
        file.write(json.dumps(line | {"name": "b.html"}) + "\n")
    report = put(folder, a_html="A")
    assert (set(report.names), report.unchanged) == ({"a.html"}, 1)


def test_a_list_that_was_only_begun_is_begun_again(folder: Path) -> None:
    folder.mkdir()
    for begun in ("", '{"neuronagent_rep'):
        (folder / MANIFEST).write_text(begun)
        assert put(folder, a_html="A").written == 1
        assert content(folder) == {"a.html": b"A"}
        shutil.rmtree(folder)
        folder.mkdir()


def test_an_empty_file_that_a_failing_machine_left_is_written_again(folder: Path) -> None:
    put(folder, a_html="A")
    (folder / "a.html").write_bytes(b"")
    put(folder, a_html="A")
    assert content(folder) == {"a.html": b"A"}


def test_a_folder_that_is_removed_during_the_run_is_one_line(folder: Path) -> None:
    with opened(folder, ABOUT) as report:
        report.put("a.html", b"A")
        shutil.rmtree(folder)
        with pytest.raises(StorageError, match="cannot be written: no such file"):
            report.put("b.html", b"B")
    assert not folder.exists()


@contextmanager
def files_no_longer_than(size: int) -> Generator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_for_which_there_is_no_room_is_not_there_at_all(folder: Path) -> None:
    put(folder, a_html="A")
    with files_no_longer_than(20_000), opened(folder, ABOUT) as report:
        with pytest.raises(StorageError, match=r"a\.html cannot be written: file too large"):
            report.put("a.html", bytes(100_000))
        assert report.put("b.html", b"B")
    assert content(folder) == {"a.html": b"A", "b.html": b"B"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_refused(folder: Path) -> None:
    folder.mkdir(mode=0o500)
    refused(folder, "cannot be written: permission denied")


KILLED = """
import os, signal, sys
from neuronagent.service.reporting.folder import opened

run, last = sys.argv[2:]
calls = 0

def counted(call):
    def one(*arguments, **named):
        global calls
        calls += 1
        if calls == int(last):
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **named)
    return one

os.open, os.write, os.replace, os.fsync = map(counted, (os.open, os.write, os.replace, os.fsync))
with opened(sys.argv[1], {"fingerprint": "f0", "model": "m"}) as report:
    for place in range(3):
        report.put(f"{place}.html", f"{run} {place} ".encode() * 1000)
"""


@pytest.mark.slow
def test_a_run_that_is_killed_at_any_point_leaves_whole_files_and_is_finished_by_the_next(folder: Path) -> None:
    """Killed before its first, second, … call that opens, writes, moves or syncs, until one run gets through."""
    names, root, last = [f"{place}.html" for place in range(3)], Path(__file__).parents[3], 0
    for last in range(1, 100):
        arguments = [sys.executable, "-c", KILLED, str(folder), f"run{last}", str(last)]
        killed = subprocess.run(arguments, cwd=root, check=False).returncode != 0
        there = {name: found for name, found in content(folder).items() if name != PARTIAL} if folder.exists() else {}
        assert set(there) <= set(names)
        for name, found in there.items():
            said = found.decode().split()
            assert set(said[1::2]) == {name[0]}
            assert len(set(said[::2])) == 1
            assert len(said) == 2000
        if not killed:
            break
        if last % 3 == 0:
            put(folder, **{f"{place}_html": f"by_hand{last} {place} " * 1000 for place in range(3)})
            assert set(content(folder)) == set(names)
    assert 10 < last < 99
    assert {found.split()[0] for found in content(folder).values()} == {f"run{last}".encode()}
    assert set(content(folder)) == set(names)
