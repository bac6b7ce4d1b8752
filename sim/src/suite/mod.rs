//! Scenarios with limits that a change of the decisions must not break.
//!
//! Each is a situation that a mesh gets into, with the figures that say whether it was mastered.
//! The limits are what the shipped decisions reach over several seeds, and a little more: a run is
//! the same every time, so nothing but a change of the code moves a figure.

mod faults;
mod loads;
mod neighbours;
pub(crate) mod switching;

use hdrhistogram::CreationError;

use crate::Demand;
use crate::figures::Figure;
use crate::run::run;
use crate::scenario::{Callers, Cluster, Limit, Scenario};

/// A scenario with its limits.
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// What happens in it.
    pub about: &'static str,
    /// It.
    pub scenario: Scenario,
    /// What its figures must be: at least, at most.
    pub bounds: Vec<(Figure, f64, f64)>,
}

/// What a figure was, and had to be.
#[derive(Clone, Copy, Debug)]
pub struct Finding {
    /// The figure.
    pub figure: Figure,
    /// What it was.
    pub value: f64,
    /// What it must be at least.
    pub least: f64,
    /// What it may be at most.
    pub most: f64,
}

impl Finding {
    /// It is within its limits.
    #[must_use]
    pub fn holds(&self) -> bool {
        (self.least..=self.most).contains(&self.value)
    }
}

impl Case {
    fn new(
        name: &'static str,
        about: &'static str,
        scenario: Scenario,
        bounds: &[(Figure, f64, f64)],
    ) -> Self {
        Self {
            name,
            about,
            scenario,
            bounds: bounds.to_vec(),
        }
    }

    /// Runs it, beginning with this seed.
    ///
    /// # Errors
    /// As [`run`].
    pub fn run(&self, seed: u64) -> Result<Vec<Finding>, CreationError> {
        let scenario = Scenario {
            seed,
            ..self.scenario.clone()
        };
        let outcome = run(&scenario)?;
        let finding = |(figure, least, most): &(Figure, f64, f64)| Finding {
            figure: *figure,
            value: figure.of(&scenario, &outcome),
            least: *least,
            most: *most,
        };
        Ok(self.bounds.iter().map(finding).collect())
    }
}

/// All of them.
#[must_use]
pub fn all() -> Vec<Case> {
    let mut all = loads::all();
    all.extend(faults::all());
    all.extend(neighbours::all());
    all.extend(switching::all());
    all
}

/// The limit of most scenarios, requests a second.
const C: f64 = 1_000.0;

/// A limit of 1,000/s at ten endpoints, and a hundred callers with uneven demand; what they cannot
/// send home another cluster takes, whatever it is.
fn usual(demand: Demand) -> Scenario {
    let home = Cluster::new(10, Some(Limit::total(1_000)));
    let burst = Cluster::new(10, None);
    Scenario::new(vec![home, burst], vec![Callers::new(100, demand, &[0, 1])])
}

/// From one demand to another at 5 s; what is measured begins there too.
fn step(from: f64, to: f64) -> Scenario {
    Scenario {
        step: Some(5.0),
        length: 15.0,
        ..usual(Demand::Steps(vec![(0.0, from), (5.0, to)]))
    }
}
