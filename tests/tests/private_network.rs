//! Supernodes of a private network serve its members and nobody else. Virtual time, shipped engine and supernode.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use ahoy::{
    call::{Ending, Unreachable},
    engine::{
        config::{EngineConfig, PathPolicy},
        handle::{Anomaly, Command, Event},
    },
    network::PrivateNetwork,
    report::{Outcome, PathKind},
};
use ahoy_nat::{client::RequestError, supernode::protocol::Refusal};
use ahoy_tests::{
    device::Device,
    people::{Home, Phone, Stage},
    threat,
};
use ahoy_transport::{
    endpoint::{NetworkAccess, NodeAuth},
    identity::network::{NetworkInvite, NetworkKey, NetworkMember, NetworkRole},
};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

const SEED: u64 = 0x0070_0001;
const FIRST: [u8; 4] = [203, 0, 113, 1];
const SECOND: [u8; 4] = [192, 0, 2, 2];
const PUBLIC: [u8; 4] = [198, 18, 0, 9];
const ALICE: [u8; 4] = [198, 51, 100, 1];
const BOB: [u8; 4] = [198, 51, 100, 2];
const EVE: [u8; 4] = [198, 51, 100, 66];
const OWNER: [u8; 4] = [198, 51, 100, 9];
const DAY: u64 = 24 * 3_600_000;
/// So long that nobody says that it ends soon.
const MONTH: u64 = 30 * DAY;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A network with two supernodes, the second of which only the first knows to begin with, and Alice and Bob in it, each at one
/// of them.
struct Net<'a> {
    stage: &'a Stage,
    rng: ChaCha20Rng,
    key: NetworkKey,
    first: Home,
    second: Home,
    /// One that serves everybody.
    public: Home,
    alice: Phone,
    bob: Phone,
    /// Alice's invite, as it stands in her link.
    alices: NetworkInvite,
}

fn private(member: NetworkMember, others: &[&Home], check: bool) -> PrivateNetwork {
    PrivateNetwork {
        member,
        nodes: others.iter().map(|home| home.address.clone()).collect(),
        revoked: None,
        check,
    }
}

fn access(member: NetworkMember, homes: &[&Home], may_leave: bool) -> Arc<NetworkAccess> {
    let nodes = homes.iter().map(|home| home.address.node);
    Arc::new(NetworkAccess::device(member, nodes, may_leave))
}

impl<'a> Net<'a> {
    async fn new(stage: &'a Stage, check: bool, path: PathPolicy) -> Self {
        let mut rng = ChaCha20Rng::from_seed([7; 32]);
        let key = NetworkKey::generate(&mut rng);
        let until = stage.now_millis() + MONTH;
        let mut node = || {
            let invite = key.invite(NetworkRole::Supernode, until, &mut rng);
            invite.redeem(&mut rng)
        };
        let (one, two) = (node(), node());
        let first = stage
            .home_with("first", FIRST, |config| {
                config.private = Some(private(one, &[], check));
            })
            .await;
        let second = stage
            .home_with("second", SECOND, |config| {
                config.private = Some(private(two, &[&first], check));
            })
            .await;
        let public = stage.home("public", PUBLIC).await;
        let alices = key.invite(NetworkRole::Device, until, &mut rng);
        let bobs = key.invite(NetworkRole::Device, until, &mut rng);
        let phone = |name, ip, invite: &NetworkInvite, home: &Home, rng: &mut ChaCha20Rng| {
            let access = access(invite.clone().redeem(rng), &[&first, &second], false);
            stage.phone(name, ip, &stage.identity(), &[home], |config| {
                config.finding.access = Some(access);
                config.finding.supernodes = true;
                config.finding.gossip = true;
                config.path = path;
            })
        };
        let alice = phone("Alice", ALICE, &alices, &first, &mut rng);
        let bob = phone("Bob", BOB, &bobs, &second, &mut rng);
        alice.befriend(&bob);
        alice.ready().await;
        bob.ready().await;
        Self {
            stage,
            rng,
            key,
            first,
            second,
            public,
            alice,
            bob,
            alices,
        }
    }

    /// Somebody at the first supernode, with this to show, who calls Bob. How that ends, and what is said of it.
    async fn eve(&self, show: Option<NetworkMember>) -> (Ending, String, Option<String>) {
        let eve = self.phone_of_eve(&self.first, |config| {
            let access = show.map(|member| access(member, &[&self.first, &self.second], false));
            config.finding.access = access;
        });
        self.stage.pass(secs(3)).await;
        let notice = notice(&eve);
        // Even Bob's friends: he could not let them in.
        eve.befriend(&self.bob);
        eve.call(&self.bob);
        let ended = outcome(&self.bob, &eve).await;
        self.stage.switch_off(&eve);
        (ended.0, ended.1, notice)
    }

    fn phone_of_eve(&self, home: &Home, adjust: impl FnOnce(&mut EngineConfig)) -> Phone {
        // Her address differs each time: nobody is remembered for another.
        let n = u8::try_from(self.stage.now().as_secs() % 100).unwrap();
        let [a, b, c, d] = EVE;
        let identity = self.stage.identity();
        self.stage
            .phone("Eve", [a, b, c, d + n], &identity, &[home], adjust)
    }

    /// The device of whoever made the network.
    fn owner(&self) -> Arc<Device> {
        let node = self.stage.world.add_node("owner", &[IpAddr::from(OWNER)]);
        Device::new(self.stage.world.runtime(node))
    }

    fn member(&mut self, until: u64) -> NetworkMember {
        self.key
            .invite(NetworkRole::Device, until, &mut self.rng)
            .redeem(&mut self.rng)
    }
}

/// The call's end for `eve`; if it comes to ringing, Bob accepts and she hangs up.
async fn outcome(bob: &Phone, eve: &Phone) -> (Ending, String) {
    let rang = eve
        .wait("ringing, or the end", secs(40), |event| {
            if let Event::Ended {
                ending, sentence, ..
            } = event
            {
                return Some(Some((*ending, sentence.clone())));
            }
            matches!(event, Event::Ringing { .. }).then_some(None)
        })
        .await
        .1;
    match rang {
        Some(ended) => ended,
        None => {
            bob.tell(Command::Accept);
            eve.hears().await;
            eve.tell(Command::HangUp);
            let ended = eve.ends(secs(10)).await;
            (ended.ending, ended.sentence)
        }
    }
}

fn play<T>(seed: u64, check: bool, path: PathPolicy, scene: impl AsyncFnOnce(Net<'_>) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(seed, folder.path());
    let playing = async { scene(Net::new(&stage, check, path).await).await };
    stage.world.block_on(stage.director, playing).unwrap()
}

#[test]
fn members_call_each_other_and_touch_nobody_elses_supernode() {
    for path in [PathPolicy::Auto, PathPolicy::Relay] {
        play(SEED, true, path, async |net| {
            // Both know a public supernode from before, and it would answer.
            let public = net.public.address.clone();
            let millis = net.stage.now_millis();
            for phone in [&net.alice, &net.bob] {
                use ahoy::engine::book::AddressBook as _;
                phone.book.keep_nodes(std::slice::from_ref(&public), millis);
            }
            let tap = net.stage.wiretap();
            net.stage.pass(secs(60)).await;
            net.alice.talk_to(&net.bob).await;
            net.stage.pass(secs(5)).await;
            net.alice.tell(Command::HangUp);
            let ended = net.alice.ends(secs(10)).await;
            assert_eq!(ended.report.outcome, Outcome::Completed);
            if path == PathPolicy::Relay {
                let relayed = ended
                    .report
                    .paths
                    .iter()
                    .all(|path| path.kind == PathKind::Relay);
                assert!(relayed, "{:?}", ended.report.paths);
            }
            let public = IpAddr::from(PUBLIC);
            let strays = tap.packets();
            let strays = strays
                .iter()
                .filter(|packet| packet.src.ip() == public || packet.dst.ip() == public);
            assert_eq!(strays.count(), 0);
            // The first supernode was told of the second, and the other way round.
            for home in [&net.first, &net.second] {
                assert!(home.status().rendezvous.supernodes >= 1);
            }
        });
    }
}

/// What those show who shall not come in, and what they are told. The owner has taken one of them back, where somebody listens.
async fn outsiders(net: &mut Net<'_>, check: bool) -> [(Option<NetworkMember>, Refusal); 5] {
    let now = net.stage.now_millis();
    let other = NetworkKey::generate(&mut net.rng);
    let foreign = other
        .invite(NetworkRole::Device, now + MONTH, &mut net.rng)
        .redeem(&mut net.rng);
    let expired = net.member(now + 1000);
    let revoked = net.member(now + MONTH);
    let copied = net.alices.clone().redeem(&mut net.rng);
    // The owner's word reaches one supernode, and the other by that.
    let list = net
        .key
        .revoke(1, &BTreeSet::from([revoked.certificate().invite]));
    let owner = net.owner();
    let shown = net.member(now + MONTH);
    owner
        .endpoint
        .set_access(access(shown, &[&net.second], false));
    let second = &net.second;
    let client = owner
        .dial(second.address.node, second.addr, NodeAuth::Anonymous)
        .await
        .unwrap();
    let told = client.news(None, 0, Some(list.to_bytes())).await;
    assert_eq!(told.is_ok(), check);
    net.stage.pass(secs(10)).await;
    [
        (None, Refusal::NoPass),
        (Some(foreign), Refusal::PassForeign),
        (Some(expired), Refusal::PassExpired),
        (Some(revoked), Refusal::PassRevoked),
        (Some(copied), Refusal::PassTaken),
    ]
}

/// What a person is told, as commands say it.
fn notice(phone: &Phone) -> Option<String> {
    let view = phone.engine.view().borrow().clone();
    view.notice.map(|notice| notice.to_string())
}

/// Why nobody but a member comes in.
#[test]
fn whoever_has_no_pass_of_their_own_is_refused_with_a_sentence() {
    play(SEED + 1, true, PathPolicy::Auto, async |mut net| {
        let mut refused = Vec::new();
        let cases = outsiders(&mut net, true).await;
        for (show, why) in cases {
            let (ending, sentence, notice) = net.eve(show).await;
            let private = Ending::Unreachable(Unreachable::Private);
            assert_eq!(ending, private, "{why:?}: {sentence}");
            assert!(sentence.contains("private network"), "{sentence}");
            let told = RequestError::Refused(why).to_string();
            assert_eq!(notice, Some(told), "{why:?}");
            refused.push(why.as_str());
            net.stage.pass(secs(7)).await;
        }
        // A member who was not seen yet comes in.
        let honest = net.member(net.stage.now_millis() + MONTH);
        let (ending, sentence, notice) = net.eve(Some(honest)).await;
        assert!(matches!(ending, Ending::Completed { .. }), "{sentence}");
        assert_eq!(notice, None);
        threat(
            13,
            format_args!(
                "private network: 0 of {} outsiders get in ({}), a member does",
                refused.len(),
                refused.join(", ")
            ),
        );
    });
}

#[test]
fn without_the_check_every_outsiders_call_goes_through() {
    play(SEED + 2, false, PathPolicy::Auto, async |mut net| {
        for (show, why) in outsiders(&mut net, false).await {
            let (ending, sentence, _notice) = net.eve(show).await;
            let came_in = matches!(ending, Ending::Completed { .. });
            assert!(came_in, "{why:?}: {sentence}");
            // Bob may not have heard that she hung up.
            net.stage.pass(secs(60)).await;
        }
    });
}

#[test]
fn a_pass_that_is_about_to_end_is_said() {
    play(SEED + 4, true, PathPolicy::Auto, async |mut net| {
        let told = |phone: &Phone| {
            let events = phone.events().into_iter();
            let mut ends = events.filter_map(|(_at, event)| {
                let Event::Anomaly { kind, sentence } = event else {
                    return None;
                };
                (kind == Anomaly::PassEnds).then_some(sentence)
            });
            ends.next()
        };
        assert_eq!(told(&net.alice), None, "there is time");
        let now = net.stage.now_millis();
        let with_pass = |net: &mut Net<'_>, until| {
            let pass = access(net.member(until), &[&net.first, &net.second], false);
            net.phone_of_eve(&net.first, |config| config.finding.access = Some(pass))
        };
        let soon = with_pass(&mut net, now + 3 * DAY);
        net.stage.pass(secs(1)).await;
        let later = with_pass(&mut net, now + 14 * DAY + 600_000);
        net.stage.pass(secs(300)).await;
        let sentence = told(&soon).unwrap();
        assert!(sentence.contains("ends in 3 days"), "{sentence}");
        assert_eq!(notice(&soon), Some(sentence));
        assert_eq!(told(&later), None, "not yet");
        net.stage.pass(secs(400)).await;
        assert!(told(&later).unwrap().contains("ends in 14 days"));
    });
}

#[test]
fn whoever_is_revoked_is_sent_away_and_the_others_stay() {
    play(SEED + 3, true, PathPolicy::Auto, async |mut net| {
        net.alice.talk_to(&net.bob).await;
        net.alice.tell(Command::HangUp);
        net.alice.ends(secs(10)).await;
        net.bob.ends(secs(10)).await;
        let registered = |home: &Home| home.status().rendezvous.registered;
        net.stage.pass(secs(30)).await;
        // Both have taken the other supernode as well.
        assert_eq!((registered(&net.first), registered(&net.second)), (2, 2));
        let revoked = BTreeSet::from([net.alices.certificate().invite]);
        let list = net.key.revoke(1, &revoked).to_bytes();
        let owner = net.owner();
        let shown = net.member(net.stage.now_millis() + MONTH);
        owner
            .endpoint
            .set_access(access(shown, &[&net.second], false));
        let second = &net.second;
        let dialled = owner.dial(second.address.node, second.addr, NodeAuth::Anonymous);
        let client = dialled.await.unwrap();
        client.news(None, 0, Some(list)).await.unwrap();
        // Alice is at the first one, which hears of it from the second.
        net.stage.pass(secs(20)).await;
        assert_eq!((registered(&net.first), registered(second)), (1, 1));
        let told = RequestError::Refused(Refusal::PassRevoked).to_string();
        assert_eq!(notice(&net.alice), Some(told));
        net.bob.call(&net.alice);
        let ended = net.bob.ends(secs(40)).await;
        assert_eq!(ended.ending, Ending::Unreachable(Unreachable::Offline));
        threat(
            13,
            "private network: whoever is taken out is sent away by both supernodes, told so, and reached by nobody",
        );
    });
}
