//! The picture: an SVG file that stands by itself, with the script that zooms and searches in it.

use std::fmt::Write;

use super::Frame;

/// The width of the picture, and of the bar of everything: pixels.
const WIDTH: f64 = 1200.0;
const MARGIN: f64 = 10.0;
const INNER: f64 = WIDTH - 2.0 * MARGIN;

/// The height of a bar, and of what is above all of them.
const BAR: f64 = 17.0;
const HEAD: f64 = 60.0;

/// The width of a character, more or less: monospaced, 11 pixels high.
const CHARACTER: f64 = 6.7;

/// A bar that is narrower than this is not drawn.
const NARROWEST: f64 = 0.1;

const STYLE: &str = "text{font:11px monospace;fill:#111}.title{font:bold 16px sans-serif}.frame{cursor:pointer}\
    .frame:hover rect{stroke:#111}.button{cursor:pointer;fill:#06c}";

/// The bars, being written.
struct Drawing {
    svg: String,
    total: u64,
    /// Where the bottom bar is.
    bottom: f64,
}

/// Draws everything that was seen, under a title.
pub fn draw(all: &Frame, title: &str) -> String {
    let levels = u32::try_from(all.depth()).unwrap_or(u32::MAX);
    let height = HEAD + BAR * f64::from(levels + 1) + 2.0 * MARGIN;
    let mut drawing = Drawing {
        svg: head(title, height),
        total: all.samples.max(1),
        bottom: height - MARGIN - BAR,
    };
    drawing.frame("all", all, 0, 0);
    let mut svg = drawing.svg;
    let _cannot_fail = write!(
        svg,
        "<script><![CDATA[\n{}]]></script>\n</svg>\n",
        include_str!("zoom.js")
    );
    svg
}

fn head(title: &str, height: f64) -> String {
    let title = escaped(title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\">\n\
         <style>{STYLE}</style>\n<rect width=\"100%\" height=\"100%\" fill=\"#fcfcf6\"/>\n\
         <text class=\"title\" x=\"{MARGIN}\" y=\"24\">{title}</text>\n\
         <text class=\"button\" id=\"reset\" x=\"{MARGIN}\" y=\"44\">Show all</text>\n\
         <text class=\"button\" id=\"search\" x=\"90\" y=\"44\">Search</text>\n\
         <text id=\"found\" x=\"150\" y=\"44\"></text>\n"
    )
}

impl Drawing {
    /// A bar, and above it those of what was called. `left` is the number of samples to the left of it.
    fn frame(&mut self, name: &str, frame: &Frame, left: u64, level: u32) {
        let width = self.pixels(frame.samples);
        if width < NARROWEST {
            return;
        }
        let x = MARGIN + self.pixels(left);
        let y = self.bottom - BAR * f64::from(level);
        let (samples, percent) = (frame.samples, 100.0 * frame.samples as f64 / self.total as f64);
        let (told, shown, colour) = (escaped(name), escaped(&fitting(name, width)), colour(name));
        let _cannot_fail = writeln!(
            self.svg,
            "<g class=\"frame\" data-left=\"{left}\" data-samples=\"{samples}\" data-level=\"{level}\">\
             <title>{told} ({samples} samples, {percent:.2} %)</title>\
             <rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{:.1}\" rx=\"1\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{shown}</text></g>",
            BAR - 1.0,
            x + 3.0,
            y + 12.0
        );
        let mut left = left;
        for (name, called) in &frame.called {
            self.frame(name, called, left, level + 1);
            left += called.samples;
        }
    }

    fn pixels(&self, samples: u64) -> f64 {
        INNER * samples as f64 / self.total as f64
    }
}

/// As much of a name as there is room for.
fn fitting(name: &str, width: f64) -> String {
    let room = ((width - 6.0) / CHARACTER) as usize;
    match name.chars().count() {
        _any if room < 3 => String::new(),
        count if count <= room => name.to_owned(),
        _too_long => name.chars().take(room - 1).chain(['…']).collect(),
    }
}

/// A warm colour, the same for the same name.
fn colour(name: &str) -> String {
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    format!(
        "hsl({},{}%,{}%)",
        10 + hash % 45,
        75 + (hash >> 8) % 20,
        62 + (hash >> 16) % 12
    )
}

/// A text within the file.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            control if control.is_control() => escaped.push(' '),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> String {
        let mut all = Frame::default();
        all.add("slot-0;<T as Operator>::process 3\nslot-0;rare 1\n", None);
        draw(&all, "job \"a\" & b")
    }

    #[test]
    fn each_function_is_a_bar_as_wide_as_its_part_of_the_time() {
        let svg = picture();
        assert!(
            svg.contains("&lt;T as Operator&gt;::process (3 samples, 75.00 %)"),
            "{svg}"
        );
        assert!(
            svg.contains("data-left=\"3\" data-samples=\"1\" data-level=\"2\""),
            "{svg}"
        );
        assert!(svg.contains("width=\"885.0\""), "{svg}");
        assert!(svg.contains("job &quot;a&quot; &amp; b"), "{svg}");
    }

    #[test]
    fn every_element_that_is_opened_is_closed() {
        let svg = picture();
        for element in ["svg", "g", "rect", "text", "title", "style", "script"] {
            let opened = svg.matches(&format!("<{element} ")).count() + svg.matches(&format!("<{element}>")).count();
            let closed = svg.matches(&format!("</{element}>")).count();
            let by_itself = if element == "rect" { opened } else { 0 };
            assert_eq!(opened, closed + by_itself, "{element} in {svg}");
        }
    }

    #[test]
    fn of_a_long_name_the_beginning_is_shown() {
        assert_eq!(fitting("process", 60.0), "process");
        assert_eq!(fitting("streamd_runtime", 60.0), "streamd…");
        assert_eq!(fitting("streamd_runtime", 10.0), "");
    }

    #[test]
    fn what_was_hardly_ever_seen_is_not_drawn() {
        let mut all = Frame::default();
        all.add("often 1000000\nrare 1\n", None);
        let svg = draw(&all, "");
        assert!(svg.contains("often (") && !svg.contains("rare ("), "{svg}");
    }
}
