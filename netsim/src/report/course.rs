//! The course of a run: what took how long when, what happened meanwhile, and the state of each of those
//! that took part. All of it shares one axis of time.

use std::fmt::Write;

use super::{
    axis::{LogAxis, steps},
    distribution::time_label,
    svg::{END, LEFT, RIGHT, WIDTH, begin, escape, put},
    text::number,
};

/// Height of the part with the points.
const POINTS: f64 = 220.0;
/// Height of a row of event labels.
const LABEL_ROW: f64 = 14.0;
/// Rows of event labels at most; what has no room is only told when a pointer rests on its line.
const LABEL_ROWS: usize = 4;
/// Width of a letter of a label, about.
const LETTER: f64 = 5.9;
/// Height of a lane with the room below it.
const LANE: f64 = 16.0;
/// Height of what is drawn in a lane.
const LANE_BAR: f64 = 10.0;

/// Height of the line below a lane for what is missing.
const LANE_GAP: f64 = 2.5;

/// A thing that took time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// When it began, in seconds.
    pub at_s: f64,
    /// How long it took in milliseconds; `None`: it never ended.
    pub took_ms: Option<f64>,
    /// Which of three colours it has, 0 to 2.
    pub colour: usize,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// When, in seconds.
    pub at_s: f64,
    /// What.
    pub label: String,
}

/// A stretch of time.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// Its begin, in seconds.
    pub from_s: f64,
    /// Its end.
    pub to_s: f64,
    /// What it is: a class of the page's style, `up`, `wait`, `down` or `gap`.
    pub class: &'static str,
    /// The same for people.
    pub label: String,
}

/// One of those that took part.
#[derive(Debug, Clone, PartialEq)]
pub struct Lane {
    /// Its name, a few letters.
    pub label: String,
    /// Its states, one after another; later ones are drawn over earlier ones.
    pub spans: Vec<Span>,
}

/// A plot of a course.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Course {
    /// What is above the plot.
    pub title: String,
    /// The length of the axis of time, in seconds.
    pub seconds: f64,
    /// What took time.
    pub points: Vec<Point>,
    /// What happened.
    pub marks: Vec<Mark>,
    /// Times when something was missing.
    pub gaps: Vec<Span>,
    /// Who took part.
    pub lanes: Vec<Lane>,
}

impl Course {
    /// The plot as a `<figure>`; empty if there are no points.
    pub fn plot(&self) -> String {
        let axis = LogAxis::over(self.points.iter().filter_map(|point| point.took_ms));
        let Some(axis) = axis.filter(|_| self.seconds > 0.0) else { return String::new() };
        let (labels, rows) = self.labels();
        let top = rows as f64 * LABEL_ROW + 8.0;
        let bottom = top + POINTS;
        let lanes_top = bottom + 10.0;
        let end = lanes_top + self.lanes.len() as f64 * LANE;
        let mut svg = begin(&self.title, end + 22.0);
        self.put_gaps(&mut svg, top, bottom);
        self.put_axes(&mut svg, &axis, top, bottom, end);
        svg += &labels;
        for mark in &self.marks {
            let x = self.x(mark.at_s);
            put(
                &mut svg,
                format_args!(
                    r#"<line class="mark" x1="{x:.1}" x2="{x:.1}" y1="{top:.0}" y2="{bottom:.0}"><title>{}</title></line>"#,
                    self.told(mark)
                ),
            );
        }
        self.put_points(&mut svg, &axis, top, bottom);
        self.put_lanes(&mut svg, lanes_top);
        svg + END
    }

    fn x(&self, at_s: f64) -> f64 {
        LEFT + (at_s / self.seconds).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn told(&self, mark: &Mark) -> String {
        format!("{} s: {}", number(mark.at_s), escape(&mark.label))
    }

    /// The labels of what happened, each in the first row that has room, and the number of rows. The first
    /// row is at the bottom, next to the points.
    fn labels(&self) -> (String, usize) {
        let mut taken: Vec<Vec<(f64, f64)>> = Vec::new();
        let mut placed = Vec::new();
        for mark in &self.marks {
            let width = mark.label.chars().count() as f64 * LETTER;
            let x = self.x(mark.at_s);
            // To the right of its line, or to the left if the plot ends there.
            let (from, to, anchor) =
                if x + width > WIDTH { (x - width, x, "end") } else { (x, x + width, "start") };
            let room =
                |row: &Vec<(f64, f64)>| row.iter().all(|(a, b)| to + 8.0 < *a || from > *b + 8.0);
            let row = match taken.iter().position(room) {
                Some(row) => row,
                None if taken.len() < LABEL_ROWS => {
                    taken.push(Vec::new());
                    taken.len() - 1
                }
                None => continue,
            };
            taken[row].push((from, to));
            placed.push((row, x, anchor, mark));
        }
        let mut svg = String::new();
        for (row, x, anchor, mark) in placed {
            let y = (taken.len() - row) as f64 * LABEL_ROW;
            put(
                &mut svg,
                format_args!(
                    r#"<text class="label" x="{x:.1}" y="{y:.0}" text-anchor="{anchor}">{}<title>{}</title></text>"#,
                    escape(&mark.label),
                    self.told(mark)
                ),
            );
        }
        (svg, taken.len())
    }

    fn put_gaps(&self, svg: &mut String, top: f64, bottom: f64) {
        for gap in &self.gaps {
            let (x, to) = (self.x(gap.from_s), self.x(gap.to_s));
            put(
                svg,
                format_args!(
                    r#"<rect class="shade" x="{x:.1}" y="{top:.0}" width="{:.1}" height="{:.0}"><title>{}</title></rect>"#,
                    (to - x).max(1.0),
                    bottom - top,
                    escape(&gap.label)
                ),
            );
        }
    }

    fn put_axes(&self, svg: &mut String, axis: &LogAxis, top: f64, bottom: f64, end: f64) {
        for ms in axis.ticks() {
            let y = bottom - axis.at(ms) * (bottom - top);
            put(
                svg,
                format_args!(
                    r#"<line class="grid" x1="{LEFT}" x2="{}" y1="{y:.1}" y2="{y:.1}"/><text x="{}" y="{:.1}" text-anchor="end">{}</text>"#,
                    WIDTH - RIGHT,
                    LEFT - 6.0,
                    y + 4.0,
                    time_label(ms)
                ),
            );
        }
        for s in steps(self.seconds) {
            let x = self.x(s);
            put(
                svg,
                format_args!(
                    r#"<line class="grid" x1="{x:.1}" x2="{x:.1}" y1="{bottom:.0}" y2="{end:.0}"/><text x="{x:.1}" y="{:.0}" text-anchor="middle">{}</text>"#,
                    end + 16.0,
                    if s == 0.0 { "0 s".into() } else { time_label(s * 1e3) }
                ),
            );
        }
    }

    /// Points of a colour are one path of strokes without length, whose round ends are the points: that is
    /// short enough for thousands of them.
    fn put_points(&self, svg: &mut String, axis: &LogAxis, top: f64, bottom: f64) {
        let mut paths = [const { String::new() }; 3];
        let mut never = String::new();
        for point in &self.points {
            let x = self.x(point.at_s);
            // Writing to a string can't fail.
            let _ = match point.took_ms {
                Some(ms) => {
                    let y = bottom - axis.at(ms) * (bottom - top);
                    write!(paths[point.colour % 3], "M{x:.1},{y:.1}h0")
                }
                None => write!(never, "M{:.1},{top:.0}l6,6m0,-6l-6,6", x - 3.0),
            };
        }
        for (colour, path) in paths.iter().enumerate().filter(|(_, path)| !path.is_empty()) {
            put(svg, format_args!(r#"<path class="points c{colour}" d="{path}"/>"#));
        }
        if !never.is_empty() {
            put(svg, format_args!(r#"<path class="never" d="{never}"/>"#));
        }
    }

    fn put_lanes(&self, svg: &mut String, top: f64) {
        for (index, lane) in self.lanes.iter().enumerate() {
            let y = top + LANE * index as f64;
            put(
                svg,
                format_args!(
                    r#"<text class="label" x="{}" y="{:.0}" text-anchor="end">{}</text>"#,
                    LEFT - 6.0,
                    y + LANE_BAR - 1.0,
                    escape(&lane.label)
                ),
            );
            for span in &lane.spans {
                let (x, to) = (self.x(span.from_s), self.x(span.to_s));
                // A gap leaves room to see what the client thinks of it.
                let (y, height) = match span.class {
                    "gap" => (y + LANE_BAR, LANE_GAP),
                    _ => (y, LANE_BAR),
                };
                put(
                    svg,
                    format_args!(
                        r#"<rect class="{}" x="{x:.1}" y="{y:.0}" width="{:.1}" height="{height}"><title>{}, {} to {} s</title></rect>"#,
                        span.class,
                        (to - x).max(0.5),
                        escape(&span.label),
                        number(span.from_s),
                        number(span.to_s)
                    ),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(marks: &[(f64, &str)]) -> Course {
        let point = |at_s, took_ms| Point { at_s, took_ms, colour: 0 };
        Course {
            title: "x".into(),
            seconds: 60.0,
            points: vec![point(1.0, Some(100.0)), point(59.0, None)],
            marks: marks.iter().map(|&(at_s, label)| Mark { at_s, label: label.into() }).collect(),
            ..Course::default()
        }
    }

    #[test]
    fn labels_that_would_overlap_are_in_different_rows_or_left_out() {
        let (_, rows) = course(&[(1.0, "one"), (30.0, "two")]).labels();
        assert_eq!(rows, 1);
        let (_, rows) = course(&[(1.0, "a long label"), (2.0, "two")]).labels();
        assert_eq!(rows, 2);
        let many: Vec<_> = (0..60).map(|s| (f64::from(s), "a long label")).collect();
        let (svg, rows) = course(&many).labels();
        assert_eq!(rows, LABEL_ROWS);
        assert!(svg.matches("<text").count() < 60);
    }

    #[test]
    fn what_never_arrived_is_shown() {
        assert!(course(&[]).plot().contains("class=\"never\""));
        assert_eq!(Course::default().plot(), "");
    }
}
