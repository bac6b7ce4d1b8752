//! The workshop from outside: its exit codes, and that nothing outlives it.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::process::{DEADLINE, Workshop, descendants, wait_until_gone};

/// Three workers and a frontend with a sidecar each, and Redis.
const PROCESSES: usize = 5;

/// Waits until the workshop has started all its processes.
fn all_processes(workshop: &Workshop) -> BTreeSet<u32> {
    let begin = Instant::now();
    loop {
        let processes = descendants(workshop.id());
        if processes.len() >= PROCESSES {
            return processes;
        }
        assert!(begin.elapsed() < DEADLINE, "only {processes:?}");
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn headless_goes_right_and_leaves_nothing() {
    let mut workshop = Workshop::start(&["headless"]);
    let processes = all_processes(&workshop);
    let output = workshop.output();
    let status = workshop.wait();
    println!("{output}");
    assert!(status.success(), "{status}");
    assert_eq!(
        output.lines().filter(|line| line.ends_with("15")).count(),
        48,
        "a row per second"
    );
    assert!(!output.contains("WRONG"));
    wait_until_gone(&processes);
}

/// Asks for the page's events, and waits for the first of them.
fn open_events(url: &str) -> TcpStream {
    let mut stream = TcpStream::connect(url.trim_start_matches("http://")).unwrap();
    write!(stream, "GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut lines = BufReader::new(&stream).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("\"type\":\"hello\"")));
    stream
}

#[test]
fn signals_end_serve_and_all_that_it_started() {
    for signal in ["INT", "TERM"] {
        let (mut workshop, url) = Workshop::serve();
        assert!(url.starts_with("http://127.0.0.1:"), "{url}");
        let processes = all_processes(&workshop);
        // A page that is still open does not keep it from ending.
        let events = open_events(&url);
        workshop.signal(signal);
        let status = workshop.wait();
        drop(events);
        assert!(status.success(), "after {signal}: {status}");
        wait_until_gone(&processes);
    }
}

#[test]
fn a_signal_during_the_start_leaves_nothing() {
    let mut workshop = Workshop::start(&["serve"]);
    let begin = Instant::now();
    while descendants(workshop.id()).is_empty() {
        assert!(begin.elapsed() < DEADLINE, "nothing was started");
        sleep(Duration::from_millis(1));
    }
    let processes = descendants(workshop.id());
    workshop.signal("INT");
    assert!(
        !workshop.wait().success(),
        "a start that was broken off is no success"
    );
    wait_until_gone(&processes);
}

#[test]
fn a_kill_leaves_nothing_either() {
    let (mut workshop, _) = Workshop::serve();
    let processes = all_processes(&workshop);
    workshop.signal("KILL");
    workshop.wait();
    wait_until_gone(&processes);
}
