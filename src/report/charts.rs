//! Charts as SVG, in the colours of the page: each is a variable of its style sheet, so that they follow its theme.

use kuva::plot::annotations::ReferenceLine;
use kuva::plot::legend::LegendPosition;
use kuva::plot::{BarPlot, LinePlot};
use kuva::render::layout::Layout;
use kuva::render::plots::Plot;
use kuva::render::theme::Theme;
use kuva::render_to_svg;

use super::facts::{HeldOut, Period, Report, Series, Set};

/// Lines of a chart beside the calibration's, as many as there are colours.
const LINES: usize = 7;
/// Characters of a name in a legend.
const NAME: usize = 16;
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 280.0;

/// A chart, and what it shows in words.
pub(super) struct Chart {
    pub(super) svg: String,
    pub(super) alt: String,
}

fn theme() -> Theme {
    Theme {
        background: "none".into(),
        axis_color: "var(--line)".into(),
        grid_color: "var(--grid)".into(),
        tick_color: "var(--line)".into(),
        text_color: "var(--ink)".into(),
        legend_bg: "var(--paper)".into(),
        legend_border: "none".into(),
        font_family: Some("inherit".into()),
        show_grid: true,
        ..Theme::light()
    }
}

fn colour(at: usize) -> String {
    format!("var(--c{at})")
}

fn drawn(plots: Vec<Plot>, x: &str, y: &str, change: impl FnOnce(Layout) -> Layout) -> String {
    let layout = Layout::auto_from_plots(&plots)
        .with_width(WIDTH)
        .with_height(HEIGHT)
        .with_x_label(x)
        .with_y_label(y)
        .with_theme(theme())
        .with_label_size(13)
        .with_tick_size(12)
        .with_body_size(12)
        .with_legend_position(LegendPosition::OutsideRightTop);
    scaled(render_to_svg(plots, change(layout)))
}

/// With a view box in place of a size, so that it is as wide as its place.
fn scaled(svg: String) -> String {
    let size = |name: &str| {
        let at = svg.find(&format!(" {name}=\""))? + name.len() + 3;
        svg[at..].split('"').next().map(str::to_owned)
    };
    let (Some(width), Some(height)) = (size("width"), size("height")) else { return svg };
    let sized = format!(" width=\"{width}\" height=\"{height}\"");
    svg.replacen(&sized, &format!(" viewBox=\"0 0 {width} {height}\" aria-hidden=\"true\" focusable=\"false\""), 1)
}

fn at_threshold(report: &Report) -> ReferenceLine {
    ReferenceLine::vertical(f64::from(report.threshold)).with_color("var(--ink)")
}

/// The line's number stands below: beside it there may be no room.
fn axis(report: &Report) -> String {
    format!("score (dashed: the threshold, {:.4})", report.threshold)
}

/// A name as a legend has room for.
fn short(name: &str) -> String {
    let mut short: String = name.chars().take(NAME).collect();
    if short.len() < name.len() {
        short.push('…');
    }
    short
}

/// The calibration, then the largest datasets.
fn shown(report: &Report) -> Vec<&Series> {
    let mut datasets: Vec<&Series> = report.datasets.iter().filter_map(|group| group.scores.as_ref()).collect();
    datasets.sort_by_key(|series| std::cmp::Reverse(series.images));
    datasets.truncate(LINES);
    std::iter::once(&report.calibration).chain(datasets).collect()
}

/// How many datasets the charts of scores leave out.
pub(super) fn left_out(report: &Report) -> usize {
    report.datasets.len().saturating_sub(LINES)
}

/// Where scores lie: the share of each set's images in bins.
pub(super) fn histogram(report: &Report) -> Chart {
    let plots = shown(report).into_iter().enumerate().map(|(at, series)| {
        let share = |count: &usize| 100.0 * *count as f64 / series.images as f64;
        // a step begins where its bin does
        let ends = std::iter::once((series.bins[series.bins.len() - 1], 0.0));
        let points: Vec<(f64, f64)> =
            series.bins.iter().copied().zip(series.counts.iter().map(share)).chain(ends).collect();
        let line =
            LinePlot::new().with_data(points).with_color(colour(at)).with_step().with_legend(short(&series.name));
        Plot::Line(line.with_stroke_width(if at == 0 { 2.5 } else { 1.5 }))
    });
    let threshold = at_threshold(report);
    let svg = drawn(plots.collect(), &axis(report), "% of its images", |layout| layout.with_reference_line(threshold));
    let alt = format!("Histogram of the scores of the calibration and of {}", named(report));
    Chart { svg, alt }
}

/// The share of images up to each score.
pub(super) fn distribution(report: &Report) -> Chart {
    let plots = shown(report).into_iter().enumerate().map(|(at, series)| {
        let points: Vec<(f64, f64)> =
            series.percentiles.iter().enumerate().map(|(percent, score)| (f64::from(*score), percent as f64)).collect();
        let line = LinePlot::new().with_data(points).with_color(colour(at)).with_legend(short(&series.name));
        Plot::Line(line.with_stroke_width(if at == 0 { 2.5 } else { 1.5 }))
    });
    let threshold = at_threshold(report);
    let svg = drawn(plots.collect(), &axis(report), "% of its images up to it", |layout| {
        layout.with_reference_line(threshold).with_y_axis_min(0.0).with_y_axis_max(100.0)
    });
    let alt = format!("Distribution function of the scores of the calibration and of {}", named(report));
    Chart { svg, alt }
}

fn named(report: &Report) -> String {
    let names: Vec<&str> = shown(report).into_iter().skip(1).map(|series| series.name.as_str()).collect();
    format!("{}; the threshold is {:.4}", names.join(", "), report.threshold)
}

/// ROC curves.
pub(super) fn roc(sets: &[Set]) -> Chart {
    let shown = sets.iter().take(LINES + 1).enumerate();
    let mut plots: Vec<Plot> = shown
        .map(|(at, set)| {
            let points: Vec<(f64, f64)> = set.roc.iter().map(|(id, ood)| (100.0 * id, 100.0 * ood)).collect();
            let name = format!("{} {:.2}", short(&set.name), 100.0 * set.auroc);
            Plot::Line(
                LinePlot::new().with_data(points).with_color(colour(at)).with_legend(name).with_stroke_width(1.5),
            )
        })
        .collect();
    let chance = LinePlot::new().with_data(vec![(0.0, 0.0), (100.0, 100.0)]).with_color("var(--line)").with_dashed();
    plots.push(Plot::Line(chance));
    let svg = drawn(plots, "% of ID images called OOD", "% of OOD images found", |layout| {
        layout.with_x_axis_min(0.0).with_x_axis_max(100.0).with_y_axis_min(0.0).with_y_axis_max(100.0)
    });
    let all: Vec<String> = sets.iter().map(|set| format!("{} AUROC {:.2} %", set.name, 100.0 * set.auroc)).collect();
    Chart { svg, alt: format!("ROC curves: {}", all.join(", ")) }
}

/// P-values of held-out images, and how many each bin would have where they are spread evenly.
pub(super) fn pvalues(held_out: &HeldOut) -> Chart {
    let name = |at: usize| format!("{:.2}", (at + 1) as f64 / held_out.counts.len() as f64);
    let bars = held_out.counts.iter().enumerate().map(|(at, count)| (name(at), *count as f64));
    let bars = BarPlot::new().with_bars(bars.collect::<Vec<_>>()).with_color(colour(1));
    let even = held_out.images as f64 / held_out.counts.len() as f64;
    let even = ReferenceLine::horizontal(even).with_color("var(--ink)");
    let svg = drawn(vec![Plot::Bar(bars)], "p-value up to (dashed: spread evenly)", "images", |layout| {
        layout.with_reference_line(even)
    });
    Chart { svg, alt: format!("Histogram of the p-values of {} held-out images", held_out.images) }
}

/// The share outside by the time at which images came.
pub(super) fn periods(periods: &[Period], length: &str) -> Chart {
    let (from, to) = match length {
        "hour" => (5, 16),
        "day" => (5, 10),
        _ => (0, 7),
    };
    let share = |period: &Period| 100.0 * period.ood as f64 / period.images.max(1) as f64;
    let bars = periods.iter().map(|period| (period.begins[from..to].replace('T', " "), share(period)));
    let bars = BarPlot::new().with_bars(bars.collect::<Vec<_>>()).with_color(colour(1));
    let svg = drawn(vec![Plot::Bar(bars)], length, "% outside", |layout| layout.with_x_tick_rotate(-45.0));
    let all: Vec<String> =
        periods.iter().map(|period| format!("{} {:.1} %", &period.begins[from..to], share(period))).collect();
    Chart { svg, alt: format!("Share outside by {length}: {}", all.join(", ")) }
}
