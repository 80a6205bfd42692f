//! Lines over an axis: latency by percentile, and how something went on second by second.

use std::fmt::Write;

use super::scale::Scale;
use super::text::escape;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 30.0;
/// The style knows as many colours; a line beyond them is dashed.
const COLOURS: usize = 8;

pub struct Line {
    pub name: String,
    pub ours: bool,
    pub points: Vec<(f64, f64)>,
}

pub struct Chart<'a> {
    pub title: &'a str,
    pub lines: Vec<Line>,
    /// Places on the horizontal axis with what stands there.
    pub ticks: Vec<(f64, String)>,
    /// Upright lines with a word, where another stage begins.
    pub marks: Vec<(f64, String)>,
    pub logarithmic: bool,
    pub show: fn(f64) -> String,
}

pub fn upright(logarithmic: bool, values: impl Iterator<Item = f64> + Clone) -> Scale {
    let most = values.clone().fold(0.0, f64::max);
    if logarithmic {
        Scale::logarithmic(values.fold(f64::MAX, f64::min), most, HEIGHT - BOTTOM, TOP)
    } else {
        Scale::linear(most, HEIGHT - BOTTOM, TOP)
    }
}

pub fn across(low: f64, high: f64) -> Scale {
    Scale::exact(low, high, LEFT, WIDTH - RIGHT)
}

impl Chart<'_> {
    /// Empty when no line has a point.
    pub fn draw(&self) -> String {
        let points = self.lines.iter().flat_map(|line| &line.points);
        let places = points.clone().map(|(x, _)| *x).chain(self.ticks.iter().map(|(x, _)| *x));
        if points.clone().next().is_none() {
            return String::new();
        }
        let x = across(places.clone().fold(f64::MAX, f64::min), places.fold(f64::MIN, f64::max));
        let y = upright(self.logarithmic, points.map(|(_, y)| *y));
        let title = escape(self.title);
        let mut svg = format!(
            "<figure><figcaption>{title}</figcaption>{}<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">",
            self.legend()
        );
        self.draw_axes(&mut svg, &x, &y);
        // The first lies on top.
        for (number, line) in self.lines.iter().enumerate().rev() {
            svg.push_str(&draw_line(line, number, &x, &y, self.show));
        }
        svg.push_str("</svg></figure>\n");
        svg
    }

    fn draw_axes(&self, svg: &mut String, x: &Scale, y: &Scale) {
        let (right, floor) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for tick in y.ticks() {
            let place = y.at(tick);
            // Writing to a String cannot fail, here and below.
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{place:.1}\" y2=\"{place:.1}\"/>\
                 <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                place + 4.0,
                escape(&(self.show)(tick))
            );
        }
        for (place, words) in &self.ticks {
            let place = x.at(*place);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{place:.1}\" x2=\"{place:.1}\" y1=\"{TOP}\" y2=\"{floor}\"/>\
                 <text class=\"tick\" x=\"{place:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                HEIGHT - 10.0,
                escape(words)
            );
        }
        for (place, words) in &self.marks {
            let place = x.at(*place);
            let _ = write!(
                svg,
                "<line class=\"mark\" x1=\"{place:.1}\" x2=\"{place:.1}\" y1=\"{TOP}\" y2=\"{floor}\"/>\
                 <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                place + 4.0,
                TOP + 10.0,
                escape(words)
            );
        }
    }

    /// One line needs none: the title says what it is.
    fn legend(&self) -> String {
        if self.lines.len() < 2 {
            return String::new();
        }
        let mut html = String::from("<ul class=\"legend\">");
        for (number, line) in self.lines.iter().enumerate() {
            let _ = write!(
                html,
                "<li><svg viewBox=\"0 0 24 8\" width=\"24\" height=\"8\"><line class=\"{}\" x1=\"0\" x2=\"24\" y1=\"4\" y2=\"4\"/></svg>{}</li>",
                class(line, number),
                escape(&line.name)
            );
        }
        html.push_str("</ul>");
        html
    }
}

fn class(line: &Line, number: usize) -> String {
    let dashed = if number >= COLOURS { " dashed" } else { "" };
    let weight = if line.ours { " bold" } else { "" };
    format!("line colour-{}{dashed}{weight}", number % COLOURS)
}

fn draw_line(line: &Line, number: usize, x: &Scale, y: &Scale, show: fn(f64) -> String) -> String {
    let mut places = String::new();
    // One point alone is a line of no length, which the style gives round ends.
    let again = line.points.first().filter(|_| line.points.len() == 1);
    for (along, up) in line.points.iter().chain(again) {
        // Writing to a String cannot fail.
        let _ = write!(places, "{:.1},{:.1} ", x.at(*along), y.at(*up));
    }
    let worst = line.points.iter().map(|(_, up)| *up).fold(0.0, f64::max);
    format!(
        "<polyline class=\"{}\" points=\"{}\"><title>{}, at most {}</title></polyline>",
        class(line, number),
        places.trim_end(),
        escape(&line.name),
        escape(&show(worst))
    )
}
