from __future__ import annotations

import json
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from asic_cli import view as view_command
from asic_cli.runs import load_run
from asic_cli.view import page_server


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    addresses: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: addresses.append(address) or True)
    return addresses


def test_the_page_is_the_report_with_the_scores_there_are(asic, demo, tmp_path) -> None:
    result = asic("view", demo / "run", "--out", "below/view.html")
    assert (result.code, result.out) == (0, "below/view.html\n"), result.err
    assert (tmp_path / "below" / "view.html").read_bytes() == (demo / "run" / "report.html").read_bytes()


def _view_without_torch(run: Path, page: Path) -> None:
    """Importing torch takes longer than all the rest."""
    script = (
        "import sys\n"
        "from asic_cli.__main__ import main\n"
        f"assert main(['view', {str(run)!r}, '--out', {str(page)!r}]) == 0\n"
        "print(*{'torch', 'asic_flow.run_folder'} & set(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.split() == ["asic_flow.run_folder"]


def test_a_page_of_what_was_scored_needs_no_torch(demo, tmp_path) -> None:
    page = tmp_path / "view.html"
    _view_without_torch(demo / "run", page)
    assert page.read_bytes() == (demo / "run" / "report.html").read_bytes()


def test_before_scores_the_page_says_so_and_needs_no_torch_either(unscored, tmp_path) -> None:
    page = tmp_path / "view.html"
    _view_without_torch(unscored, page)
    text = page.read_text()
    assert "Not scored yet; <code>asic eval</code> does that." in text
    assert "By photo and by keypoint" not in text
    # The points themselves need no scores: the script shows errors of its own answers.
    truth = load_run(unscored).truth()
    shown = json.loads(re.search(r'id="viewer-data">(.*?)</script>', text)[1])["truth"]
    assert shown["names"] == list(truth.keypoint_names)
    boxes = [image.box_xyxy for image in truth.images]
    assert shown["lengths"] == pytest.approx([max(x1 - x0, y1 - y0) for x0, y0, x1, y1 in boxes], abs=0.01)
    assert shown["worst"] == []


def test_scores_without_their_parts_are_shown_and_the_command_is_named(asic, demo, unscored, tmp_path) -> None:
    summary = json.loads((demo / "run" / "summary.json").read_text())
    del summary["breakdown"]
    (unscored / "summary.json").write_text(json.dumps(summary))
    assert asic("view", unscored, "--out", "page.html").code == 0
    page = (tmp_path / "page.html").read_text()
    assert ">PCK@0.10</th>" in page
    assert "Not scored by photo and keypoint yet; <code>asic eval</code> does that." in page


def test_without_out_the_report_is_written_and_can_be_opened(asic, run, collection, tmp_path, opened) -> None:
    shutil.copytree(collection, tmp_path / "collection")
    copied = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("summary.json", "report.html"))
    result = asic("view", copied, "--open")
    assert result.code == 0, result.err
    assert "Not scored yet" in (copied / "report.html").read_text()
    assert opened == [(copied / "report.html").as_uri()]


def test_scores_of_an_earlier_run_are_not_shown(asic, demo, tmp_path) -> None:
    shutil.copytree(demo / "collection", tmp_path / "collection")
    copied = shutil.copytree(demo / "run", tmp_path / "run")
    summary = json.loads((copied / "summary.json").read_text())
    summary["alignment"]["support"][0] = 0.123
    (copied / "summary.json").write_text(json.dumps(summary))
    assert asic("view", copied, "--out", "page.html").code == 0
    assert "Not scored yet" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "summary.json: expected JSON"), ('{"format": "other"}', "summary.json, field 'format'")],
)
def test_a_damaged_summary_is_named(asic, run, collection, tmp_path, content, message) -> None:
    shutil.copytree(collection, tmp_path / "collection")
    copied = shutil.copytree(run, tmp_path / "run")
    (copied / "summary.json").write_text(content)
    result = asic("view", copied)
    assert (result.code, message in result.err) == (2, True), result.err


def test_an_overlap_that_is_no_number_is_measured_again(asic, demo, tmp_path) -> None:
    copied = shutil.copytree(demo, tmp_path / "demo") / "run"
    summary = json.loads((copied / "summary.json").read_text())
    (copied / "summary.json").unlink()
    assert asic("view", copied, "--out", "unscored.html").code == 0
    summary["alignment"] |= {"mask_iou_before": None, "mask_iou_after": "much"}
    (copied / "summary.json").write_text(json.dumps(summary))
    assert asic("view", copied, "--out", "page.html").code == 0
    pages = [(tmp_path / name).read_text("utf-8") for name in ("unscored.html", "page.html")]
    figures = [re.search(r"<strong>(\d+ \u2192 \d+ %)</strong><span>overlap", page) for page in pages]
    assert figures[0].group(1) == figures[1].group(1)


def test_a_summary_that_is_no_text_is_shown_as_far_as_it_is(asic, demo, tmp_path) -> None:
    copied = shutil.copytree(demo, tmp_path / "demo") / "run"
    summary = json.loads((copied / "summary.json").read_text())
    (copied / "summary.json").write_text(json.dumps({**summary, "protocol": "lone \ud800"}))
    assert asic("view", copied, "--out", "page.html").code == 0
    assert "lone \\ud800" in (tmp_path / "page.html").read_text("utf-8")


def test_a_folder_that_is_no_run_is_named(asic, collection) -> None:
    result = asic("view", collection)
    assert (result.code, "no config.json" in result.err) == (2, True)


def test_served_to_this_machine_alone(capsys) -> None:
    server = page_server(b"the page")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    assert server.server_address[0] == "127.0.0.1"
    with urllib.request.urlopen(address) as answer:
        assert answer.read() == b"the page"
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    elsewhere = urllib.request.Request(address, headers={"Host": f"elsewhere.example:{server.server_port}"})
    for refused in (elsewhere, f"{address}config.json"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(refused)
    with socket.create_connection(("127.0.0.1", server.server_port)) as idle:
        with urllib.request.urlopen(address, timeout=5) as answer:
            assert answer.read() == b"the page"
        idle.sendall(b"GET / HTTP/1.0\r\nHost: localhost:1\r\n\r\n")
        idle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # leaves without a word
    with urllib.request.urlopen(address, timeout=5) as answer:
        assert answer.read() == b"the page"
    server.shutdown()
    server.server_close()
    assert capsys.readouterr().err == ""


def test_serve_opens_its_own_address(run, monkeypatch, opened) -> None:
    pages: list[bytes] = []

    class Served:
        server_port = 4711

        def __init__(self, page: bytes) -> None:
            pages.append(page)

        def __enter__(self) -> Served:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def serve_forever(self) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(view_command, "page_server", Served)
    with pytest.raises(KeyboardInterrupt):
        view_command.view(run, out=run.parent / "served.html", serve=True, open_it=True)
    assert pages == [(run.parent / "served.html").read_bytes()]
    assert opened == ["http://127.0.0.1:4711/"]


def test_where_there_is_no_browser_the_address_is_told(asic, run, monkeypatch) -> None:
    monkeypatch.setattr("webbrowser.open", lambda _: False)
    result = asic("view", run, "--out", "page.html", "--open")
    assert (result.code, "no browser was found; open file://" in result.err) == (0, True)
