"""The page in a headless Chromium: no error, no request, everything by keyboard, two widths, the state in the hash.

The browser is driven over two pipes by its DevTools protocol, with the standard library alone.
"""

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal

import pytest

from selfattn_hf import SelfAttnConfig
from selfattn_hf.insight import load_for_probing, reach, sequential_steps
from selfattn_hf.insight.connections import reachable
from selfattn_hf.insight.positions import fresh_model
from selfattn_hf.insight.report import drawings_of, page_of
from selfattn_hf.insight.report_data import report_data
from selfattn_hf.insight.report_sentences import sentences_of

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="the page is driven in Chromium, and there is none on this machine"),
    pytest.mark.skipif("CI" in os.environ, reason="a browser is not driven in continuous integration"),
]
KEYS = {"Tab": 9, "Enter": 13, " ": 32, "ArrowRight": 39, "ArrowDown": 40}
FOCUSABLE = "a[href], button, select, input, summary, [tabindex='0']"


class Browser:
    """A headless Chromium with one tab."""

    def __init__(self, profile):
        (there, self.writing), (self.reading, back) = os.pipe(), os.pipe()
        high = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, 20) for one in (there, back)]  # so that 3 and 4 are free
        null = os.open(os.devnull, os.O_RDWR)
        words = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                 "--disable-background-networking", "--hide-scrollbars", f"--user-data-dir={profile}",
                 "--remote-debugging-pipe", "about:blank"]  # fmt: skip
        given = [(os.POSIX_SPAWN_DUP2, one, to) for one, to in ((high[0], 3), (high[1], 4), (null, 1), (null, 2))]
        self.process = os.posix_spawn(CHROMIUM, words, os.environ, file_actions=given, setpgroup=0)
        for one in (there, back, null, *high):
            os.close(one)
        self.calls, self.buffer, self.events, self.session = 0, b"", [], None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)

    def message(self):
        while b"\0" not in self.buffer:
            if not select.select([self.reading], [], [], 60)[0]:
                raise TimeoutError("the browser said nothing for a minute")
            found = os.read(self.reading, 1 << 20)
            if not found:
                raise EOFError("the browser has ended")
            self.buffer += found
        first, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(first)

    def call(self, method, **params):
        self.calls += 1
        message = {"id": self.calls, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.writing, json.dumps(message).encode() + b"\0")
        while (answer := self.message()).get("id") != message["id"]:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def js(self, code):
        found = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def open(self, url):
        for address in ("about:blank", url):
            self.events.clear()
            loader = self.call("Page.navigate", url=address)["loaderId"]
            while not any(
                event.get("method") == "Page.lifecycleEvent"
                and (event["params"]["loaderId"], event["params"]["name"]) == (loader, "load")
                for event in self.events
            ):
                self.events.append(self.message())

    def width(self, width):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)

    def prefer(self, **media):
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
        self.call("Emulation.setEmulatedMedia", features=features)

    def press(self, key):
        text = {"Enter": {"text": "\r"}, " ": {"text": " "}}.get(key, {})
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code="Space" if key == " " else key,
                      windowsVirtualKeyCode=KEYS[key], **(text if kind == "keyDown" else {}))  # fmt: skip

    def of(self, *methods):
        return [event["params"] for event in self.events if event.get("method") in methods]

    def close(self):
        with contextlib.suppress(Exception):
            self.call("Browser.close")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)
        for one in (self.reading, self.writing):
            os.close(one)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    started = Browser(tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


@pytest.fixture(scope="module")
def folders(make_folder):
    recurrent = {"encoder_mixer": "rnn", "decoder_mixer": "window", "position_encoding": "none"}
    return [make_folder("transformer"), make_folder("recurrent", **recurrent)]


@pytest.fixture(scope="module")
def data(folders):
    return report_data([(folder.name, load_for_probing(folder), folder) for folder in folders], timed=True)


@pytest.fixture(scope="module")
def address(data, folders, tmp_path_factory):
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(page_of(data, drawings_of([load_for_probing(folder).model.config for folder in folders])))
    return file.as_uri()


@pytest.fixture
def page(browser, address):
    browser.width(1280)
    browser.prefer(prefers_color_scheme="light")
    browser.open(address)
    return browser


def test_no_error_and_no_request_but_its_own_file(page, address):
    for model in (0, 1):
        page.js(f"set({{ model: {model} }}, true)")
        page.js("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        for encoding in page.js("Object.keys(DATA.positions)"):
            page.js(f"set({{ encoding: '{encoding}' }})")
        for change in ("shuffle: 2", "mask: 'off'", "show: 'affinities'", "step: 3", "T: 24", "r: 6", "L: 6"):
            page.js(f"set({{ {change} }})")
        for mixer in page.js("Object.keys(MIXER_NAMES)"):
            page.js(f"set({{ mixer: '{mixer}', side: 'decoder' }})")
    errors = page.of("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled")
    assert errors == []
    asked = {event["request"]["url"].split("#")[0] for event in page.of("Network.requestWillBeSent")}
    assert {url for url in asked if not url.startswith("data:")} == {address}


def test_every_section_shows_something_and_text_is_no_markup(page, data):
    sections = page.js("[...document.querySelectorAll('section')].map((one) => one.textContent.length)")
    assert len(sections) == 10 and min(sections) > 100
    assert page.js("document.querySelectorAll('main b:not(.bars b), main img, main script').length") == 0
    assert data["models"][0]["sentences"][0]["text"] in page.js("document.getElementById('bar').textContent")


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("model", [0, 1])
def test_no_sideways_scrolling(page, width, model):
    page.width(width)
    page.js(f"set({{ model: {model} }})")
    page.js("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert page.js("document.documentElement.scrollWidth") <= width


def test_the_tab_key_reaches_everything(page):
    page.js(f"""window.wanted = [...document.querySelectorAll("{FOCUSABLE}")].filter((one) => one.checkVisibility());
        window.met = new Set(); document.addEventListener("focusin", (event) => met.add(event.target));""")
    number = page.js("wanted.length")
    assert number > 60
    for _ in range(number + 5):
        page.press("Tab")
    missed = page.js("wanted.filter((one) => !met.has(one)).map((one) => one.outerHTML.slice(0, 120))")
    assert missed == []


def test_what_has_the_focus_is_seen(page):
    for _ in range(4):
        page.press("Tab")
    style = page.js(
        "(({ outlineStyle, outlineWidth }) => [outlineStyle, outlineWidth])(getComputedStyle(document.activeElement))"
    )
    assert style == ["solid", "3px"]


def test_a_click_on_anything_needs_no_mouse(page):
    assert (
        page.js("""[...document.querySelectorAll("main *, #bar *, nav *")].filter((one) => one.onclick).length""") == 0
    )
    page.js("document.querySelector('[data-key=shuffle]').focus()")
    page.press("Enter")
    assert page.js("state.shuffle") == 1
    assert page.js("document.activeElement.dataset.key") == "shuffle"
    page.press(" ")
    assert page.js("state.shuffle") == 2
    page.js("document.querySelector('[data-key=\"slide-T\"]').focus()")
    page.press("ArrowRight")
    assert page.js("state.T") == 14
    page.js("document.querySelector('#reach [data-key=choose-mixer]').focus()")
    page.press("ArrowDown")
    assert page.js("location.hash").count("mixer=") == 1


def test_arrow_keys_walk_through_a_matrix(page, data):
    weights = data["models"][0]["sentences"][0]["maps"]["cross"][0][0]
    page.press("Tab")
    page.js("document.querySelector('[data-key=matrix-map]').focus()")
    page.press("ArrowDown")
    page.press("ArrowRight")
    told = page.js("document.querySelector('[data-key=matrix-map]').parentElement.nextSibling.textContent")
    assert told.endswith(f": {weights[1][1]}")


def test_a_word_shows_what_it_looks_at(page, data):
    sentence = data["models"][0]["sentences"][0]
    page.js("document.querySelector('[data-key=left-1]').focus()")
    told = page.js("document.querySelector('#attention figure > .readout').textContent")
    row = sentence["maps"]["cross"][0][0][1]
    best = max(range(len(row)), key=row.__getitem__)
    assert f"“{sentence['source_tokens'][best]}” {row[best]}" in told


def test_the_hash_brings_the_state_back(page, address):
    page.js(
        "set({ model: 0, sentence: 2, part: 'encoder', layer: 1, head: 1, theme: 'dark', section: 'lookup' }, true)"
    )
    page.js("set({ query: 1, T: 9, text: 'two & three' })")
    wanted, hash_ = page.js("JSON.stringify(state)"), page.js("location.hash")
    page.open(address + hash_)
    assert page.js("JSON.stringify(state)") == wanted
    value = "document.querySelector('{} [data-key=choose-{}]').value"
    asked = (("#bar", "sentence"), ("#lookup", "layer"), ("#lookup", "part"))
    shown = [page.js(value.format(*one)) for one in asked]
    assert shown == ["2", "1", "encoder"]
    assert page.js("document.querySelector('[data-key=ask]').value") == "two & three"
    assert page.js("document.documentElement.dataset.theme") == "dark"
    assert page.js("Math.abs(document.getElementById('lookup').getBoundingClientRect().top) < 200")
    page.js("set({ model: 1, sentence: 0 }, true)")
    page.js("new Promise((done) => { addEventListener('popstate', () => done(1), { once: true }); history.back(); })")
    assert page.js("[state.model, state.sentence]") == [0, 2]
    assert page.js("document.querySelector('#bar [data-key=choose-model]').value") == "0"


@pytest.mark.parametrize(
    "hash_", ["#", "#nowhere&model=99&layer=-3&T=x&sentence=8", "#lookup&part=none&head=77&%E0%A4%A"]
)
def test_a_strange_hash_does_no_harm(page, address, hash_):
    page.open(address + hash_)
    assert page.of("Runtime.exceptionThrown") == []
    assert page.js("document.querySelectorAll('section').length") == 10


def test_light_and_dark(page):
    colour = "getComputedStyle(document.body).backgroundColor"
    light = page.js(colour)
    page.prefer(prefers_color_scheme="dark")
    dark = page.js(colour)
    assert light != dark
    page.js("set({ theme: 'light' })")
    assert page.js(colour) == light
    page.prefer(prefers_color_scheme="light")
    page.js("set({ theme: 'dark' })")
    assert page.js(colour) == dark


def test_who_wants_no_motion_gets_none(page):
    page.prefer(prefers_reduced_motion="reduce")
    assert page.js("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
    assert page.js("getComputedStyle(document.querySelector('.word')).transitionDuration") == "0s"


def test_every_picture_has_words_and_every_control_a_name(page):
    bare = page.js("""[...document.querySelectorAll("main svg")].filter((one) => !one.closest("[aria-hidden=true]")
        && !(one.getAttribute("role") === "img" && (one.getAttribute("aria-label") || one.querySelector("title"))))
        .map((one) => one.outerHTML.slice(0, 150))""")
    assert bare == []
    nameless = page.js("""[...document.querySelectorAll("select, input, button")].filter((one) =>
        !(one.labels?.length || one.textContent.trim() || one.getAttribute("aria-label")))
        .map((one) => one.outerHTML)""")
    assert nameless == []


def test_every_number_of_a_table_is_in_the_data(page, data):
    def numbers(found):
        if isinstance(found, dict):
            return set().union(*map(numbers, found.values()), found)
        if isinstance(found, list):
            return set().union(*map(numbers, found))
        return (
            {str(found)}
            if isinstance(found, str)
            else {json.dumps(found), f"{found:.17g}"}
            if isinstance(found, float)
            else {json.dumps(found)}
        )

    known = numbers(data)
    page.js("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    page.js("new Promise((done) => setTimeout(done, 50))")
    cells = page.js("""[...document.querySelectorAll("main td")].filter((one) => !one.closest("#ask, [data-theory]"))
        .map((one) => one.textContent.trim().replace(/^−/, "-"))""")
    decimal = {
        cell for cell in cells if cell.lstrip("-").replace(".", "", 1).replace("e-", "", 1).isdecimal() and "." in cell
    }
    assert len(decimal) > 300
    assert {cell for cell in decimal if cell not in known and json.dumps(float(cell)) not in known} == set()


@pytest.mark.parametrize("causal", [False, True])
def test_the_theory_of_the_sliders_is_that_of_the_probes(page, mixer, causal):
    side = "decoder" if causal else "encoder"
    for length, radius, layers in ((2, 1, 1), (7, 2, 3), (9, 1, 2)):
        switches = {f"{side}_mixer": mixer, f"{side}_layers": layers, "position_encoding": "none", "vocab_size": 8}
        if mixer in ("window", "local_attention"):
            switches["window_radius"] = radius
        config = SelfAttnConfig(**switches, hidden_size=8, num_attention_heads=1, max_position_embeddings=16)
        given = json.dumps([mixer, length, radius, layers, causal])
        found = page.js(f"THEORY.reach(...{given})")
        assert found == [layer.tolist() for layer in reachable(config, side, length)]
        if side == "encoder":
            steps = sequential_steps(fresh_model(config), length)
            assert page.js(f"THEORY.ready(...{given})") == steps.by_place


def test_the_pyramid_follows_its_sliders(page):
    page.js("set({ mixer: 'window', T: 15, r: 2, L: 3, place: 7, side: 'encoder' })")
    assert page.js("document.querySelector('[data-pyramid]').dataset.pyramid") == "13/3"
    page.js("set({ mixer: 'rnn', side: 'decoder', L: 1 })")
    assert page.js("document.querySelector('[data-pyramid]').dataset.pyramid") == "8/15"


def test_the_model_in_the_page_answers_as_the_real_one_does(page, folders):
    probed = load_for_probing(folders[0])
    for text in ("one three five", sentences_of(probed, folders[0])[0].text):
        page.js("document.getElementById('question').focus(); document.getElementById('question').select()")
        page.call("Input.insertText", text=text)
        answered = page.js(f"tinyModel.answer({json.dumps(text)}, 40)")
        assert answered["targetTokens"] == probed.read(text).written_tokens[:40]
        shown = page.js("document.getElementById('answer').textContent")
        assert shown and shown in (answered["text"], " ".join(answered["targetTokens"]).strip())
        assert page.js("state.text") == text


def test_measured_reach_is_drawn_as_it_was_measured(page, folders, data):
    probed = load_for_probing(folders[0])
    pair = sentences_of(probed, folders[0])[0].pair
    assert reach(probed.model, pair, "encoder", 8).agrees
    assert "agree in every cell" in page.js("document.querySelector('#reach').textContent")
