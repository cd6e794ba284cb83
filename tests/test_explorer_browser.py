"""The explorer in a browser: what is on the screen is what Python counted, and what it exports is what filters."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from intermode import cli
from intermode.animating.film import Shot, write_film
from intermode.explorer import explore
from intermode.explorer.cuts import Axis
from intermode.files import save_tensors
from intermode.thresholds import Threshold

selenium = pytest.importorskip("selenium", reason="no selenium is installed: pip install selenium")
from selenium import webdriver  # noqa: E402 (once it is known to be there)
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    BROWSER is None or DRIVER is None,
    reason="no browser is installed: apt-get install chromium chromium-driver",
)


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "window-size=1280,1400"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # nothing is to be fetched: whatever the page asked for would fail and be logged
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(120)
    yield driver
    driver.quit()


class Shown:
    """A page in the browser, as a person uses it."""

    def __init__(self, browser, path):
        self.browser = browser
        browser.get(path.resolve().as_uri())
        self.settled()

    def settled(self):
        """Waits until what was asked for is drawn, which happens once a frame."""
        self.browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")

    def find(self, selector):
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def number(self, id):
        return int(self.find(f"#{id}").text.replace(",", ""))

    def keys(self, id, *keys):
        self.find(f"#{id}").send_keys(*keys)
        self.settled()

    def choose(self, id, text):
        for option in self.all(f"#{id} option"):
            if option.text.startswith(text):
                option.click()
        self.settled()

    def click(self, selector):
        found = self.find(selector)
        # not under the panel that stays at the top
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", found)
        found.click()
        self.settled()

    def samples(self):
        """Ids of the samples in the gallery."""
        return self.browser.execute_script(
            "return [...document.querySelectorAll('.card')].filter((card) => card.offsetParent)"
            ".map((card) => found.ids[card.dataset.sample])"
        )

    @property
    def threshold(self):
        return json.loads(self.find("#json").text)

    @property
    def command(self):
        return shlex.split(self.find("#command").text)

    def errors(self):
        return [entry for entry in self.browser.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def folder(here):
    """300 images of three classes with two scores, one of them missing for three, and labels for most."""
    rng = np.random.default_rng(0)
    lines, labels = ["id,hal,residual"], ["id,bad"]
    for k in range(300):
        name = f"{'abc'[k % 3]}/{k:03d}.png"
        (here / "made" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(here / "made" / name)
        bad = rng.random() < 0.15
        lines.append(f"{name},{rng.exponential() + 2 * bad},{'' if k < 3 else rng.normal()}")
        labels += [f"{name},{int(bad)}"] * (k >= 10)
    (here / "scores.csv").write_text("\n".join([lines[0], *sorted(lines[1:])]) + "\n")
    (here / "labels.csv").write_text("\n".join(labels) + "\n")
    return here / "made"


def percent(share):
    return f"{round(100 * share, 2):g} %"


def scores_by_id(name):
    rows = [line.split(",") for line in Path("scores.csv").read_text().splitlines()]
    column = rows[0].index(name)
    return {row[0]: float(row[column] or "nan") for row in rows[1:]}


def test_the_sliders_move_together_and_count_as_python_does(browser, folder):
    page = Shown(browser, explore(folder, scores="scores.csv"))
    scores = np.array(list(scores_by_id("hal").values()))
    seen = set()
    for keys in ((), (Keys.ARROW_LEFT,) * 7, (Keys.HOME,), (Keys.END,), (Keys.PAGE_DOWN,) * 2):
        page.keys("share", *keys)
        threshold = page.threshold["value"]
        kept = int(Threshold(threshold).keep(scores).sum())
        assert (page.number("kept"), page.number("removed")) == (kept, 300 - kept)
        assert page.find("#share-is").text == percent(kept / 300)
        assert float(page.find("#threshold-is").text) == pytest.approx(threshold, rel=1e-4)
        # the other slider has come along, on its axis
        axis = Axis.of(scores)
        place = 1000 * (axis.at(threshold) - axis.low) / (axis.high - axis.low)
        assert abs(float(page.find("#threshold").get_attribute("value")) - place) <= 0.51
        seen.add(kept)
    assert len(seen) == 5
    page.keys("share", Keys.HOME)
    page.keys("threshold", Keys.END)
    assert page.number("kept") == 300
    assert page.find("#share").get_attribute("value") == page.find("#share").get_attribute("max")
    assert page.errors() == []


def test_the_gallery_shows_both_sides_worst_and_best_and_all_in_pages(browser, folder):
    page = Shown(browser, explore(folder, scores="scores.csv"))
    by_id = scores_by_id("hal")
    ranked = sorted(by_id, key=by_id.get)
    kept = page.number("kept")
    assert kept == 270
    expected = [ranked[kept : kept + 16], ranked[kept - 16 : kept][::-1], ranked[-16:][::-1], ranked[:16]]
    assert page.samples() == [name for part in expected for name in part]
    assert len(page.all(".card.removed")) == 32
    page.keys("share", Keys.HOME)  # nearly all are removed: two pages and more
    kept = page.number("kept")
    page.click("#tab-removed")
    listed = []
    while True:
        listed += page.samples()
        if not page.find("#next").is_enabled():
            break
        page.click("#next")
    assert listed == ranked[kept:][::-1]
    page.click("#tab-kept")
    assert page.samples() == ranked[:kept]


def test_what_is_exported_filters_as_the_page_shows(browser, folder, here, capsys):
    page = Shown(browser, explore(folder, scores="scores.csv", labels="labels.csv"))
    cases = {"hal": "all together", "residual": "b"}
    for name, label in cases.items():
        page.choose("score", name)
        page.choose("class", label)
        page.keys("share", *[Keys.ARROW_LEFT] * 9)
        page.click("#tab-kept")
        shown = page.samples()
        (here / "threshold.json").write_text(page.find("#json").text)
        threshold = Threshold.load(here / "threshold.json")
        assert page.command[:2] == ["intermode", "filter"]
        assert cli.main(page.command[1:]) == 0
        capsys.readouterr()
        record = json.loads((here / "made-filtered" / "threshold.json").read_text())
        record = record[1] if label == "b" else record
        assert (record["value"], record["rule"], record["score"]) == (threshold.value, threshold.rule, name)
        assert (record["kept"], record["samples"]) == (page.number("kept"), 100 if label == "b" else 300)
        ids = {p.relative_to(here / "made-filtered/kept").as_posix() for p in here.glob("made-filtered/kept/*/*.png")}
        ids = {each for each in ids if label != "b" or each.startswith("b/")}
        assert len(ids) == page.number("kept")
        assert set(shown) <= ids  # the first page
        shutil.rmtree(here / "made-filtered")


def test_labels_are_counted_with_their_intervals(browser, folder):
    page = Shown(browser, explore(folder, scores="scores.csv", labels="labels.csv"))
    said = page.find("#truth").text
    labels = dict(line.split(",") for line in Path("labels.csv").read_text().splitlines()[1:])
    by_id = scores_by_id("hal")
    bad = np.array([labels[name] == "1" for name in labels])
    kept = np.asarray(Threshold(page.threshold["value"]).keep([by_id[name] for name in labels]))
    assert said.startswith(f"Removed {(bad & ~kept).sum()} of {bad.sum()} hallucinations: ")
    assert f"Kept of the {(~bad).sum()} others: {percent(kept[~bad].mean())} [" in said
    assert f"base rate: {percent(bad[~kept].mean())} [" in said
    assert "10 samples are not labelled" in said
    assert page.find("#curve canvas").is_displayed()


def test_a_sample_is_looked_at_with_the_keyboard_alone(browser, folder, here):
    np.save("training.npy", np.random.default_rng(1).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8))
    page = Shown(browser, explore(folder, scores="scores.csv", data="training.npy"))
    by_id = scores_by_id("hal")
    ranked = sorted(by_id, key=by_id.get)
    first = page.find(".card")
    first.send_keys(Keys.ARROW_RIGHT)
    second = browser.switch_to.active_element
    assert second.get_attribute("data-sample") != first.get_attribute("data-sample")
    second.send_keys(Keys.ENTER)
    page.settled()
    assert page.find("#sample").is_displayed()
    assert page.find("#sample-id").text == f"Sample {ranked[271]}"
    row = page.find("#sample-body tr").text
    assert row.startswith("hal ")
    assert "higher than 90.33 % of all" in row  # 271 of 300
    assert len(page.all(".frames img")) == 3
    browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    page.settled()
    assert page.find("#sample-id").text == f"Sample {ranked[272]}"
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    WebDriverWait(browser, 5).until(lambda _: not page.find("#sample").is_displayed())


def test_everything_has_a_name_for_those_who_do_not_see_it(browser, folder):
    page = Shown(browser, explore(folder, scores="scores.csv", labels="labels.csv"))
    nameless = (
        "return [...document.querySelectorAll('button, select, input, img, [role=img]')].filter((e) => {0}).length"
    )
    named = "!(e.textContent.trim() || e.labels?.length || e.alt || e.getAttribute('aria-label'))"
    assert browser.execute_script(nameless.replace("{0}", named)) == 0
    contrast = """
      const light = (words) => words.match(/[\\d.]+/g).slice(0, 3).map((v) => {
        const c = v / 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
      }).reduce((sum, c, k) => sum + c * [0.2126, 0.7152, 0.0722][k], 0);
      const ground = (e) => { const c = getComputedStyle(e).backgroundColor;
        return c.endsWith(', 0)') && e.parentElement ? ground(e.parentElement) : c; };
      const words = [...document.querySelectorAll('p, b, label, output, option, button, h1, h2, h3, pre, span')];
      return Math.min(...words.filter((e) => e.offsetParent && e.textContent.trim() && !e.disabled).map((e) => {
        const [a, b] = [light(getComputedStyle(e).color), light(ground(e))].sort((x, y) => y - x);
        return (a + 0.05) / (b + 0.05); }));
    """
    for scheme in ("light", "dark"):
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )
        page.settled()
        assert browser.execute_script(contrast) >= 4.5, scheme  # WCAG 2.2, AA
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.mark.parametrize("dimensions", [1, 2])
def test_numbers_are_points_that_can_be_clicked(browser, here, dimensions):
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.normal(size=(400, dimensions)))
    save_tensors(here / "x.safetensors", {"samples": x, "score.hal": torch.tensor(rng.exponential(size=400))})
    page = Shown(browser, explore("x.safetensors"))
    drawn = """
      const c = document.querySelector('#scatter canvas');
      const p = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
      let [red, blue] = [0, 0];
      for (let k = 0; k < p.length; k += 4) {
        if (p[k] === 0xc8 && p[k + 1] === 0x32 && p[k + 2] === 0x2b) red++;
        if (p[k] === 0x2f && p[k + 1] === 0x6d && p[k + 2] === 0xb3) blue++;
      }
      return [red, blue];
    """
    red, blue = browser.execute_script(drawn)
    assert red > 50
    assert blue > 50
    page.keys("share", Keys.HOME)
    assert browser.execute_script(drawn)[0] > red + 100  # more are removed
    where = "const [x, y] = place(7); const u = charts.scatter; return [u.valToPos(x, 'x'), u.valToPos(y, 'y')]"
    over = page.find("#scatter .u-over")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", over)
    left, top = browser.execute_script(where)
    middle = over.size["width"] / 2, over.size["height"] / 2
    ActionChains(browser).move_to_element_with_offset(over, left - middle[0], top - middle[1]).click().perform()
    page.settled()
    assert re.fullmatch(r"Sample \d+", page.find("#sample-id").text)
    row = int(page.find("#sample-id").text.split()[1])
    assert abs(float(x[row, 0]) - float(x[7, 0])) < 0.1  # it, or one over it
    assert page.errors() == []


@pytest.mark.parametrize(("bad", "words"), [(900, "what is hallucinated is orange"), (30, "a ring around what is")])
def test_what_is_hallucinated_stands_out_without_hiding_the_points(browser, here, bad, words):
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.normal(size=(1800, 2)))
    page = Shown(browser, explore(x, scores=rng.exponential(size=1800), labels=np.arange(1800) < bad))
    assert words in page.find("#scatter figcaption").text
    drawn = """
      const c = document.querySelector('#scatter canvas');
      const p = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
      const colours = { blue: [0x2f, 0x6d, 0xb3], red: [0xc8, 0x32, 0x2b], orange: [0xb3, 0x60, 0x0a] };
      return Object.values(colours).map(([r, g, b]) => {
        let n = 0;
        for (let k = 0; k < p.length; k += 4) if (p[k] === r && p[k + 1] === g && p[k + 2] === b) n++;
        return n;
      });
    """
    assert min(browser.execute_script(drawn)) > 30
    assert page.command[0].startswith("intermode.filter(samples,")
    assert page.errors() == []


def test_a_page_without_scores_shows_the_samples(browser, folder):
    with pytest.warns(UserWarning, match="holds none"):
        page = Shown(browser, explore(folder))
    assert not page.find("#controls").is_displayed()
    assert not page.find("#export").is_displayed()
    assert len(page.samples()) == 120
    page.click("#next")
    assert len(page.samples()) == 120
    assert page.find("#about").text == "300 samples. scores: the data holds none; give some to see a threshold"
    assert page.errors() == []


def test_samples_without_a_score_have_a_page_of_their_own(browser, folder):
    page = Shown(browser, explore(folder, scores="scores.csv"))
    page.choose("score", "residual")
    assert page.number("kept") + page.number("removed") == 297
    assert "3 without a score" in page.find("#counts").text
    page.click("#tab-without")
    assert sorted(page.samples()) == ["a/000.png", "b/001.png", "c/002.png"]


@pytest.mark.slow
def test_ten_thousand_images_stay_fluid(browser, here):
    """A step of the slider takes a few hundredths of a second of a core, however busy the machine is."""
    rng = np.random.default_rng(0)
    images = np.zeros((10_000, 64, 64), np.uint8)
    for image, row, column in zip(images, *rng.integers(0, 48, (2, 10_000)), strict=True):
        image[row : row + 16, column : column + 16] = 255
    np.save("many.npy", images)
    np.save("scores.npy", rng.lognormal(size=10_000))
    path = explore("many.npy", scores="scores.npy")
    assert path.stat().st_size < 60e6
    page = Shown(browser, path)
    assert page.number("kept") == 9000
    browser.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})

    def spent():
        return {m["name"]: m["value"] for m in browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]}

    before = spent()["TaskDuration"]
    browser.execute_async_script(
        """
        const done = arguments[0], slider = document.getElementById('share');
        let at = 0;
        const step = () => {
          if (at === 60) return done();
          slider.value = 30 * at++;
          slider.dispatchEvent(new Event('input'));
          requestAnimationFrame(step);
        };
        step();
        """
    )
    page.settled()
    assert page.number("kept") != 9000
    assert (spent()["TaskDuration"] - before) / 60 < 0.05


def test_a_film_plays_each_frame_as_long_as_it_says_and_stops_when_asked(browser, tmp_path):
    colours = ("red", "green", "blue")
    frames = [Shot(Image.new("RGB", (80, 60), colour), 0.3, colour) for colour in colours]
    write_film(tmp_path / "film.html", "colours", frames)
    browser.get((tmp_path / "film.html").as_uri())
    words, play = (browser.find_element(By.ID, name) for name in ("words", "play"))
    for colour in ("green", "blue", "red"):
        WebDriverWait(browser, 20, 0.02).until(lambda _, colour=colour: words.text == colour)
    play.click()
    assert play.text == "Play"
    place = browser.find_element(By.ID, "place")
    browser.execute_script("arguments[0].value = 2; arguments[0].dispatchEvent(new Event('input'))", place)
    assert words.text == "blue"
    assert browser.find_element(By.ID, "picture").get_property("naturalWidth") == 80
    assert not browser.get_log("browser")
