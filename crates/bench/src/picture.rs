//! Ratios as a picture: bars to both sides of the line that stands for the best peer.
//!
//! ```text
//!               0.5      1       2       5
//!   get/1                |=================| 3.1
//!   scan/1        0.7 |==|    ^ target
//! ```
//!
//! The scale is logarithmic, so that twice as fast and half as fast are equally long. The picture
//! is SVG without scripts or fonts of its own; it has a ground to stand on, in light and in dark.

use std::fmt::Write;

use crate::compare::Line;
use crate::table::ratio;

/// Pixels, all of them.
const LABEL_WIDTH: f64 = 190.0;
const CHART_WIDTH: f64 = 520.0;
/// Beside the longest bar there has to be room for its number.
const NUMBER_WIDTH: f64 = 56.0;
const BAR_HEIGHT: f64 = 11.0;
const ROW_GAP: f64 = 9.0;
const HEADER_HEIGHT: f64 = 62.0;
const FOOTER_HEIGHT: f64 = 34.0;

/// Bars beyond these are cut off, and their numbers tell: one that is a thousand times slower would
/// leave no room for the differences between all others.
const RATIO_MIN: f64 = 0.05;
const RATIO_MAX: f64 = 20.0;

/// Colours of the ground, of text, of lines, of bars that are ahead and behind; then in the dark.
const STYLE: &str = "\
text { font: 12px system-ui, sans-serif; fill: #24292f }
.ground { fill: #ffffff }
.title { font-size: 14px; font-weight: 600 }
.faint { fill: #656d76; font-size: 11px }
.grid { stroke: #d8dee4; stroke-width: 1 }
.one { stroke: #24292f; stroke-width: 1.5 }
.ahead { fill: #1f7a5c }
.behind { fill: #c2571a }
.target { fill: none; stroke: #0550ae; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.ground { fill: #161b22 }
.faint { fill: #9198a1 }
.grid { stroke: #30363d }
.one { stroke: #e6edf3 }
.ahead { fill: #3fb68b }
.behind { fill: #f0883e }
.target { stroke: #79c0ff }
}
";

/// The logarithmic axis: which ratio lies where.
struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    /// Returns an axis from one round number to another, with everything between them, and with as
    /// much room on both sides of the line as a short bar needs.
    fn around(ratios: impl Iterator<Item = f64>) -> Axis {
        let (mut low, mut high): (f64, f64) = (0.5, 2.0);
        for ratio in ratios {
            low = low.min(ratio);
            high = high.max(ratio);
        }
        let ticks = ticks();
        let below = ticks.iter().copied().filter(|tick| *tick <= low).fold(RATIO_MIN, f64::max);
        let above = ticks.iter().copied().filter(|tick| *tick >= high).fold(RATIO_MAX, f64::min);
        Axis { low: below, high: above }
    }

    fn x(&self, ratio: f64) -> f64 {
        let share = (ratio / self.low).ln() / (self.high / self.low).ln();
        LABEL_WIDTH + NUMBER_WIDTH + share * CHART_WIDTH
    }
}

/// Round numbers, three to each power of ten.
fn ticks() -> Vec<f64> {
    let powers = (-2..=1).map(|power| 10f64.powi(power));
    let ticks = powers.flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * power));
    ticks.filter(|tick| (RATIO_MIN..=RATIO_MAX).contains(tick)).collect()
}

/// Draws lines that have a ratio; `names` are those of the columns.
pub(crate) fn draw(names: &[String], lines: &[Line]) -> String {
    let drawn: Vec<_> = lines.iter().filter(|line| of_line(line).next().is_some()).collect();
    let axis = Axis::around(drawn.iter().flat_map(|line| of_line(line).chain(line.target)));
    let row_height = BAR_HEIGHT * names.len() as f64 + ROW_GAP;
    let bottom = HEADER_HEIGHT + row_height * drawn.len() as f64;
    let width = LABEL_WIDTH + 2.0 * NUMBER_WIDTH + CHART_WIDTH;
    let height = bottom + FOOTER_HEIGHT;
    let mut svg = String::new();
    let mut put = |line: String| svg += &(line + "\n");
    put(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" role=\"img\" aria-label=\"{TITLE}\">"
    ));
    put(format!("<style>\n{STYLE}</style>"));
    put(format!("<rect class=\"ground\" width=\"{width}\" height=\"{height}\" rx=\"6\"/>"));
    put(format!("<text class=\"title\" x=\"16\" y=\"24\">{TITLE}</text>"));
    for tick in ticks().into_iter().filter(|tick| (axis.low..=axis.high).contains(tick)) {
        let x = axis.x(tick);
        let (top, class) = (HEADER_HEIGHT - 8.0, if tick == 1.0 { "one" } else { "grid" });
        put(format!(
            "<line class=\"{class}\" x1=\"{x:.1}\" y1=\"{top}\" x2=\"{x:.1}\" y2=\"{bottom}\"/>"
        ));
        let y = top - 5.0;
        put(format!(
            "<text class=\"faint\" x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{tick}</text>"
        ));
    }
    for (index, line) in drawn.iter().enumerate() {
        let top = HEADER_HEIGHT + row_height * index as f64;
        put(row(&axis, line, top, row_height));
    }
    put(format!("<text class=\"faint\" x=\"16\" y=\"{}\">{}</text>", bottom + 22.0, legend(names)));
    put("</svg>".to_owned());
    svg
}

const TITLE: &str = "Holm's rate as a multiple of the best peer's";

fn of_line(line: &Line) -> impl Iterator<Item = f64> + '_ {
    let ratios = line.ratios.iter().filter_map(|ours| ours.as_ref()?.1);
    ratios.filter(|ratio| ratio.is_finite()).map(|ratio| ratio.clamp(RATIO_MIN, RATIO_MAX))
}

/// Draws a line: its label, a bar for each column with its number, and the target.
fn row(axis: &Axis, line: &Line, top: f64, height: f64) -> String {
    let mut svg = String::new();
    let middle = top + (height - ROW_GAP) / 2.0 + 4.0;
    let _ = write!(
        svg,
        "<text x=\"{:.1}\" y=\"{middle:.1}\" text-anchor=\"end\">{}</text>",
        LABEL_WIDTH,
        escape(&line.label)
    );
    for (column, ours) in line.ratios.iter().enumerate() {
        let Some((_, Some(of_best))) = ours else { continue };
        let y = top + BAR_HEIGHT * column as f64;
        let (one, end) = (axis.x(1.0), axis.x(of_best.clamp(axis.low, axis.high)));
        let is_ahead = *of_best >= 1.0;
        let (class, anchor, beside) =
            if is_ahead { ("ahead", "start", 4.0) } else { ("behind", "end", -4.0) };
        // Later columns are paler, in the order of the legend.
        let opacity = 0.6f64.powi(column as i32);
        let _ = write!(
            svg,
            "<rect class=\"{class}\" opacity=\"{opacity:.2}\" x=\"{:.1}\" y=\"{y:.1}\" \
             width=\"{:.1}\" height=\"{}\"/>\
             <text class=\"faint\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
            one.min(end),
            (end - one).abs().max(1.0),
            BAR_HEIGHT - 1.0,
            end + beside,
            y + BAR_HEIGHT - 2.0,
            ratio(*of_best)
        );
    }
    if let Some(target) = line.target {
        let (x, bottom) = (axis.x(target), top + height - ROW_GAP + 2.0);
        let _ =
            write!(svg, "<path class=\"target\" d=\"M {x:.1} {:.1} V {bottom:.1}\"/>", top - 3.0);
    }
    svg
}

fn legend(names: &[String]) -> String {
    let scale = format!(
        "logarithmic scale, cut off at {RATIO_MIN} and {RATIO_MAX}; blue: what is aimed at"
    );
    match names {
        [_] | [] => scale,
        names => format!("{scale}; from dark to pale: {}", escape(&names.join(", "))),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(label: &str, target: Option<f64>, ratios: &[Option<f64>]) -> Line {
        let ratios = ratios.iter().map(|ratio| ratio.map(|ratio| (1.0, Some(ratio)))).collect();
        Line::new(label, target, ratios)
    }

    #[test]
    fn the_axis_begins_and_ends_at_round_numbers() {
        for (ratios, ends) in [
            (vec![1.3], (0.5, 2.0)),
            (vec![0.06, 3.0], (0.05, 5.0)),
            (vec![0.5, 2.0], (0.5, 2.0)),
            (vec![1e-3, 1e3], (RATIO_MIN, RATIO_MAX)),
        ] {
            let axis = Axis::around(ratios.iter().copied());
            assert_eq!((axis.low, axis.high), ends, "{ratios:?}");
        }
    }

    #[test]
    fn twice_and_half_are_equally_far_from_one() {
        let axis = Axis::around([0.1, 10.0].into_iter());
        let (half, one, twice) = (axis.x(0.5), axis.x(1.0), axis.x(2.0));
        assert!(((twice - one) - (one - half)).abs() < 1e-9);
    }

    #[test]
    fn each_column_has_a_bar_and_names_are_escaped() {
        let lines = [
            line("get/1", Some(2.0), &[Some(3.0), Some(0.5)]),
            line("a<b", None, &[None, Some(1.0)]),
            line("nothing", None, &[None, None]),
        ];
        let svg = draw(&["one".to_owned(), "two".to_owned()], &lines);
        assert_eq!(svg.matches("<rect class=\"ahead\"").count(), 2, "{svg}");
        assert_eq!(svg.matches("<rect class=\"behind\"").count(), 1, "{svg}");
        assert_eq!(svg.matches("<path class=\"target\"").count(), 1, "{svg}");
        assert!(svg.contains("a&lt;b") && !svg.contains("nothing"), "{svg}");
    }
}
