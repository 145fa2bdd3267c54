"""Manifests of images: CSV, Parquet, JSON lines, and images behind URLs."""

import json
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fkal.data.addresses import Unreachable, bytes_at
from fkal.errors import ConfigError
from fkal.labeling.init import InitOptions, init
from fkal.labeling.manifest import Entry, manifest_entries
from fkal.labeling.project import Project
from fkal.labeling.quarantine import read_quarantine
from fkal.notify import PLAIN

MILLION = 1_000_000
MOST_MEGABYTES = 400
"""That reading a manifest of a million rows may add to the memory of the process."""


@pytest.fixture
def entries(tmp_path):
    def read(name, content, **options):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return list(manifest_entries(path, **{"labeled": False, **options}))

    return read


def picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 6, 3), seed, dtype=np.uint8)).save(path)
    return path


def test_csv_files_of_spreadsheets_are_read(entries):
    expected = [Entry("a b,c.jpg", "cat"), Entry("=1.jpg", "1")]
    for content in (
        'path,label\n"a b,c.jpg",cat\n=1.jpg,1\n',
        "\ufeffPath;Label\r\na b,c.jpg;cat\r\n;\r\n'=1.jpg;1\r\n",
        "sep=;\nfile_name;class\na b,c.jpg;cat\n=1.jpg;1\n",
        "label\timage\ncat\ta b,c.jpg\n1\t=1.jpg\n",
    ):
        assert entries("list.csv", content, labeled=True) == expected


def test_json_lines_and_parquet_are_read(entries, tmp_path):
    rows = [{"path": "a.jpg", "label": 3, "group": "g"}, {"path": "b.jpg", "label": "dog", "group": None}]
    expected = [Entry("a.jpg", "3", "g"), Entry("b.jpg", "dog")]
    text = "".join(f"{json.dumps(row)}\n\n" for row in rows)
    assert entries("list.jsonl", text, labeled=True) == expected
    pd.DataFrame([{**row, "label": str(row["label"]), "image": b"x"} for row in rows]).to_parquet(
        tmp_path / "l.parquet"
    )
    assert list(manifest_entries(tmp_path / "l.parquet", labeled=True)) == expected


def test_whole_numbers_that_a_table_keeps_as_floats_are_whole(tmp_path):
    table = pd.DataFrame({"path": ["1.png", "2.png", "3.png"], "label": [1.0, None, 2.5]})
    table.to_parquet(tmp_path / "l.parquet")
    assert [entry.label for entry in manifest_entries(tmp_path / "l.parquet", labeled=True)] == ["1", None, "2.5"]


def test_rows_without_image_or_label_have_their_line(entries):
    found = entries("list.csv", "path,label\na.jpg,\n,cat\n", labeled=True)
    assert found == [
        Entry("a.jpg", None, None, "has no label"),
        Entry("list.csv, line 3", problem="names no image"),
    ]


def test_another_column_of_groups_is_named(entries):
    assert entries("list.csv", "path,track\na.jpg,7\n", group="track") == [Entry("a.jpg", group="7")]
    with pytest.raises(ConfigError, match=r"data.groups = 'trak': no such column; did you mean 'track'"):
        entries("list.csv", "path,track\na.jpg,7\n", group="trak")
    with pytest.raises(ConfigError, match=r"data.groups = 'trak': no such column; did you mean 'track'"):
        entries("list.jsonl", '{"path": "a.jpg", "track": 7}\n{"path": "b.jpg"}\n', group="trak")


@pytest.mark.parametrize("group", [None, "track"])
def test_the_first_row_may_lack_its_group_and_its_class(entries, group):
    column = group or "group"
    expected = [Entry("a.jpg", problem="has no label"), Entry("b.jpg", "cat", "7"), Entry("c.jpg", "dog")]
    table = f"path,label,{column}\na.jpg\nb.jpg,cat,7\nc.jpg,dog\n"
    lines = [{"path": "a.jpg"}, {"label": "cat", column: 7, "path": "b.jpg"}, {"path": "c.jpg", "label": "dog"}]
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    assert entries("list.csv", table, labeled=True, group=group) == expected
    assert entries("list.jsonl", text, labeled=True, group=group) == expected
    unlabeled = [entry._replace(label=None, problem=None) for entry in expected]
    assert entries("list.csv", table, group=group) == entries("list.jsonl", text, group=group) == unlabeled


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "name,label\na,b\n", "has columns name, label; one of them must name the images"),
        ("a.csv", "path\na\n", "one of them must name the classes: label, class"),
        ("a.csv", "path,label\na,b,c\n", "line 2: 3 cells in a table of 2 columns"),
        ("a.csv", b"path,label\n\xff,b\n", "not UTF-8 at byte"),
        ("a.csv", 'path,label\n"a,b\n', "not a CSV file"),
        ("a.jsonl", '{"path": "a"}\n{"path": "b"}\n', "one of them must name the classes: label, class"),
        ("a.jsonl", "[1]\n", "line 1: .* not an object"),
        ("a.jsonl", "{\n", "line 1: .* not JSON"),
        ("a.parquet", "PAR1", "not a Parquet file"),
    ],
)
def test_what_is_no_manifest_is_refused(entries, name, content, message):
    with pytest.raises(ConfigError, match=message):
        entries(name, content, labeled=True)


def test_paths_start_beside_the_manifest_and_missing_files_are_set_aside(tmp_path):
    picture(tmp_path / "lists" / "x" / "a.png", 1)
    picture(tmp_path / "elsewhere" / "b.png", 2)
    absolute = tmp_path / "elsewhere" / "b.png"
    (tmp_path / "lists" / "l.csv").write_text(f"path\nx/a.png\n{absolute}\nx/none.png\n")
    summary = init(tmp_path / "p", InitOptions(pools=(str(tmp_path / "lists" / "l.csv"),)), PLAIN)
    project = Project.open(tmp_path / "p")
    assert list(project.pool.paths) == ["x/a.png", str(absolute)] and summary.parts[0].set_aside == {"missing": 1}
    assert project.dataset().pool.tolist() == [0, 1]


def test_metadata_of_an_imagefolder_names_the_labels(tmp_path):
    for seed, name in enumerate(("a.png", "b.png")):
        picture(tmp_path / "val" / name, seed)
        picture(tmp_path / "pool" / name, 100 + seed)
    (tmp_path / "val" / "metadata.jsonl").write_text(
        '{"file_name": "a.png", "label": "cat"}\n{"file_name": "b.png", "label": "dog"}\n'
    )
    init(tmp_path / "p", InitOptions((str(tmp_path / "pool"),), (str(tmp_path / "val"),)), PLAIN)
    assert list(Project.open(tmp_path / "p").validation.labels) == ["cat", "dog"]


@pytest.fixture
def served(tmp_path):
    """Five files behind http:// that are listed: two images, a copy of one, no image, and none; and their manifest."""
    files = tmp_path / "served"
    picture(files / "a b&c.png", 1)
    picture(files / "b.png", 2)
    (files / "copy.png").write_bytes((files / "b.png").read_bytes())
    (files / "bad.png").write_bytes(b"no image")

    class Quiet(SimpleHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/forbidden.png":
                self.send_error(403)
            else:
                super().do_GET()

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=files)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        names = ("a%20b&c.png", "b.png", "bad.png", "none.png", "copy.png")
        (tmp_path / "l.csv").write_text("path\n" + "".join(f"{address}/{name}\n" for name in names))
        yield tmp_path / "l.csv"
        server.shutdown()
        thread.join()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_images_behind_urls_are_listed_unread_and_checked_when_they_are_first_read(served, tmp_path, monkeypatch):
    monkeypatch.setenv("FKAL_DATA__WORKERS", "0")
    options = InitOptions(pools=(str(served),))
    summary = init(tmp_path / "p", options, PLAIN)
    project = Project.open(tmp_path / "p")
    assert (summary.parts[0].listed, summary.parts[0].unread) == (5, 5) and project.pool[0].digest is None
    found = project.dataset()
    assert found.pool.tolist() == [0, 1]
    reasons = {row.path.rpartition("/")[2]: row.flaw for row in read_quarantine(project.quarantine_path)}
    assert reasons == {"bad.png": "unknown format", "none.png": "missing", "copy.png": "copy"}
    again = project.reread()
    assert again.pool[0].width == 6 and len(again.pool[0].digest) == 64
    assert init(tmp_path / "p", options, PLAIN).parts[0].added == 0


def test_a_store_that_does_not_answer_sets_nothing_aside(tmp_path):
    with pytest.raises(Unreachable, match=r"http:// does not answer.*it goes on"):
        bytes_at("http://127.0.0.1:9/a.png")
    with pytest.raises(Unreachable, match="reading it needs fsspec's package for nothing://"):
        bytes_at("nothing://bucket/a.png")
    if "s3" not in fsspec.available_protocols() or not _is_installed("s3fs"):
        with pytest.raises(Unreachable, match=r"pip install 'fkal\[s3\]'"):
            bytes_at("s3://bucket/a.png")


def test_a_server_that_refuses_one_file_stops_no_other(served):
    address = served.read_text().splitlines()[1].rpartition("/")[0]
    with pytest.raises(PermissionError, match="status 403"):
        bytes_at(f"{address}/forbidden.png")


def test_any_address_of_fsspec_is_read():
    with fsspec.open("memory://bucket/a.bin", "wb") as file:
        file.write(b"12345")
    assert bytes_at("memory://bucket/a.bin") == b"12345"
    with pytest.raises(FileNotFoundError):
        bytes_at("memory://bucket/none.bin")
    with pytest.raises(OSError, match="more than 4 bytes"):
        bytes_at("memory://bucket/a.bin", limit=4)


def _is_installed(package):
    return subprocess.run([sys.executable, "-c", f"import {package}"], capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_manifest_of_a_million_rows_is_read_in_bounded_memory(tmp_path):
    """In a process of its own, whose peak is compared with what its imports take."""
    with (tmp_path / "l.csv").open("w") as file:
        file.write("path,group\n")
        file.writelines(f"s3://bucket/photos/{i // 1000:04d}/{i:07d}.jpg,{i // 30}\n" for i in range(MILLION))
    program = f"""
import resource
from pathlib import Path
from fkal.config.layers import Layer
from fkal.labeling.places import Looker, scan_places
from fkal.labeling.project import LabelSettings, Project, ProjectSettings
from fkal.notify import PLAIN
folder = Path({str(tmp_path)!r})
project = Project(folder, ProjectSettings(name="m", pools=("l.csv",)), LabelSettings(), Layer("test", {{}}))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000
before = peak()
with Looker(project.facts_path, PLAIN, workers=0) as looker:
    summary = scan_places(project, "pool", [0], looker)
print(summary.listed, len(project.reread().pool.digest), peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    listed, digits, megabytes = map(int, done.stdout.split())
    assert (listed, digits) == (MILLION, 32) and megabytes < MOST_MEGABYTES
