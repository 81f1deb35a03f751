"""The report in a real browser: no error, no network, and never wider than a phone."""

import functools
import http.server
import json
import re
import shutil
import subprocess
import threading

import pytest

from covidmm.reports.card import write_card
from covidmm.reports.report_page import report

# A frame as wide as the screen to be tried: a headless window is never narrower than 500 px.
FRAME = """<!doctype html><title>frame</title><body style="margin:0">
<iframe src="PAGE" style="border:0;width:WIDTHpx;height:900px"></iframe><script>
const frame = document.querySelector("iframe");
frame.onload = () => {
  const page = frame.contentDocument, view = frame.contentWindow;
  const result = {
    width: page.documentElement.scrollWidth,
    loaded: view.performance.getEntriesByType("resource").map((one) => one.name).filter((one) => !/^data:/.test(one)),
    empty: [...page.querySelectorAll(".view use")].filter((one) => !one.getBBox().width).length,
  };
  const button = page.querySelector(".view");
  if (button) {
    button.click();
    const dialog = page.querySelector("dialog");
    result.open = dialog.open && dialog.querySelector("svg").getBoundingClientRect().width;
    dialog.querySelector("button").click();
    result.closed = !dialog.open;
  }
  const told = document.createElement("pre");
  told.textContent = JSON.stringify(result);
  document.body.append(told);
};
</script>"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        self.server.asked.append(self.path)


@pytest.fixture
def browse(tmp_path):
    """Opens a page in a frame of some width; what the frame found, and what the console said."""
    browser = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no chromium on this machine: the report was not opened in a browser")
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.asked = []
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def open_page(page, width, dark=False):
            name = page.relative_to(tmp_path).as_posix()
            (tmp_path / "frame.html").write_text(FRAME.replace("PAGE", name).replace("WIDTH", str(width)))
            command = [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom",
                f"--user-data-dir={tmp_path / 'profile'}", "--hide-scrollbars", "--virtual-time-budget=10000",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
                f"--blink-settings=preferredColorScheme={0 if dark else 1}",
                f"--window-size={max(width, 500)},1000", f"http://127.0.0.1:{server.server_port}/frame.html",
            ]  # fmt: skip
            run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
            told = re.search(r"<pre>(.*?)</pre>", run.stdout)
            assert told, run.stderr[-2000:]
            console = [line for line in run.stderr.splitlines() if "CONSOLE" in line]
            return json.loads(told[1]), console, server.asked

        yield open_page
        server.shutdown()


@pytest.mark.e2e
@pytest.mark.parametrize(("width", "dark"), [(390, False), (390, True), (1280, False)])
def test_the_report_is_quiet_alone_and_fits(world, tmp_path, browse, width, dark):
    page = report([world.work], [], tmp_path / "report")
    found, console, asked = browse(page, width, dark)
    assert console == []
    assert found["loaded"] == []
    assert set(asked) <= {"/frame.html", "/report/report.html", "/favicon.ico"}
    assert found["width"] <= width
    assert found["empty"] == 0  # every view shows its radiograph
    assert found["open"] == width
    assert found["closed"]


@pytest.mark.e2e
def test_the_card_fits_too(world, tmp_path, browse):
    _, page = write_card(str(world.run), [], [], tmp_path / "card")
    found, console, _ = browse(page, 390)
    assert console == found["loaded"] == []
    assert found["width"] <= 390
