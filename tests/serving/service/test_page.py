"""The page for readers in a browser, and what its files hold."""

import base64
import csv
import io
import os
import re
from importlib.resources import files as resources
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from koa_lightning.metrics.intervals import with_intervals
from tests.fixtures.browsers import look, wait

pytest.importorskip("litserve", reason='pip install "koa-lightning[serve]"')

PAGE = {
    file.name: file.read_text()
    for file in resources("koa_lightning.serving.service.page").iterdir()
    if file.name.endswith((".html", ".css", ".js", ".svg"))
}
AXE = Path(os.environ.get("AXE_CORE", Path(__file__).parents[3] / ".venv/node_modules/axe-core/axe.min.js"))


@pytest.mark.parametrize("name", PAGE)
def test_a_page_asks_no_other_host_and_holds_no_code_of_its_own(name):
    text = PAGE[name].replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|//\w+\.\w|@import|innerHTML|insertAdjacentHTML|document\.write|\beval\(", text)
    if name.endswith(".html"):
        assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", text)
        assert "Research use only" in text
    named = re.findall(r'(?:"/page/|from "\./)([\w.]+)"', text)
    assert set(named) <= set(PAGE)


@pytest.fixture(scope="module")
def images(radiographs, encoded, tmp_path_factory):
    """Both knees of one patient, three others, and a file that is none."""
    folder = tmp_path_factory.mktemp("images")
    for name, pixels in zip(("anna-L", "anna-R", "bert-L", "carl-R", "dora-L"), radiographs, strict=False):
        (folder / f"{name}.png").write_bytes(encoded(pixels))
    (folder / "words.png").write_text("no image")
    return folder


@pytest.fixture
def page(chromium, live):
    look(chromium)
    return opened(chromium, live)


def opened(driver, address):
    driver.get(address)
    wait(lambda: driver.find_element("css selector", "body[data-ready]"))
    return driver


def choose(driver, images, *names):
    driver.find_element("id", "files").send_keys("\n".join(str(images / name) for name in names))
    wait(lambda: re.match(rf"\d+ of {len(names)} (graded|ready)(?! …)", driver.find_element("id", "status").text))


def one(driver, selector):
    return driver.find_element("css selector", selector)


def every(driver, selector):
    return [element.text for element in driver.find_elements("css selector", selector)]


def press(driver, keys):
    one(driver, "body").send_keys(keys)


def slide(driver, key, value):
    driver.execute_script(
        "const s = document.querySelector(`.knee.current input[data-key=${arguments[0]}]`); s.value = arguments[1];"
        "s.dispatchEvent(new Event('input'))", key, value,
    )  # fmt: skip


def test_what_is_chosen_is_graded_as_the_api_does(page, images, client):
    choose(page, images, "bert-L.png", "words.png")
    [knee] = (
        client()
        .post("/v1/grade", files=[("files", ("bert-L.png", (images / "bert-L.png").read_bytes()))])
        .json()["knees"]
    )
    assert one(page, ".grade b").text == str(knee["grade"])
    assert every(page, ".bars .value") == [f"{100 * share:.1f} %" for share in knee["probabilities"]]
    facts = dict(zip(every(page, ".facts dt"), every(page, ".facts dd"), strict=True))
    assert facts["Prediction set"] == knee["prediction_set"]["words"]
    assert facts["Expected grade"] == f"{knee['expected_grade']:.2f}"
    assert "cannot tell whether an image is out of distribution" in one(page, ".verdict").text
    assert one(page, "#caveats").text == "Not a result: phantom data"
    rows = every(page, "#table tbody tr")
    assert "not a readable PNG" in rows[1] and "1 without a grade" in one(page, "#status").text
    one(page, "#table tbody tr:nth-child(2) button").click()
    assert "not a readable PNG" in one(page, ".knee .alert").text
    assert [line for line in page.get_log("browser") if line["level"] == "SEVERE"] == []


FLAGGED = "Out of distribution: turned (score 1.50, flagged above 1). The grade means nothing; refer to a reader."


@pytest.mark.parametrize(
    ("flagged", "why", "alerts"),
    [
        (False, "", ["In distribution, not referred"]),
        (False, "unsure", ["Refer to a reader: unsure"]),
        (True, "X (turned)", [FLAGGED]),
        (True, "X (turned) and unsure", [FLAGGED, "Refer to a reader: X (turned) and unsure"]),
    ],
)
def test_why_a_knee_is_referred_is_said_once(page, flagged, why, alerts):
    answer = {
        "grade": 1, "name": "doubtful", "probabilities": [0.2] * 5, "expected_grade": 2, "median_grade": 2,
        "prediction_set": None, "out_of_distribution": {"flagged": flagged, "score": 1.5}, "refer": bool(why),
        "refer_why": why and f"refer to a reader: {why}",
    }  # fmt: skip
    found = page.execute_async_script(
        """const [answer, done] = arguments;
        import('/page/verdict.js').then(({ verdict }) => {
          const found = verdict({ answer, reading: null }).querySelectorAll('.alert, .fine');
          done([...found].map((each) => each.textContent));
        })""",
        answer,
    )
    assert found == alerts


def test_files_can_be_dropped(page, images):
    page.execute_script(
        "const bytes = Uint8Array.from(atob(arguments[0]), c => c.charCodeAt(0)), carried = new DataTransfer();"
        "carried.items.add(new File([bytes], 'dropped-L.png', {type: 'image/png'}));"
        "document.getElementById('drop').dispatchEvent(new DragEvent('drop', {dataTransfer: carried, bubbles: true}))",
        base64.b64encode((images / "bert-L.png").read_bytes()).decode(),
    )
    wait(lambda: one(page, ".grade b").text)
    assert one(page, ".knee h2").text == "dropped-L.png"


def test_window_level_heat_and_method(page, images):
    choose(page, images, "bert-L.png")
    wait(lambda: one(page, ".heat").is_displayed())
    slide(page, "strength", 0.3)
    assert float(one(page, ".heat").value_of_css_property("opacity")) == pytest.approx(0.3)
    slide(page, "window", 51)
    slide(page, "level", 100)
    part = one(page, "feFuncG")
    assert float(part.get_attribute("slope")) == pytest.approx(5)
    assert float(part.get_attribute("intercept")) == pytest.approx(0.5 - 100 / 51)
    assert one(page, ".picture").value_of_css_property("filter") == 'url("#window-0")'
    before = one(page, ".heat").get_attribute("src")
    one(page, "select").send_keys("Eigen")
    wait(lambda: one(page, ".heat").get_attribute("src") != before)
    heat = base64.b64decode(one(page, ".heat").get_attribute("src").split(",")[1])
    assert Image.open(io.BytesIO(heat)).mode == "RGBA"


def test_keys_move_zoom_and_hide(page, images):
    choose(page, images, "bert-L.png", "carl-R.png", "dora-L.png")
    wait(lambda: one(page, ".heat").is_displayed())
    press(page, "h")
    assert one(page, ".heat").value_of_css_property("opacity") == "0"
    press(page, "++")
    assert one(page, ".scale").text == "196 %"
    press(page, "wd")
    values = every(page, ".tools output")
    assert values[:2] == ["247", "136"]
    press(page, "r")
    assert (one(page, ".scale").text, every(page, ".tools output")[:2]) == ("100 %", ["255", "128"])
    for key, name in (("j", "carl-R.png"), ("j", "dora-L.png"), ("j", "dora-L.png"), ("k", "carl-R.png")):
        press(page, key)
        assert one(page, ".knee h2").text == name
    one(page, "#study summary").click()
    one(page, "#table thead button").send_keys("\t")  # every control can be reached
    assert page.switch_to.active_element.tag_name == "button"


def test_both_knees_of_a_patient_stand_side_by_side(page, images):
    choose(page, images, "anna-L.png", "anna-R.png", "bert-L.png")
    assert every(page, ".knee h2") == ["anna-R.png", "anna-L.png"]  # as on a film
    left, right = (element.rect for element in page.find_elements("css selector", ".knee"))
    assert left["y"] == right["y"] and left["x"] < right["x"]
    press(page, "b")
    assert every(page, ".knee h2") == ["anna-L.png"]
    press(page, "b")
    press(page, "jj")
    assert every(page, ".knee h2") == ["bert-L.png"]


def test_the_table_is_sorted_and_saved(page, images):
    choose(page, images, "carl-R.png", "bert-L.png", "words.png", "dora-L.png")
    names = "#table tbody td:first-child"
    assert every(page, names) == ["carl-R.png", "bert-L.png", "words.png", "dora-L.png"]
    button = '//thead//button[text()="File"]'
    page.find_element("xpath", button).click()
    assert every(page, names) == ["bert-L.png", "carl-R.png", "dora-L.png", "words.png"]
    page.find_element("xpath", button).click()
    assert every(page, names)[0] == "words.png" and one(page, "th[aria-sort=descending]").text.startswith("File")
    page.find_element("xpath", '//thead//button[text()="Expected"]').click()
    shown = [float(text) for text in every(page, "#table tbody td:nth-child(7)") if text]
    assert shown == sorted(shown) and len(shown) == 3
    text = page.execute_async_script("import('/page/table.js').then((table) => arguments[0](table.csv()))")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {row["file"] for row in rows} == {"carl-R.png", "bert-L.png", "words.png", "dora-L.png"}
    good = [row for row in rows if not row["error"]]
    assert all(abs(sum(float(row[f"p{grade}"]) for grade in range(5)) - 1) < 1e-5 for row in good) and len(good) == 3
    assert "not a medical device" in good[0]["note"]


def test_a_name_is_never_markup_or_a_formula(page, images):
    page.execute_script(
        "const bytes = Uint8Array.from(atob(arguments[0]), c => c.charCodeAt(0)), carried = new DataTransfer();"
        "for (const name of ['<img src=x onerror=alert(1)>.png', '=1+1.png'])"
        "  carried.items.add(new File([bytes], name, {type: 'image/png'}));"
        "document.dispatchEvent(new DragEvent('drop', {dataTransfer: carried}))",
        base64.b64encode((images / "bert-L.png").read_bytes()).decode(),
    )
    wait(lambda: "2 of 2" in one(page, "#status").text)
    assert every(page, "#table tbody td:first-child") == ["<img src=x onerror=alert(1)>.png", "=1+1.png"]
    text = page.execute_async_script("import('/page/table.js').then((table) => arguments[0](table.csv()))")
    assert "\n'=1+1.png," in text.replace("\r", "")


def test_a_token_is_asked_for_once(chromium, serve_live, images):
    look(chromium)
    chromium.get(serve_live(token="0123456789abcdef"))
    wait(lambda: one(chromium, "#token-dialog").is_displayed())
    one(chromium, "#token").send_keys("wrong\n")
    wait(lambda: one(chromium, "#token-dialog").is_displayed() and not one(chromium, "#token").get_attribute("value"))
    one(chromium, "#token").send_keys("0123456789abcdef\n")
    wait(lambda: one(chromium, "body[data-ready]"))
    choose(chromium, images, "bert-L.png")
    assert one(chromium, ".grade b").text


@pytest.fixture(scope="module")
def studied(serve_live, tmp_path_factory):
    from koa_lightning.serving.service.study import Studies

    folder = tmp_path_factory.mktemp("study")
    return serve_live(studies=Studies(folder, "tiny")), folder


def test_reader_mode_hides_the_answer_until_the_reader_has_graded(chromium, studied, images):
    address, folder = studied
    look(chromium)
    page = opened(chromium, address)
    one(page, "#study summary").click()
    one(page, "#study-name").send_keys("anna")
    one(page, "#study-start").click()
    wait(lambda: "reader mode" in one(page, "#status").text)
    choose(page, images, "bert-L.png", "carl-R.png", "dora-L.png")
    asked = "return performance.getEntriesByType('resource').filter((e) => e.name.includes('/v1/grade')).length"
    assert page.execute_script(asked) == 0  # no answer has reached the browser
    assert not page.find_elements("css selector", ".grade, .bars, .heat:not([hidden]), select")
    assert not any(re.search(r"\d+\.\d|none|yes|no\b", row) for row in every(page, "#table tbody tr"))
    for grade in (2, 0, 4):
        press(page, str(grade))
        wait(lambda grade=grade: one(page, "#status").text.startswith(f"recorded: {grade}"))
        assert one(page, ".facts dd").text.startswith(f"{grade} (")
        assert one(page, ".grade b").text
        press(page, str((grade + 1) % 5))  # recorded once
        press(page, "j")
    one(page, "#study-end").click()
    wait(lambda: one(page, "#agreement").is_displayed())
    table = pd.read_csv(folder / "anna.csv")
    assert table["grade"].tolist() == [2, 0, 4]
    kappa = with_intervals(table, only=("quadratic_kappa",))["quadratic_kappa"].value
    cells = every(page, "#agreement tbody tr")
    assert cells[0].startswith(f"quadratic kappa {'undefined' if kappa is None else f'{kappa:.3f}'}")
    assert one(page, "#study-state").text == "off" and "anna.csv" in one(page, "#agreement").text


@pytest.mark.sample(1)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_every_width_and_theme_is_readable(chromium, studied, images, width, dark):
    look(chromium, width, 800, dark=dark)
    page = opened(chromium, studied[0])
    choose(page, images, "anna-L.png", "anna-R.png", "words.png")
    wait(lambda: one(page, ".heat").is_displayed())
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    for where in (0, 10**6):
        page.execute_script("scrollTo(0, arguments[0])", where)
        box = page.execute_script("return document.getElementById('research').getBoundingClientRect().toJSON()")
        assert min(box["top"], box["left"]) >= 0 and box["bottom"] <= 800 and box["right"] <= width
    ground = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground))) < 200) == dark
    asked = page.execute_script("return performance.getEntriesByType('resource').map((each) => each.name)")
    assert asked and all(name.startswith((studied[0], "data:")) for name in asked)
    page.execute_script("scrollTo(0, 0); document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    serious_findings(page)
    one(page, "#study-name").send_keys(f"reader{width}{dark}")
    one(page, "#study-start").click()
    wait(lambda: "reader mode" in one(page, "#status").text)
    choose(page, images, "bert-L.png")
    serious_findings(page)
    page.get(f"{studied[0]}/docs")
    wait(lambda: one(page, "body[data-ready]"))
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    serious_findings(page)


def serious_findings(page):
    """Let axe-core look at the page; without it this part is omitted, and `test_axe_is_there` says so."""
    if not AXE.is_file():
        return
    # By the debugger, as the page's policy forbids scripts of others.
    page.execute_cdp_cmd("Runtime.evaluate", {"expression": AXE.read_text()})
    found = page.execute_async_script("axe.run().then((found) => arguments[0](found.violations))")
    serious = [
        (each["id"], [node["html"][:200] for node in each["nodes"]])
        for each in found
        if each["impact"] in ("serious", "critical")
    ]
    assert serious == []


def test_axe_is_there():
    if not AXE.is_file():
        pytest.skip("axe-core is not here: npm install --no-save --prefix .venv axe-core@4 (or AXE_CORE=FILE)")
    assert "axe" in AXE.read_text()[:200]
