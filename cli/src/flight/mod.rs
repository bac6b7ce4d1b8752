//! Load to a service, and who answered.
//!
//! What a flight finds out is what callers find out: the prefix that every cluster puts on its
//! answers tells who served a request, and the schedule tells at which rate the first one went
//! elsewhere. So it needs no rights anywhere; where the hub can be asked, clusters have names.

mod load;
mod rate;
mod report;
mod tally;
mod trust;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Uri, http};
use jiff::SignedDuration;
use kube::Api;
use rustls::ClientConfig;
use spillway_api::MeshCluster;
use spillway_core::config::wire::PREFIX_HEADER;

use self::load::{Call, Running, Unanswered};
use self::rate::{Plan, Rate};
use self::report::{Names, Report};
use self::tally::Tally;
use crate::connection::Connection;
use crate::exit::{Exit, Failure};
use crate::output::{self, Output, counted};
use crate::policies::time;
use crate::screen::Screen;
use crate::status::list;

/// More requests than this are not sent by mistake.
const UNASKED: u64 = 10_000;
/// How often the view is drawn.
const FRAME: Duration = Duration::from_millis(200);
/// The hub gives names within this time, or they are not told.
const NAMES: Duration = Duration::from_secs(3);

/// Send requests to a service and show who answers
///
/// Sends GET requests on a schedule that no answer changes, shows meanwhile which cluster answers
/// them, and reports at the end: how many spilled, from which rate on, and how long answers took,
/// counted from when a request was to be sent. Ctrl-C ends it with the report of what was sent.
/// Ends with 1 where answers failed. Run it where callers are: in a pod with a sidecar, or before an
/// ingress gateway.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # From 5 to 75 requests a second in half a minute, in a pod of the mesh
  spillway test-flight worker.shop --rate 5..75 --for 30s

  # Through an ingress gateway, for a program
  spillway test-flight http://gateway.example.com/work --header host:shop.example.com --rate 20 --for 1m -o json")]
pub(crate) struct TestFlight {
    /// The service: a host, or a URL that begins with http:// or https://
    #[arg(value_parser = service)]
    service: Uri,

    /// Requests a second: 20, or from 5 to 75 as 5..75
    #[arg(long)]
    rate: Rate,

    /// How long: a whole number and s, m or h
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    time: SignedDuration,

    /// A header of every request, as NAME:VALUE; may be repeated
    #[arg(long = "header", value_name = "NAME:VALUE", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,

    /// A PEM file of the authorities that an https:// address is trusted by, instead of the system's
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<PathBuf>,

    /// Trust an https:// address whatever it shows
    #[arg(long)]
    insecure: bool,

    /// The prefix of home's answers, where it has one: what is answered with another has spilled
    #[arg(long, value_name = "PREFIX", default_value = "")]
    home: String,

    /// The header that has the prefix
    #[arg(long, value_name = "NAME", default_value = PREFIX_HEADER)]
    prefix_header: HeaderName,

    /// Give an answer up after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,

    /// Send more than 10,000 requests
    #[arg(long)]
    yes: bool,

    /// Say what would be sent, and send nothing
    #[arg(long)]
    dry_run: bool,

    /// The form of the report
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(flight: &TestFlight, connection: &Connection) -> Result<Exit, Failure> {
    let plan = flight.plan();
    let requests = plan.requests();
    if requests > UNASKED && !flight.yes {
        return Err(Failure::new(
            Exit::Usage,
            format!(
                "{requests} requests would be sent to {}, and {UNASKED} are the most that are not asked for twice",
                flight.service
            ),
            "Say --yes if the service is to bear that, or take a lower --rate or a shorter --for.",
        ));
    }
    if flight.dry_run {
        let requests = counted(usize::try_from(requests).unwrap_or(usize::MAX), "request");
        output::print(&format!(
            "{}: {requests} would be sent, {} over {:#}\n",
            flight.service, flight.rate, flight.time
        ));
        return Ok(Exit::Fine);
    }
    // Of an address without TLS nobody has to be trusted.
    let insecure = flight.insecure || flight.service.scheme_str() == Some("http");
    let tls = trust::config(flight.ca.as_deref(), insecure)?;
    let report = crate::wait(flight.fly(plan, connection, tls))?;
    output::tell(flight.output, &report, Report::text)?;
    if report.answered == 0 && report.sent > 0 {
        return Err(Failure::new(
            Exit::Unreachable,
            format!("nobody answered at {}", flight.service),
            "Run it where the service's name is known: in a pod of the mesh, or before an ingress gateway.",
        ));
    }
    Ok(if report.is_fine {
        Exit::Fine
    } else {
        Exit::Findings
    })
}

impl TestFlight {
    fn plan(&self) -> Plan {
        Plan {
            rate: self.rate,
            time: self.time.unsigned_abs(),
        }
    }

    async fn fly(
        &self,
        plan: Plan,
        connection: &Connection,
        tls: ClientConfig,
    ) -> Result<Report, Failure> {
        let names = names(connection).await;
        let mut tally = Tally::default();
        let mut running = load::start(plan, self.call(), tls);
        let mut screen = Screen::below();
        let mut frames = tokio::time::interval(FRAME);
        let mut ends = 0;
        // It listens all the time: what comes while another branch runs must not be lost.
        let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
        let begun = std::time::Instant::now();
        loop {
            tokio::select! {
                reply = running.replies.recv() => match reply {
                    Some(reply) => tally.count(&reply, &self.home),
                    None => break,
                },
                _ = frames.tick() => if let Some(screen) = &mut screen {
                    let report = self.report(plan, &running, &tally, &names);
                    screen.draw(&report.view(begun.elapsed()));
                },
                _ = &mut interrupted => {
                    interrupted.set(tokio::signal::ctrl_c());
                    running.stop();
                    ends += 1;
                    // Who asks twice does not wait for the last answers.
                    if ends == 2 {
                        break;
                    }
                }
            }
        }
        drop(screen);
        let missing = running.sent().saturating_sub(tally.ended());
        if missing > 0 {
            tally.unanswered.insert(Unanswered::GivenUp, missing);
        }
        Ok(self.report(plan, &running, &tally, &names))
    }

    fn report(&self, plan: Plan, running: &Running, tally: &Tally, names: &Names) -> Report {
        let mut report = Report::new(plan, tally, names, &self.home);
        report.service = self.service.to_string();
        (report.sent, report.not_sent) = (running.sent(), running.dropped());
        report
    }

    fn call(&self) -> Call {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            // A Host of the caller's own stands instead of the URL's.
            if name == HOST {
                headers.insert(name, value.clone());
            } else {
                headers.append(name, value.clone());
            }
        }
        Call {
            uri: self.service.clone(),
            headers,
            prefix: self.prefix_header.clone(),
            timeout: Duration::from_secs(self.timeout),
        }
    }
}

/// Which cluster has which prefix, as the hub says. Who flies in a pod mostly cannot ask it.
async fn names(connection: &Connection) -> Names {
    let asked = tokio::time::timeout(NAMES, async {
        let hub = connection.hub().await?;
        list::<MeshCluster>(&hub, &Api::all(hub.client.clone())).await
    });
    match asked.await {
        Ok(Ok(clusters)) => Names::of(&clusters),
        Ok(Err(failure)) => Names::unknown(failure.message()),
        Err(_) => Names::unknown("it does not answer"),
    }
}

fn service(text: &str) -> Result<Uri, String> {
    const FORM: &str = "write a host, such as worker.shop, or a URL, such as http://worker.shop/work or https://shop.example.com/work";
    let url = if text.contains("://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    let uri: Uri = url.parse().map_err(|_| FORM.to_owned())?;
    match uri.scheme_str() {
        Some("http" | "https") if uri.host().is_some_and(|host| !host.is_empty()) => Ok(uri),
        _ => Err(FORM.to_owned()),
    }
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), &'static str> {
    const FORM: &str = "write a header as NAME:VALUE";
    let (name, value) = text.split_once(':').ok_or(FORM)?;
    let name = name.trim().parse().map_err(|_| FORM)?;
    let value: Result<HeaderValue, http::Error> = value.trim().parse().map_err(http::Error::from);
    Ok((name, value.map_err(|_| FORM)?))
}
