//! Which supernodes a device is registered at: those of its settings, and as many more as are missing. Sans-IO.
//!
//! Three homes in three networks are kept warm, so that a third of all supernodes may die and nearly everybody is still
//! reached at once. A home that is down is given some time, then another one is [drawn](super::table::NodeTable::draw) in a
//! network of its own; when enough are up for a while, whoever was taken in last is let go. One that failed us is not taken
//! again for a while, twice as long each time.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use ahoy_transport::identity::{NodeAddress, NodeId};

use super::{rendezvous::Network, table::Known};

/// Homes that are kept warm.
pub const WANTED: usize = 3;
/// Homes taken in at once beside those of the settings, dead ones included.
pub const MAX_CHOSEN: usize = 6;
/// A home that is not up after this is as good as none: a connection, and one lost packet.
const PATIENCE: Duration = Duration::from_secs(5);
/// A home taken in that is down for this long is given up.
const GIVE_UP: Duration = Duration::from_secs(60);
/// The same for one that never was up.
const NEVER_UP: Duration = Duration::from_secs(15);
/// A home that said that it stops soon is left after this at the latest: it waits for nobody for longer.
const LEAVING: Duration = Duration::from_secs(30);
/// More than enough homes are up for this long before one is let go: those of the settings may only blink.
const SETTLED: Duration = Duration::from_secs(10 * 60);
/// One that was given up is not taken in for this long, doubled each time up to [`MAX_BAN`].
const BAN: Duration = Duration::from_secs(30 * 60);
/// See [`BAN`].
const MAX_BAN: Duration = Duration::from_secs(7 * 24 * 3600);
/// Supernodes that are remembered as having failed us.
const MAX_BANNED: usize = 256;

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HomeChange {
    /// Register there.
    Take(NodeAddress),
    /// Not any more.
    Leave(NodeId),
}

#[derive(Debug, Clone)]
struct Kept {
    address: NodeAddress,
    chosen: bool,
    up: bool,
    was_up: bool,
    /// It is kept because the settings name it, and not counted.
    bad: bool,
    /// Its line is much worse than others': it counts no more, and is left when enough others are up.
    poor: bool,
    /// It said that it stops soon, then.
    draining: Option<Instant>,
    /// Since when it is up, or down.
    since: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Ban {
    until: Instant,
    length: Duration,
}

/// The choice. The switch is there to show what it is good for.
#[derive(Debug, Clone)]
pub struct Homes {
    kept: Vec<Kept>,
    bans: BTreeMap<NodeId, Ban>,
    enough_since: Option<Instant>,
    different_networks: bool,
}

impl Homes {
    /// Of a device with these homes in its settings.
    #[must_use]
    pub fn new(settings: &[NodeAddress], now: Instant) -> Self {
        let kept = settings.iter().map(|address| Kept {
            address: address.clone(),
            chosen: false,
            up: false,
            was_up: false,
            bad: false,
            poor: false,
            draining: None,
            since: now,
        });
        Self {
            kept: kept.collect(),
            bans: BTreeMap::new(),
            enough_since: None,
            different_networks: true,
        }
    }

    /// The same after a restart: those that were in use before are taken in first.
    #[must_use]
    pub fn resumed(settings: &[NodeAddress], before: &[NodeAddress], now: Instant) -> Self {
        let mut homes = Self::new(settings, now);
        let others = before
            .iter()
            .filter(|address| settings.iter().all(|own| own.node != address.node));
        let others = others.take(WANTED).map(|address| Kept {
            address: address.clone(),
            chosen: true,
            up: false,
            was_up: false,
            bad: false,
            poor: false,
            draining: None,
            since: now,
        });
        homes.kept.extend(others);
        homes
    }

    /// The same, which takes whatever is drawn.
    #[must_use]
    pub fn in_any_network(self) -> Self {
        Self {
            different_networks: false,
            ..self
        }
    }

    /// A home is up, or down.
    pub fn handle(&mut self, node: NodeId, up: bool, now: Instant) {
        let mut kept = self.kept.iter_mut();
        if let Some(kept) = kept.find(|kept| kept.address.node == node)
            && kept.up != up
        {
            kept.up = up;
            kept.was_up = true;
            kept.since = now;
            kept.draining = None;
        }
        if up && let Some(ban) = self.bans.get_mut(&node) {
            ban.length = BAN;
        }
    }

    /// A home says that it stops soon: another one takes its place, then it is left.
    pub fn handle_draining(&mut self, node: NodeId, now: Instant) {
        let mut kept = self.kept.iter_mut();
        if let Some(kept) = kept.find(|kept| kept.address.node == node) {
            kept.draining.get_or_insert(now);
        }
    }

    /// Whether a home that we use is about to stop.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.kept.iter().any(|kept| kept.draining.is_some())
    }

    /// A home lied or dropped what it took: it is left at once. One of the settings stays, and another one takes its place.
    pub fn handle_misdeed(&mut self, node: NodeId, now: Instant) {
        let mut kept = self.kept.iter_mut();
        if let Some(kept) = kept.find(|kept| kept.address.node == node) {
            kept.bad = true;
            if kept.chosen {
                kept.up = false;
                kept.since = now.checked_sub(GIVE_UP).unwrap_or(now);
            }
        }
    }

    /// The line to a home is much worse than others': another one is taken, then it is left. One of the settings stays.
    pub fn handle_poor(&mut self, node: NodeId, poor: bool) {
        let mut kept = self.kept.iter_mut();
        if let Some(kept) = kept.find(|kept| kept.address.node == node) {
            kept.poor = poor;
        }
    }

    /// A home of the settings counts again.
    pub fn handle_mended(&mut self, node: NodeId) {
        let mut kept = self.kept.iter_mut();
        if let Some(kept) = kept.find(|kept| kept.address.node == node) {
            kept.bad = false;
        }
    }

    /// Who may become a home now.
    #[must_use]
    pub fn may_take(&self, known: &Known<'_>, now: Instant) -> bool {
        let node = known.announcement.node();
        let network = Network::of_ip(known.announcement.addr().ip());
        let elsewhere = || {
            let mut kept = self.kept.iter();
            kept.all(|kept| Network::of(&kept.address) != network)
        };
        let free = self.bans.get(&node).is_none_or(|ban| ban.until <= now);
        free && self.kept.iter().all(|kept| kept.address.node != node)
            && (elsewhere() || !self.different_networks)
    }

    /// The next change that is due; `draw` gives somebody of whom [`Self::may_take`] says yes.
    pub fn poll(
        &mut self,
        now: Instant,
        draw: impl FnOnce(&Self) -> Option<NodeAddress>,
    ) -> Option<HomeChange> {
        let stay = |kept: &&Kept| kept.up && !kept.bad && !kept.poor && kept.draining.is_none();
        let up = self.kept.iter().filter(stay).count();
        let over = |kept: &Kept| {
            let patience = if kept.was_up { GIVE_UP } else { NEVER_UP };
            let dead = !kept.up && now >= kept.since + patience;
            let leaves = |since: Instant| up >= WANTED || now >= since + LEAVING;
            let outdone = kept.poor && up >= WANTED;
            kept.chosen && (dead || outdone || kept.bad || kept.draining.is_some_and(leaves))
        };
        if let Some(gone) = self.kept.iter().position(over) {
            let node = self.kept.remove(gone).address.node;
            self.ban(node, now);
            return Some(HomeChange::Leave(node));
        }
        let hoped = |kept: &&Kept| {
            let stays = !kept.bad && !kept.poor && kept.draining.is_none();
            stays && (kept.up || now < kept.since + PATIENCE)
        };
        let hoped = self.kept.iter().filter(hoped).count();
        if up <= WANTED {
            self.enough_since = None;
        } else {
            let since = *self.enough_since.get_or_insert(now);
            if now >= since + SETTLED
                && let Some(last) = self.kept.iter().rposition(|kept| kept.chosen)
            {
                self.enough_since = None;
                let node = self.kept.remove(last).address.node;
                return Some(HomeChange::Leave(node));
            }
        }
        let chosen = self.kept.iter().filter(|kept| kept.chosen).count();
        if hoped >= WANTED || chosen >= MAX_CHOSEN {
            return None;
        }
        let address = draw(self)?;
        self.kept.push(Kept {
            address: address.clone(),
            chosen: true,
            up: false,
            was_up: false,
            bad: false,
            poor: false,
            draining: None,
            since: now,
        });
        Some(HomeChange::Take(address))
    }

    fn ban(&mut self, node: NodeId, now: Instant) {
        if self.bans.len() >= MAX_BANNED {
            let first = self.bans.iter().min_by_key(|(_node, ban)| ban.until);
            if let Some(first) = first.map(|(node, _ban)| *node) {
                self.bans.remove(&first);
            }
        }
        let ban = self.bans.entry(node).or_insert(Ban {
            until: now,
            length: BAN,
        });
        ban.until = now + ban.length;
        ban.length = (ban.length * 2).min(MAX_BAN);
    }

    /// All homes, those of the settings first.
    pub fn homes(&self) -> impl Iterator<Item = &NodeAddress> {
        self.kept.iter().map(|kept| &kept.address)
    }

    /// Homes that are up.
    pub fn up(&self) -> impl Iterator<Item = &NodeAddress> {
        let up = self.kept.iter().filter(|kept| kept.up);
        up.map(|kept| &kept.address)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ahoy_transport::identity::NodeKeys;

    use super::*;
    use crate::discovery::announcement::{Announcement, Capabilities};

    fn start() -> Instant {
        #[expect(
            clippy::disallowed_methods,
            reason = "any instant serves as the origin of virtual time"
        )]
        Instant::now()
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn says(n: u8, network: u8) -> Arc<Announcement> {
        let keys = NodeKeys::from_seed(&[n; 32]);
        let addr = ([20, network, 0, n], 4433).into();
        Arc::new(Announcement::issue(
            &keys,
            addr,
            None,
            Capabilities::default(),
            1,
        ))
    }

    /// Those that may be taken, in their order.
    fn draw(homes: &Homes, all: &[Arc<Announcement>], now: Instant) -> Option<NodeAddress> {
        let known = |announcement| Known {
            announcement,
            tried: true,
            first_met_millis: 1,
            anchor: false,
        };
        let mut may = all.iter().filter(|one| homes.may_take(&known(one), now));
        may.next().map(|one| one.address())
    }

    fn changes(homes: &mut Homes, all: &[Arc<Announcement>], now: Instant) -> Vec<HomeChange> {
        std::iter::from_fn(|| homes.poll(now, |homes| draw(homes, all, now))).collect()
    }

    #[test]
    fn three_homes_in_three_networks_are_kept_and_dead_ones_replaced() {
        let mut now = start();
        let all: Vec<_> = (1..=12).map(|n| says(n, n / 2)).collect();
        let own = says(100, 0).address();
        let mut homes = Homes::new(std::slice::from_ref(&own), now);
        assert_eq!(
            changes(&mut homes, &all, now),
            [
                HomeChange::Take(all[1].address()),
                HomeChange::Take(all[3].address())
            ],
            "not two of one network"
        );
        let up = |homes: &mut Homes, n: usize, is_up, now| homes.handle(all[n].node(), is_up, now);
        homes.handle(own.node, true, now);
        up(&mut homes, 1, true, now);
        up(&mut homes, 3, true, now);
        now += secs(60);
        assert!(changes(&mut homes, &all, now).is_empty());
        up(&mut homes, 1, false, now);
        assert!(
            changes(&mut homes, &all, now).is_empty(),
            "it may only blink"
        );
        now += PATIENCE;
        assert_eq!(
            changes(&mut homes, &all, now),
            [HomeChange::Take(all[5].address())]
        );
        up(&mut homes, 5, true, now);
        now += GIVE_UP;
        let left = HomeChange::Leave(all[1].node());
        assert_eq!(changes(&mut homes, &all, now), [left]);
        assert_eq!(homes.up().count(), WANTED);
        // It is not taken again before its ban is over, then it is.
        homes.handle_misdeed(all[3].node(), now);
        let changed = changes(&mut homes, &all, now);
        assert_eq!(changed[0], HomeChange::Leave(all[3].node()));
        assert_eq!(
            changed[1],
            HomeChange::Take(all[2].address()),
            "another one there"
        );
        up(&mut homes, 2, true, now);
        now += BAN;
        homes.handle_misdeed(all[2].node(), now);
        let changed = changes(&mut homes, &all, now);
        assert_eq!(changed[1], HomeChange::Take(all[1].address()));
    }

    #[test]
    fn homes_of_the_settings_stay_and_spare_ones_go_when_these_are_back() {
        let mut now = start();
        let all: Vec<_> = (1..=12).map(|n| says(n, n)).collect();
        let own: Vec<NodeAddress> = (0..3).map(|n| says(100 + n, 100 + n).address()).collect();
        let mut homes = Homes::new(&own, now);
        assert!(changes(&mut homes, &all, now).is_empty());
        now += PATIENCE;
        assert_eq!(changes(&mut homes, &all, now).len(), WANTED);
        for one in &all[..3] {
            homes.handle(one.node(), true, now);
        }
        now += secs(3600);
        assert!(changes(&mut homes, &all, now).is_empty());
        assert_eq!(homes.homes().count(), 6, "the settings' own are tried on");
        for home in &own {
            homes.handle(home.node, true, now);
        }
        let mut left = 0;
        for _minute in 0..60 {
            now += secs(60);
            left += changes(&mut homes, &all, now).len();
        }
        assert_eq!(left, 3);
        assert!(homes.up().eq(own.iter()));
    }

    #[test]
    fn a_bad_home_of_the_settings_stays_and_another_takes_its_place() {
        let now = start();
        let all: Vec<_> = (1..=12).map(|n| says(n, n)).collect();
        let own: Vec<NodeAddress> = (0..3).map(|n| says(100 + n, 100 + n).address()).collect();
        let mut homes = Homes::new(&own, now);
        own.iter()
            .for_each(|home| homes.handle(home.node, true, now));
        assert!(changes(&mut homes, &all, now).is_empty());
        homes.handle_misdeed(own[1].node, now);
        let taken = HomeChange::Take(all[0].address());
        assert_eq!(changes(&mut homes, &all, now), [taken]);
        homes.handle(all[0].node(), true, now);
        // One that drains is replaced before it is left.
        homes.handle_draining(all[0].node(), now);
        assert!(homes.is_draining());
        let taken = HomeChange::Take(all[1].address());
        assert_eq!(changes(&mut homes, &all, now), [taken]);
        homes.handle(all[1].node(), true, now);
        let left = HomeChange::Leave(all[0].node());
        assert_eq!(changes(&mut homes, &all, now), [left]);
        // The first one mended its ways: one too many, in time.
        homes.handle_mended(own[1].node);
        assert!(changes(&mut homes, &all, now).is_empty());
        let left = HomeChange::Leave(all[1].node());
        assert!(changes(&mut homes, &all, now + SETTLED).contains(&left));
    }

    #[test]
    fn with_everybody_dead_few_are_tried_at_once() {
        let mut now = start();
        let all: Vec<_> = (1..=200).map(|n| says(n, n)).collect();
        let mut homes = Homes::new(&[], now);
        let mut taken = 0;
        for _second in 0..600 {
            now += secs(1);
            let changes = changes(&mut homes, &all, now);
            let takes = changes
                .iter()
                .filter(|one| matches!(one, HomeChange::Take(_)));
            taken += takes.count();
            assert!(homes.homes().count() <= MAX_CHOSEN);
        }
        assert!((150..=240).contains(&taken), "{taken} in ten minutes");
    }

    #[test]
    fn a_poor_home_is_left_when_another_is_up_and_not_before() {
        let mut now = start();
        let all: Vec<_> = (1..=12).map(|n| says(n, n)).collect();
        let own = says(100, 100).address();
        let mut homes = Homes::new(std::slice::from_ref(&own), now);
        assert_eq!(changes(&mut homes, &all, now).len(), 2);
        homes.handle(own.node, true, now);
        for one in &all[..2] {
            homes.handle(one.node(), true, now);
        }
        now += secs(3600);
        assert!(changes(&mut homes, &all, now).is_empty());
        homes.handle_poor(all[0].node(), true);
        let taken = HomeChange::Take(all[2].address());
        assert_eq!(changes(&mut homes, &all, now), [taken]);
        now += secs(60);
        assert_eq!(homes.up().count(), WANTED, "it serves meanwhile");
        homes.handle(all[2].node(), true, now);
        let left = HomeChange::Leave(all[0].node());
        assert_eq!(changes(&mut homes, &all, now), [left]);
        // One of the settings stays, and counts again when its line is better.
        homes.handle_poor(own.node, true);
        assert_eq!(changes(&mut homes, &all, now).len(), 1);
        homes.handle(all[3].node(), true, now);
        assert!(changes(&mut homes, &all, now).is_empty());
        homes.handle_poor(own.node, false);
        now += SETTLED;
        assert!(changes(&mut homes, &all, now).is_empty());
        now += SETTLED;
        assert_eq!(changes(&mut homes, &all, now).len(), 1, "one is spare");
        assert!(homes.homes().any(|home| *home == own));
    }
}
