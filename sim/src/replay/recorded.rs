//! A recorded rate over time: CSV, or the answer to a range query of Prometheus.
//!
//! CSV has two columns, a time and a rate, with or without a header; times are seconds (of any
//! origin, such as 1970), milliseconds since 1970, or RFC 3339. A rate counts from its time until
//! the next one's, and the last as long as the one before it.

use jiff::Timestamp;
use serde::Deserialize;

/// Milliseconds since 1970 are larger, seconds since 1970 are smaller.
const MILLISECONDS_FROM: f64 = 1e11;
/// Times from here on are seconds since 1970, and shown as a date.
const DATES_FROM: f64 = 1e8;

/// A rate over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// The time of the first rate, as it was written, in seconds.
    origin: f64,
    /// Seconds from the first rate, and requests a second from then on. At least two.
    pub rates: Vec<(f64, f64)>,
}

/// A series that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SeriesError {
    /// It is no CSV.
    #[error("{0}")]
    Csv(#[from] csv::Error),
    /// It is no answer of Prometheus.
    #[error("{0}: write the answer of /api/v1/query_range, or CSV with the columns time and rate")]
    Json(#[from] serde_json::Error),
    /// Prometheus could not answer.
    #[error("Prometheus answered with an error: {0}")]
    Prometheus(String),
    /// Not one series.
    #[error(
        "the answer has {0} series: make it one, as in sum(rate(istio_requests_total{{…}}[1m]))"
    )]
    NotOne(usize),
    /// Too few rates to tell their distance.
    #[error("there are {0} rates: two are needed at least, to tell how far apart they are")]
    TooFew(usize),
    /// What is wrong with a rate.
    #[error("{place}: {problem}")]
    Rate {
        /// Where it stands.
        place: String,
        /// What to write instead.
        problem: String,
    },
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    error: Option<String>,
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    values: Vec<(f64, String)>,
}

impl Recorded {
    /// Reads a series, whichever form it has.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn parse(text: &str) -> Result<Self, SeriesError> {
        let rates = if text.trim_start().starts_with('{') {
            of_prometheus(text)?
        } else {
            of_csv(text)?
        };
        Self::new(rates)
    }

    fn new(rates: Vec<(String, f64, f64)>) -> Result<Self, SeriesError> {
        let wrong = |place: &str, problem: String| SeriesError::Rate {
            place: place.to_owned(),
            problem,
        };
        let mut before: Option<f64> = None;
        for (place, time, rate) in &rates {
            if before.is_some_and(|before| *time <= before) {
                return Err(wrong(
                    place,
                    format!(
                        "the time {time} is not after the one before it: sort the rates by time"
                    ),
                ));
            }
            if !rate.is_finite() || *rate < 0.0 {
                return Err(wrong(
                    place,
                    format!("{rate} is no rate: write requests a second, 0 where there were none"),
                ));
            }
            before = Some(*time);
        }
        let Some((_, origin, _)) = rates.first().filter(|_| rates.len() > 1) else {
            return Err(SeriesError::TooFew(rates.len()));
        };
        let origin = *origin;
        let since = rates.iter().map(|(_, time, rate)| (time - origin, *rate));
        Ok(Self {
            origin,
            rates: since.collect(),
        })
    }

    /// How long it is, seconds.
    #[must_use]
    pub fn length(&self) -> f64 {
        match self.rates.as_slice() {
            [.., (before, _), (last, _)] => last + (last - before),
            _ => 0.0,
        }
    }

    /// How many requests it tells of.
    #[must_use]
    pub fn requests(&self) -> f64 {
        let ends = self.rates.iter().skip(1).map(|(time, _)| *time);
        let ends = ends.chain([self.length()]);
        let each = self.rates.iter().zip(ends);
        each.map(|((from, rate), until)| (until - from) * rate)
            .sum()
    }

    /// The highest rate.
    #[must_use]
    pub fn peak(&self) -> f64 {
        self.rates
            .iter()
            .fold(0.0, |most, (_, rate)| rate.max(most))
    }

    /// A time of it as it was written: a date, or seconds.
    #[must_use]
    pub fn time(&self, since: f64) -> String {
        let time = self.origin + since;
        if time >= DATES_FROM
            && let Ok(date) = Timestamp::from_second(time.round() as i64)
        {
            return date.to_string();
        }
        format!("{time:.1} s")
    }
}

fn of_prometheus(text: &str) -> Result<Vec<(String, f64, f64)>, SeriesError> {
    let answer: Answer = serde_json::from_str(text)?;
    if let Some(error) = answer.error {
        return Err(SeriesError::Prometheus(error));
    }
    let mut all = answer.data.map(|data| data.result).unwrap_or_default();
    let series = match (all.pop(), all.len()) {
        (Some(series), 0) => series,
        (Some(_), others) => return Err(SeriesError::NotOne(others + 1)),
        (None, _) => return Err(SeriesError::NotOne(0)),
    };
    let rate = |(at, (time, rate)): (usize, (f64, String))| {
        // "NaN" is what Prometheus divides by nothing.
        let place = format!("data.result[0].values[{at}]");
        let rate = rate.parse().unwrap_or(f64::NAN);
        (place, time, rate)
    };
    Ok(series.values.into_iter().enumerate().map(rate).collect())
}

fn of_csv(text: &str) -> Result<Vec<(String, f64, f64)>, SeriesError> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .trim(csv::Trim::All)
        .comment(Some(b'#'))
        .from_reader(text.as_bytes());
    let mut rates = Vec::new();
    for (at, record) in reader.records().enumerate() {
        let record = record?;
        let line = record.position().map_or(0, csv::Position::line);
        let wrong = |problem: String| SeriesError::Rate {
            place: format!("line {line}"),
            problem,
        };
        let (Some(time), Some(rate), None) = (record.get(0), record.get(1), record.get(2)) else {
            return Err(wrong(format!(
                "has {} columns: write a time and a rate",
                record.len()
            )));
        };
        match (read_time(time), rate.parse::<f64>()) {
            (Some(time), Ok(rate)) => rates.push((format!("line {line}"), time, rate)),
            (None, Err(_)) if at == 0 => {} // the header
            (None, _) => {
                return Err(wrong(format!(
                    "\"{time}\" is no time: write seconds, or a date as 2026-11-21T10:00:00Z"
                )));
            }
            (_, Err(_)) => {
                return Err(wrong(format!(
                    "\"{rate}\" is no rate: write requests a second, as 12.5"
                )));
            }
        }
    }
    Ok(rates)
}

/// A time in seconds.
fn read_time(text: &str) -> Option<f64> {
    if let Ok(number) = text.parse::<f64>() {
        let seconds = if number >= MILLISECONDS_FROM {
            number / 1e3
        } else {
            number
        };
        return seconds.is_finite().then_some(seconds);
    }
    let date: Timestamp = text.parse().ok()?;
    Some(date.as_millisecond() as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Recorded::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn every_form_is_read() {
        let wanted = vec![(0.0, 1.5), (60.0, 20.0)];
        for text in [
            "time,rate\n100,1.5\n160,20\n",
            "100, 1.5\n160, 20",
            "# from the old gateway\n1795255200000,1.5\n1795255260000,20",
            "Time,\"rate\"\n2026-11-21T10:00:00Z,1.5\n2026-11-21T10:01:00Z,20",
            r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1795255200,"1.5"],[1795255260,"20"]]}]}}"#,
        ] {
            let recorded = Recorded::parse(text).unwrap();
            assert_eq!(recorded.rates, wanted, "{text}");
            assert_eq!((recorded.length(), recorded.peak()), (120.0, 20.0));
            assert_eq!(recorded.requests(), 60.0 * 1.5 + 60.0 * 20.0);
        }
    }

    #[test]
    fn times_are_told_as_they_were_written() {
        let dates = Recorded::parse("2026-11-21T10:00:00Z,1\n2026-11-21T10:01:00Z,2").unwrap();
        assert_eq!(dates.time(90.0), "2026-11-21T10:01:30Z");
        let seconds = Recorded::parse("5,1\n6,2").unwrap();
        assert_eq!(seconds.time(1.5), "6.5 s");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        assert!(error("time,rate\n1,2\n2,many").starts_with("line 3: \"many\" is no rate: write"));
        assert!(error("1,2\nlater,3").starts_with("line 2: \"later\" is no time: write"));
        assert!(error("1,2\n1,3").starts_with("line 2: the time 1 is not after"));
        assert!(error("1,2\n2,-3").starts_with("line 2: -3 is no rate"));
        assert!(error("1,2,3").starts_with("line 1: has 3 columns: write"));
        assert!(error("time,rate\n1,2").starts_with("there are 1 rates: two are needed"));
        assert!(error("{}").starts_with("the answer has 0 series"));
        assert!(error(r#"{"status":"error","error":"bad query"}"#).ends_with("bad query"));
        let nan = r#"{"data":{"result":[{"values":[[1,"2"],[2,"NaN"]]}]}}"#;
        assert!(error(nan).starts_with("data.result[0].values[1]: NaN is no rate"));
        let two = r#"{"data":{"result":[{"values":[]},{"values":[]}]}}"#;
        assert!(error(two).contains("2 series"));
        assert!(error("{\"data\": 1}").contains("line 1 column"));
    }
}
