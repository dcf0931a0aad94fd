//! What goes on and what goes wrong in a run: every choice there is, one run after another, or choices drawn by seed.

/// Answers all questions of one run: which bridge goes on, what goes wrong.
pub(super) trait Chance {
    /// One of `options`, of which the first is the ordinary one.
    fn choose(&mut self, options: usize) -> usize;
}

/// Every run there is, one after another: as a number whose digits are the choices, counted up.
#[derive(Default)]
pub(super) struct Exhaustive {
    pub(super) digits: Vec<(usize, usize)>,
    pub(super) at: usize,
    /// Choices other than the ordinary one that a run may still make.
    pub(super) budget: usize,
    pub(super) left: usize,
}

impl Exhaustive {
    pub(super) fn with_budget(budget: usize) -> Self {
        Self {
            budget,
            left: budget,
            ..Self::default()
        }
    }

    /// Goes on to the next run; `false` when all have been seen.
    pub(super) fn next(&mut self) -> bool {
        self.at = 0;
        self.left = self.budget;
        while let Some((choice, options)) = self.digits.pop() {
            if choice + 1 < options {
                self.digits.push((choice + 1, options));
                return true;
            }
        }
        false
    }
}

impl Chance for Exhaustive {
    fn choose(&mut self, options: usize) -> usize {
        let options = if self.left == 0 { 1 } else { options };
        if self.at == self.digits.len() {
            self.digits.push((0, options));
        }
        let (choice, _) = self.digits[self.at];
        self.at += 1;
        self.left -= usize::from(choice > 0);
        choice
    }
}

/// Draws runs; the ordinary choice is the likely one.
pub(super) struct Drawn(pub(super) fastrand::Rng);

impl Chance for Drawn {
    fn choose(&mut self, options: usize) -> usize {
        if options < 2 || self.0.u8(..) < 170 {
            return 0;
        }
        self.0.usize(..options)
    }
}
