//! The page in a real browser: what a visitor types, and what a visitor sees how soon.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::browser::Page;
use crate::process::Workshop;

const WIDTH: u32 = 1280;
const HEIGHT: u32 = 884;
/// Trials of which the median is judged.
const TRIALS: usize = 5;
/// Time at 5/s after which a mesh has forgotten the step before, in milliseconds: three times the
/// time constant of the load that a worker's sidecar reports at this limit.
const QUIET: u32 = 8_000;

/// Remembers when a burst answer came last, and of the first one after a change of the box: after
/// how long, its text, the colours, and whether it was in the window. It looks at once, since at
/// 75/s a row is soon pushed out; the time is that of the frame after the one with the row.
const OBSERVE: &str = "
    const colour = (element) => getComputedStyle(element).color;
    const look = (row) => {
        const home = document.querySelector('.answers .home code');
        const box = row.getBoundingClientRect();
        const code = row.querySelector('code');
        return {
            text: code.textContent,
            colour: colour(code),
            homeColour: home && colour(home),
            visible: box.height > 0 && box.top >= 0 && box.bottom <= innerHeight,
        };
    };
    window.lastBurst = performance.now();
    window.trial = null;
    new MutationObserver((records) => {
        const rows = records.flatMap((record) => [...record.addedNodes]);
        const row = rows.find((row) => row.matches('.burst'));
        if (!row) return;
        window.lastBurst = performance.now();
        const trial = window.trial;
        if (!trial?.changed || trial.text) return;
        Object.assign(trial, look(row));
        requestAnimationFrame(() => trial.seconds = (performance.now() - trial.changed) / 1000);
    }).observe(document.getElementById('answers'), {childList: true});
    document.getElementById('frequency').addEventListener('change', () => {
        if (window.trial) window.trial.changed ??= performance.now();
    }, {capture: true});";

/// A workshop with its page, at 5/s.
fn open() -> (Page, Workshop) {
    let (workshop, url) = Workshop::serve();
    let page = Page::open(&url, WIDTH, HEIGHT);
    page.wait("document.querySelector('#link.live') && document.querySelector('.answers .home')");
    page.run(OBSERVE);
    (page, workshop)
}

/// What must hold at the end of every test.
fn check(page: &Page) {
    assert_eq!(page.errors(), [""; 0], "errors in the browser's console");
    assert_eq!(
        page.run("return document.getElementById('total-errors').textContent"),
        "0"
    );
}

/// Changes 5/s to `frequency` several times; gives the seconds until a burst answer was seen.
fn trials(page: &Page, frequency: &str) -> Vec<f64> {
    let mut seconds = Vec::new();
    for _ in 0..TRIALS {
        page.wait(&format!("performance.now() - window.lastBurst > {QUIET}"));
        page.run("window.trial = {}");
        page.type_into("#frequency", frequency);
        page.wait("window.trial.seconds");
        let outcome = page.run("return window.trial");
        page.run("window.trial = null");
        page.type_into("#frequency", "5");
        let text = outcome["text"].as_str().unwrap();
        assert!(
            text.starts_with("bursty-") && text.len() == "bursty-".len() + 64,
            "{outcome}"
        );
        assert!(
            outcome["homeColour"].is_string(),
            "no home answer to compare with: {outcome}"
        );
        assert_ne!(outcome["colour"], outcome["homeColour"], "{outcome}");
        assert_eq!(outcome["visible"], true, "{outcome}");
        seconds.push(outcome["seconds"].as_f64().unwrap());
    }
    seconds.sort_by(f64::total_cmp);
    println!("first burst answer at {frequency}/s seen after {seconds:.2?} s");
    seconds
}

#[test]
fn at_75_a_burst_answer_is_seen_within_a_second() {
    let (page, _workshop) = open();
    let seconds = trials(&page, "75");
    assert!(seconds[TRIALS / 2] < 1.0, "{seconds:?}");
    check(&page);
}

#[test]
fn at_20_a_burst_answer_is_seen_within_four_seconds() {
    let (page, _workshop) = open();
    let seconds = trials(&page, "20");
    assert!(seconds[TRIALS / 2] < 4.0, "{seconds:?}");
    // The page itself measures as well, and shows it with the next tick.
    page.wait("document.getElementById('first-spill').textContent.endsWith(' s')");
    let shown = page.run("return document.getElementById('first-spill').textContent");
    let shown: f64 = shown
        .as_str()
        .unwrap()
        .trim_end_matches(" s")
        .parse()
        .unwrap();
    assert!((0.1..10.0).contains(&shown), "the page itself says {shown}");
    check(&page);
}

/// Waits until the legend's figures are such.
fn wait_rates(page: &Page, condition: &str) {
    page.wait(&format!(
        "((home, burst) => {condition})(...['home', 'burst'].map((id) => \
         parseInt(document.getElementById(`now-${{id}}`).textContent)))"
    ));
}

#[test]
fn limit_mode_and_override_act_at_once() {
    let (page, _workshop) = open();
    page.type_into("#frequency", "20");
    wait_rates(&page, "home >= 14 && home <= 16 && burst >= 4");

    page.type_into("#limit", "30");
    wait_rates(&page, "home >= 19 && burst === 0");
    page.wait("document.getElementById('now-limit').textContent === '30/s'");
    page.type_into("#limit", "10");
    wait_rates(&page, "home <= 11 && burst >= 9");
    page.type_into("#limit", "15");
    wait_rates(&page, "home >= 14 && burst <= 6");

    page.click("[name=mode][value=Switch]");
    wait_rates(&page, "home <= 2 && burst >= 18");
    page.type_into("#frequency", "5");
    wait_rates(&page, "home >= 4 && burst === 0");
    page.click("[name=mode][value=Spill]");

    page.type_into("#seconds", "4");
    let begin = Instant::now();
    page.click("[name=override][value=Overflow]");
    wait_rates(&page, "home === 0 && burst >= 4");
    wait_rates(&page, "home >= 4 && burst === 0");
    assert!(
        begin.elapsed() > Duration::from_secs(3),
        "the override ended too soon"
    );
    page.wait("document.querySelector('[name=override]:checked').value === ''");

    page.type_into("#seconds", "60");
    page.type_into("#frequency", "20");
    page.click("[name=override][value=Home]");
    wait_rates(&page, "home >= 19 && burst === 0");
    // Longer than a step to 20/s takes to spill.
    sleep(Duration::from_secs(5));
    wait_rates(&page, "home >= 19 && burst === 0");
    page.click("[name=override][value='']");
    wait_rates(&page, "home <= 16 && burst >= 4");
    check(&page);
}

#[test]
fn what_is_wrong_is_refused_in_words() {
    let (page, _workshop) = open();
    for (selector, text) in [("#frequency", "301"), ("#limit", "0")] {
        page.type_into(selector, text);
        page.wait("document.querySelector('#said.wrong').textContent.includes('whole number')");
    }
    // What the page would refuse, the workshop refuses too.
    page.run(
        "window.refused = null; fetch('/settings', {method: 'POST', headers: {'content-type': 'application/json'},
            body: JSON.stringify({frequency: 301, limit: 0})})
         .then((reply) => reply.json().then((body) => window.refused = [reply.status, body.reasons.length]))",
    );
    page.wait("window.refused");
    assert_eq!(page.run("return window.refused"), json!([400, 2]));
    assert_eq!(
        page.run("return document.getElementById('now-limit').textContent"),
        "15/s"
    );
}

#[test]
fn the_page_is_drawn_labelled_and_worth_a_picture() {
    let (page, _workshop) = open();
    for (frequency, rates) in [
        ("12", "home >= 12 && burst === 0"),
        ("20", "home >= 14 && home <= 16 && burst >= 4"),
        ("10", "home >= 10 && burst === 0"),
        ("28", "home >= 14 && home <= 16 && burst >= 12"),
    ] {
        page.type_into("#frequency", frequency);
        wait_rates(&page, rates);
        // So that each step is wide enough to be seen.
        sleep(Duration::from_secs(9));
    }
    // The chart: areas with the load's shape, and the limit as a line over the whole width.
    let chart = page.run(
        "return Object.fromEntries(['home', 'burst', 'offered', 'limit'].map((kind) => {
            const box = document.querySelector(`#chart path.${kind}`).getBBox();
            return [kind, {width: box.width, height: box.height, y: box.y}];
        }))",
    );
    let number = |kind: &str, key: &str| chart[kind][key].as_f64().unwrap();
    assert!(number("limit", "width") > 800.0, "{chart}");
    assert!(
        number("limit", "height") < 1.0,
        "a limit that never changed is level: {chart}"
    );
    assert!(number("burst", "height") > 50.0, "{chart}");
    assert!(
        number("offered", "y") < number("limit", "y"),
        "more was offered than the limit: {chart}"
    );
    assert!(
        number("burst", "y") < number("home", "y") + 1.0,
        "burst lies on top: {chart}"
    );

    // Every control has a name for those who hear the page, and so has the chart.
    let unnamed = page.run(
        "return [...document.querySelectorAll('input, button, svg[role=img]')]
            .filter((one) => !(one.labels?.length || one.textContent.trim() || one.ariaLabel))
            .map((one) => one.outerHTML)",
    );
    assert_eq!(unnamed, json!([]));
    assert_eq!(
        page.run("return document.documentElement.scrollWidth <= innerWidth"),
        true
    );

    for scheme in ["dark", "light"] {
        page.devtools(
            "Emulation.setEmulatedMedia",
            &json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]}),
        );
        let contrasts = page.run(CONTRAST);
        assert_eq!(contrasts, json!([]), "hard to read when {scheme}");
        save(scheme, &page.screenshot());
    }
    check(&page);
}

/// Texts whose contrast to what lies behind them is below 4.5, the least for ordinary text.
const CONTRAST: &str = "
    const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const light = (colour) => {
        const [r, g, b] = channels(colour).map((c) => c / 255).map((c) =>
            c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (one) => {
        for (; one; one = one.parentElement) {
            const colour = getComputedStyle(one).backgroundColor;
            if ((channels(colour)[3] ?? 1) > 0) return colour;
        }
        return 'rgb(255, 255, 255)';
    };
    return [...document.querySelectorAll('h1, h2, h3, p, label, legend, span, b, em, code, li, button, input')]
        .filter((one) => one.innerText?.trim() && one.getBoundingClientRect().height)
        .map((one) => {
            const [a, b] = [light(getComputedStyle(one).color), light(behind(one))];
            return [one.outerHTML.slice(0, 80), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
        })
        .filter(([, contrast]) => contrast < 4.5);";

/// Keeps a picture beside the other files of the tests; `docs/images/workshop.png` is the light one.
fn save(scheme: &str, png: &str) {
    let path =
        std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("workshop-{scheme}.png"));
    let bytes = base64(png);
    assert!(
        bytes.starts_with(b"\x89PNG") && bytes.len() < 300 * 1024,
        "{} bytes",
        bytes.len()
    );
    std::fs::write(&path, bytes).unwrap();
    println!("picture: {}", path.display());
}

/// Decodes base64.
fn base64(text: &str) -> Vec<u8> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let value = LETTERS.iter().position(|known| *known == letter).unwrap();
        bits = bits << 6 | u32::try_from(value).unwrap();
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    bytes
}
