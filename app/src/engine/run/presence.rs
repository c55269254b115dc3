//! Asking contacts whether they are there, and answering those who ask: see [`crate::engine::presence`].

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use ahoy_nat::client::NodeClient;
use ahoy_transport::{
    identity::UserId,
    runtime::{Runtime, RuntimeExt as _, Task},
    sealed::{
        self, Admission, CallEnvelopes, CallTag, OfferGuard, OpenedOffer, Role, SessionSecret,
        Standing, seal_offer,
    },
};
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{RngCore as _, SeedableRng as _},
};
use tokio::sync::mpsc;

use super::{Engine, Internal, mail::told, offers::read_pushes};
use crate::{
    call::{CallId, Unreachable},
    engine::{
        book::{AddressBook, Welcome},
        config::Me,
        directory::{Directory, Findings, Target, look_up},
        presence::{Heard, MAX_WATCHED, Presence, Watch},
    },
    report::FoundBy,
    signal::PresenceOffer,
};

/// Homes of a contact that are asked: as many as a device keeps.
const MAX_HOMES: usize = 3;
/// Devices of a contact that are asked at once.
const MAX_DEVICES: usize = 4;
/// A device has so long to answer: two round trips by supernodes, and a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(4);
/// How often contacts are read anew, and old knowledge forgotten.
const LOOK: Duration = Duration::from_secs(2);

/// Who is there, and the question under way.
#[derive(Default)]
pub(super) struct Presences {
    watch: Watch,
    /// Somebody looks at the window.
    seen: bool,
    look_at: Option<Instant>,
    questions: BTreeMap<CallTag, (UserId, CallEnvelopes)>,
    asking: Option<Task>,
    /// Questions of others, each answered once.
    guard: OfferGuard,
    pub(super) shown: Arc<BTreeMap<UserId, Presence>>,
}

/// What one device is asked.
struct Question {
    call: CallId,
    secret: SessionSecret,
}

impl Engine {
    /// Somebody looks at the window, or nobody does.
    pub(super) fn look_at_people(&mut self, seen: bool) {
        self.presences.seen = seen;
        self.presences.look_at = None;
        if seen {
            self.presences.watch.hurry(self.runtime.now());
        }
    }

    /// There is a way to homes again: what came to nothing before is asked anew.
    pub(super) fn hurry_presence(&mut self) {
        self.presences.watch.hurry(self.runtime.now());
        self.presences.look_at = None;
    }

    /// The owner lets contacts know whether they are there, and sees it of them; or neither.
    pub(super) fn set_presence(&mut self, on: bool) {
        self.config.finding.presence = on;
        if !on {
            self.presences.watch.forget();
            self.presences.questions.clear();
            self.presences.asking = None;
        }
        self.presences.look_at = None;
        self.show_presences();
    }

    /// Asks whoever is due.
    pub(super) fn look_at_presence(&mut self) {
        let now = self.runtime.now();
        if !self.config.finding.presence || self.presences.look_at.is_some_and(|at| now < at) {
            return;
        }
        self.presences.look_at = Some(now + LOOK);
        let contacts = self.people.contacts.iter();
        // Their homes may be theirs alone: whoever is to learn nothing of our address is not asked.
        let open = contacts.filter(|contact| !contact.relay_only);
        let open: Vec<UserId> = open.map(|contact| contact.user).take(MAX_WATCHED).collect();
        self.presences.watch.set_people(now, open);
        if self.presences.seen
            && let Some(user) = self.presences.watch.next(now)
        {
            self.ask_presence(user);
        }
        self.show_presences();
    }

    fn show_presences(&mut self) {
        let known = self.presences.watch.view(self.runtime.now());
        if known != *self.presences.shown {
            self.presences.shown = Arc::new(known);
            self.show();
        }
    }

    fn ask_presence(&mut self, user: UserId) {
        let homes = self.person(user).homes.into_iter().take(MAX_HOMES);
        // Whoever hides their address shows it to no supernode but their own.
        let may_leave = self.config.path.allows_direct();
        let directories: Vec<_> = homes
            .filter_map(|address| {
                let directory = match self.home(address.node) {
                    Some(up) => Directory::Home(address, up.client.clone()),
                    None if may_leave => Directory::Guest(address, self.config.reaching()),
                    None => return None,
                };
                Some((directory, FoundBy::Home))
            })
            .collect();
        // Who never wrote or called back has not let us in: what we asked would be a stranger's question, and cost work.
        let peers = told(self.chat().peers(user)).unwrap_or_default();
        if directories.is_empty() || peers.is_empty() {
            return self.heard(user, Heard::Nothing);
        }
        let mut questions = Vec::new();
        self.presences.questions.clear();
        for _ in 0..MAX_DEVICES {
            let call = CallId(self.runtime.random_array());
            let secret = SessionSecret::generate(&mut self.rng);
            let envelopes = CallEnvelopes::new(&secret, &call.0, Role::Caller);
            let tag = envelopes.tag();
            self.presences.questions.insert(tag, (user, envelopes));
            questions.push(Question { call, secret });
        }
        let asking = Asking {
            runtime: Arc::clone(&self.runtime),
            book: Arc::clone(&self.book),
            me: self.config.me.clone(),
            user,
            inbox: self.inbox.clone(),
            rng: ChaCha20Rng::from_seed(self.runtime.random_array()),
        };
        let (runtime, endpoint) = (Arc::clone(&self.runtime), self.endpoint.clone());
        let known = self.known_log(user);
        let task = async move {
            let findings = look_up(runtime, endpoint, directories, user, known).await;
            asking.ask(findings, questions).await;
        };
        self.presences.asking = Some(self.runtime.spawn_task(task));
    }

    /// What came of asking, or that they asked us.
    pub(super) fn heard(&mut self, user: UserId, heard: Heard) {
        let (now, random) = (self.runtime.now(), self.rng.next_u32());
        self.presences.watch.heard(now, user, heard, random);
        self.show_presences();
    }

    /// Nobody has anything more to say to the question under way.
    pub(super) fn presence_asked(&mut self, user: UserId, heard: Heard) {
        let is_open = self
            .presences
            .questions
            .values()
            .any(|(asked, _)| *asked == user);
        if is_open {
            self.presences.questions.clear();
            self.heard(user, heard);
        }
    }

    /// Whether this is an answer to a question of ours.
    pub(super) fn take_presence(&mut self, tag: CallTag, envelope: &[u8]) -> bool {
        let Some((user, envelopes)) = self.presences.questions.get_mut(&tag) else {
            return false;
        };
        let user = *user;
        match envelopes.open(envelope) {
            Ok(_here) => {
                self.presences.questions.clear();
                self.heard(user, Heard::Here);
            }
            Err(error) => tracing::debug!(%error, "an answer is dropped"),
        }
        true
    }

    /// Somebody asks whether we are there. Who may not know hears nothing, as if nobody were here.
    pub(super) fn answer_presence(
        &mut self,
        opened: &OpenedOffer,
        client: NodeClient,
        delivery: u64,
    ) {
        let asker = opened.sender;
        let (user, device) = (asker.user(), asker.device());
        let (now, now_millis) = (self.runtime.now(), self.runtime.unix_millis());
        let may = self.config.finding.presence
            && self.book.is_contact(user)
            && self.book.welcome(&asker, &[], now_millis) == Welcome::Ring;
        if !may || !self.presences.watch.may_answer(now, user) {
            tracing::debug!("a question whether we are here is not answered");
            return;
        }
        let call = opened.offer.call_id;
        let secret = &opened.offer.secret;
        let mut envelopes = CallEnvelopes::new(secret, &call, Role::Callee);
        let tag = envelopes.tag();
        let guard = &mut self.presences.guard;
        match guard.admit(now, device, call, tag, Standing::Stranger) {
            Admission::New { .. } => {}
            Admission::Duplicate | Admission::Full => return,
        }
        let Ok(answer) = envelopes.seal(&PresenceOffer.encode()) else {
            return;
        };
        let answering = async move {
            if let Err(error) = client.reply(delivery, answer).await {
                tracing::debug!(%error, "nobody waits for the answer");
            }
        };
        self.runtime.spawn_task(answering).detach();
        // What we asked them is answered by that.
        self.presences
            .questions
            .retain(|_tag, (asked, _)| *asked != user);
        self.heard(user, Heard::Here);
    }
}

/// What a question takes.
struct Asking {
    runtime: Arc<dyn Runtime>,
    book: Arc<dyn AddressBook>,
    me: Me,
    user: UserId,
    inbox: mpsc::Sender<Internal>,
    rng: ChaCha20Rng,
}

impl Asking {
    /// Asks the devices that were found, and says what came of it unless one of them answers.
    async fn ask(mut self, findings: Findings, questions: Vec<Question>) {
        let mut heard = match findings.why_nobody() {
            _some if !findings.targets.is_empty() => Heard::Silent,
            Unreachable::Offline => Heard::Nobody,
            Unreachable::Unknown
            | Unreachable::HomeBusy
            | Unreachable::NoRoute
            | Unreachable::Untrusted
            | Unreachable::Private
            | Unreachable::Flooded => Heard::Nothing,
        };
        if heard == Heard::Silent {
            let guests = findings.guests.iter();
            let readers: Vec<Task> = guests
                .map(|(_node, client)| {
                    let reading = read_pushes(client.clone(), self.inbox.clone());
                    self.runtime.spawn_task(reading)
                })
                .collect();
            // Nobody is silent who was not asked.
            heard = Heard::Nothing;
            for (target, question) in findings.targets.iter().zip(questions) {
                if self.deliver(target, question).await {
                    heard = Heard::Silent;
                }
            }
            self.runtime.sleep(PATIENCE).await;
            drop(readers);
        }
        for (_node, client) in &findings.guests {
            client.close();
        }
        let asked = Internal::PresenceAsked(self.user, heard);
        // The engine is gone: so is the question.
        self.inbox.send(asked).await.unwrap_or_default();
    }

    /// Whether the home has taken the question.
    async fn deliver(&mut self, target: &Target, question: Question) -> bool {
        let Some(home) = target.homes.first() else {
            return false;
        };
        let (me, to) = (&self.me, target.device.device());
        if to == me.keys.id() {
            return false;
        }
        let offer = sealed::Offer {
            call_id: question.call.0,
            secret: question.secret,
            recipient: to,
            epoch: home.epoch,
            sequence: self.book.next_sequence(),
            sent_at_millis: self.runtime.unix_millis(),
            log_head: me.log.head(),
            certificate: me.certificate.clone(),
            log: me.log.to_bytes(),
            offer: PresenceOffer.encode(),
            candidates: Vec::new(),
        };
        let sealed = seal_offer(&offer, &me.keys, &home.seal_key, &mut self.rng);
        let envelope = match sealed {
            Ok(envelope) => envelope,
            Err(error) => {
                tracing::error!(%error, "a question cannot be sealed");
                return false;
            }
        };
        let Some(key) = self.book.mail_key((self.user, to), home.node.node) else {
            return false;
        };
        let mark = Some(key.mark((self.user, to), &envelope));
        let delivering = home.client.deliver_marked(to, home.epoch, mark, envelope);
        delivering
            .await
            .inspect_err(|error| tracing::debug!(%error, "a question was not delivered"))
            .is_ok()
    }
}
