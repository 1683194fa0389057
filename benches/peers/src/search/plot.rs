//! The curves of recall and time, as an SVG.

use std::fmt::Write;

use super::report::Store;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 520.0;
/// Around the plot: left, top, right, bottom.
const MARGINS: [f64; 4] = [70.0, 50.0, 170.0, 60.0];
const COLOURS: [&str; 12] = [
    "#d62728", "#1f77b4", "#6baed6", "#2ca02c", "#9467bd", "#c5a3e0", "#ff7f0e", "#17a2a2",
    "#7fd3d3", "#8c564b", "#555555", "#bcbd22",
];
const RECALLS: [f64; 8] = [0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999];

/// The recalls and times of a store that are in the picture.
fn shown(store: &Store) -> Vec<(f64, f64)> {
    let front = store.front(|point| store.net_us(point)).into_iter();
    let shown = front.filter(|point| point.0 >= RECALLS[0]);
    shown.map(|(recall, time)| (recall.min(RECALLS[7]), time)).collect()
}

/// Draws recall to the right, the more room the nearer to 1, and time upwards, both logarithmic.
pub fn draw(stores: &[Store], title: &str) -> String {
    let fronts: Vec<Vec<(f64, f64)>> = stores.iter().map(shown).collect();
    let times = fronts.iter().flatten().map(|point| point.1);
    let least = times.clone().fold(100.0, f64::min) / 1.2;
    let most = times.fold(200.0, f64::max) * 1.2;
    let [left, top, right, bottom] = MARGINS;
    let place = |at: f64, from: f64, to: f64| (at - from) / (to - from);
    let nines = |recall: f64| -(1.0 - recall).log10();
    let x = |recall: f64| {
        left + (WIDTH - left - right) * place(nines(recall), nines(RECALLS[0]), nines(RECALLS[7]))
    };
    let y = |time: f64| {
        HEIGHT - bottom - (HEIGHT - top - bottom) * place(time.ln(), least.ln(), most.ln())
    };

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    let mut line = |x1: f64, y1: f64, x2: f64, y2: f64| {
        let _ = writeln!(svg, "<path d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\" stroke=\"#ddd\"/>");
    };
    let decades = (0..8).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power)));
    let ticks: Vec<f64> = decades.filter(|time| (least..=most).contains(time)).collect();
    RECALLS.iter().for_each(|recall| line(x(*recall), top, x(*recall), HEIGHT - bottom));
    ticks.iter().for_each(|time| line(left, y(*time), WIDTH - right, y(*time)));

    let mut text = |x: f64, y: f64, anchor: &str, words: &str| {
        let _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>"
        );
    };
    text(left, top - 20.0, "start", title);
    text((left + WIDTH - right) / 2.0, HEIGHT - 15.0, "middle", "recall");
    text(left - 8.0, top - 5.0, "end", "us");
    RECALLS
        .iter()
        .for_each(|recall| text(x(*recall), HEIGHT - bottom + 20.0, "middle", &recall.to_string()));
    ticks.iter().for_each(|time| text(left - 8.0, y(*time) + 4.0, "end", &time.to_string()));

    for (number, (store, front)) in stores.iter().zip(&fronts).enumerate() {
        let (colour, width) = (
            COLOURS[number % COLOURS.len()],
            if store.name.starts_with("spinney") { 3.5 } else { 1.8 },
        );
        let path: Vec<String> =
            front.iter().map(|point| format!("{:.1} {:.1}", x(point.0), y(point.1))).collect();
        if !path.is_empty() {
            let path = path.join("L");
            let _ = writeln!(
                svg,
                "<path d=\"M{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"/>"
            );
        }
        for point in front {
            let _ = writeln!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>",
                x(point.0),
                y(point.1)
            );
        }
        let (at, down) = (WIDTH - right + 20.0, top + 10.0 + 22.0 * number as f64);
        let _ = writeln!(
            svg,
            "<path d=\"M{at} {down}h24\" stroke=\"{colour}\" stroke-width=\"{width}\"/>"
        );
        let _ =
            writeln!(svg, "<text x=\"{}\" y=\"{}\">{}</text>", at + 32.0, down + 4.0, store.name);
    }
    svg.push_str("</svg>\n");
    svg
}
