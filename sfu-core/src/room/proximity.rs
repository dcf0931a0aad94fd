//! Who is near whom: a grid of cells as large as the radius, so that only 27 of them have to be looked at.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hash, Hasher},
};

use fixedbitset::FixedBitSet;

use super::Slot;

/// Peers hear each other below this distance; clients scale their coordinates to it.
const RADIUS: f64 = 1.0;

/// Cells are numbered up to here; what is farther out shares the outermost ones.
const CELL_MAX: f64 = 1_000_000_000.0;

/// A place. Two-dimensional clients are at height 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Position([f64; 3]);

impl Position {
    /// `None` unless all coordinates are finite.
    pub fn new(coordinates: [f64; 3]) -> Option<Self> {
        coordinates
            .iter()
            .all(|it| it.is_finite())
            .then_some(Self(coordinates))
    }

    pub(super) fn distance_squared(self, other: Self) -> f64 {
        let Self([ax, ay, az]) = self;
        let Self([bx, by, bz]) = other;
        (ax - bx).powi(2) + (ay - by).powi(2) + (az - bz).powi(2)
    }

    fn is_near(self, other: Self) -> bool {
        self.distance_squared(other) < RADIUS * RADIUS
    }

    fn cell(self) -> Cell {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "clamped to what 32 bits hold"
        )]
        let number =
            |coordinate: f64| (coordinate / RADIUS).floor().clamp(-CELL_MAX, CELL_MAX) as i32;
        Cell(self.0.map(number))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell([i32; 3]);

impl Hash for Cell {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.0
            .into_iter()
            .for_each(|number| hasher.write_i32(number));
    }
}

/// Hashes cells in a few instructions: a move looks 27 of them up, and with the standard hash that is most of its cost.
/// Clients could choose cells that collide, but each is in one at a time: a move then looks at all of those peers, as it
/// does when they stand at one place.
#[derive(Default)]
struct CellHasher(u64);

/// Odd, with bits all over: the golden ratio's fraction in 64 bits.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for CellHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_i32((*byte).into()));
    }

    fn write_i32(&mut self, number: i32) {
        let number = u64::from(number.cast_unsigned());
        self.0 = (self.0.rotate_left(21) ^ number).wrapping_mul(SPREAD);
    }

    fn finish(&self) -> u64 {
        // The upper half is the better one, and tables look at both.
        self.0 ^ self.0 >> 32
    }
}

impl Cell {
    /// Itself and those around it.
    fn neighbourhood(self) -> impl Iterator<Item = Self> {
        let Self([x, y, z]) = self;
        let around = |middle: i32| middle - 1..=middle + 1;
        around(x)
            .flat_map(move |x| around(y).flat_map(move |y| around(z).map(move |z| Self([x, y, z]))))
    }
}

/// Where everybody is.
#[derive(Debug, Default)]
pub(super) struct Space {
    cells: HashMap<Cell, Vec<(Slot, Position)>, BuildHasherDefault<CellHasher>>,
    positions: Vec<Option<Position>>,
}

impl Space {
    /// `None` is nowhere: near nobody.
    pub(super) fn position(&self, slot: Slot) -> Option<Position> {
        self.positions.get(slot.index()).copied().flatten()
    }

    /// The square of how far two are from each other, if both are anywhere.
    pub(super) fn distance_squared(&self, one: Slot, other: Slot) -> Option<f64> {
        Some(self.position(one)?.distance_squared(self.position(other)?))
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        let place = self.positions.get_mut(slot.index());
        let Some(position) = place.and_then(Option::take) else {
            return;
        };
        let cell = position.cell();
        if let Some(inside) = self.cells.get_mut(&cell) {
            inside.retain(|(other, _)| *other != slot);
            if inside.is_empty() {
                self.cells.remove(&cell);
            }
        }
    }

    /// Puts somebody somewhere, and says who is near there.
    pub(super) fn relocate(&mut self, slot: Slot, position: Position) -> FixedBitSet {
        let cell = position.cell();
        if self.position(slot).map(Position::cell) == Some(cell) {
            let inside = self.cells.get_mut(&cell).into_iter().flatten();
            if let Some((_, at)) = inside.into_iter().find(|(other, _)| *other == slot) {
                *at = position;
            }
            self.note(slot, position);
        } else {
            self.remove(slot);
            self.place(slot, position);
        }
        self.near(slot, position)
    }

    fn place(&mut self, slot: Slot, position: Position) {
        self.cells
            .entry(position.cell())
            .or_default()
            .push((slot, position));
        self.note(slot, position);
    }

    fn note(&mut self, slot: Slot, position: Position) {
        if self.positions.len() <= slot.index() {
            self.positions.resize(slot.index() + 1, None);
        }
        if let Some(at) = self.positions.get_mut(slot.index()) {
            *at = Some(position);
        }
    }

    fn near(&self, slot: Slot, position: Position) -> FixedBitSet {
        let mut near = FixedBitSet::with_capacity(self.positions.len());
        let cells = position.cell().neighbourhood();
        for (other, at) in cells.filter_map(|cell| self.cells.get(&cell)).flatten() {
            if *other != slot && position.is_near(*at) {
                near.insert(other.index());
            }
        }
        near
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn position(x: f64, y: f64, z: f64) -> Position {
        Position::new([x, y, z]).unwrap()
    }

    #[test]
    fn only_finite_places_exist() {
        assert_eq!(Position::new([f64::NAN, 0.0, 0.0]), None);
        assert_eq!(Position::new([0.0, f64::INFINITY, 0.0]), None);
        assert!(Position::new([f64::MAX, f64::MIN, 0.0]).is_some());
    }

    #[test]
    fn near_is_below_the_radius() {
        let mut space = Space::default();
        space.relocate(Slot::new(0), Position::default());
        for (at, is_near) in [
            (position(0.999, 0.0, 0.0), true),
            (position(1.0, 0.0, 0.0), false),
            (position(0.6, 0.6, 0.6), false),
            (position(-0.5, 0.5, -0.5), true),
            (position(f64::MAX, 0.0, 0.0), false),
        ] {
            let near = space.near(Slot::new(1), at);
            assert_eq!(near.contains(0), is_near, "{at:?}");
        }
    }

    proptest! {
        /// The grid says what comparing everybody with everybody says.
        #[test]
        fn the_grid_finds_exactly_the_near(moves in proptest::collection::vec((0_usize..12, prop::array::uniform3(-2.0_f64..2.0), any::<bool>()), 1..80)) {
            let mut space = Space::default();
            let mut all: [Option<Position>; 12] = [None; 12];
            for (index, coordinates, leaves) in moves {
                let slot = Slot::new(index);
                if leaves {
                    if all[index].take().is_some() {
                        space.remove(slot);
                    }
                    continue;
                }
                let at = Position::new(coordinates).unwrap();
                all[index] = Some(at);
                let near = space.relocate(slot, at);
                for (other, there) in all.iter().enumerate() {
                    let wanted = other != index && there.is_some_and(|there| there.is_near(at));
                    prop_assert_eq!(near.contains(other), wanted);
                }
            }
            let inside: usize = space.cells.values().map(Vec::len).sum();
            prop_assert_eq!(inside, all.iter().flatten().count());
        }
    }
}
