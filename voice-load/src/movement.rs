//! Where peers go: random walks. Pure: chance is an argument.

use fastrand::Rng;

use crate::plan::{Place, Plan};

/// Half of the cube in which everybody hears everybody: its diagonal is shorter than the distance at which peers hear each
/// other, 1.0.
const SPOT: f64 = 0.28;

/// Half of the cube of which each hears a part.
const FIELD: f64 = 1.0;

/// Longest step in each direction.
const STEP: f64 = 0.1;

/// One peer's way.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    place: [f64; 3],
    half: f64,
}

impl Walk {
    pub(crate) fn new(plan: &Plan, peer: u32) -> Self {
        let mut random = Rng::with_seed(plan.seed ^ (u64::from(peer) << 32));
        let half = match plan.place {
            Place::Spot => SPOT,
            Place::Spread => FIELD,
        };
        let place = [(); 3].map(|()| (random.f64() * 2.0 - 1.0) * half);
        Self { place, half }
    }

    pub(crate) fn place(&self) -> [f64; 3] {
        self.place
    }

    pub(crate) fn step(&mut self, random: &mut Rng) {
        for it in &mut self.place {
            let step = (random.f64() * 2.0 - 1.0) * STEP;
            *it = (*it + step).clamp(-self.half, self.half);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::plan;

    #[test]
    fn on_a_spot_everybody_stays_within_hearing() {
        let mut random = Rng::with_seed(1);
        let mut walks: Vec<_> = (0..20).map(|peer| Walk::new(&plan(), peer)).collect();
        for _ in 0..200 {
            for walk in &mut walks {
                walk.step(&mut random);
            }
            for (one, other) in walks.iter().zip(walks.iter().skip(1)) {
                let apart: f64 = one
                    .place
                    .iter()
                    .zip(other.place)
                    .map(|(a, b)| (a - b).powi(2))
                    .sum();
                assert!(apart.sqrt() < 1.0);
            }
        }
        assert_ne!(walks[0].place(), Walk::new(&plan(), 0).place());
    }

    #[test]
    fn on_a_field_some_are_out_of_range() {
        let plan = Plan {
            place: Place::Spread,
            ..plan()
        };
        let far = (0..50).filter(|peer| Walk::new(&plan, *peer).place()[0].abs() > 0.5);
        assert!(far.count() > 10);
    }
}
