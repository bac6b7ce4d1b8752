//! The workshop without a browser: 5, 20 and again 5 requests a second, a line per second, and a
//! verdict as the exit code.

use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep};

use crate::fleet;
use crate::settings::Settings;
use crate::tally::Totals;
use crate::verdict::{self, Moments, SETTLE_DOWN, SETTLE_UP, Script};
use crate::workshop::Workshop;

/// How long the last answers may take.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// Runs the script with steps of that many seconds; says whether all went right.
///
/// # Errors
/// When the workshop cannot be driven at all.
pub(crate) async fn run(workshop: &Workshop, seconds: u64) -> anyhow::Result<bool> {
    let script = Script {
        low: 5,
        high: 20,
        seconds,
        limit: Settings::default().limit,
        endpoints: fleet::home_endpoints(),
    };
    let mut table = Table::new(workshop, script.limit);
    let mut at = Moments::default();

    workshop.set_frequency(script.low).await?;
    table.seconds(seconds).await;
    workshop.set_frequency(script.high).await?;
    at.rise = table.before;
    at.risen = table.seconds(SETTLE_UP).await;
    at.fall = table.seconds(seconds - SETTLE_UP).await;
    workshop.set_frequency(script.low).await?;
    at.fallen = table.seconds(SETTLE_DOWN).await;
    table.seconds(seconds - SETTLE_DOWN).await;
    workshop.set_frequency(0).await?;
    (at.end, at.lost) = last_answers(workshop).await;

    println!();
    let checks = verdict::judge(script, &at);
    for check in &checks {
        println!(
            "{}  {}",
            if check.right { "right" } else { "WRONG" },
            check.text
        );
    }
    Ok(checks.iter().all(|check| check.right))
}

/// The table, a row per second.
struct Table<'a> {
    workshop: &'a Workshop,
    limit: u32,
    seconds: Interval,
    second: u64,
    before: Totals,
}

impl<'a> Table<'a> {
    fn new(workshop: &'a Workshop, limit: u32) -> Self {
        println!("second  offered  home  burst  errors  limit");
        let start = Instant::now() + Duration::from_secs(1);
        let mut seconds = interval_at(start, Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Self {
            workshop,
            limit,
            seconds,
            second: 0,
            before: Totals::default(),
        }
    }

    /// Prints that many seconds, and gives the totals at their end.
    async fn seconds(&mut self, count: u64) -> Totals {
        for _ in 0..count {
            self.seconds.tick().await;
            self.second += 1;
            let (now, _) = self.workshop.board.totals();
            let before = std::mem::replace(&mut self.before, now);
            println!(
                "{:>6}  {:>7}  {:>4}  {:>5}  {:>6}  {:>5}",
                self.second,
                now.offered - before.offered,
                now.home - before.home,
                now.burst - before.burst,
                now.errors - before.errors,
                self.limit,
            );
        }
        self.before
    }
}

/// Waits for the answers that are under way; gives the totals and how many jobs had none.
async fn last_answers(workshop: &Workshop) -> (Totals, usize) {
    let deadline = Instant::now() + LAST_ANSWERS;
    loop {
        let (totals, outstanding) = workshop.board.totals();
        if outstanding == 0 || Instant::now() > deadline {
            return (totals, outstanding);
        }
        sleep(Duration::from_millis(20)).await;
    }
}
