//! Latency and processor time over load, as a picture in SVG: two panels on one axis, light or dark as the viewer likes.

use std::fmt::{self, Write as _};

use crate::{
    limit::{Search, per_second},
    report::Report,
};

const WIDTH: f64 = 760.0;
const PANEL_HEIGHT: f64 = 240.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 56.0;
/// Between two panels, with the words under the upper one.
const GAP: f64 = 66.0;
const BOTTOM: f64 = 52.0;

/// Marks of an axis, about.
const TICKS: f64 = 5.0;

/// Colours that people who see few can tell apart, on white and on black; the set of Okabe and Ito.
const STYLE: &str = "text{font:12px sans-serif;fill:#222}.title{font-size:15px;font-weight:600}\
    .axis{stroke:#888;stroke-width:1}.grid{stroke:#ddd;stroke-width:1}.back{fill:#fff}\
    .line,.axis,.grid,.bound{fill:none}.line{stroke-width:2}.a{stroke:#0072b2}.b{stroke:#d55e00}.c{stroke:#009e73}\
    .dot.a,.word.a{fill:#0072b2;stroke:none}.dot.b,.word.b{fill:#d55e00;stroke:none}.dot.c,.word.c{fill:#009e73;stroke:none}\
    .bound{stroke:#888;stroke-width:1;stroke-dasharray:5 4}\
    @media(prefers-color-scheme:dark){text{fill:#ddd}.grid{stroke:#444}.back{fill:#1b1b1b}}";

/// One quantity over the load.
struct Line {
    name: &'static str,
    class: char,
    of: fn(&Report) -> Option<f64>,
}

struct Panel<'a> {
    title: &'a str,
    unit: &'a str,
    lines: &'a [Line],
    /// Drawn across, with its word.
    bound: Option<(f64, &'a str)>,
    /// Each mark is ten times the one below it.
    is_logarithmic: bool,
}

/// Draws a search.
pub(crate) fn chart(search: &Search) -> String {
    let latency = [
        Line {
            name: "p50",
            class: 'a',
            of: |it| Some(it.whole.latency.p50_us / 1_000.0),
        },
        Line {
            name: "p99",
            class: 'b',
            of: |it| Some(it.whole.latency.p99_us / 1_000.0),
        },
    ];
    let processor = [
        Line {
            name: "server",
            class: 'c',
            of: |it| it.server.map(|it| it.cores * 100.0),
        },
        Line {
            name: "generator",
            class: 'a',
            of: |it| Some(it.generator.cores * 100.0),
        },
    ];
    let panels = [
        Panel {
            title: "One-way latency",
            unit: "ms",
            lines: &latency,
            bound: Some((search.bounds.p99_us / 1_000.0, "bound")),
            is_logarithmic: true,
        },
        Panel {
            title: "Processor time",
            unit: "% of a core",
            lines: &processor,
            bound: Some((100.0, "one core")),
            is_logarithmic: false,
        },
    ];
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = draw(&mut text, search, &panels);
    text
}

fn draw(text: &mut String, search: &Search, panels: &[Panel<'_>]) -> fmt::Result {
    let height = TOP + panels.len() as f64 * (PANEL_HEIGHT + GAP) - GAP + BOTTOM;
    writeln!(
        text,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" aria-label=\"Latency and processor time over load\"><style>{STYLE}</style>\
         <rect class=\"back\" width=\"100%\" height=\"100%\"/>"
    )?;
    let loads = search.steps.iter().map(per_second);
    let across = Scale::new(loads.fold(0.0, f64::max), LEFT, WIDTH - RIGHT);
    for (at, panel) in panels.iter().enumerate() {
        let top = TOP + at as f64 * (PANEL_HEIGHT + GAP);
        draw_panel(text, search, panel, &across, top)?;
    }
    let (x, y) = ((LEFT + WIDTH - RIGHT) / 2.0, height - 12.0);
    writeln!(
        text,
        "<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">packets to listeners per second</text></svg>"
    )
}

fn draw_panel(
    text: &mut String,
    search: &Search,
    panel: &Panel<'_>,
    across: &Scale,
    top: f64,
) -> fmt::Result {
    let bottom = top + PANEL_HEIGHT;
    let values = |line: &Line| -> Vec<(f64, f64)> {
        let points = search.steps.iter();
        points
            .filter_map(|step| Some((per_second(step), (line.of)(step)?)))
            .collect()
    };
    let all = || panel.lines.iter().flat_map(values).map(|(_, y)| y);
    let most = all().fold(0.0, f64::max);
    // A bound far above everything would press the lines to the floor.
    let bound = panel.bound.filter(|(bound, _)| *bound <= 3.0 * most);
    let top_value = bound.map_or(most, |(bound, _)| most.max(bound));
    let up = match panel.is_logarithmic {
        true => Scale::logarithmic(all().fold(top_value, f64::min), top_value, bottom, top),
        false => Scale::new(top_value, bottom, top),
    };
    draw_frame(text, panel, across, &up, top)?;
    if let Some((bound, word)) = bound {
        draw_bound(text, &up, bound, word)?;
    }
    let mut words: Vec<(f64, &Line)> = Vec::new();
    for line in panel.lines {
        let points = values(line);
        let class = line.class;
        let Some((_, last)) = points.last() else {
            continue;
        };
        words.push((up.at(*last), line));
        let place = |(x, y): &(f64, f64)| format!("{:.1} {:.1}", across.at(*x), up.at(*y));
        let path: Vec<_> = points.iter().map(place).collect();
        writeln!(
            text,
            "<path class=\"line {class}\" d=\"M{}\"/>",
            path.join("L")
        )?;
        for (x, y) in &points {
            let (x, y) = (across.at(*x), up.at(*y));
            writeln!(
                text,
                "<circle class=\"dot {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>"
            )?;
        }
    }
    draw_words(text, words, WIDTH - RIGHT + 10.0)
}

/// The panel's words, marks and axes.
fn draw_frame(
    text: &mut String,
    panel: &Panel<'_>,
    across: &Scale,
    up: &Scale,
    top: f64,
) -> fmt::Result {
    let (title, unit, right) = (panel.title, panel.unit, WIDTH - RIGHT);
    let bottom = top + PANEL_HEIGHT;
    writeln!(
        text,
        "<text class=\"title\" x=\"{LEFT}\" y=\"{}\">{title}, {unit}</text>",
        top - 14.0
    )?;
    for mark in up.marks() {
        let y = up.at(mark);
        writeln!(text, "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>")?;
        let (x, y) = (LEFT - 8.0, y + 4.0);
        writeln!(
            text,
            "<text x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\">{}</text>",
            number(mark)
        )?;
    }
    for mark in across.marks() {
        let (x, y) = (across.at(mark), bottom + 18.0);
        writeln!(text, "<path class=\"axis\" d=\"M{x:.1} {bottom}v4\"/>")?;
        writeln!(
            text,
            "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{}</text>",
            number(mark)
        )?;
    }
    writeln!(
        text,
        "<path class=\"axis\" d=\"M{LEFT} {top}V{bottom}H{right}\"/>"
    )
}

fn draw_bound(text: &mut String, up: &Scale, bound: f64, word: &str) -> fmt::Result {
    let (y, right) = (up.at(bound), WIDTH - RIGHT);
    writeln!(text, "<path class=\"bound\" d=\"M{LEFT} {y:.1}H{right}\"/>")?;
    let (x, y) = (LEFT + 6.0, y + 14.0);
    writeln!(text, "<text x=\"{x}\" y=\"{y:.1}\">{word}</text>")
}

/// The lines' names at their ends, one below the other where they would overlap.
fn draw_words(text: &mut String, mut words: Vec<(f64, &Line)>, x: f64) -> fmt::Result {
    const APART: f64 = 15.0;
    words.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut last = f64::NEG_INFINITY;
    for (y, line) in words {
        let y = y.max(last + APART);
        last = y;
        let (class, name) = (line.class, line.name);
        writeln!(
            text,
            "<text class=\"word {class}\" x=\"{x}\" y=\"{:.1}\">{name}</text>",
            y + 4.0
        )?;
    }
    Ok(())
}

/// Values on a stretch of the picture.
struct Scale {
    /// Where the stretch begins and ends; of a logarithmic one the logarithms.
    least: f64,
    most: f64,
    step: f64,
    from: f64,
    to: f64,
    is_logarithmic: bool,
}

impl Scale {
    /// From zero to a round number.
    fn new(most: f64, from: f64, to: f64) -> Self {
        let most = match most.is_finite() && most > 0.0 {
            true => most,
            false => 1.0,
        };
        let rough = most / TICKS;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|it| it * power);
        let step = step.into_iter().find(|it| *it >= rough).unwrap_or(rough);
        Self {
            least: 0.0,
            most: (most / step).ceil() * step,
            step,
            from,
            to,
            is_logarithmic: false,
        }
    }

    /// From a power of ten to another.
    fn logarithmic(least: f64, most: f64, from: f64, to: f64) -> Self {
        let [least, most] = [least, most].map(|it| it.clamp(1e-6, 1e9).log10());
        Self {
            least: least.floor(),
            most: most.ceil().max(least.floor() + 1.0),
            step: 1.0,
            from,
            to,
            is_logarithmic: true,
        }
    }

    fn at(&self, value: f64) -> f64 {
        let value = match self.is_logarithmic {
            true => value.max(1e-6).log10(),
            false => value,
        };
        self.from + (self.to - self.from) * (value - self.least) / (self.most - self.least)
    }

    fn marks(&self) -> impl Iterator<Item = f64> {
        let count = ((self.most - self.least) / self.step).round() as u32;
        (0..=count).map(|it| {
            let mark = self.least + f64::from(it) * self.step;
            match self.is_logarithmic {
                true => 10_f64.powf(mark),
                false => mark,
            }
        })
    }
}

fn number(value: f64) -> String {
    match value {
        1_000.0.. => format!("{}k", value / 1_000.0),
        _ => format!("{}", (value * 1_000.0).round() / 1_000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{limit::Bounds, report::tests::report};

    #[test]
    fn scales_end_at_round_numbers_above_everything() {
        for (most, end, count) in [
            (97.0, 100.0, 6),
            (0.3, 0.3, 4),
            (78_400.0, 80_000.0, 5),
            (0.0, 1.0, 6),
        ] {
            let scale = Scale::new(most, 0.0, 1.0);
            assert!((scale.most - end).abs() < 1e-9, "{most}: {}", scale.most);
            assert_eq!(scale.marks().count(), count, "{most}");
        }
        let scale = Scale::new(100.0, 200.0, 0.0);
        assert_eq!((scale.at(0.0), scale.at(50.0)), (200.0, 100.0));
        let scale = Scale::logarithmic(0.2, 54.0, 300.0, 0.0);
        assert_eq!(
            scale.marks().map(number).collect::<Vec<_>>(),
            ["0.1", "1", "10", "100"]
        );
        assert!((scale.at(1.0) - 200.0).abs() < 1e-9 && (scale.at(100.0)).abs() < 1e-9);
    }

    #[test]
    fn every_step_is_a_dot_on_every_line() {
        let mut search = Search::new(Bounds {
            p99_us: 1_500.0,
            loss: 0.001,
        });
        for step in 1..=4 {
            let mut report = report();
            report.whole.received *= step;
            search.steps.push(report);
        }
        let svg = chart(&search);
        assert_eq!(svg.matches("<circle").count(), 4 * 4, "{svg}");
        for word in [
            "p50",
            "p99",
            "server",
            "generator",
            "bound",
            "One-way latency, ms",
        ] {
            assert!(svg.contains(word), "{word}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert_eq!(svg.matches("<svg").count(), svg.matches("</svg>").count());
    }
}
