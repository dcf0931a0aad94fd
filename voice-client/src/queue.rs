//! A queue for voice: it never blocks who gives, and what is too much pushes the oldest out.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// See the module. One task takes at a time.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    more: Notify,
    max: usize,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    is_closed: bool,
}

impl<T> Queue<T> {
    /// Holds at most `max`, and one at least.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            state: Mutex::new(State {
                items: VecDeque::new(),
                is_closed: false,
            }),
            more: Notify::new(),
            max: max.max(1),
        }
    }

    /// Adds an item; `true` when the oldest had to go for it.
    pub(crate) fn push(&self, item: T) -> bool {
        let is_full = {
            let mut state = self.lock();
            let is_full = state.items.len() >= self.max;
            if is_full {
                state.items.pop_front();
            }
            state.items.push_back(item);
            is_full
        };
        self.more.notify_one();
        is_full
    }

    /// The oldest item; `None` once the queue is closed and empty. May be dropped at any time without loss.
    pub(crate) async fn pop(&self) -> Option<T> {
        loop {
            {
                let mut state = self.lock();
                if let Some(item) = state.items.pop_front() {
                    return Some(item);
                }
                if state.is_closed {
                    return None;
                }
            }
            self.more.notified().await;
        }
    }

    /// The oldest item, if there is one.
    pub(crate) fn try_pop(&self) -> Option<T> {
        self.lock().items.pop_front()
    }

    /// Forgets all items; gives how many.
    pub(crate) fn clear(&self) -> usize {
        let items = std::mem::take(&mut self.lock().items);
        items.len()
    }

    /// Nothing more will come.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.more.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn the_oldest_goes_first_out_and_first_over_board() {
        let queue = Queue::new(2);
        assert!(!queue.push(1));
        assert!(!queue.push(2));
        assert!(queue.push(3));
        assert_eq!(queue.pop().await, Some(2));
        queue.close();
        assert_eq!(queue.pop().await, Some(3));
        assert_eq!(queue.pop().await, None);
        assert_eq!(queue.try_pop(), None);
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_an_item_and_by_the_end() {
        let queue = Arc::new(Queue::new(5));
        let taking = {
            let queue = Arc::clone(&queue);
            tokio::spawn(async move { (queue.pop().await, queue.pop().await) })
        };
        tokio::task::yield_now().await;
        queue.push(7);
        tokio::task::yield_now().await;
        queue.close();
        assert_eq!(taking.await.unwrap(), (Some(7), None));
    }

    #[test]
    fn what_is_cleared_is_counted() {
        let queue = Queue::new(5);
        queue.push(1);
        queue.push(2);
        assert_eq!(queue.clear(), 2);
        assert_eq!(queue.try_pop(), None);
    }
}
