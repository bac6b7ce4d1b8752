//! Plots of what happened over time, as SVG.

use plotters::prelude::*;

/// Colours that people who see few of them tell apart (Okabe and Ito).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// For what is asked.
    Grey,
    /// For what is told first.
    Blue,
    /// The next.
    Orange,
    /// The next.
    Green,
    /// The next.
    Purple,
    /// The next.
    Sky,
    /// For what goes wrong.
    Red,
}

impl Colour {
    const fn rgb(self) -> RGBColor {
        match self {
            Self::Grey => RGBColor(0x66, 0x66, 0x66),
            Self::Blue => RGBColor(0x00, 0x72, 0xb2),
            Self::Orange => RGBColor(0xe6, 0x9f, 0x00),
            Self::Green => RGBColor(0x00, 0x9e, 0x73),
            Self::Purple => RGBColor(0xcc, 0x79, 0xa7),
            Self::Sky => RGBColor(0x56, 0xb4, 0xe9),
            Self::Red => RGBColor(0xd5, 0x5e, 0x00),
        }
    }
}

/// What is drawn.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its name.
    pub name: String,
    /// Its colour.
    pub colour: Colour,
    /// Seconds, and requests a second.
    pub points: Vec<(f64, f64)>,
}

impl Line {
    /// Rates of steps of so many seconds, each drawn at the middle of its step.
    #[must_use]
    pub fn of_rates(name: &str, colour: Colour, rates: &[f64], step: f64) -> Self {
        let points = rates.iter().enumerate();
        Self {
            name: name.to_owned(),
            colour,
            points: points
                .map(|(at, rate)| ((at as f64 + 0.5) * step, *rate))
                .collect(),
        }
    }
}

/// Lines over so many seconds, an SVG.
///
/// # Errors
/// In words, where they cannot be drawn.
pub fn svg(title: &str, seconds: f64, lines: &[Line]) -> Result<String, String> {
    let most = lines
        .iter()
        .flat_map(|line| &line.points)
        .fold(1.0, |a: f64, (_, rate)| a.max(*rate));
    // A third more, where the names of the lines stand.
    let top = most * 1.35;
    let mut svg = String::new();
    let mut draw = || -> Result<(), Box<dyn std::error::Error>> {
        let area = SVGBackend::with_string(&mut svg, (860, 360)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 18))
            .margin(8)
            .x_label_area_size(34)
            .y_label_area_size(56)
            .build_cartesian_2d(0.0..seconds, 0.0..top)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .x_desc("seconds")
            .y_desc("requests/s")
            .x_label_formatter(&|seconds| format!("{seconds:.0}"))
            .y_label_formatter(&|rate| format!("{rate:.0}"))
            .draw()?;
        for line in lines {
            let colour = line.colour.rgb();
            let points = line.points.iter().copied();
            chart
                .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
                .label(line.name.as_str())
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2))
                });
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.8))
            .draw()?;
        area.present()?;
        Ok(())
    };
    draw().map_err(|error| error.to_string())?;
    Ok(svg)
}
