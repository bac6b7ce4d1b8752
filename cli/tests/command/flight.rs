//! `spillway test-flight`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use insta::assert_snapshot;
use serde_json::Value;
use spillway_cli::reference;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use crate::mesh::{self, CALLER};
use crate::run::{FLIGHT, folder, run, said, spillway};
use crate::terminal::{Running, Terminal};

/// A service that counts its requests, answers none before so many have come, and from then on
/// every second one with a prefix.
struct Server {
    address: String,
    requests: Arc<AtomicUsize>,
    _task: AbortOnDropHandle<()>,
}

impl Server {
    async fn start(holds: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, Arc::clone(&counted), holds));
            }
        });
        Self {
            address,
            requests,
            _task: AbortOnDropHandle::new(task),
        }
    }

    async fn wait(&self, requests: usize) {
        while self.requests.load(Ordering::SeqCst) < requests {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn serve(mut stream: TcpStream, requests: Arc<AtomicUsize>, holds: usize) {
    let mut head = Vec::new();
    let mut bytes = [0; 1024];
    while let Ok(read) = stream.read(&mut bytes).await {
        head.extend_from_slice(&bytes[..read]);
        if read == 0 {
            return;
        }
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        assert!(head.starts_with(b"GET /work HTTP/1.1\r\n"));
        head.clear();
        let number = requests.fetch_add(1, Ordering::SeqCst);
        while requests.load(Ordering::SeqCst) < holds {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let prefix = ["", "x-spillway-prefix: bursty-\r\n"][number % 2];
        let answer = format!("HTTP/1.1 200 OK\r\n{prefix}content-length: 2\r\n\r\nok");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Numbers and the space that they take are as the machine is.
pub(crate) fn masked(said: &str) -> String {
    let mut masked = String::new();
    for line in said.lines().filter(|line| !line.starts_with("---")) {
        let words = line.split_whitespace().map(|word| {
            let number = |c: char| c.is_ascii_digit() || c == '.';
            let is_number = word
                .trim_matches(|c| "(),/s".contains(c))
                .chars()
                .all(number);
            if is_number && word.chars().any(|c| c.is_ascii_digit()) {
                "N"
            } else {
                word
            }
        });
        masked += &(words.collect::<Vec<_>>().join(" ") + "\n");
    }
    masked
}

/// Through real sidecars: what is above the limit is seen to spill, by its prefix.
#[tokio::test(flavor = "multi_thread")]
async fn spilled_requests_are_seen() -> anyhow::Result<()> {
    const LIMIT: f64 = 15.0;
    let mesh = mesh::limited("15/s").await?;
    let target = mesh.target(CALLER)?;
    let url = format!("http://{}/work", target.address);
    let host = format!("host:{}", target.host);
    let words = [
        "test-flight",
        &url,
        "--header",
        &host,
        "--rate",
        "5..75",
        "--for",
        "5s",
    ];
    let folder = folder(&[]);
    let fly = |form: &'static str| {
        let mut command = spillway(folder.path());
        command.args(words).args(["-o", form]);
        tokio::task::spawn_blocking(move || command.output().unwrap())
    };
    let output = fly("json").await?;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let report: Value = serde_json::from_slice(&output.stdout)?;
    // (5 + 75) / 2 × 5, all of them.
    assert_eq!(
        (&report["sent"], &report["answered"]),
        (&200.into(), &200.into()),
        "{report}"
    );
    let burst = mesh.count("burst");
    assert_eq!(report["spilled"], burst, "{report}");
    assert!(burst > 50, "{report}");
    let of = |prefix: &str| {
        let clusters = report["clusters"].as_array().unwrap();
        let it = clusters.iter().find(|it| it["prefix"] == prefix);
        it.unwrap()["statuses"]["200"].as_u64().unwrap() as usize
    };
    assert_eq!((of(""), of("bursty-")), (mesh.count("primary"), burst));
    // No request leaves home before the rate is above the limit.
    let first = report["firstSpill"]["requestsPerSecond"].as_f64().unwrap();
    assert!(first > LIMIT, "{report}");
    let text = said(&fly("text").await?).replace(&url, "URL");
    assert_snapshot!("report", masked(&text));
    Ok(())
}

/// A service that answers nobody until all have come gets them all, on time; and what they waited
/// is counted from when they were to be sent.
#[tokio::test(flavor = "multi_thread")]
async fn requests_do_not_wait_for_answers() {
    let server = Server::start(20).await;
    let folder = folder(&[]);
    let mut command = spillway(folder.path());
    command.args(["test-flight", &format!("{}/work", server.address)]);
    command.args(["--rate", "20", "--for", "1s", "-o", "json"]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["answered"], 20, "{report}");
    let longest = |it: &Value| it["latencyMilliseconds"]["max"].as_f64().unwrap();
    let longest = report["clusters"].as_array().unwrap().iter().map(longest);
    // The first was to be sent 950 ms before the last.
    assert!(longest.fold(0.0, f64::max) >= 949.0, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_flight_tells_what_was_sent() {
    let server = Server::start(0).await;
    let url = format!("{}/work", server.address);
    let words = [
        "test-flight",
        &url,
        "--rate",
        "50",
        "--for",
        "2m",
        "-o",
        "json",
    ];
    let mut running = Running::start(&words);
    server.wait(20).await;
    let (status, said) = tokio::task::spawn_blocking(move || (running.interrupt(), running.said()))
        .await
        .unwrap();
    assert_eq!(status, 0, "{said}");
    let report: Value = serde_json::from_str(&said).unwrap();
    let sent = server.requests.load(Ordering::SeqCst);
    assert_eq!(
        (&report["sent"], &report["answered"]),
        (&sent.into(), &sent.into())
    );
    assert_eq!(report["spilled"], sent / 2);
}

/// What is shown changes in place, fits, and makes room for the report.
#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_shows_it_while_it_lasts() {
    let server = Server::start(0).await;
    let program = env!("CARGO_BIN_EXE_spillway");
    let url = format!("{}/work", server.address);
    let terminal = Terminal::start(
        60,
        24,
        &format!("echo before; {program} test-flight {url} --rate 20 --for 2m"),
    );
    let shown = terminal.until("both answer", |it| it.contains("bursty-"));
    assert!(
        shown.contains("before") && shown.contains(" s of 120 s, "),
        "{shown}"
    );
    assert!(!shown.contains("STATUS"), "cut to the width: {shown}");
    let now = server.requests.load(Ordering::SeqCst);
    server.wait(now + 20).await;
    terminal.press("C-c");
    let shown = terminal.until("the end", |it| it.contains("status 0"));
    assert!(
        !shown.contains(" s of 120 s, ") && shown.contains(" spilled ("),
        "{shown}"
    );
}

/// The help's examples, each without its time and to a service that is there.
#[tokio::test(flavor = "multi_thread")]
async fn every_example_flies() {
    let server = Server::start(0).await;
    let command = spillway_cli::command(None);
    let examples = reference::examples(command.find_subcommand(FLIGHT).unwrap());
    assert!(examples.len() > 1);
    let folder = folder(&[]);
    for example in examples {
        let url = format!("{}/work", server.address);
        let example = example
            .replace("worker.shop", &url)
            .replace("http://gateway.example.com/work", &url)
            .replace("30s", "1s")
            .replace("1m", "1s");
        let words: Vec<&str> = example.split(' ').skip(1).collect();
        let mut command = spillway(folder.path());
        command.args(words);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = output.await.unwrap();
        assert!(output.status.success(), "{example}: {}", said(&output));
    }
}

#[test]
fn what_is_not_flown() {
    let folder = folder(&[]);
    let mut said = String::new();
    for words in [
        "worker --rate 5..75 --for 30s --dry-run",
        "worker --rate 5..75 --for 1h",
        "worker --rate 0 --for 1s",
        "ftp://worker --rate 5 --for 1s",
        "https://worker --rate 5 --for 1s --ca nowhere.pem",
        "worker --rate 5 --for 1s --header host",
        // Nobody listens at this port.
        "127.0.0.1:1/work --rate 5 --for 1s",
    ] {
        said += &format!("$ spillway test-flight {words}\n");
        let words = ["test-flight"].into_iter().chain(words.split(' '));
        said += &run(folder.path(), &words.collect::<Vec<_>>());
    }
    assert_snapshot!(said);
}
