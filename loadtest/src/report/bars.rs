//! Bars beside each other: the median of the rounds, and a line over their middle half.

use std::fmt::Write;

use super::scale::Scale;
use super::text::{escape, number};
use crate::figures::Spread;

const WIDTH: f64 = 760.0;
const NAMES: f64 = 240.0;
const VALUES: f64 = 150.0;
const ROW: f64 = 26.0;
const AXIS: f64 = 24.0;

pub struct Bar {
    pub name: String,
    /// Afflux stands out; the others are what it is looked at beside.
    pub ours: bool,
    pub spread: Spread,
}

/// Empty when there are no bars.
pub fn draw(title: &str, unit: &str, bars: &[Bar]) -> String {
    let Some(most) = bars.iter().map(|bar| bar.spread.upper).reduce(f64::max) else { return String::new() };
    let height = bars.len() as f64 * ROW + AXIS;
    let scale = Scale::linear(most, NAMES, WIDTH - VALUES);
    let mut svg = format!(
        "<figure><figcaption>{}</figcaption><svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">",
        escape(title),
        escape(title)
    );
    for tick in scale.ticks() {
        let (x, bottom) = (scale.at(tick), height - AXIS);
        // Writing to a String cannot fail, here and below.
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{bottom}\"/>\
             <text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            height - 8.0,
            number(tick)
        );
    }
    for (row, bar) in bars.iter().enumerate() {
        svg.push_str(&draw_bar(bar, unit, row as f64 * ROW, &scale));
    }
    svg.push_str("</svg></figure>\n");
    svg
}

fn draw_bar(bar: &Bar, unit: &str, top: f64, scale: &Scale) -> String {
    let Spread { lower, median, upper } = bar.spread;
    let (middle, class) = (top + ROW / 2.0, if bar.ours { "ours" } else { "peer" });
    let name = escape(&bar.name);
    let said = format!("{} {unit}", number(median));
    let range = format!("{} .. {}", number(lower), number(upper));
    let (start, end) = (scale.at(0.0), scale.at(median));
    format!(
        "<g><title>{name}: {said}, middle half of the rounds {range}</title>\
         <text class=\"{class}-name\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>\
         <rect class=\"{class}\" x=\"{start:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"2\"/>\
         <line class=\"whisker\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\"/>\
         <text class=\"value\" x=\"{:.1}\" y=\"{:.1}\">{said}</text></g>",
        NAMES - 8.0,
        middle + 4.0,
        top + 4.0,
        (end - start).max(1.0),
        ROW - 8.0,
        scale.at(lower),
        scale.at(upper),
        scale.at(upper) + 8.0,
        middle + 4.0,
    )
}
