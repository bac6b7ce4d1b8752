//! A browser at work: Chromium without a window, driven by ChromeDriver in the WebDriver protocol.
//!
//! The protocol is JSON over HTTP, and a test needs six of its commands: less than a client brings.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{DEADLINE, descendants};

/// The key of an element's id in WebDriver's answers.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// Keys, as WebDriver writes them.
const CONTROL: char = '\u{e009}';
const RELEASE: char = '\u{e000}';
const ENTER: char = '\u{e007}';

/// A page in a browser; both end when this is dropped.
pub(crate) struct Page {
    driver: Child,
    port: u16,
    session: String,
    _profile: TempDir,
}

impl Page {
    /// Opens the page in a new browser with an empty profile.
    pub(crate) fn open(url: &str, width: u32, height: u32) -> Self {
        let mut driver = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "chromedriver", "--port=0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let port = port(&mut driver);
        let profile = tempfile::Builder::new()
            .prefix("spillway-browser-")
            .tempdir()
            .unwrap();
        let mut page = Self {
            driver,
            port,
            session: String::new(),
            _profile: profile,
        };
        page.start(width, height);
        page.post("url", &json!({"url": url}));
        page
    }

    fn start(&mut self, width: u32, height: u32) {
        let profile = format!("--user-data-dir={}", self._profile.path().display());
        // The page is the only one it shows, so it may run without a sandbox (as root, it has to);
        // by the pipe it notices when its driver is gone.
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--remote-debugging-pipe",
            "--disable-gpu",
            "--disable-quic",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            "--hide-scrollbars",
            &profile,
        ];
        let session = self.command(
            "POST",
            "/session",
            Some(&json!({"capabilities": {"alwaysMatch": {
                "goog:loggingPrefs": {"browser": "ALL"},
                "goog:chromeOptions": {"args": arguments},
            }}})),
        );
        self.session = session["sessionId"].as_str().unwrap().to_owned();
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            &json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false}),
        );
    }

    /// Runs a script in the page, and gives what it returns.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.post("execute/sync", &json!({"script": script, "args": []}))
    }

    /// Waits until an expression is true in the page.
    pub(crate) fn wait(&self, expression: &str) {
        let begin = Instant::now();
        while self.run(&format!("return Boolean({expression})")) != Value::Bool(true) {
            assert!(
                begin.elapsed() < DEADLINE,
                "never true: {expression}; {}, console: {:?}",
                self.rates(),
                self.errors()
            );
            sleep(Duration::from_millis(50));
        }
    }

    /// What the legend says.
    pub(crate) fn rates(&self) -> String {
        self.run("return document.querySelector('.legend').innerText")
            .to_string()
    }

    /// Replaces what is in a box by what a person would type, with Enter at the end.
    pub(crate) fn type_into(&self, selector: &str, text: &str) {
        let keys = format!("{CONTROL}a{RELEASE}{text}{ENTER}");
        self.post(
            &format!("element/{}/value", self.element(selector)),
            &json!({"text": keys}),
        );
    }

    /// Clicks on an element.
    pub(crate) fn click(&self, selector: &str) {
        self.post(
            &format!("element/{}/click", self.element(selector)),
            &json!({}),
        );
    }

    /// What the browser logged as an error, scripts and failed requests included.
    pub(crate) fn errors(&self) -> Vec<String> {
        let log = self.post("se/log", &json!({"type": "browser"}));
        log.as_array()
            .unwrap()
            .iter()
            .filter(|entry| entry["level"] == "SEVERE")
            .map(|entry| entry["message"].to_string())
            .collect()
    }

    /// A picture of the window, as base64 of a PNG.
    pub(crate) fn screenshot(&self) -> String {
        self.session_command("GET", "screenshot", None)
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Sends a command of the DevTools protocol.
    pub(crate) fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.post(
            "goog/cdp/execute",
            &json!({"cmd": command, "params": parameters}),
        )
    }

    fn element(&self, selector: &str) -> String {
        let found = self.post(
            "element",
            &json!({"using": "css selector", "value": selector}),
        );
        found[ELEMENT].as_str().unwrap().to_owned()
    }

    fn post(&self, command: &str, body: &Value) -> Value {
        self.session_command("POST", command, Some(body))
    }

    fn session_command(&self, method: &str, command: &str, body: Option<&Value>) -> Value {
        self.command(
            method,
            &format!("/session/{}/{command}", self.session),
            body,
        )
    }

    /// Sends a command of the WebDriver protocol, and gives the value of its answer.
    fn command(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            self.port,
            body.len()
        )
        .unwrap();
        let mut answer = BufReader::new(stream);
        let mut status = String::new();
        answer.read_line(&mut status).unwrap();
        let mut bytes = vec![0; content_length(&mut answer)];
        answer.read_exact(&mut bytes).unwrap();
        let mut answer: Value = serde_json::from_slice(&bytes).unwrap();
        assert!(
            status.contains(" 200 "),
            "{method} {path}: {}",
            answer["value"]["message"]
        );
        answer["value"].take()
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // The browser is the driver's child, and killing the parent alone would leave it.
        let browser = descendants(self.driver.id());
        let _ = self.driver.kill();
        let _ = self.driver.wait();
        for process in browser {
            let _ = Command::new("kill")
                .args(["-s", "KILL", &process.to_string()])
                .stderr(Stdio::null())
                .status();
        }
    }
}

/// The port that ChromeDriver says it listens at.
fn port(driver: &mut Child) -> u16 {
    let mut output = BufReader::new(driver.stdout.take().unwrap());
    let mut line = String::new();
    while output.read_line(&mut line).unwrap() > 0 {
        if let Some((_, port)) = line
            .trim_end()
            .trim_end_matches('.')
            .rsplit_once("started successfully on port ")
        {
            return port.parse().unwrap();
        }
        line.clear();
    }
    panic!("ChromeDriver does not start");
}

fn content_length(answer: &mut impl std::io::BufRead) -> usize {
    let mut length = 0;
    loop {
        let mut line = String::new();
        answer.read_line(&mut line).unwrap();
        match line.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().unwrap();
            }
            Some(_) => {}
            None => return length,
        }
    }
}
