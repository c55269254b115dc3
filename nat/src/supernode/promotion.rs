//! Whether a node that offers itself as a supernode is one: others have to say that they reach it. Sans-IO.
//!
//! A node behind a NAT or a firewall cannot tell from inside whether anybody gets in. So it asks supernodes in different
//! networks to dial it ([`super::protocol::Request::AllowRelay`]: they dial without a name, and only the key proves it) and
//! tells nobody of itself before [`PROOFS`] of them have. It goes on asking, and withdraws when they say no.
//!
//! Two things make the answer worth something. It is asked for **from another socket** than the one that is dialled: a
//! filter that was opened by a packet to the one who dials would let its packets in, and nobody else's (RFC 4787 section 5).
//! And who is asked is drawn from different networks ([`Network`]), so that no single operator can call a node up, or off.
//!
//! After each `handle_…` the caller drains [`Promotion::poll_ask`], carries each [`Ask`] out, and brings the answer to
//! [`Promotion::handle_answer`]; it looks at [`Promotion::standing`], and calls again at [`Promotion::poll_timeout`].

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use ahoy_transport::identity::NodeAddress;

use crate::discovery::rendezvous::Network;

/// Networks from which a node has to have been reached, where so many are known; in a smaller world all of them.
pub const PROOFS: usize = 3;
/// Networks asked about one address before it counts as one that is not reached.
const MOST_ASKED: usize = 8;
/// How long a proof counts.
const PROOF_LIFETIME: Duration = Duration::from_secs(3 * 3600);
/// One network is asked again after this.
const RECHECK: Duration = Duration::from_secs(30 * 60);
/// After a round in vain; doubled each time, up to [`LAST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_secs(2 * 60);
/// See [`FIRST_RETRY`]; hysteresis: a node that comes and goes is of use to nobody.
const LAST_RETRY: Duration = Duration::from_secs(6 * 3600);
/// A world counts as one without others to ask when none was found for so long: who just started knows few.
const SMALL_WORLD: Duration = Duration::from_secs(30);
/// Nobody to ask is known: look again after this.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Questions under way at once.
const AT_ONCE: usize = 3;
/// Addresses at which a node may be reached that are tried, best first.
const MAX_CANDIDATES: usize = 4;

/// The switch is there to show what asking is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PromotionPolicy {
    /// Others have to reach it first; without, it believes in its first address.
    pub dial_back: bool,
}

impl Default for PromotionPolicy {
    fn default() -> Self {
        Self { dial_back: true }
    }
}

/// Somebody is to be asked to dial us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Whom.
    pub whom: NodeAddress,
    /// Where we want to be dialled.
    pub addr: SocketAddr,
}

/// What came of an [`Ask`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It reached us there, and we proved our key.
    Reached,
    /// It did not.
    NotReached,
    /// It did not try, or did not say.
    Silence,
}

/// What a node knows of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Others are being asked.
    Unknown,
    /// Everybody reaches it there.
    Reachable(SocketAddr),
    /// Nobody does.
    Unreachable,
}

#[derive(Debug)]
enum Heard {
    Reached(Instant),
    NotReached,
    Silence,
}

#[derive(Debug)]
struct Candidate {
    addr: SocketAddr,
    heard: BTreeMap<Network, Heard>,
}

/// The question of one node. See the module.
#[derive(Debug)]
pub struct Promotion {
    policy: PromotionPolicy,
    /// Best first. The first is asked about until it is clear.
    candidates: Vec<Candidate>,
    at: usize,
    under_way: BTreeMap<Network, SocketAddr>,
    standing: Standing,
    /// What is asked now is not clear yet; else it rests.
    asking: bool,
    not_before: Instant,
    retry: Duration,
    /// Nobody else to ask is known now.
    exhausted: bool,
    /// And was not since.
    lonely_since: Option<Instant>,
}

impl Promotion {
    /// Nothing is known.
    #[must_use]
    pub fn new(policy: PromotionPolicy, now: Instant) -> Self {
        Self {
            policy,
            candidates: Vec::new(),
            at: 0,
            under_way: BTreeMap::new(),
            standing: Standing::Unknown,
            asking: true,
            not_before: now,
            retry: FIRST_RETRY,
            exhausted: false,
            lonely_since: None,
        }
    }

    /// It may be reached at these, best first. What is news is asked about at once.
    pub fn set_candidates(&mut self, addrs: &[SocketAddr], now: Instant) {
        let mut wanted: Vec<SocketAddr> = Vec::new();
        for addr in addrs {
            if !wanted.contains(addr) && wanted.len() < MAX_CANDIDATES {
                wanted.push(*addr);
            }
        }
        if wanted
            .iter()
            .eq(self.candidates.iter().map(|known| &known.addr))
        {
            return;
        }
        let mut before = std::mem::take(&mut self.candidates);
        for addr in wanted {
            let known = before.iter().position(|known| known.addr == addr);
            let heard = known.map(|known| before.swap_remove(known).heard);
            self.candidates.push(Candidate {
                addr,
                heard: heard.unwrap_or_default(),
            });
        }
        if let Standing::Reachable(addr) = self.standing
            && !addrs.contains(&addr)
        {
            self.standing = Standing::Unknown;
        }
        if self.standing == Standing::Unreachable {
            self.standing = Standing::Unknown;
        }
        self.at = match self.standing {
            Standing::Reachable(addr) => self
                .candidates
                .iter()
                .position(|known| known.addr == addr)
                .unwrap_or(0),
            Standing::Unknown | Standing::Unreachable => 0,
        };
        self.retry = FIRST_RETRY;
        self.not_before = now;
        self.asking = true;
        self.exhausted = false;
        self.judge(now);
    }

    /// How it stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Networks that reached it at the address in question, and those that were asked.
    #[must_use]
    pub fn proofs(&self, now: Instant) -> (usize, usize) {
        self.candidates
            .get(self.at)
            .map_or((0, 0), |known| (known.reached(now), known.heard.len()))
    }

    /// The next one to ask. `draw` gives a supernode for which it is told yes, at random.
    pub fn poll_ask(
        &mut self,
        now: Instant,
        draw: impl FnOnce(&dyn Fn(&NodeAddress) -> bool) -> Option<NodeAddress>,
    ) -> Option<Ask> {
        if !self.policy.dial_back
            || now < self.not_before
            || self.under_way.len() >= AT_ONCE
            || self.exhausted
        {
            return None;
        }
        if !self.asking {
            self.ask_again();
        }
        let addr = self.candidates.get(self.at)?.addr;
        let known = self.candidates.get(self.at)?;
        let fresh = |node: &NodeAddress| {
            let network = Network::of(node);
            !known.heard.contains_key(&network) && !self.under_way.contains_key(&network)
        };
        let Some(whom) = draw(&fresh) else {
            self.exhausted = true;
            self.lonely_since.get_or_insert(now);
            self.not_before = now + LOOK_AGAIN;
            self.judge(now);
            return None;
        };
        self.lonely_since = None;
        self.under_way.insert(Network::of(&whom), addr);
        Some(Ask { whom, addr })
    }

    /// What came of it.
    pub fn handle_answer(&mut self, now: Instant, ask: &Ask, answer: Answer) {
        let network = Network::of(&ask.whom);
        if self.under_way.get(&network) == Some(&ask.addr) {
            self.under_way.remove(&network);
        }
        let heard = match answer {
            Answer::Reached => Heard::Reached(now),
            Answer::NotReached => Heard::NotReached,
            Answer::Silence => Heard::Silence,
        };
        let mut candidates = self.candidates.iter_mut();
        if let Some(known) = candidates.find(|known| known.addr == ask.addr) {
            known.heard.insert(network, heard);
        }
        self.judge(now);
    }

    /// Time may have passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now >= self.not_before {
            self.exhausted = false;
        }
    }

    /// When to call [`Self::handle_timeout`] and to ask again, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        (self.policy.dial_back && self.under_way.len() < AT_ONCE)
            .then_some((self.not_before, "ask"))
    }

    /// The rest is over. Who was reached asks one network anew, who was not asks all.
    fn ask_again(&mut self) {
        self.asking = true;
        match self.standing {
            Standing::Reachable(_addr) => {
                if let Some(known) = self.candidates.get_mut(self.at) {
                    known.forget_oldest();
                }
            }
            Standing::Unknown | Standing::Unreachable => {
                for known in &mut self.candidates {
                    known.heard.clear();
                }
                self.at = 0;
                self.standing = Standing::Unknown;
            }
        }
    }

    fn rest(&mut self, now: Instant, wait: Duration) {
        self.asking = false;
        self.not_before = now + wait;
    }

    fn judge(&mut self, now: Instant) {
        let Some(known) = self.candidates.get(self.at) else {
            self.standing = Standing::Unknown;
            return;
        };
        let addr = known.addr;
        if !self.policy.dial_back {
            self.standing = Standing::Reachable(addr);
            return;
        }
        if !self.asking {
            return;
        }
        let reached = known.reached(now);
        let denied = known.count(|heard| matches!(heard, Heard::NotReached));
        let asked = known.heard.len();
        let lonely = |since: Instant| now >= since + SMALL_WORLD;
        let nobody_left =
            self.exhausted && self.under_way.is_empty() && self.lonely_since.is_some_and(lonely);
        if reached >= PROOFS || (nobody_left && reached > denied) {
            self.standing = Standing::Reachable(addr);
            self.retry = FIRST_RETRY;
            self.rest(now, RECHECK);
            return;
        }
        let all_asked = asked >= MOST_ASKED && self.under_way.is_empty();
        if denied >= PROOFS || (denied > 0 && (all_asked || nobody_left)) {
            if self.at + 1 < self.candidates.len() && self.standing == Standing::Unknown {
                self.at += 1;
                self.exhausted = false;
                self.not_before = now;
                return;
            }
            self.standing = Standing::Unreachable;
        } else if !(all_asked || (nobody_left && asked > 0)) {
            return;
        }
        // Not reached, or nobody said anything: all are asked once more, later.
        let wait = self.retry;
        self.retry = (self.retry * 2).min(LAST_RETRY);
        self.rest(now, wait);
    }
}

impl Candidate {
    fn count(&self, which: impl Fn(&Heard) -> bool) -> usize {
        self.heard.values().filter(|heard| which(heard)).count()
    }

    fn reached(&self, now: Instant) -> usize {
        self.count(|heard| match heard {
            Heard::Reached(at) => now < *at + PROOF_LIFETIME,
            Heard::NotReached | Heard::Silence => false,
        })
    }

    /// What may have changed since is asked again.
    fn forget_oldest(&mut self) {
        self.heard
            .retain(|_network, heard| matches!(heard, Heard::Reached(_)));
        let reached = self
            .heard
            .iter()
            .filter_map(|(network, heard)| match heard {
                Heard::Reached(at) => Some((*at, network)),
                Heard::NotReached | Heard::Silence => None,
            });
        let oldest = reached.min().map(|(_at, network)| network.clone());
        if let Some(oldest) = oldest {
            self.heard.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use ahoy_transport::identity::NodeKeys;

    use super::*;

    fn start() -> Instant {
        #[expect(
            clippy::disallowed_methods,
            reason = "any instant serves as the origin of virtual time"
        )]
        Instant::now()
    }

    fn node(network: u8, n: u8) -> NodeAddress {
        let keys = NodeKeys::from_seed(&[n; 32]);
        NodeAddress::new(keys.id(), ([20, network, 0, n], 4433).into())
    }

    fn addr(n: u8) -> SocketAddr {
        ([198, 51, 100, n], 4433).into()
    }

    /// Asks whoever may be asked, until nothing is left to do now.
    fn ask_all(
        promotion: &mut Promotion,
        now: Instant,
        world: &[NodeAddress],
        says: impl Fn(&Ask) -> Answer,
    ) -> Vec<Ask> {
        promotion.handle_timeout(now);
        let mut asked = Vec::new();
        loop {
            let ask =
                promotion.poll_ask(now, |fresh| world.iter().find(|node| fresh(node)).cloned());
            let Some(ask) = ask else { return asked };
            let answer = says(&ask);
            promotion.handle_answer(now, &ask, answer);
            asked.push(ask);
        }
    }

    fn asks(asked: &[Ask]) -> Vec<Network> {
        asked.iter().map(|ask| Network::of(&ask.whom)).collect()
    }

    #[test]
    fn three_networks_have_to_reach_it_and_one_is_asked_again_each_half_hour() {
        let mut now = start();
        let world: Vec<NodeAddress> = (1..=12).map(|n| node(n / 2, n)).collect();
        let mut promotion = Promotion::new(PromotionPolicy::default(), now);
        assert_eq!(promotion.standing(), Standing::Unknown);
        assert!(ask_all(&mut promotion, now, &world, |_ask| Answer::Reached).is_empty());
        promotion.set_candidates(&[addr(1)], now);
        let asked = ask_all(&mut promotion, now, &world, |_ask| Answer::Reached);
        assert_eq!(promotion.standing(), Standing::Reachable(addr(1)));
        assert_eq!(asked.len(), PROOFS);
        let mut networks = asks(&asked);
        networks.dedup();
        assert_eq!(networks.len(), PROOFS, "no two of one network");
        assert!(ask_all(&mut promotion, now, &world, |_ask| Answer::Reached).is_empty());
        now += RECHECK;
        let again = ask_all(&mut promotion, now, &world, |_ask| Answer::Reached);
        assert_eq!(again.len(), 1);
        // It is unplugged: those who are asked next say so, and it withdraws.
        now += RECHECK;
        let denied = ask_all(&mut promotion, now, &world, |_ask| Answer::NotReached);
        assert_eq!(denied.len(), PROOFS);
        assert_eq!(promotion.standing(), Standing::Unreachable);
    }

    #[test]
    fn nobody_is_believed_who_only_keeps_silent_and_one_liar_decides_nothing() {
        let mut now = start();
        let world: Vec<NodeAddress> = (1..=6).map(|n| node(n, n)).collect();
        let mut promotion = Promotion::new(PromotionPolicy::default(), now);
        promotion.set_candidates(&[addr(1)], now);
        ask_all(&mut promotion, now, &world, |_ask| Answer::Silence);
        now += SMALL_WORLD;
        ask_all(&mut promotion, now, &world, |_ask| Answer::Silence);
        assert_eq!(promotion.standing(), Standing::Unknown);
        now += FIRST_RETRY;
        let liar = world[0].node;
        let answer = |ask: &Ask| {
            if ask.whom.node == liar {
                Answer::NotReached
            } else {
                Answer::Reached
            }
        };
        ask_all(&mut promotion, now, &world, answer);
        assert_eq!(promotion.standing(), Standing::Reachable(addr(1)));
        let mut promotion = Promotion::new(PromotionPolicy::default(), now);
        promotion.set_candidates(&[addr(1)], now);
        let answer = |ask: &Ask| {
            if ask.whom.node == liar {
                Answer::Reached
            } else {
                Answer::NotReached
            }
        };
        ask_all(&mut promotion, now, &world, answer);
        assert_eq!(promotion.standing(), Standing::Unreachable);
    }

    #[test]
    fn in_a_small_world_all_there_are_have_to_agree() {
        let mut now = start();
        let mut promotion = Promotion::new(PromotionPolicy::default(), now);
        promotion.set_candidates(&[addr(1)], now);
        ask_all(&mut promotion, now, &[], |_ask| Answer::Reached);
        assert_eq!(promotion.standing(), Standing::Unknown, "nobody said so");
        now += LOOK_AGAIN;
        let world = [node(1, 1)];
        ask_all(&mut promotion, now, &world, |_ask| Answer::Reached);
        assert_eq!(
            promotion.standing(),
            Standing::Unknown,
            "others may turn up"
        );
        now += SMALL_WORLD;
        ask_all(&mut promotion, now, &world, |_ask| Answer::Reached);
        assert_eq!(promotion.standing(), Standing::Reachable(addr(1)));
    }

    #[test]
    fn the_next_address_is_tried_and_a_better_one_at_once() {
        let mut now = start();
        let world: Vec<NodeAddress> = (1..=6).map(|n| node(n, n)).collect();
        let mut promotion = Promotion::new(PromotionPolicy::default(), now);
        promotion.set_candidates(&[addr(1), addr(2)], now);
        let answer = |ask: &Ask| {
            if ask.addr == addr(1) {
                Answer::NotReached
            } else {
                Answer::Reached
            }
        };
        ask_all(&mut promotion, now, &world, answer);
        assert_eq!(promotion.standing(), Standing::Reachable(addr(2)));
        // The router gave it another address: the one that was proved is gone.
        promotion.set_candidates(&[addr(3)], now);
        assert_eq!(promotion.standing(), Standing::Unknown);
        now += Duration::from_secs(1);
        ask_all(&mut promotion, now, &world, |_ask| Answer::Reached);
        assert_eq!(promotion.standing(), Standing::Reachable(addr(3)));
    }

    #[test]
    fn who_is_not_reached_asks_more_and_more_rarely() {
        let mut now = start();
        let world: Vec<NodeAddress> = (1..=6).map(|n| node(n, n)).collect();
        let mut promotion = Promotion::new(PromotionPolicy::default(), now);
        promotion.set_candidates(&[addr(1)], now);
        let mut asked = 0;
        for _minute in 0..24 * 60 {
            asked += ask_all(&mut promotion, now, &world, |_ask| Answer::NotReached).len();
            now += Duration::from_secs(60);
        }
        assert!((20..=40).contains(&asked), "{asked} in a day");
        assert_eq!(promotion.standing(), Standing::Unreachable);
    }

    #[test]
    fn without_dialling_back_it_believes_in_itself() {
        let now = start();
        let policy = PromotionPolicy { dial_back: false };
        let mut promotion = Promotion::new(policy, now);
        promotion.set_candidates(&[addr(1)], now);
        assert_eq!(promotion.standing(), Standing::Reachable(addr(1)));
        assert!(
            ask_all(&mut promotion, now, &[node(1, 1)], |_ask| {
                Answer::NotReached
            })
            .is_empty()
        );
    }
}
