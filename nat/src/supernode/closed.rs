//! A supernode of a private network: who is let in, and what its supernodes tell each other about that. Sans-IO.
//!
//! Whoever asks for something has shown a [pass](ahoy_transport::identity::network) in the handshake, made for the very key that
//! the handshake proved. [`Closed::admit`] judges it once a connection, [`Closed::still`] with each request: time goes on, and
//! invites are revoked.
//!
//! What the supernodes of a network have to agree on is which invites are revoked, which is one list signed by the network's
//! key, and who used an invite first. Each asks the others for both ([`Closed::news`]) and takes it in ([`Closed::take_in`]).
//! Both are bounded: strangers get nothing in there, since only the network's key makes invites.

use std::collections::BTreeMap;

use ahoy_transport::{
    identity::{
        ID_LEN, NetworkId,
        network::{
            MAX_REVOKED_LEN, NetworkError, NetworkInviteId, NetworkPass, NetworkRole,
            RevokedInvites, split_credential,
        },
    },
    noise::PeerIdentity,
    wire::{Reader, WireError, Writer},
};

use super::protocol::Refusal;

/// Invites whose users are remembered: those of a big company. Expired ones are forgotten.
pub const MAX_USES: usize = 4096;
/// Uses in one answer: 40 KiB.
pub const MAX_NEWS: usize = 512;

const VERSION: u8 = 1;
/// Longest kept state.
const MAX_KEPT: usize = 1 + ID_LEN + 4 + MAX_REVOKED_LEN + 4 + MAX_USES * USE_LEN;
const USE_LEN: usize = 2 * ID_LEN + 8 + 8;

/// Who used an invite, and when that was seen first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InviteUse {
    /// The invite.
    pub invite: NetworkInviteId,
    /// The member key that it was used with.
    pub member: [u8; ID_LEN],
    /// By the clock of the supernode that saw it, Unix milliseconds. Where two saw different ones the earlier counts.
    pub at_millis: u64,
    /// When the invite expires, Unix milliseconds.
    pub not_after_millis: u64,
}

impl InviteUse {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.put_bytes(&self.invite);
        out.put_bytes(&self.member);
        out.put_u64(self.at_millis);
        out.put_u64(self.not_after_millis);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            invite: reader.array()?,
            member: reader.array()?,
            at_millis: reader.u64()?,
            not_after_millis: reader.u64()?,
        })
    }
}

/// What one supernode of a network tells another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClosedNews {
    /// The list of revoked invites, where the other one's is older.
    pub revoked: Option<Vec<u8>>,
    /// Uses, as this one learned of them.
    pub uses: Vec<InviteUse>,
    /// Where to go on asking.
    pub next: u64,
}

/// Who was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// What the member may do.
    pub role: NetworkRole,
    /// By which invite.
    pub invite: NetworkInviteId,
    /// Under which key.
    pub member: [u8; ID_LEN],
    /// Until when, Unix milliseconds.
    pub not_after_millis: u64,
}

/// What has been counted since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClosedCounters {
    /// Connections let in.
    pub admitted: u64,
    /// Connections whose requests are refused.
    pub refused: u64,
}

/// The core.
#[derive(Debug)]
pub struct Closed {
    network: NetworkId,
    /// Off only for tests: everybody comes in.
    check: bool,
    revoked: Option<RevokedInvites>,
    uses: BTreeMap<NetworkInviteId, InviteUse>,
    /// In the order in which they were learned, some of them forgotten since.
    order: Vec<NetworkInviteId>,
    changed: bool,
    counters: ClosedCounters,
}

impl Closed {
    /// Of a supernode of `network` that has seen nobody yet.
    #[must_use]
    pub fn new(network: NetworkId) -> Self {
        Self {
            network,
            check: true,
            revoked: None,
            uses: BTreeMap::new(),
            order: Vec::new(),
            changed: false,
            counters: ClosedCounters::default(),
        }
    }

    /// Lets everybody in: to show what the check is good for.
    #[must_use]
    pub fn unchecked(self) -> Self {
        Self {
            check: false,
            ..self
        }
    }

    /// The network.
    #[must_use]
    pub fn network(&self) -> NetworkId {
        self.network
    }

    /// Counters.
    #[must_use]
    pub fn counters(&self) -> ClosedCounters {
        self.counters
    }

    /// Judges what a connection showed; `None` where nobody is judged.
    ///
    /// # Errors
    /// Why its requests are refused.
    pub fn admit(
        &mut self,
        shown: &PeerIdentity,
        now_millis: u64,
    ) -> Result<Option<Admitted>, Refusal> {
        if !self.check {
            return Ok(None);
        }
        let judged = self.judge(shown, now_millis);
        match judged {
            Ok(_) => self.counters.admitted += 1,
            Err(_) => self.counters.refused += 1,
        }
        judged.map(Some)
    }

    fn judge(&mut self, shown: &PeerIdentity, now_millis: u64) -> Result<Admitted, Refusal> {
        let (Ok((Some(pass), _device)), Some(noise_static)) =
            (split_credential(&shown.credential), &shown.noise_static)
        else {
            return Err(Refusal::NoPass);
        };
        let pass = NetworkPass::from_bytes(pass).map_err(refusal)?;
        pass.verify(self.network, noise_static, now_millis)
            .map_err(refusal)?;
        let admitted = Admitted {
            role: pass.certificate.role,
            invite: pass.certificate.invite,
            member: pass.member,
            not_after_millis: pass.certificate.not_after_millis,
        };
        let known = self.uses.contains_key(&admitted.invite);
        if !known && !self.has_room(now_millis) {
            return Err(Refusal::Full);
        }
        if !known {
            self.note(InviteUse {
                invite: admitted.invite,
                member: admitted.member,
                at_millis: now_millis,
                not_after_millis: admitted.not_after_millis,
            });
        }
        self.still(&admitted, now_millis)?;
        Ok(admitted)
    }

    /// Whether somebody who was let in may stay.
    ///
    /// # Errors
    /// Why not.
    pub fn still(&self, admitted: &Admitted, now_millis: u64) -> Result<(), Refusal> {
        let revoked = self.revoked.as_ref();
        if revoked.is_some_and(|revoked| revoked.has(&admitted.invite)) {
            return Err(Refusal::PassRevoked);
        }
        if admitted.not_after_millis <= now_millis {
            return Err(Refusal::PassExpired);
        }
        match self.uses.get(&admitted.invite) {
            Some(first) if first.member != admitted.member => Err(Refusal::PassTaken),
            Some(_) | None => Ok(()),
        }
    }

    fn has_room(&mut self, now_millis: u64) -> bool {
        if self.uses.len() < MAX_USES {
            return true;
        }
        self.forget(now_millis);
        self.uses.len() < MAX_USES
    }

    /// Forgets who used what expired: nobody gets in by that any more.
    fn forget(&mut self, now_millis: u64) {
        self.uses
            .retain(|_invite, used| used.not_after_millis > now_millis);
        // Whoever asks after an older place is told all from the beginning.
        self.order = self.uses.keys().copied().collect();
    }

    fn note(&mut self, used: InviteUse) {
        self.order.push(used.invite);
        self.uses.insert(used.invite, used);
        self.changed = true;
        if self.order.len() > 2 * MAX_USES {
            self.order = self.uses.keys().copied().collect();
        }
    }

    /// The list of revoked invites that is known, by its number.
    #[must_use]
    pub fn revoked_seq(&self) -> Option<u64> {
        self.revoked.as_ref().map(RevokedInvites::seq)
    }

    /// What there is to tell somebody who has the list `seq` and asked for uses up to `after`. Only a supernode is told of uses.
    #[must_use]
    pub fn news(&self, role: NetworkRole, seq: Option<u64>, after: u64) -> ClosedNews {
        let newer = self.revoked.as_ref().filter(|_| self.revoked_seq() > seq);
        let mut news = ClosedNews {
            revoked: newer.map(RevokedInvites::to_bytes),
            uses: Vec::new(),
            next: after,
        };
        if role != NetworkRole::Supernode {
            return news;
        }
        let after = usize::try_from(after).unwrap_or(usize::MAX);
        // Whoever has asked before this one started begins again.
        let after = if after > self.order.len() { 0 } else { after };
        // The list takes its room.
        let most = if news.revoked.is_some() { 64 } else { MAX_NEWS };
        let told: Vec<_> = self.order.iter().skip(after).take(most).collect();
        news.next = (after + told.len()) as u64;
        news.uses = told
            .into_iter()
            .filter_map(|invite| self.uses.get(invite).copied())
            .collect();
        news
    }

    /// Takes a list of revoked invites in; it proves itself. Says whether it is news.
    ///
    /// # Errors
    /// When it is not this network's.
    pub fn take_list(&mut self, list: &[u8]) -> Result<bool, NetworkError> {
        let list = RevokedInvites::from_bytes(self.network, list)?;
        let is_news = self.revoked_seq() < Some(list.seq());
        if is_news {
            self.revoked = Some(list);
            self.changed = true;
        }
        Ok(is_news)
    }

    /// Takes in what another supernode of the network told. Says whether somebody may have to go.
    pub fn take_in(&mut self, news: &ClosedNews, now_millis: u64) -> bool {
        let mut changed = match &news.revoked {
            Some(list) => self.take_list(list).unwrap_or_else(|error| {
                tracing::warn!(%error, "a list of revoked invites that is none");
                false
            }),
            None => false,
        };
        for used in news.uses.iter().take(MAX_NEWS) {
            if used.not_after_millis <= now_millis {
                continue;
            }
            let earlier = match self.uses.get(&used.invite) {
                Some(known) if known.member == used.member => continue,
                Some(known) => used.at_millis < known.at_millis,
                None => self.has_room(now_millis),
            };
            if earlier {
                self.note(*used);
                changed = true;
            }
        }
        changed
    }

    /// What is to be kept, if anything changed since it was taken last.
    pub fn take_changes(&mut self) -> Option<Vec<u8>> {
        std::mem::take(&mut self.changed).then(|| self.to_bytes())
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.put_bytes(self.network.as_bytes());
        let list = self.revoked.as_ref().map(RevokedInvites::to_bytes);
        out.put_var_bytes(&list.unwrap_or_default());
        out.put_varint(self.uses.len() as u64);
        self.uses.values().for_each(|used| used.write(&mut out));
        out
    }

    /// Goes on with what was kept.
    ///
    /// # Errors
    /// When it cannot be read, or is another network's; nothing is taken then.
    pub fn resume(&mut self, bytes: &[u8]) -> Result<(), NetworkError> {
        if bytes.len() > MAX_KEPT {
            return Err(WireError::TooLong.into());
        }
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            VERSION => {}
            other => return Err(NetworkError::UnknownVersion(other)),
        }
        if reader.array()? != self.network.0 {
            return Err(NetworkError::OtherNetwork);
        }
        let revoked = match reader.var_bytes(MAX_REVOKED_LEN)? {
            [] => None,
            list => Some(RevokedInvites::from_bytes(self.network, list)?),
        };
        let count = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
        if count > MAX_USES {
            return Err(WireError::TooLong.into());
        }
        let mut uses = BTreeMap::new();
        for _ in 0..count {
            let used = InviteUse::read(&mut reader)?;
            uses.insert(used.invite, used);
        }
        reader.finish()?;
        self.order = uses.keys().copied().collect();
        (self.revoked, self.uses) = (revoked, uses);
        Ok(())
    }
}

/// A fault of a pass as the refusal of a request.
fn refusal(error: NetworkError) -> Refusal {
    match error {
        NetworkError::OtherNetwork => Refusal::PassForeign,
        NetworkError::Expired => Refusal::PassExpired,
        NetworkError::Revoked => Refusal::PassRevoked,
        NetworkError::Taken => Refusal::PassTaken,
        NetworkError::WrongSignature
        | NetworkError::Malformed(_)
        | NetworkError::UnknownVersion(_) => Refusal::PassWrong,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ahoy_transport::{
        identity::network::{NetworkKey, NetworkMember},
        noise::{Pattern, VerifiedPeer},
    };
    use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

    use super::*;

    const NOW: u64 = 1_795_402_806_513;
    const DAY: u64 = 86_400_000;

    fn rng(seed: u8) -> ChaCha20Rng {
        ChaCha20Rng::from_seed([seed; 32])
    }

    /// A handshake that proved this Noise key.
    fn shown(credential: Vec<u8>, noise: u8) -> PeerIdentity {
        PeerIdentity {
            pattern: Pattern::IkHfs,
            noise_static: Some([noise; 32]),
            credential,
            peer: VerifiedPeer::default(),
        }
    }

    fn by(member: &NetworkMember, noise: u8) -> PeerIdentity {
        shown(member.credential(&[noise; 32], b""), noise)
    }

    fn member(key: &NetworkKey, role: NetworkRole, rng: &mut ChaCha20Rng) -> NetworkMember {
        key.invite(role, NOW + DAY, rng).redeem(rng)
    }

    #[test]
    fn only_members_come_in_and_each_other_is_told_why_not() {
        let mut rng = rng(1);
        let (key, other) = (
            NetworkKey::generate(&mut rng),
            NetworkKey::generate(&mut rng),
        );
        let mut closed = Closed::new(key.id());
        let good = member(&key, NetworkRole::Device, &mut rng);
        let mut refused = |who: &PeerIdentity, now| closed.admit(who, now).unwrap_err();
        let nobody = shown(Vec::new(), 1);
        assert_eq!(refused(&nobody, NOW), Refusal::NoPass);
        let device_alone = shown(b"\x01a device's certificate".to_vec(), 1);
        assert_eq!(refused(&device_alone, NOW), Refusal::NoPass);
        let foreign = member(&other, NetworkRole::Device, &mut rng);
        assert_eq!(refused(&by(&foreign, 1), NOW), Refusal::PassForeign);
        assert_eq!(refused(&by(&good, 1), NOW + DAY), Refusal::PassExpired);
        // Seen on the wire, perhaps; without the key it was made for it says nothing.
        let stolen = shown(good.credential(&[1; 32], b""), 2);
        assert_eq!(refused(&stolen, NOW), Refusal::PassWrong);
        let anonymous = PeerIdentity {
            noise_static: None,
            ..by(&good, 1)
        };
        assert_eq!(refused(&anonymous, NOW), Refusal::NoPass);
        // A member comes in under any key of its own.
        for noise in 1..4 {
            assert!(closed.admit(&by(&good, noise), NOW).unwrap().is_some());
        }
        let counted = ClosedCounters {
            admitted: 3,
            refused: 6,
        };
        assert_eq!(closed.counters(), counted);
        // Off: everybody.
        let mut open = Closed::new(key.id()).unchecked();
        assert_eq!(open.admit(&nobody, NOW), Ok(None));
    }

    #[test]
    fn an_invite_is_its_first_users_at_all_supernodes() {
        let mut rng = rng(2);
        let key = NetworkKey::generate(&mut rng);
        let invite = key.invite(NetworkRole::Device, NOW + DAY, &mut rng);
        let (first, second) = (invite.clone().redeem(&mut rng), invite.redeem(&mut rng));
        let (mut here, mut there) = (Closed::new(key.id()), Closed::new(key.id()));
        assert!(here.admit(&by(&first, 1), NOW).is_ok());
        let refused = |at: &mut Closed, who: &NetworkMember, now| at.admit(&by(who, 2), now);
        let taken = Err(Refusal::PassTaken);
        assert_eq!(refused(&mut here, &second, NOW + 1), taken);
        // The other one has not heard of it yet, but then it has.
        let let_in = there.admit(&by(&second, 1), NOW + 5).unwrap().unwrap();
        assert!(there.take_in(&here.news(NetworkRole::Supernode, None, 0), NOW + 6));
        assert_eq!(there.still(&let_in, NOW + 6), Err(Refusal::PassTaken));
        assert!(there.admit(&by(&first, 1), NOW + 7).is_ok());
        // The later one changes nothing here, and news are news once.
        let news = there.news(NetworkRole::Supernode, None, 0);
        assert!(!here.take_in(&news, NOW + 8));
        assert_eq!(refused(&mut here, &second, NOW + 9), taken);
        let again = here.news(NetworkRole::Supernode, None, 1);
        assert!(again.uses.is_empty() && again.next == 1);
        // A device is not told who else there is.
        assert!(here.news(NetworkRole::Device, None, 0).uses.is_empty());
        // All of it outlives a restart.
        let kept = there.take_changes().unwrap();
        assert!(there.take_changes().is_none());
        let mut resumed = Closed::new(key.id());
        resumed.resume(&kept).unwrap();
        assert_eq!(refused(&mut resumed, &second, NOW + 9), taken);
        for cut in 0..kept.len() {
            assert!(Closed::new(key.id()).resume(&kept[..cut]).is_err());
        }
        // For the table of the threat model.
        eprintln!(
            "threat 13: private network: of two who use one invite at two supernodes, one stays"
        );
    }

    #[test]
    fn whoever_is_revoked_goes_and_older_lists_change_nothing() {
        let mut rng = rng(3);
        let key = NetworkKey::generate(&mut rng);
        let thief = member(&key, NetworkRole::Device, &mut rng);
        let mut closed = Closed::new(key.id());
        let let_in = closed.admit(&by(&thief, 1), NOW).unwrap().unwrap();
        let invites = BTreeSet::from([thief.certificate().invite]);
        let list = key.revoke(2, &invites).to_bytes();
        assert_eq!(closed.take_list(&list), Ok(true));
        assert_eq!(closed.take_list(&list), Ok(false));
        assert_eq!(closed.still(&let_in, NOW), Err(Refusal::PassRevoked));
        let older = key.revoke(1, &BTreeSet::new()).to_bytes();
        assert_eq!(closed.take_list(&older), Ok(false));
        assert_eq!(closed.still(&let_in, NOW), Err(Refusal::PassRevoked));
        let other = NetworkKey::generate(&mut rng);
        let foreign = other.revoke(3, &BTreeSet::new()).to_bytes();
        assert!(closed.take_list(&foreign).is_err());
        // It goes on to others that have an older one, and to nobody else.
        let news = closed.news(NetworkRole::Device, Some(1), 0);
        assert_eq!(news.revoked, Some(list));
        assert_eq!(closed.news(NetworkRole::Device, Some(2), 0).revoked, None);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_ends_with_the_invites() {
        let mut rng = rng(4);
        let key = NetworkKey::generate(&mut rng);
        let mut closed = Closed::new(key.id());
        let used = |n: u16, not_after_millis| {
            let mut invite = [0; 32];
            invite[..2].copy_from_slice(&n.to_be_bytes());
            InviteUse {
                invite,
                member: [1; 32],
                at_millis: NOW,
                not_after_millis,
            }
        };
        let all: Vec<InviteUse> = (0..5000).map(|n| used(n, NOW + DAY)).collect();
        for uses in all.chunks(MAX_NEWS) {
            let news = ClosedNews {
                uses: uses.to_vec(),
                ..ClosedNews::default()
            };
            closed.take_in(&news, NOW);
        }
        assert_eq!(closed.uses.len(), MAX_USES);
        let late = member(&key, NetworkRole::Device, &mut rng);
        let refused = closed.admit(&by(&late, 1), NOW);
        assert_eq!(refused, Err(Refusal::Full));
        // Those who ask get all of it, page by page.
        let (mut after, mut told) = (0, 0);
        loop {
            let news = closed.news(NetworkRole::Supernode, None, after);
            if news.uses.is_empty() {
                break;
            }
            told += news.uses.len();
            after = news.next;
        }
        assert_eq!(told, MAX_USES);
        let mut other = Closed::new(key.id());
        other.resume(&closed.take_changes().unwrap()).unwrap();
        // A day later nobody comes by those any more, so there is room.
        let fresh = key.invite(NetworkRole::Device, NOW + 9 * DAY, &mut rng);
        let fresh = fresh.redeem(&mut rng);
        assert!(closed.admit(&by(&fresh, 1), NOW + 2 * DAY).is_ok());
        assert_eq!(closed.uses.len(), 1);
    }
}
