//! Things by id: ids count up, are never used twice, and there is a limit to how many exist.

use std::collections::BTreeMap;

use crate::limits;
use crate::refusal::Refusal;

/// A numeric id of the interface.
pub(crate) type Id = i64;

/// Things of one kind by id.
#[derive(Clone, Debug)]
pub(crate) struct Collection<T> {
    items: BTreeMap<Id, T>,
    next: Id,
    kind: &'static str,
}

impl<T> Collection<T> {
    /// An empty collection of things that messages call `kind`; the first id is `first`.
    pub(crate) fn new(kind: &'static str, first: Id) -> Self {
        Self {
            items: BTreeMap::new(),
            next: first,
            kind,
        }
    }

    /// Adds what `make` makes from its id.
    pub(crate) fn insert(&mut self, make: impl FnOnce(Id) -> T) -> Result<Id, Refusal> {
        if self.items.len() >= limits::THINGS {
            return Err(Refusal::field(
                self.kind,
                "There are too many of these already.",
            ));
        }
        let id = self.next;
        self.next += 1;
        self.items.insert(id, make(id));
        Ok(id)
    }

    /// The thing with this id.
    pub(crate) fn find(&self, id: Id) -> Result<&T, Refusal> {
        self.items.get(&id).ok_or(Refusal::NotFound(self.kind))
    }

    /// The thing with this id, to change it.
    pub(crate) fn find_mut(&mut self, id: Id) -> Result<&mut T, Refusal> {
        self.items.get_mut(&id).ok_or(Refusal::NotFound(self.kind))
    }

    /// The thing with this id, if it exists.
    pub(crate) fn get(&self, id: Id) -> Option<&T> {
        self.items.get(&id)
    }

    /// Removes the thing with this id.
    pub(crate) fn remove(&mut self, id: Id) -> Result<T, Refusal> {
        self.items.remove(&id).ok_or(Refusal::NotFound(self.kind))
    }

    /// Keeps only what `keep` approves of.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.items.retain(|_, item| keep(item));
    }

    /// All things, by ascending id.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.items.values()
    }

    /// All things, by ascending id, to change them.
    pub(crate) fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut T> {
        self.items.values_mut()
    }
}
