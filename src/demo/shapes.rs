//! The outlines that the demo draws: ten familiar shapes (the ID classes) and some unseen ones (the OOD set `shapes`).
//!
//! An outline is a list of pieces, added or cut in order. It answers one question, "is this point inside?", and fits
//! the unit disc (within [`REACH`]), y downwards. Only + - * / and floor are used (sine is a polynomial here), which
//! IEEE 754 makes exact, so the same pictures come out on every platform. It is *not* a drawing library: no curves, no
//! colours, no pixels.

use std::f64::consts::TAU;

/// A point in the outline's own coordinates: x to the right, y downwards, both in [-1, 1].
type Point = [f64; 2];

/// No outline reaches further from the origin; corners and pen strokes may leave the unit disc by this much.
pub const REACH: f64 = 1.06;

/// A shape that can be drawn.
pub struct Shape {
    /// The class name; for an unseen shape, only a name to read.
    pub name: &'static str,
    /// How far it may be rotated to either side, in turns; 0.5 is every direction.
    pub swing: f64,
    /// Builds the outline.
    pub outline: fn() -> Outline,
}

/// The ID classes, in class order.
pub const FAMILIAR: [Shape; 10] = [
    Shape { name: "circle", swing: 0.5, outline: || Outline::disc([0.0, 0.0], 0.92) },
    Shape { name: "ring", swing: 0.5, outline: || Outline::disc([0.0, 0.0], 1.0).cut_disc([0.0, 0.0], 0.6) },
    Shape { name: "square", swing: 0.125, outline: || Outline::polygon(regular(4, 1.0, 0.125)) },
    Shape { name: "triangle", swing: 0.5, outline: || Outline::polygon(regular(3, 1.0, 0.0)) },
    Shape { name: "cross", swing: 0.07, outline: || bar(0.0, 0.0, 0.28, 0.96).add(bar(0.0, 0.0, 0.96, 0.28)) },
    Shape { name: "star", swing: 0.5, outline: || Outline::polygon(star(5, 0.4)) },
    Shape { name: "heart", swing: 0.1, outline: heart },
    Shape { name: "crescent", swing: 0.5, outline: || Outline::disc([0.0, 0.0], 1.0).cut_disc([0.5, 0.0], 0.8) },
    Shape { name: "arrow", swing: 0.5, outline: arrow },
    Shape {
        name: "bars",
        swing: 0.5,
        outline: || bar(0.0, 0.0, 0.92, 0.15).add(bar(0.0, -0.58, 0.7, 0.15)).add(bar(0.0, 0.58, 0.7, 0.15)),
    },
];

/// Shapes that no class holds.
pub const UNSEEN: [Shape; 10] = [
    Shape { name: "spiral", swing: 0.5, outline: spiral },
    Shape { name: "gear", swing: 0.5, outline: gear },
    Shape { name: "wave", swing: 0.5, outline: wave },
    Shape {
        name: "pentagon with holes",
        swing: 0.5,
        outline: || {
            let pentagon = Outline::polygon(regular(5, 1.0, 0.0));
            pentagon.cut_disc([-0.36, 0.0], 0.26).cut_disc([0.36, 0.0], 0.26)
        },
    },
    Shape { name: "hourglass", swing: 0.5, outline: hourglass },
    Shape { name: "dumb-bell", swing: 0.5, outline: dumb_bell },
    Shape {
        name: "letter A",
        swing: 0.05,
        outline: || letter(&[&[[-0.6, 0.8], [0.0, -0.8], [0.6, 0.8]], &[[-0.38, 0.3], [0.38, 0.3]]]),
    },
    Shape {
        name: "letter E",
        swing: 0.05,
        outline: || letter(&[&[[0.5, -0.8], [-0.45, -0.8], [-0.45, 0.8], [0.5, 0.8]], &[[-0.45, 0.0], [0.35, 0.0]]]),
    },
    Shape {
        name: "letter K",
        swing: 0.05,
        outline: || letter(&[&[[-0.45, -0.8], [-0.45, 0.8]], &[[0.5, -0.8], [-0.45, 0.0], [0.5, 0.8]]]),
    },
    Shape { name: "four dots", swing: 0.125, outline: four_dots },
];

/// A region of the plane: pieces added or cut, in order.
pub struct Outline(Vec<(bool, Piece)>);

enum Piece {
    Disc {
        centre: Point,
        radius: f64,
    },
    /// Even-odd filled; the last point is the first again.
    Polygon(Vec<Point>),
    /// A line of round pen strokes.
    Stroke {
        points: Vec<Point>,
        half_width: f64,
    },
}

impl Outline {
    fn disc(centre: Point, radius: f64) -> Self {
        Self(vec![(true, Piece::Disc { centre, radius })])
    }

    fn polygon(mut points: Vec<Point>) -> Self {
        points.extend(points.first().copied());
        Self(vec![(true, Piece::Polygon(points))])
    }

    fn stroke(points: Vec<Point>, half_width: f64) -> Self {
        Self(vec![(true, Piece::Stroke { points, half_width })])
    }

    fn add(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    fn cut_disc(mut self, centre: Point, radius: f64) -> Self {
        self.0.push((false, Piece::Disc { centre, radius }));
        self
    }

    /// Whether the point lies inside.
    pub fn contains(&self, point: Point) -> bool {
        self.0.iter().rev().find(|(_, piece)| piece.contains(point)).is_some_and(|(adds, _)| *adds)
    }
}

impl Piece {
    fn contains(&self, [x, y]: Point) -> bool {
        match self {
            Self::Disc { centre, radius } => {
                let (dx, dy) = (x - centre[0], y - centre[1]);
                dx * dx + dy * dy <= radius * radius
            }
            Self::Polygon(points) => points.windows(2).fold(false, |inside, edge| {
                let [a, b] = [edge[0], edge[1]];
                let crossed = (a[1] > y) != (b[1] > y) && x < a[0] + (y - a[1]) / (b[1] - a[1]) * (b[0] - a[0]);
                inside != crossed
            }),
            Self::Stroke { points, half_width } => points.windows(2).any(|ends| {
                let (dx, dy) = (ends[1][0] - ends[0][0], ends[1][1] - ends[0][1]);
                let (px, py) = (x - ends[0][0], y - ends[0][1]);
                let along = ((px * dx + py * dy) / (dx * dx + dy * dy)).clamp(0.0, 1.0);
                let (ex, ey) = (px - along * dx, py - along * dy);
                ex * ex + ey * ey <= half_width * half_width
            }),
        }
    }
}

/// sin(2π `turns`), within 1e-9, the same bits on every platform.
pub fn sine(turns: f64) -> f64 {
    let turns = turns - (turns + 0.5).floor();
    let folded = if turns.abs() > 0.25 { 0.5_f64.copysign(turns) - turns } else { turns };
    let x = folded * TAU;
    // Taylor's series to x¹³, factored so that each term is the one before times -x²/(n(n+1)).
    let term = |rest: f64, n: f64| 1.0 - rest * x * x / (n * (n + 1.0));
    x * [12.0, 10.0, 8.0, 6.0, 4.0, 2.0].into_iter().fold(1.0, term)
}

/// cos(2π `turns`), as [`sine`].
pub fn cosine(turns: f64) -> f64 {
    sine(turns + 0.25)
}

/// The point at `radius`, `turns` clockwise from straight up.
fn polar(radius: f64, turns: f64) -> Point {
    [radius * sine(turns), -radius * cosine(turns)]
}

fn regular(corners: u32, radius: f64, turned: f64) -> Vec<Point> {
    (0..corners).map(|i| polar(radius, turned + f64::from(i) / f64::from(corners))).collect()
}

fn star(tips: u32, inner: f64) -> Vec<Point> {
    let radius = |i: u32| if i.is_multiple_of(2) { 1.0 } else { inner };
    (0..2 * tips).map(|i| polar(radius(i), f64::from(i) / f64::from(2 * tips))).collect()
}

fn bar(x: f64, y: f64, half_width: f64, half_height: f64) -> Outline {
    let (left, right, top, bottom) = (x - half_width, x + half_width, y - half_height, y + half_height);
    Outline::polygon(vec![[left, top], [right, top], [right, bottom], [left, bottom]])
}

fn heart() -> Outline {
    let point = |i: u32| {
        let t = f64::from(i) / 32.0;
        let s = sine(t);
        let y = 13.0 * cosine(t) - 5.0 * cosine(2.0 * t) - 2.0 * cosine(3.0 * t) - cosine(4.0 * t);
        // 16 sin³ wide to either side; lifted and scaled so that lobes and tip lie in the unit disc.
        [0.92 * s * s * s, -(y + 2.5) / 17.5]
    };
    Outline::polygon((0..32).map(point).collect())
}

fn arrow() -> Outline {
    let half = [[0.0, -1.0], [0.72, -0.2], [0.24, -0.2], [0.24, 0.95]];
    let mirrored = half.iter().rev().map(|[x, y]| [-x, *y]);
    Outline::polygon(half.iter().copied().chain(mirrored).collect())
}

fn spiral() -> Outline {
    Outline::stroke((0..=36).map(|i| polar(0.04 + 0.023 * f64::from(i), f64::from(i) / 16.0)).collect(), 0.12)
}

fn gear() -> Outline {
    let corner = |i: u32| polar(if i % 4 < 2 { 1.0 } else { 0.7 }, f64::from(i) / 32.0);
    Outline::polygon((0..32).map(corner).collect()).cut_disc([0.0, 0.0], 0.25)
}

fn wave() -> Outline {
    let point = |i: u32| [-0.85 + 0.085 * f64::from(i), 0.4 * sine(f64::from(i) / 10.0)];
    Outline::stroke((0..=20).map(point).collect(), 0.15)
}

fn hourglass() -> Outline {
    Outline::polygon(vec![[-0.65, -0.75], [0.65, -0.75], [-0.65, 0.75], [0.65, 0.75]])
}

fn dumb_bell() -> Outline {
    Outline::disc([-0.6, 0.0], 0.38).add(Outline::disc([0.6, 0.0], 0.38)).add(bar(0.0, 0.0, 0.6, 0.1))
}

fn four_dots() -> Outline {
    regular(4, 0.68, 0.125).into_iter().fold(Outline(Vec::new()), |dots, at| dots.add(Outline::disc(at, 0.3)))
}

fn letter(strokes: &[&[Point]]) -> Outline {
    let pen = |line: &&[Point]| Outline::stroke(line.iter().map(|[x, y]| [0.9 * x, 0.9 * y]).collect(), 0.14);
    strokes.iter().fold(Outline(Vec::new()), |glyph, line| glyph.add(pen(line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sine_is_close_to_the_standard_one() {
        for i in -300..300 {
            let turns = f64::from(i) / 97.0;
            assert!((sine(turns) - (turns * TAU).sin()).abs() < 1e-9, "{turns}");
            assert!((cosine(turns) - (turns * TAU).cos()).abs() < 1e-9, "{turns}");
        }
    }

    #[test]
    fn outlines_fit_the_unit_disc_and_are_no_slivers() {
        for shape in FAMILIAR.iter().chain(&UNSEEN) {
            let outline = (shape.outline)();
            let grid = (-30..=30).flat_map(|y| (-30..=30).map(move |x| [f64::from(x) / 20.0, f64::from(y) / 20.0]));
            let inside: Vec<Point> = grid.filter(|&point| outline.contains(point)).collect();
            assert!(inside.iter().all(|[x, y]| x * x + y * y < REACH * REACH), "{} leaves the disc", shape.name);
            // The disc covers 1257 points of this grid.
            assert!(inside.len() > 300, "{} covers only {} points", shape.name, inside.len());
        }
    }

    #[test]
    fn cuts_hold() {
        let ring = (FAMILIAR[1].outline)();
        assert!(!ring.contains([0.0, 0.0]) && ring.contains([0.8, 0.0]) && !ring.contains([1.1, 0.0]));
    }
}
