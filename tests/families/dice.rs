//! Seeded random numbers and rows of them.

use rand::RngExt;
use rand::seq::SliceRandom;

use crate::support::{Rng, rng};

/// A seeded source of numbers.
pub struct Dice(pub Rng);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(rng(seed))
    }

    pub fn uniform(&mut self, from: f64, to: f64) -> f64 {
        from + (to - from) * self.0.random::<f64>()
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0.random_range(0..end)
    }

    /// True for one in so many.
    pub fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    /// A normal number, by Box and Muller.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform(0.0, 1.0)).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform(0.0, 1.0)).cos()
    }

    pub fn normal_row(&mut self, dims: usize) -> Vec<f32> {
        (0..dims).map(|_| self.normal() as f32).collect()
    }

    pub fn uniform_row(&mut self, dims: usize) -> Vec<f32> {
        (0..dims).map(|_| self.uniform(0.0, 1.0) as f32).collect()
    }

    pub fn normal_rows(&mut self, count: usize, dims: usize) -> Vec<Vec<f32>> {
        (0..count).map(|_| self.normal_row(dims)).collect()
    }

    pub fn shuffle<T>(&mut self, rows: &mut [T]) {
        rows.shuffle(&mut self.0);
    }

    /// A row this far around a centre in each component.
    pub fn around(&mut self, centre: &[f32], spread: f64) -> Vec<f32> {
        centre.iter().map(|x| (f64::from(*x) + spread * self.normal()) as f32).collect()
    }
}

/// A row times a number.
pub fn scaled(row: Vec<f32>, by: f64) -> Vec<f32> {
    row.into_iter().map(|x| (f64::from(x) * by) as f32).collect()
}
