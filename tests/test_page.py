"""The page of `pack --wasm`: in a browser and in Node.js it says what the packed model says, of the same octets."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from base64 import b64decode, b64encode
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from record_fixtures import record_past
from test_device import DIGITS, INTEGER, packed
from test_packed import settle

from bnnsearch.cli import main
from bnnsearch.config.model import CnnConfig, ModelConfig
from bnnsearch.core.images import read_images
from bnnsearch.core.models.build import build_model
from bnnsearch.device.lower import lower
from bnnsearch.device.page import page_html, write_page
from bnnsearch.device.project import expected_scores, interleaved, sample_images
from bnnsearch.errors import EnvironmentProblem, InputError
from bnnsearch.folder import StudyFolder
from bnnsearch.packed.format import Preprocessing
from bnnsearch.packed.model import PackedModel
from bnnsearch.packed.predict import softmax

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "</script>seven", "eight", "nine")
COLOUR = (3, 20, 16)

needs_compiler = pytest.mark.skipif(
    shutil.which("clang") is None or shutil.which("wasm-ld") is None, reason="needs clang and wasm-ld"
)
needs_browser = pytest.mark.skipif(shutil.which("chromium") is None, reason="needs the browser chromium")


def named(config: ModelConfig, shape: tuple[int, int, int], *, crop: float | None = None) -> PackedModel:
    torch.manual_seed(0)
    network = settle(build_model(config, shape=shape, classes=10), shape)
    return PackedModel.from_module(
        network, shape=shape, mean=[0.4] * shape[0], std=[0.3] * shape[0], classes=NAMES,
        preprocessing=Preprocessing(crop=crop),
    )  # fmt: skip


MODELS = {
    "grey, whole numbers": lambda: named(INTEGER, DIGITS),
    "colour, floats, a central square": lambda: named(CnnConfig(channels=(8, 16), pool_after=(1, 2)), COLOUR, crop=0.9),
}


def pictures(shape: tuple[int, int, int]) -> list[bytes]:
    """Files without loss: of the network's own size, larger, smaller, wider; grey, RGB, of a palette."""
    generator, files = np.random.default_rng(1), []
    for (height, width), mode in (
        (shape[1:], "L"), (shape[1:], "RGB"), ((61, 47), "RGB"), ((9, 70), "L"), ((90, 13), "RGB"), ((40, 40), "P"),
    ):  # fmt: skip
        picture = Image.fromarray(generator.integers(0, 256, (height, width, 3)).astype(np.uint8)).convert(mode)
        content = BytesIO()
        picture.save(content, "PNG")
        files.append(content.getvalue())
    return files


class Told(BaseHTTPRequestHandler):
    """Keeps the one form that a page sends."""

    def do_POST(self) -> None:
        self.server.told.append(self.rfile.read(int(self.headers["Content-Length"])).decode())  # type: ignore[attr-defined]
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


def in_browser(html: str, script: str, folder: Path) -> Any:
    """What an async function with the body `script` gives in the page, in a browser without a network but for the form
    that tells it. In real time: in virtual time no image is decoded.
    """
    server = HTTPServer(("127.0.0.1", 0), Told)
    server.told, server.timeout = [], 120.0  # type: ignore[attr-defined]
    send = f"""<script>(async () => {{
      const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
      const text = (octets) => btoa(String.fromCharCode(...octets));
      {script}
    }})().catch((error) => String(error)).then((value) => {{
      const form = document.createElement("form"), field = document.createElement("input");
      form.method = "post"; form.enctype = "text/plain"; form.action = "http://127.0.0.1:{server.server_port}/";
      field.name = "told"; field.value = JSON.stringify(value);
      form.append(field); document.body.append(form); form.submit();
    }});</script></body>"""
    if "'sha256-" in html:  # a policy that names the scripts which may run
        body = send.removeprefix("<script>").partition("</script>")[0].encode()
        html = html.replace("'sha256-", f"'sha256-{b64encode(sha256(body).digest()).decode()}' 'sha256-", 1)
    page = folder / "page.html"
    page.write_text(html.replace("</body>", send), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    flags += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", f"--user-data-dir={folder / 'profile'}"]
    with server, (folder / "log").open("w") as log:
        browser = subprocess.Popen(["chromium", *flags, page.as_uri()], stdout=log, stderr=log, start_new_session=True)
        try:
            server.handle_request()
        finally:
            os.killpg(browser.pid, signal.SIGKILL)
            browser.wait()
    assert server.told, (folder / "log").read_text()  # type: ignore[attr-defined]
    return json.loads(server.told[0].removeprefix("told="))  # type: ignore[attr-defined]


@needs_compiler
@needs_browser
@pytest.mark.parametrize("name", MODELS)
def test_the_page_says_in_a_browser_what_the_packed_model_says(name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    images, files = sample_images(model.shape, 40), pictures(model.shape)
    given = {
        "images": [b64encode(octets).decode() for octets in interleaved(images)],
        "files": [b64encode(file).decode() for file in files],
    }
    script = f"""const given = {json.dumps(given)}, found = {{ answers: [], files: [] }};
      for (const image of given.images) found.answers.push(await classify(bytes(image)));
      for (const file of given.files) found.files.push(text(await fileOctets(new Blob([bytes(file)]))));
      await take(new Blob([bytes(given.files[2])]));
      found.answer = document.getElementById("answer").textContent;
      found.rows = [...document.querySelectorAll("#scores tr")].map((row) => row.innerText);
      found.time = document.getElementById("time").textContent;
      return found;"""
    html, size = page_html(model)
    found = in_browser(html, script, tmp_path)
    assert size < 100_000
    assert not re.findall(r"(?:src|href)=|https?:", html)  # one file, and nothing that it asks for

    program = lower(model.graph, model.tensors)
    np.testing.assert_array_equal([each["label"] for each in found["answers"]], model.predict(images))
    scores = np.array([each["scores"] for each in found["answers"]])
    np.testing.assert_array_equal(scores, expected_scores(model, program, images))
    shares = [each["shares"] for each in found["answers"]]
    np.testing.assert_allclose(shares, softmax(model.logits(images)), atol=1e-5)

    sources = [(f"{number}.png", file) for number, file in enumerate(files)]
    expected = read_images(sources, model.shape, crop=model.preprocessing.crop)
    read = np.array([np.frombuffer(b64decode(octets), np.uint8) for octets in found["files"]])
    np.testing.assert_array_equal(read, interleaved(expected))

    label = int(model.predict(expected[2:3])[0])
    share = softmax(model.logits(expected[2:3]))[0, label]
    assert found["answer"] == f"{NAMES[label]}, {100 * share:.1f} %"
    assert len(found["rows"]) == 10
    assert found["time"].endswith(" ms for a prediction, in this browser")


@needs_compiler
@needs_browser
def test_a_report_holds_the_network_that_was_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a frame of its own, under the report's policy, which runs no other script."""
    model = named(INTEGER, DIGITS)
    images = sample_images(DIGITS, 10)
    model.save(tmp_path / "model.bnn")
    folder = StudyFolder(tmp_path / "runs" / "tiny" / "1")
    folder.path.mkdir(parents=True)
    record_past(folder)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["report", str(folder.path), "--network", "model.bnn"])
    assert done.exit_code == 0, done.output
    html = (folder.report / "report.html").read_text()
    given = json.dumps([b64encode(octets).decode() for octets in interleaved(images)])
    script = f"""const frame = document.querySelector("iframe"), found = [];
      while (!frame.contentWindow.classify) await new Promise((resolve) => setTimeout(resolve, 10));
      for (const image of {given}) found.push(await frame.contentWindow.classify(bytes(image)));
      return found;"""
    found = in_browser(html, script, tmp_path)
    np.testing.assert_array_equal([each["label"] for each in found], model.predict(images))
    assert CliRunner().invoke(main, ["report", "a", "b", "--network", "model.bnn"]).exit_code == 2


@needs_compiler
@needs_browser
def test_a_drawing_is_averaged_and_keys_draw(tmp_path: Path) -> None:
    """Ten by ten points are a pixel; centred, its mass is in the middle; keys draw what a pointer draws."""
    script = """const press = (key) => drawing.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
      for (const key of ["ArrowLeft", "ArrowUp", " ", ..."ArrowUp ".repeat(9).trim().split(" "), " "]) press(key);
      while (!document.querySelector("#scores tr")) await new Promise((resolve) => setTimeout(resolve, 10));
      const points = ink.getImageData(0, 0, drawing.width, drawing.height).data.filter((_, i) => i % 4 === 0);
      let drawn = "";
      for (let at = 0; at < points.length; at += 1000) drawn += String.fromCharCode(...points.subarray(at, at + 1000));
      const centred = text(drawnOctets());
      document.getElementById("centred").checked = false;
      const plain = text(drawnOctets()), answer = document.getElementById("answer").textContent;
      press("Delete");
      const rows = document.querySelectorAll("#scores tr").length;
      return { size: drawing.width, drawn: btoa(drawn), centred, plain, answer, cleared: text(drawnOctets()), rows };"""
    found = in_browser(page_html(named(INTEGER, DIGITS))[0], script, tmp_path)
    octets = {
        name: np.frombuffer(b64decode(found[name]), np.uint8).reshape(side, side).astype(float)
        for name, side in (("drawn", 280), ("centred", 28), ("plain", 28), ("cleared", 28))
    }
    assert found["size"] == 280
    means = octets["drawn"].reshape(28, 10, 28, 10).mean((1, 3))
    assert means.sum() > 255 * 5
    np.testing.assert_array_equal(octets["plain"], np.floor(means + 0.5))
    places = np.indices((28, 28)).reshape(2, -1)
    middle = {name: (places * octets[name].ravel()).sum(1) / octets[name].sum() for name in ("plain", "centred")}
    assert middle["plain"][0] < 12
    np.testing.assert_allclose(middle["centred"], [13.5, 13.5], atol=0.06)
    assert any(found["answer"].startswith(name) for name in NAMES)
    assert (octets["cleared"].any(), found["rows"]) == (False, 0)


@needs_compiler
@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
def test_the_module_in_the_page_needs_nothing(tmp_path: Path) -> None:
    """It imports nothing, and says in Node.js what the packed model says."""
    model = named(INTEGER, DIGITS)
    images = sample_images(DIGITS, 40)
    network = re.search(r'id="network">(.*?)</script>', page_html(model)[0])
    assert network
    (tmp_path / "module").write_bytes(b64decode(json.loads(network[1])["wasm"]))
    (tmp_path / "images").write_bytes(interleaved(images).tobytes())
    script = """const fs = require("fs"), module = new WebAssembly.Module(fs.readFileSync("module"));
      const model = new WebAssembly.Instance(module).exports, images = fs.readFileSync("images"), labels = [];
      for (let first = 0; first < images.length; first += 784) {
        new Uint8Array(model.memory.buffer, model.model_image(), 784).set(images.subarray(first, first + 784));
        labels.push(model.model_predict(model.model_image()));
      }
      console.log(JSON.stringify([WebAssembly.Module.imports(module), labels]));"""
    ran = subprocess.run(["node", "-e", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    imports, labels = json.loads(ran.stdout)
    assert imports == []
    np.testing.assert_array_equal(labels, model.predict(images))


@needs_compiler
def test_the_page_is_a_function_of_the_model(tmp_path: Path) -> None:
    file = tmp_path / "model.bnn"
    named(INTEGER, DIGITS).save(file)
    done = CliRunner().invoke(main, ["pack", str(file), "--wasm", str(tmp_path / "site")])
    assert done.exit_code == 0, done.output
    assert "bytes of WebAssembly" in done.stdout
    again, _ = write_page(PackedModel.load(file), tmp_path / "again.html")
    assert again.read_bytes() == (tmp_path / "site" / "index.html").read_bytes()


def test_what_takes_no_images_or_has_no_compiler_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"of 1 or 3 channels .* takes 2 channels of 8x8"):
        page_html(packed(CnnConfig(channels=(8, 8), pool_after=(1,)), (2, 8, 8)))
    file = tmp_path / "model.bnn"
    named(INTEGER, DIGITS).save(file)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentProblem, match="needs clang, wasm-ld; on Debian: apt-get install clang lld"):
        write_page(PackedModel.load(file), tmp_path / "page.html")
    assert CliRunner().invoke(main, ["pack", str(file), "--wasm", str(tmp_path / "page.html")]).exit_code == 3
    assert not (tmp_path / "page.html").exists()
