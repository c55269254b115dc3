//! What is sent next to one device that asks for files. Sans-IO.
//!
//! In the order in which it was asked for, so that whoever asks can tell what got lost. Bounded: what is asked for
//! beyond that is not remembered, and asked for again.

use std::collections::VecDeque;

use super::{tree::Node, wire::Tag};

/// Nodes that one device may have asked for and not got: what [`super::fetch`] asks for of one source, for two files.
pub const MAX_QUEUE: usize = 64;

/// Questions of one device.
#[derive(Debug, Default)]
pub struct Serve {
    queue: VecDeque<(Tag, Node, u64)>,
}

impl Serve {
    /// Somebody wants fragments of a node, or none of them any more.
    pub fn want(&mut self, tag: Tag, node: Node, fragments: u64) {
        let known = self
            .queue
            .iter()
            .position(|(of, at, _)| (*of, *at) == (tag, node));
        match known {
            Some(at) if fragments == 0 => {
                self.queue.remove(at);
            }
            Some(at) => {
                if let Some((_, _, wanted)) = self.queue.get_mut(at) {
                    *wanted |= fragments;
                }
            }
            None if fragments != 0 && self.queue.len() < MAX_QUEUE => {
                self.queue.push_back((tag, node, fragments));
            }
            None => {}
        }
    }

    /// Nothing more is sent for this tag.
    pub fn forget(&mut self, tag: Tag) {
        self.queue.retain(|(of, _, _)| *of != tag);
    }

    /// Nothing is to be sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The node that is next.
    #[must_use]
    pub fn next_node(&self) -> Option<(Tag, Node)> {
        self.queue.front().map(|(tag, node, _)| (*tag, *node))
    }

    /// The next fragment.
    pub fn poll(&mut self) -> Option<(Tag, Node, u8)> {
        let (tag, node, wanted) = self.queue.front_mut()?;
        let fragment = wanted.trailing_zeros();
        let next = (*tag, *node, u8::try_from(fragment).ok()?);
        *wanted &= !(1_u64.checked_shl(fragment).unwrap_or(0));
        if *wanted == 0 {
            self.queue.pop_front();
        }
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_sent_once_in_order_and_bounded() {
        let mut serve = Serve::default();
        let tag = Tag([1; 16]);
        let node = |index| Node { level: 0, index };
        serve.want(tag, node(1), 0b101);
        serve.want(tag, node(0), 0b1);
        serve.want(tag, node(1), 0b110);
        let sent: Vec<_> = std::iter::from_fn(|| serve.poll()).collect();
        let expected = [(1, 0), (1, 1), (1, 2), (0, 0)];
        assert_eq!(sent, expected.map(|(index, bit)| (tag, node(index), bit)));
        for index in 0..1000 {
            serve.want(tag, node(index), u64::MAX);
        }
        assert_eq!(serve.queue.len(), MAX_QUEUE);
        serve.want(tag, node(0), 0);
        assert_eq!(serve.next_node(), Some((tag, node(1))));
        serve.forget(tag);
        assert!(serve.is_empty());
    }
}
