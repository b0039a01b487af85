//! What runs have found, for people: figures, text tables, plots, and pages of HTML.
//!
//! - [`Figure`] and [`Summary`]: a number with its name and unit, and the same over several repeats.
//! - [`bars`], [`distribution`]: plots as inline SVG, with nothing to load and nothing to run. Each
//!   comes as a `<figure>`, or as an empty text if there is nothing to show.
//! - [`Page`]: what such plots are put into; their colours come from its style.
//! - [`Course`], [`course()`]: what happened to a run, over time.
//! - [`findings`]: the figures of a run; [`Comparison`]: those of two scenarios.
//! - [`runs_page`], [`comparison_page`]: pages about runs; [`Held`]: what is measured profile by profile.
//! - [`number`], [`TextTable`]: the same for a terminal.
//!
//! ```
//! use tern_netsim::report::{Page, bars};
//!
//! let mut page = Page::new("Tea & coffee");
//! page.push(&bars("Cups", "a day", &[("tea", 4.0), ("coffee", 2.0)], None));
//! assert!(page.finish().contains("Tea &amp; coffee"));
//! ```

mod axis;
mod bars;
mod comparison;
mod course;
mod distribution;
mod figure;
mod findings;
mod held;
mod page;
mod runs_page;
mod scene;
mod svg;
mod text;

pub use self::{
    bars::bars,
    comparison::{Compared, Comparison, spread},
    course::{Course, Lane, Mark, Point, Span},
    distribution::{Curve, distribution},
    figure::{Figure, Summary, median},
    findings::{LATE_AFTER_MEDIAN_MS, findings, longest_stalls_ms, reconnects},
    held::{Held, profile_markdown},
    page::{Cell, Page},
    runs_page::{RunReport, comparison_page, runs_page},
    scene::{course, recoveries_ms},
    svg::escape,
    text::{TextTable, number},
};
