//! The families of data, in groups.

use spinney::{BuildOptions, Metric};

use super::dice::{Dice, scaled};
use super::family::{ALL, Data, EUCLIDEAN, FLOATS, Family, LENGTHS, Mode, QUERIES};

/// A group of families: its name, and what makes it.
pub type Group = (&'static str, fn() -> Vec<Family>);

pub const GROUPS: &[Group] = &[
    ("clusters", clusters),
    ("moved", moved),
    ("scales", scales),
    ("outliers", outliers),
    ("sparse", sparse),
    ("discrete", discrete),
    ("lines", lines),
    ("copies", copies),
    ("products", products),
    ("dimensions", dimensions),
    ("orders", orders),
    ("deleted", deleted),
    ("options", options),
];

/// A family by its name.
pub fn find(name: &str) -> Family {
    GROUPS.iter().flat_map(|(_, make)| make()).find(|family| family.name == name).unwrap()
}

/// Clusters of equal size around normal centres: `spread` in each component, where that of the
/// centres is 1.
pub fn blobs(dice: &mut Dice, centres: usize, each: usize, dims: usize, spread: f64) -> Data {
    let centres = dice.normal_rows(centres, dims);
    Data::of(centres.len() * each, || {
        let at = dice.below(centres.len());
        dice.around(&centres[at], spread)
    })
}

fn clusters() -> Vec<Family> {
    vec![
        Family::new("clusters 1/30", FLOATS, |dice| blobs(dice, 8, 700, 32, 1.0 / 30.0)),
        Family::new("clusters 1/100", FLOATS, |dice| blobs(dice, 8, 700, 32, 1.0 / 100.0)),
        Family::new("clusters 1/300", FLOATS, |dice| blobs(dice, 8, 700, 32, 1.0 / 300.0)),
        Family::new("clusters 1/1000", FLOATS, |dice| blobs(dice, 8, 700, 32, 1.0 / 1_000.0)),
        Family::new("one far cluster", FLOATS, |dice| {
            let centre = scaled(dice.normal_row(32), 300.0);
            Data::of(4_000, || dice.around(&centre, 1.0))
        }),
    ]
}

/// A hundred ids move to a tight cluster that is ten times as far as the others from their mean.
fn moved() -> Vec<Family> {
    vec![Family::new("moved cluster", FLOATS, |dice| {
        let mut data = Data::of(5_000, || dice.normal_row(32));
        let centre = scaled(dice.normal_row(32), 10.0);
        data.selves = (0..5_000).step_by(50).collect();
        for id in &data.selves {
            let row = dice.around(&centre, 0.01);
            data.before.push((*id, std::mem::replace(&mut data.rows[*id as usize], row)));
        }
        for query in data.queries.iter_mut().step_by(4) {
            *query = dice.around(&centre, 0.01);
        }
        data
    })]
}

/// Normal rows, of which one in so many is longer; the queries are the others, `short` times as
/// long.
fn longer(dice: &mut Dice, count: usize, one_in: usize, by: f64, short: f64) -> Data {
    let mut row = |by| scaled(dice.normal_row(32), by);
    let rows = (0..count).map(|id| row(if id % one_in == 0 { by } else { 1.0 })).collect();
    Data { rows, queries: (0..QUERIES).map(|_| row(short)).collect(), ..Data::default() }
}

fn scales() -> Vec<Family> {
    // Cosine knows no scale.
    const SCALED: &[Metric] = &[Metric::Euclidean, Metric::DotProduct, Metric::Manhattan];
    vec![
        Family::new("half times 1e3, half 1e-3", SCALED, |dice| {
            Data::of(8_000, || {
                let by = if dice.one_in(2) { 1e3 } else { 1e-3 };
                scaled(dice.normal_row(32), by)
            })
        }),
        Family::new("a tenth times 1e4", SCALED, |dice| longer(dice, 8_000, 10, 1e4, 1.0)),
        Family::new("a fiftieth times 1e3", SCALED, |dice| longer(dice, 8_000, 50, 1e3, 1.0)),
        Family::new("twelve decades", FLOATS, |dice| {
            Data::of(4_000, || {
                let by = 10f64.powf(dice.uniform(-6.0, 6.0));
                scaled(dice.normal_row(16), by)
            })
        }),
    ]
}

fn outliers() -> Vec<Family> {
    fn few_large(dice: &mut Dice, count: usize, dims: usize) -> Data {
        let value =
            |dice: &mut Dice| dice.normal() as f32 * if dice.one_in(1_000) { 1e4 } else { 1.0 };
        Data::of(count, || (0..dims).map(|_| value(dice)).collect())
    }
    vec![
        Family::new("heavy tails", FLOATS, |dice| {
            let value = |dice: &mut Dice| {
                (std::f64::consts::PI * dice.uniform(-0.5, 0.5)).tan().clamp(-1e6, 1e6)
            };
            Data::of(4_000, || (0..16).map(|_| value(dice) as f32).collect())
        }),
        Family::new("few large values of 16", FLOATS, |dice| few_large(dice, 4_000, 16)),
        Family::new("few large values of 64", LENGTHS, |dice| few_large(dice, 8_000, 64)),
    ]
}

/// Two values in a thousand are not zero.
fn sparse() -> Vec<Family> {
    fn few(dice: &mut Dice, is_suited: fn(&[f32]) -> bool) -> Data {
        let mut value = || if dice.one_in(500) { dice.normal() as f32 } else { 0.0 };
        let mut rows = std::iter::repeat_with(|| (0..1_000).map(|_| value()).collect::<Vec<f32>>());
        let mut data = Data::of(4_000, || rows.find(|row| is_suited(row)).unwrap());
        data.queries.truncate(QUERIES / 2);
        data
    }
    const ZEROS: &[Metric] = &[Metric::Euclidean, Metric::DotProduct, Metric::Manhattan];
    vec![
        Family::new("sparse", ZEROS, |dice| few(dice, |_| true)),
        // Rows of zeros have no direction.
        Family::new("sparse, no row of zeros", &[Metric::Cosine], |dice| {
            few(dice, |row| row.iter().any(|x| *x != 0.0))
        }),
    ]
}

fn discrete() -> Vec<Family> {
    vec![
        Family::new("one-hot", ALL, |dice| {
            Data::of(3_000, || {
                let hot = dice.below(120);
                (0..120).map(|d| f32::from(u8::from(d == hot))).collect()
            })
        }),
        Family::new("categories", ALL, |dice| {
            Data::of(4_000, || {
                let hot: Vec<usize> = (0..8).map(|field| 12 * field + dice.below(12)).collect();
                (0..96).map(|d| f32::from(u8::from(hot.contains(&d)))).collect()
            })
        }),
        Family::new("bits", &[Metric::Hamming], |dice| {
            let centres = dice.normal_rows(20, 128);
            Data::of(5_000, || {
                let at = dice.below(centres.len());
                dice.around(&centres[at], 0.5)
                    .into_iter()
                    .map(|x| f32::from(u8::from(x > 0.0)))
                    .collect()
            })
        }),
        Family::new("integers", FLOATS, |dice| {
            Data::of(4_000, || (0..16).map(|_| (1 + dice.below(9)) as f32).collect())
        }),
        Family::new("constant and equal components", FLOATS, |dice| {
            Data::of(4_000, || {
                let row = dice.normal_row(32);
                (0..32).map(|d| if d < 8 { 1_000.0 } else { row[d / 2 * 2] }).collect()
            })
        }),
    ]
}

/// Rows on a line through a point, in no order.
pub fn line(dice: &mut Dice, count: usize, dims: usize) -> Data {
    let (from, along) = (dice.normal_row(dims), dice.normal_row(dims));
    Data::of(count, || {
        let at = dice.uniform(0.0, 10.0) as f32;
        from.iter().zip(&along).map(|(x, y)| x + at * y).collect()
    })
}

fn lines() -> Vec<Family> {
    vec![
        Family::new("line in 1", LENGTHS, |dice| line(dice, 5_000, 1)),
        Family::new("line in 2", FLOATS, |dice| line(dice, 5_000, 2)),
        Family::new("line in 32", FLOATS, |dice| line(dice, 5_000, 32)),
        Family::new("ramp", FLOATS, |dice| {
            let mut id = 0;
            let mut data = Data::of(5_000, || {
                let mut row = dice.uniform_row(32);
                row[0] += id as f32 / 1_000.0;
                id += 1;
                row
            });
            // Queries are spread over all ids.
            for query in &mut data.queries {
                query[0] = (dice.uniform(0.0, 1.0) + dice.uniform(0.0, 5.0)) as f32;
            }
            data
        }),
    ]
}

/// Some normal rows, each so many times, in no order; other queries.
fn copied(dice: &mut Dice, count: usize, copies: usize) -> Data {
    let mut data = Data::of(count, || dice.normal_row(32));
    data.rows = data.rows.iter().flat_map(|row| std::iter::repeat_n(row.clone(), copies)).collect();
    dice.shuffle(&mut data.rows);
    data
}

fn copies() -> Vec<Family> {
    vec![
        Family::new("11 copies of 100", FLOATS, |dice| copied(dice, 100, 11)),
        Family::new("10 copies of 220", FLOATS, |dice| copied(dice, 220, 10)),
        Family::new("near twins", FLOATS, |dice| {
            let mut data = Data::of(10_000, || dice.normal_row(10));
            for id in (0..10_000).step_by(2) {
                data.rows[id + 1] = dice.around(&data.rows[id], 1e-3);
            }
            data
        }),
    ]
}

/// Rows of one half space, with log-normal lengths: every product with a query of the other half
/// space is negative.
fn products() -> Vec<Family> {
    fn negative(item: impl FnMut() -> Vec<f32>, query: impl FnMut() -> Vec<f32>) -> Data {
        let rows = std::iter::repeat_with(item).take(5_000).collect();
        Data {
            rows,
            queries: std::iter::repeat_with(query).take(QUERIES).collect(),
            ..Data::default()
        }
    }
    fn with_length(row: Vec<f32>, length: f64) -> Vec<f32> {
        let norm = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        scaled(row, length / norm)
    }
    fn positive(dice: &mut Dice) -> Vec<f32> {
        dice.normal_row(16).into_iter().map(f32::abs).collect()
    }
    fn shifted(dice: &mut Dice, by: f32) -> Vec<f32> {
        let mut row = dice.normal_row(16);
        row[0] += by;
        row
    }
    const PRODUCTS: &[Metric] = &[Metric::DotProduct, Metric::Cosine, Metric::Euclidean];
    vec![
        Family::new("negative products", PRODUCTS, |dice| {
            let mut other = Dice::new(dice.below(1_000) as u64);
            negative(
                || with_length(shifted(dice, 4.0), dice.normal().exp()),
                || with_length(shifted(&mut other, -4.0), other.normal().exp()),
            )
        }),
        Family::new("negative products with one axis", PRODUCTS, |dice| {
            let mut other = Dice::new(dice.below(1_000) as u64);
            let axis = |at| (0..16).map(|d| if d == at { -1.0 } else { -0.01 }).collect();
            negative(
                || with_length(positive(dice), (0.25 * dice.normal()).exp()),
                || scaled(axis(other.below(16)), other.normal().exp()),
            )
        }),
    ]
}

fn dimensions() -> Vec<Family> {
    vec![
        Family::new("uniform in 1", LENGTHS, |dice| Data::of(5_000, || dice.uniform_row(1))),
        Family::new("uniform in 2", FLOATS, |dice| Data::of(5_000, || dice.uniform_row(2))),
        Family::new("uniform in 3", FLOATS, |dice| Data::of(5_000, || dice.uniform_row(3))),
        Family::new("uniform in 4", FLOATS, |dice| Data::of(5_000, || dice.uniform_row(4))),
        Family::new("normal in 64", FLOATS, |dice| Data::of(4_000, || dice.normal_row(64))),
        Family::new("2048 dims", FLOATS, |dice| {
            let directions = dice.normal_rows(20, 2_048);
            let mut data = Data::of(2_200, || {
                let mut row = scaled(dice.normal_row(2_048), 0.5);
                for direction in &directions {
                    let weight = dice.normal() as f32;
                    row.iter_mut().zip(direction).for_each(|(x, y)| *x += weight * y);
                }
                row
            });
            data.queries.truncate(QUERIES / 2);
            data
        }),
    ]
}

fn orders() -> Vec<Family> {
    vec![
        Family::new("sorted insertion", FLOATS, |dice| {
            let mut data = Data::of(5_000, || dice.normal_row(8));
            data.rows.sort_unstable_by(|a, b| a[0].total_cmp(&b[0]));
            data
        }),
        Family::new("growth by drift", FLOATS, |dice| {
            let along = dice.normal_row(32);
            let mut id = 0;
            let mut row = |from: f64| {
                let at = (from + f64::from(id) / 5_000.0) as f32;
                id += 1;
                dice.normal_row(32).iter().zip(&along).map(|(x, y)| x + 5.0 * at * y).collect()
            };
            // Queries are where the items have come to.
            let rows = (0..5_000).map(|_| row(0.0)).collect();
            Data { rows, queries: (0..QUERIES).map(|_| row(-0.1)).collect(), ..Data::default() }
        })
        .modes(&[Mode::Grown]),
    ]
}

/// The items around five points are deleted, a tenth of all; queries are there.
fn deleted() -> Vec<Family> {
    vec![
        Family::new("neighbours deleted", EUCLIDEAN, |dice| {
            let mut data = Data::of(10_000, || dice.uniform_row(2));
            let mut order: Vec<u32> = (0..10_000).collect();
            for _ in 0..5 {
                let centre = dice.uniform_row(2);
                let from = |id: &u32| {
                    data.rows[*id as usize]
                        .iter()
                        .zip(&centre)
                        .map(|(x, y)| (x - y).powi(2))
                        .sum::<f32>()
                };
                order.sort_by(|a, b| from(a).total_cmp(&from(b)));
                data.deleted.extend(order.drain(..200));
            }
            data.queries = (0..QUERIES)
                .map(|_| data.rows[data.deleted[dice.below(1_000)] as usize].clone())
                .collect();
            data
        })
        .modes(&[Mode::Bulk, Mode::Unbuilt]),
    ]
}

fn options() -> Vec<Family> {
    const PRODUCTS: &[Metric] = &[Metric::Euclidean, Metric::DotProduct];
    let make = |dice: &mut Dice| Data::of(2_000, || dice.normal_row(32));
    vec![
        Family::new("small leaves, 4 trees", FLOATS, make)
            .options(BuildOptions::default().leaf_size(32).trees(4)),
        Family::new("no spill", PRODUCTS, make).options(BuildOptions::default().spill(false)),
        Family::new("1 bit", PRODUCTS, make).options(BuildOptions::default().sketch_bits(1)),
    ]
}
