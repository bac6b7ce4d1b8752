//! `spillway-sim`: what a policy would do, before it is switched on.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand, ValueEnum};
use spillway_sim::replay::{self, Assumed, Policy, Recorded};
use spillway_sim::study::{self, Seeds};
use spillway_sim::suite::{self, Case};
use spillway_sim::table::Table;
use spillway_sim::{Scenario, run, series};

/// Simulates Spillway: callers, endpoints and Envoy's retries around the decisions that ship.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the scenarios of the suite and says which of their limits hold.
    Suite {
        /// Those whose name contains one of these; all without any.
        names: Vec<String>,
        /// How often each is run, with other random numbers each time.
        #[arg(long, default_value_t = 1)]
        seeds: u64,
        /// As what the results are written.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Runs one scenario of the suite and writes what happened over time.
    Run {
        /// Its name.
        name: String,
        /// Where its randomness begins.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Seconds from one line to the next.
        #[arg(long, default_value_t = 0.5)]
        step: f64,
        /// As what the results are written.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
        /// A file for a plot of it, an SVG.
        #[arg(long)]
        plot: Option<PathBuf>,
    },
    /// Makes the tables of a page anew, between its marks, and its plots beside it.
    Page {
        /// The page, a Markdown file.
        page: PathBuf,
        /// The folder for its plots.
        plots: PathBuf,
        /// How often each scenario is run, with other random numbers each time.
        #[arg(long, default_value_t = 10)]
        seeds: u64,
    },
    /// Says what a policy would have done about a recorded demand, and what a watcher of Prometheus
    /// would have done.
    Replay {
        /// A BurstPolicy, as YAML.
        policy: PathBuf,
        /// A rate over time: CSV with a time and a rate, or the answer to a range query of
        /// Prometheus.
        series: PathBuf,
        /// Sidecars that call.
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
        callers: u16,
        /// Ready endpoints in each cluster.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
        endpoints: u16,
        /// Where its randomness begins.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// As what the results are written.
        #[arg(short, long, value_enum, default_value_t)]
        output: Told,
    },
}

/// The forms of a replay.
#[derive(Clone, Copy, Default, ValueEnum)]
enum Told {
    /// A page to read.
    #[default]
    Text,
    /// JSON.
    Json,
}

/// The forms of a table.
#[derive(Clone, Copy, Default, ValueEnum)]
enum Output {
    /// Columns to read.
    #[default]
    Text,
    /// Comma-separated values.
    Csv,
    /// Markdown.
    Markdown,
}

fn main() -> Result<ExitCode> {
    match Arguments::parse().command {
        Command::Suite {
            names,
            seeds,
            output,
        } => run_suite(&names, seeds, output),
        Command::Run {
            name,
            seed,
            step,
            output,
            plot,
        } => run_one(&name, seed, step, output, plot),
        Command::Page { page, plots, seeds } => make_page(&page, &plots, seeds),
        Command::Replay {
            policy,
            series,
            callers,
            endpoints,
            seed,
            output,
        } => {
            let assumed = Assumed {
                callers: callers.into(),
                endpoints: endpoints.into(),
                seed,
            };
            run_replay(&policy, &series, assumed, output)
        }
    }
}

fn print(table: &Table, output: Output) -> Result<()> {
    let text = match output {
        Output::Text => table.text(),
        Output::Csv => table.csv()?,
        Output::Markdown => table.markdown(),
    };
    print!("{text}");
    Ok(())
}

fn run_suite(names: &[String], seeds: u64, output: Output) -> Result<ExitCode> {
    let wanted =
        |case: &Case| names.is_empty() || names.iter().any(|name| case.name.contains(name));
    let cases: Vec<Case> = suite::all().into_iter().filter(wanted).collect();
    if cases.is_empty() {
        bail!("no scenario is called that: {}", all_names());
    }
    let mut table = Table::new(["scenario", "figure", "at least", "value", "at most", ""]);
    let mut broken = false;
    for case in cases {
        let runs: Vec<_> = (1..=seeds)
            .map(|seed| case.run(seed))
            .collect::<Result<_, _>>()?;
        for (at, (figure, least, most)) in case.bounds.iter().enumerate() {
            let findings: Vec<_> = runs.iter().filter_map(|run| run.get(at)).collect();
            let digits = figure.digits();
            let values = findings
                .iter()
                .map(|finding| format!("{:.digits$}", finding.value));
            let holds = findings.iter().all(|finding| finding.holds());
            broken |= !holds;
            table.add([
                case.name.to_owned(),
                figure.name().to_owned(),
                format!("{least:.digits$}"),
                values.collect::<Vec<_>>().join(" "),
                format!("{most:.digits$}"),
                if holds { "" } else { "broken" }.to_owned(),
            ]);
        }
    }
    print(&table, output)?;
    Ok(if broken {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn run_one(
    name: &str,
    seed: u64,
    step: f64,
    output: Output,
    plot: Option<PathBuf>,
) -> Result<ExitCode> {
    let case = suite::all().into_iter().find(|case| case.name == name);
    let case = case.with_context(|| format!("no scenario is called {name}: {}", all_names()))?;
    let scenario = Scenario {
        seed,
        ..case.scenario
    };
    let outcome = run(&scenario)?;
    print(&series::table(&outcome, step), output)?;
    if let Some(path) = plot {
        let title = format!("{}: {}", case.name, case.about);
        let svg = series::plot(&scenario, &outcome, &title, step).map_err(anyhow::Error::msg)?;
        std::fs::write(&path, svg).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn make_page(page: &Path, plots: &Path, seeds: u64) -> Result<ExitCode> {
    let write = |path: &Path, text: String| {
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    let text = std::fs::read_to_string(page);
    let text = text.with_context(|| format!("cannot read {}", page.display()))?;
    let made = study::page(&text, Seeds(seeds)).map_err(anyhow::Error::msg)?;
    write(page, made)?;
    for name in study::PLOTS {
        let plot = study::plot(name).map_err(anyhow::Error::msg)?;
        let plot = plot.with_context(|| format!("no scenario is called {name}"))?;
        write(&plots.join(format!("sim-{name}.svg")), plot)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn run_replay(policy: &Path, series: &Path, assumed: Assumed, output: Told) -> Result<ExitCode> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let policy = Policy::parse(&read(policy)?).with_context(|| policy.display().to_string())?;
    let series = Recorded::parse(&read(series)?).with_context(|| series.display().to_string())?;
    let replay = replay::replay(&policy, &series, assumed)?;
    match output {
        Told::Text => print!("{}", replay.text()),
        Told::Json => println!("{}", serde_json::to_string_pretty(&replay)?),
    }
    Ok(ExitCode::SUCCESS)
}

fn all_names() -> String {
    let names: Vec<_> = suite::all().iter().map(|case| case.name).collect();
    format!("write one of {}", names.join(", "))
}
