"""The page in a real headless browser: no console errors, pictures drawn, readable by everybody, nothing fetched."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli.report import command

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: make setup-dev")

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="no headless browser; on Debian: apt-get install chromium chromium-driver"
)

CONTRAST = """
const light = c => { const v = c.match(/[\\d.]+/g).map(Number).slice(0, 3).map(x => x / 255)
  .map(x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4); return 0.2126*v[0] + 0.7152*v[1] + 0.0722*v[2]; };
const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
  if (!/rgba\\(.*, 0\\)|transparent/.test(c)) return c; } return 'rgb(255, 255, 255)'; };
const low = [];
for (const e of document.querySelectorAll('body *')) {
  const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
  if (!own || ['TITLE', 'DESC', 'STYLE'].includes(e.tagName.toUpperCase())) continue;
  const style = getComputedStyle(e), ink = e.ownerSVGElement ? style.fill : style.color;
  const a = light(ink), b = light(behind(e)), ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) low.push([e.tagName, e.textContent.slice(0, 30), ratio.toFixed(2)]);
}
return low;
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    from public_folders import PublicFolder
    from report_samples import store_three_seeds

    root = tmp_path_factory.mktemp("page")
    store_three_seeds(root, isolation={"a_word_that_is_longer_than_the_screen_of_a_phone_is_wide": "in force"})
    name = "2026-04-05_A_name_as_long_as_those_of_public_folders_often_are"
    PublicFolder(name=name, files={"README.md": None}).write(root)
    path = root / "report.html"
    arguments = [str(root / "records"), str(root / "track_10min_16mb"), "--out", str(root)]
    CliRunner().invoke(command, arguments, standalone_mode=False)
    return path


@pytest.fixture(scope="module")
def driver():
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield found
    found.quit()


def show(driver, page: Path, *, scheme="light", width=1200, media="screen"):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.get(page.as_uri())


def test_the_page_loads_without_a_console_error_and_fetches_nothing(driver, page):
    show(driver, page)
    assert driver.get_log("browser") == []
    requested = driver.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [name for name in requested if not name.startswith("data:")] == []
    assert driver.execute_script("return document.scripts.length") == 0


def test_every_figure_holds_a_drawing_that_is_there(driver, page):
    show(driver, page)
    boxes = driver.execute_script(
        "return [...document.querySelectorAll('figure svg')].map(s => [s.getBoundingClientRect().width,"
        "s.getBoundingClientRect().height, s.querySelectorAll('rect,polyline,circle').length,"
        "s.querySelector('title').textContent, s.querySelector('desc').textContent])"
    )
    assert len(boxes) == 5
    for width, height, marks, title, words in boxes:
        assert min(width, height) > 80
        assert marks > 0
        assert title
        assert len(words) > 20
    inside = driver.execute_script(
        "return [...document.querySelectorAll('svg text')].filter(t => { const b = t.getBBox();"
        "return b.x < -1 || b.x + b.width > 421; }).map(t => t.textContent)"
    )
    assert inside == []


@pytest.mark.parametrize(("scheme", "media"), [("light", "screen"), ("dark", "screen"), ("dark", "print")])
def test_all_text_stands_out_from_its_ground(driver, page, scheme, media):
    show(driver, page, scheme=scheme, media=media)
    driver.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert driver.execute_script(CONTRAST) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 800, 1200])
def test_no_column_is_cut_and_the_page_never_scrolls_sideways(driver, page, width, scheme):
    show(driver, page, width=width, scheme=scheme)
    driver.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    cut = driver.execute_script(
        "return [...document.querySelectorAll('td')].filter(e => { const b = e.getBoundingClientRect();"
        "return b.width < 1 || b.left < 0 || b.right > innerWidth || e.scrollWidth > e.clientWidth + 1; })"
        ".map(e => e.textContent)"
    )
    assert cut == []


def test_structure_serves_screen_readers_and_the_keyboard(driver, page):
    show(driver, page)
    facts = driver.execute_script(
        """const all = s => [...document.querySelectorAll(s)];
        return {lang: document.documentElement.lang, main: all('main').length, h1: all('h1').length,
        levels: all('h1,h2,h3,h4').map(h => +h.tagName[1]), ids: all('[id]').map(e => e.id),
        bare: all('table th:not([scope])').length, images: all('svg:not([role=img])').length,
        unnamed: all('section:not([aria-labelledby]), table:not([aria-label])').length,
        refs: all('[aria-labelledby]').flatMap(e => e.getAttribute('aria-labelledby').split(' ')),
        links: all('a[href^="#"]').map(e => e.getAttribute('href').slice(1))}"""
    )
    assert facts["lang"] == "en"
    assert (facts["main"], facts["h1"]) == (1, 1)
    assert all(b - a <= 1 for a, b in zip(facts["levels"], facts["levels"][1:], strict=False))
    assert len(set(facts["ids"])) == len(facts["ids"])
    assert set(facts["refs"]) | set(facts["links"]) <= set(facts["ids"])
    assert [facts[name] for name in ("bare", "images", "unnamed")] == [0, 0, 0]
