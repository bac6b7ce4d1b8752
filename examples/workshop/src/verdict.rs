//! Whether a headless run went right, and every reason why not.
//!
//! The run is three steps of equal length: below the limit, above it, below it again. All that is
//! judged is the count of jobs and answers at some moments, so the rules can be tested without a
//! mesh.

use crate::tally::Totals;

/// Seconds after the rise within which home may still be finding its limit.
pub(crate) const SETTLE_UP: u64 = 5;
/// Seconds after the fall after which nothing may spill.
pub(crate) const SETTLE_DOWN: u64 = 2;
/// What home must serve of its limit once it has settled.
const UTILISATION: f64 = 0.9;
/// Answers that may be under way while a moment's counts are read.
const UNDER_WAY: u64 = 5;

/// What was asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Script {
    /// Jobs per second of the first and the last step.
    pub(crate) low: u32,
    /// Jobs per second of the step between them.
    pub(crate) high: u32,
    /// Seconds of a step.
    pub(crate) seconds: u64,
    /// Requests per second that home serves.
    pub(crate) limit: u32,
    /// Endpoints among which the limit is divided.
    pub(crate) endpoints: u32,
}

/// The counts at the moments that matter.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Moments {
    /// At the rise.
    pub(crate) rise: Totals,
    /// `SETTLE_UP` after the rise.
    pub(crate) risen: Totals,
    /// At the fall.
    pub(crate) fall: Totals,
    /// `SETTLE_DOWN` after the fall.
    pub(crate) fallen: Totals,
    /// When the last job has been answered.
    pub(crate) end: Totals,
    /// Jobs that nobody answered.
    pub(crate) lost: usize,
}

/// One rule and whether it was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    /// What is said of it, with the figures.
    pub(crate) text: String,
    /// Whether it was kept.
    pub(crate) right: bool,
}

/// Judges a run by every rule.
pub(crate) fn judge(script: Script, at: &Moments) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut check = |right: bool, text: String| checks.push(Check { text, right });
    let Script {
        low,
        high,
        seconds,
        limit,
        ..
    } = script;
    let end = at.end;

    let asked = u64::from(2 * low + high) * seconds;
    check(
        end.offered * 100 >= asked * 95,
        format!(
            "{} jobs were sent of the {asked} of the script",
            end.offered
        ),
    );
    check(
        end.errors == 0,
        format!("{} replies were not 200", end.errors),
    );
    check(
        at.lost == 0 && end.twice == 0,
        format!("{} jobs lost, {} served twice", at.lost, end.twice),
    );
    check(
        end.mislabelled == 0,
        format!(
            "{} answers with a prefix that is not their cluster's",
            end.mislabelled
        ),
    );
    check(
        at.rise.burst == 0,
        format!("{} answers from burst at the first {low}/s", at.rise.burst),
    );

    let most = u64::from(limit) * seconds + tolerance(script) + UNDER_WAY;
    let home = at.fall.home - at.rise.home;
    check(
        home <= most,
        format!("home served {home} in {seconds} s at {high}/s, at most {most} by its limit"),
    );

    let settled = seconds.saturating_sub(SETTLE_UP);
    let least = (f64::from(limit) * settled as f64 * UTILISATION).floor() as u64;
    let home = at.fall.home - at.risen.home;
    check(
        home + UNDER_WAY >= least,
        format!("home served {home} in the last {settled} s of it, at least {least} by its limit"),
    );

    let offered = at.fall.offered - at.rise.offered;
    let served = at.fall.home - at.rise.home + at.fall.burst - at.rise.burst;
    let burst = at.fall.burst - at.rise.burst;
    check(
        burst > 0 && served.abs_diff(offered) <= UNDER_WAY,
        format!("burst served the rest: {burst} of {offered}"),
    );

    let late = end.burst - at.fallen.burst;
    check(
        late == 0,
        format!("{late} answers from burst later than {SETTLE_DOWN} s after the fall to {low}/s"),
    );
    checks
}

/// What all gates of home let through at once above their rate: M endpoints of
/// 3 + max(12, 0.1 s × limit) / M.
fn tolerance(script: Script) -> u64 {
    u64::from(3 * script.endpoints + (script.limit / 10).max(12))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: Script = Script {
        low: 5,
        high: 20,
        seconds: 16,
        limit: 15,
        endpoints: 2,
    };

    fn totals(offered: u64, home: u64, burst: u64) -> Totals {
        Totals {
            offered,
            home,
            burst,
            ..Totals::default()
        }
    }

    fn right() -> Moments {
        Moments {
            rise: totals(80, 80, 0),
            risen: totals(180, 173, 7),
            fall: totals(400, 338, 62),
            fallen: totals(410, 347, 63),
            end: totals(480, 417, 63),
            lost: 0,
        }
    }

    fn wrong(change: impl Fn(&mut Moments)) -> usize {
        let mut moments = right();
        change(&mut moments);
        judge(SCRIPT, &moments)
            .iter()
            .filter(|check| !check.right)
            .count()
    }

    #[test]
    fn a_right_run_is_right() {
        let checks = judge(SCRIPT, &right());
        assert!(checks.iter().all(|check| check.right), "{checks:#?}");
    }

    #[test]
    fn each_rule_can_fail() {
        assert_eq!(wrong(|m| m.end.offered = 300), 1, "too few jobs");
        assert_eq!(wrong(|m| m.end.errors = 1), 1, "an error");
        assert_eq!(wrong(|m| m.end.twice = 1), 1, "served twice");
        assert_eq!(wrong(|m| m.lost = 1), 1, "lost");
        assert_eq!(wrong(|m| m.end.mislabelled = 1), 1, "prefix");
        assert_eq!(wrong(|m| m.rise.burst = 1), 1, "spilled below the limit");
        assert_eq!(
            wrong(|m| (m.fall.home, m.fall.burst) = (345, 55)),
            1,
            "home above its limit"
        );
        assert_eq!(
            wrong(|m| (m.risen.home, m.risen.burst) = (205, 0)),
            1,
            "home too idle"
        );
        assert_eq!(wrong(|m| m.fall.burst = 40), 1, "the rest went elsewhere");
        assert_eq!(wrong(|m| m.end.burst = 64), 1, "late return");
    }
}
