//! Finding a person's devices: asking supernodes, and believing nothing they say.
//!
//! A supernode answers with signed bytes. A device counts only when its certificate leads back to the
//! person's own key, stands in the person's device log, and that log is no contradiction to the one seen
//! before: see [`judge`].
//!
//! Where nobody is found by known homes, or these take their time, other supernodes and the DHT are asked for the person's
//! record, which names the present ones: the first valid record acts, a newer one acts beside it, and a call that known homes
//! answer waits for none of that.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use ahoy_nat::{
    client::{NodeClient, RequestError},
    dial::{Ways, dial},
    discovery::{
        dht::{self, Dht, Place},
        lan,
        record::{Record, RecordError, RecordRules},
    },
    supernode::protocol::Registration,
};
use ahoy_transport::{
    endpoint::{Endpoint, NodeAuth},
    identity::{
        CertificateError, DeviceCertificate, NodeAddress, NodeId, SealKeyError, SealKeyRecord,
        UserId, VerifiedDevice, VerifiedSealKey,
        log::{DeviceLog, ForkProof, LogError},
    },
    runtime::{Runtime, RuntimeExt as _, timeout},
    wire::WireError,
};
use futures_util::{
    FutureExt as _, StreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream, FuturesUnordered},
};

use super::config::Reaching;
use crate::{
    call::Unreachable,
    identity::{Claim, ClaimError, judge},
    report::FoundBy,
};

/// Asking one supernode: connect, and one round trip.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long supernodes have before this network is searched too: longer than a good one takes.
const LAN_AFTER: Duration = Duration::from_millis(300);
/// How long somebody in this network may take to answer when a supernode knows nobody,
const LAN_TIMEOUT: Duration = Duration::from_secs(1);
/// and when no supernode answers at all: then this network is all there is, and its multicast may be bad.
const LAN_ALONE: Duration = Duration::from_secs(4);

/// How long known homes have before the DHT is asked too: longer than a good one takes.
const DHT_AFTER: Duration = Duration::from_millis(300);
/// How long the search for a record may take. A person waits no longer, and the nodes near it have answered.
const DHT_LIMIT: Duration = Duration::from_secs(12);
/// And how long whoever it leads to at its end may take to be asked.
const DHT_PATIENCE: Duration = DHT_LIMIT.saturating_add(LOOKUP_TIMEOUT);
/// Records of one person that are followed in one search: each may lead to three homes.
const MAX_FOLLOWED: usize = 4;
/// Records of one person that are compared with each other.
const MAX_SEEN: usize = 16;
/// Lies of one look-up that are noted.
const MAX_LIES: usize = 4;
/// Supernodes by which one device is called.
pub(super) const MAX_HOMES_OF_DEVICE: usize = 4;

/// A device that can be called.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) device: VerifiedDevice,
    /// Where it is registered, in the order of their answers; one at least.
    pub(super) homes: Vec<RegisteredAt>,
    /// The longest log of the person that we know of now.
    pub(super) log: Option<DeviceLog>,
    /// Found in this network, behind its own door.
    pub(super) nearby: bool,
}

/// A supernode that says a device is registered there. It may be lying: only the device's own answer tells.
#[derive(Debug, Clone)]
pub(super) struct RegisteredAt {
    pub(super) node: NodeAddress,
    pub(super) client: NodeClient,
    pub(super) epoch: u64,
    pub(super) seal_key: VerifiedSealKey,
}

/// Why a registration is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// Certificate and device log.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The bytes of the certificate.
    #[error("certificate: {0}")]
    Certificate(#[from] CertificateError),
    /// The key to seal to.
    #[error("seal key: {0}")]
    SealKey(#[from] SealKeyError),
    /// The bytes of the seal key.
    #[error("seal key: {0}")]
    Malformed(#[from] WireError),
}

impl Distrust {
    /// Whether nobody signed it. A supernode looks at that before it takes a registration in, so it is the one who lies; what
    /// is only old, or unknown here, may be nobody's fault.
    #[must_use]
    pub fn is_lie(&self) -> bool {
        matches!(
            self,
            Self::Claim(ClaimError::Certificate(CertificateError::WrongSignature))
                | Self::Claim(ClaimError::Log(LogError::WrongSignature(_)))
                | Self::Certificate(CertificateError::WrongSignature)
                | Self::SealKey(SealKeyError::WrongSignature)
        )
    }
}

/// Where to ask.
#[derive(Debug, Clone)]
pub(super) enum Directory {
    /// A supernode we are registered at.
    Home(NodeAddress, NodeClient),
    /// Another one, which learns nothing about us.
    Guest(NodeAddress, Reaching),
}

/// Looking for a person's record.
#[derive(Debug, Clone)]
pub(super) struct Seeking {
    /// Where records are, each with the route it is.
    pub(super) tables: Vec<(Arc<dyn Dht>, FoundBy)>,
    pub(super) rules: RecordRules,
    /// The newest record seen so far.
    pub(super) known: Option<Record>,
    /// What the person gave to us as a contact.
    pub(super) capability: Option<[u8; 32]>,
    /// How homes are reached.
    pub(super) reaching: Reaching,
    /// Supernodes that we are registered at.
    pub(super) ours: BTreeMap<NodeId, NodeClient>,
    /// Asked already.
    pub(super) asked: BTreeSet<NodeId>,
}

/// What a look-up brought.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) targets: Vec<Target>,
    /// Connections opened for this call. They stay open for replies.
    pub(super) guests: Vec<(NodeId, NodeClient)>,
    /// By which route they were found.
    pub(super) found_by: Option<FoundBy>,
    /// The newest valid record that was met.
    pub(super) record: Option<Record>,
    /// Every record that the person signed and that was met or known, the newest one or not.
    pub(super) seen: Seen,
    /// Supernodes that have not answered yet, once somebody has been found.
    pub(super) rest: Option<Rest>,
    asked: usize,
    /// Of those, such that serve a private network that we are not in.
    closed: usize,
    answered: usize,
    distrusted: Option<Distrust>,
    /// Supernodes that showed what nobody signed, with that.
    pub(super) lies: Vec<(NodeId, Vec<u8>)>,
}

/// Records that a person signed, and where more may come from.
#[derive(Default)]
pub(super) struct Seen {
    user: Option<UserId>,
    records: Vec<Record>,
    more: Option<BoxStream<'static, (Record, FoundBy)>>,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seen")
            .field("records", &self.records.len())
            .finish_non_exhaustive()
    }
}

impl Seen {
    fn note(&mut self, record: &Record) {
        let is_theirs = self.user.is_some_and(|user| record.authentic(user).is_ok());
        if is_theirs && self.records.len() < MAX_SEEN && !self.records.contains(record) {
            self.records.push(record.clone());
        }
    }

    /// Whether anything is to be compared.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// All of them, when whoever was asked has answered, or had time to.
    pub(super) async fn all(mut self, runtime: &dyn Runtime) -> Vec<Record> {
        if let Some(mut more) = self.more.take() {
            let reading = async {
                while let Some((record, _route)) = more.next().await {
                    self.note(&record);
                }
            };
            timeout(runtime, DHT_LIMIT, reading).await;
        }
        self.records
    }
}

/// The answers still to come: a supernode that is gone keeps nobody waiting, and one that lies is not the only one by
/// which a call goes because it was the fastest.
pub(super) struct Rest {
    asking: FuturesUnordered<BoxFuture<'static, Option<AnswerOf>>>,
    runtime: Arc<dyn Runtime>,
    user: UserId,
    known: Option<DeviceLog>,
}

impl std::fmt::Debug for Rest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rest")
            .field("asking", &self.asking.len())
            .finish_non_exhaustive()
    }
}

impl Rest {
    /// What the next supernode says.
    pub(super) async fn next(&mut self) -> Option<Findings> {
        let answer = self.asking.next().await?;
        let mut findings = Findings::default();
        findings.take(self, answer);
        Some(findings)
    }
}

impl Findings {
    fn take(&mut self, rest: &Rest, answer: Option<AnswerOf>) {
        let Some(answer) = answer else { return };
        if answer.is_closed {
            self.closed += 1;
            return;
        }
        self.answered += 1;
        let now_millis = rest.runtime.unix_millis();
        for registration in &answer.registrations {
            match verify(registration, rest.user, rest.known.as_ref(), now_millis) {
                Ok((device, seal_key, log)) => {
                    self.found_by.get_or_insert(answer.route);
                    let home = RegisteredAt {
                        node: answer.node.clone(),
                        client: answer.client.clone(),
                        epoch: registration.epoch,
                        seal_key,
                    };
                    let same = |target: &&mut Target| target.device.device() == device.device();
                    match self.targets.iter_mut().find(same) {
                        Some(target) => target.add(home),
                        None => self.targets.push(Target {
                            device,
                            homes: vec![home],
                            log,
                            nearby: matches!(answer.route, FoundBy::Lan),
                        }),
                    }
                }
                Err(distrust) => {
                    tracing::warn!(node = %answer.node, %distrust, "registration refused");
                    if distrust.is_lie() && self.lies.len() < MAX_LIES {
                        self.lies.push((answer.node.node, registration.evidence()));
                    }
                    self.distrusted = Some(distrust);
                }
            }
        }
        if answer.is_guest {
            self.guests.push((answer.node.node, answer.client));
        }
    }

    /// Somebody showed another device log than the one we know.
    pub(super) fn fork(&self) -> Option<&ForkProof> {
        match &self.distrusted {
            Some(Distrust::Claim(ClaimError::Fork(proof))) => Some(proof),
            Some(_) | None => None,
        }
    }

    /// Why there is nobody to call.
    pub(super) fn why_nobody(&self) -> Unreachable {
        if let Some(distrust) = &self.distrusted {
            tracing::warn!(%distrust, "a supernode's answer is not genuine");
            return Unreachable::Untrusted;
        }
        match (self.asked, self.answered) {
            (0, _) => Unreachable::Unknown,
            (_, 0) if self.closed > 0 => Unreachable::Private,
            (_, 0) => Unreachable::NoRoute,
            (_, _) => Unreachable::Offline,
        }
    }

    fn is_somebody(&self) -> bool {
        !self.targets.is_empty()
    }

    /// These, or `others` if these are of nobody.
    fn or(self, others: Self) -> Self {
        if self.is_somebody() {
            return self;
        }
        Self {
            record: others.record.or(self.record),
            asked: self.asked + others.asked,
            closed: self.closed + others.closed,
            answered: self.answered + others.answered,
            distrusted: others.distrusted.or(self.distrusted),
            lies: self
                .lies
                .into_iter()
                .chain(others.lies)
                .take(MAX_LIES)
                .collect(),
            ..others
        }
    }
}

impl Target {
    /// Another supernode where it is registered, unless there are enough.
    pub(super) fn add(&mut self, home: RegisteredAt) {
        let known = self.homes.iter().any(|at| at.node.node == home.node.node);
        if !known && self.homes.len() < MAX_HOMES_OF_DEVICE {
            self.homes.push(home);
        }
    }
}

/// Asks all directories at once, until one of them knows somebody: what the others say comes with the
/// [rest](Findings::rest).
pub(super) async fn look_up(
    runtime: Arc<dyn Runtime>,
    endpoint: Endpoint,
    directories: Vec<(Directory, FoundBy)>,
    user: UserId,
    known: Option<DeviceLog>,
) -> Findings {
    let mut findings = Findings {
        asked: directories.len(),
        ..Findings::default()
    };
    let asking = directories.into_iter().map(|(directory, route)| {
        ask(
            Arc::clone(&runtime),
            endpoint.clone(),
            directory,
            route,
            user,
        )
        .boxed()
    });
    let mut rest = Rest {
        asking: asking.collect(),
        runtime: Arc::clone(&runtime),
        user,
        known,
    };
    while let Some(answer) = rest.asking.next().await {
        findings.take(&rest, answer);
        if findings.is_somebody() {
            findings.rest = (!rest.asking.is_empty()).then_some(rest);
            break;
        }
    }
    findings
}

/// As [`look_up`], and in this network when supernodes find nobody or take their time. Whoever finds somebody first
/// counts.
pub(super) async fn look_around(
    runtime: Arc<dyn Runtime>,
    endpoint: Endpoint,
    directories: Vec<(Directory, FoundBy)>,
    user: UserId,
    known: Option<DeviceLog>,
) -> Findings {
    let far = look_up(
        Arc::clone(&runtime),
        endpoint.clone(),
        directories,
        user,
        known.clone(),
    );
    let near = look_near(Arc::clone(&runtime), endpoint, user, known);
    first_of(&*runtime, LAN_AFTER, LAN_TIMEOUT, far, near).await
}

/// What `first` finds; or what `second` does, which is asked when `first` finds nobody, or nothing within `start`. It
/// is waited for no longer than `patience` once whom `first` asked said that nobody is there.
async fn first_of(
    runtime: &dyn Runtime,
    start: Duration,
    patience: Duration,
    first: impl Future<Output = Findings>,
    second: impl Future<Output = Findings>,
) -> Findings {
    let mut first = pin!(first);
    let early = timeout(runtime, start, &mut first).await;
    let mut second = pin!(second);
    let found = match early {
        Some(found) => found,
        None => tokio::select! {
            biased;
            found = &mut first => found,
            found = &mut second => {
                return if found.is_somebody() { found } else { found.or(first.await) };
            }
        },
    };
    if found.is_somebody() {
        return found;
    }
    if found.answered == 0 {
        return found.or(second.await);
    }
    let further = timeout(runtime, patience, second).await;
    found.or(further.unwrap_or_default())
}

/// As [`look_around`], or in this network not at all, and by the person's record if somebody can be asked for that.
pub(super) async fn search(
    runtime: Arc<dyn Runtime>,
    endpoint: Endpoint,
    directories: Vec<(Directory, FoundBy)>,
    lan: bool,
    seeking: Option<Seeking>,
    user: UserId,
    known: Option<DeviceLog>,
) -> Findings {
    let start = if directories.is_empty() {
        Duration::ZERO
    } else {
        DHT_AFTER
    };
    let (nearby_runtime, nearby_endpoint) = (Arc::clone(&runtime), endpoint.clone());
    let nearby_known = known.clone();
    let by_homes = async move {
        let (runtime, endpoint) = (nearby_runtime, nearby_endpoint);
        if lan {
            look_around(runtime, endpoint, directories, user, nearby_known).await
        } else {
            look_up(runtime, endpoint, directories, user, nearby_known).await
        }
    };
    let Some(seeking) = seeking else {
        return by_homes.await;
    };
    let by_record = seek(Arc::clone(&runtime), endpoint, seeking, user, known);
    first_of(&*runtime, start, DHT_PATIENCE, by_homes, by_record).await
}

/// Looks for records of `user`, and for the person at the homes in them. The newest valid record comes along, whether it
/// leads to somebody or not.
async fn seek(
    runtime: Arc<dyn Runtime>,
    endpoint: Endpoint,
    seeking: Seeking,
    user: UserId,
    known_log: Option<DeviceLog>,
) -> Findings {
    let Seeking {
        tables,
        rules,
        known,
        capability,
        reaching,
        ours,
        mut asked,
    } = seeking;
    let places = dht::places_to_get(user, capability.as_ref(), runtime.unix_millis());
    let searches = tables.into_iter().map(|(table, route)| {
        let places = if table.has_salts() {
            places.clone()
        } else {
            vec![Place::OPEN]
        };
        dht::records(table, user, places)
            .map(move |record| (record, route))
            .boxed()
    });
    let mut records = stream::select_all(searches.collect::<Vec<_>>());
    let mut over = pin!(runtime.sleep(DHT_LIMIT));
    let mut seen = Seen {
        user: Some(user),
        ..Seen::default()
    };
    known.iter().for_each(|known| seen.note(known));
    let (mut newest, mut news) = (known, None);
    let (mut ended, mut followed) = (false, 0);
    let mut asking = FuturesUnordered::new();
    let mut findings = Findings::default();
    loop {
        let record = tokio::select! {
            biased;
            Some(found) = asking.next(), if !asking.is_empty() => {
                findings = Findings::or(found, findings);
                if findings.is_somebody() {
                    break;
                }
                continue;
            }
            record = records.next(), if !ended => record,
            () = &mut over, if !ended => None,
            else => break,
        };
        let Some((record, route)) = record else {
            ended = true;
            continue;
        };
        seen.note(&record);
        match rules.judge(newest.as_ref(), &record, user, runtime.unix_millis()) {
            Ok(()) if newest.as_ref() == Some(&record) => continue,
            Ok(()) => {}
            // Nodes that were away hand out what they have.
            Err(RecordError::Older) => continue,
            Err(error) => {
                tracing::debug!(%error, "a record in the DHT is refused");
                continue;
            }
        }
        let homes = record.fields().homes.clone();
        newest = Some(record.clone());
        news = Some(record);
        if followed >= MAX_FOLLOWED {
            continue;
        }
        let directories: Vec<_> = homes
            .into_iter()
            .filter(|home| asked.insert(home.node))
            .map(|home| {
                let directory = match ours.get(&home.node) {
                    Some(client) => Directory::Home(home, client.clone()),
                    None => Directory::Guest(home, reaching.clone()),
                };
                (directory, route)
            })
            .collect();
        if !directories.is_empty() {
            followed += 1;
            asking.push(look_up(
                Arc::clone(&runtime),
                endpoint.clone(),
                directories,
                user,
                known_log.clone(),
            ));
        }
    }
    findings.record = news;
    seen.more = (!ended).then(|| records.boxed());
    findings.seen = seen;
    findings
}

/// Looks for `user` in this network: by multicast, then at the door of each device that answered.
async fn look_near(
    runtime: Arc<dyn Runtime>,
    endpoint: Endpoint,
    user: UserId,
    known: Option<DeviceLog>,
) -> Findings {
    let reaching = Reaching {
        ways: Ways::Udp,
        proxy: None,
    };
    let doors = lan::find(&runtime, user, LAN_ALONE)
        .await
        .into_iter()
        .map(|door| {
            let address = NodeAddress::new(door.node, door.addr);
            let directory = Directory::Guest(address, reaching.clone());
            (directory, FoundBy::Lan)
        })
        .collect();
    look_up(runtime, endpoint, doors, user, known).await
}

struct AnswerOf {
    /// It serves a private network that we are not in, and said nothing else.
    is_closed: bool,
    node: NodeAddress,
    client: NodeClient,
    is_guest: bool,
    route: FoundBy,
    registrations: Vec<Registration>,
}

/// A way to ask a directory, and whether it was opened for that.
pub(super) async fn reach(
    runtime: &Arc<dyn Runtime>,
    endpoint: &Endpoint,
    directory: Directory,
) -> Option<(NodeAddress, NodeClient, bool)> {
    match directory {
        Directory::Home(node, client) => Some((node, client, false)),
        Directory::Guest(address, reaching) => {
            let place = reaching
                .locate(&**runtime, &address)
                .await
                .inspect_err(|error| tracing::info!(%address, %error, "no such supernode"))
                .ok()?;
            let auth = NodeAuth::Anonymous;
            let dialled = dial(endpoint, address.node, &place, auth, reaching.ways)
                .await
                .inspect_err(|error| tracing::info!(%address, %error, "supernode not reached"))
                .ok()?;
            let client = NodeClient::dialled(Arc::clone(runtime), dialled);
            Some((address, client, true))
        }
    }
}

async fn ask(
    runtime: Arc<dyn Runtime>,
    endpoint: Endpoint,
    directory: Directory,
    route: FoundBy,
    user: UserId,
) -> Option<AnswerOf> {
    let asking = async {
        let (node, client, is_guest) = reach(&runtime, &endpoint, directory).await?;
        let registrations = client
            .lookup(user)
            .await
            .inspect_err(|error| tracing::info!(%node, %error, "look-up failed"));
        let is_closed = matches!(
            &registrations,
            Err(RequestError::Refused(refusal)) if refusal.is_about_a_pass()
        );
        let registrations = match registrations {
            Err(_) if is_closed => Vec::new(),
            told => told.ok()?,
        };
        Some(AnswerOf {
            is_closed,
            node,
            client,
            is_guest,
            route,
            registrations,
        })
    };
    timeout(&*runtime, LOOKUP_TIMEOUT, asking).await.flatten()
}

/// Judges a registration of `user` that a supernode handed out, against the longest log `known` of that person.
/// The log that comes with the device is the longest one now.
///
/// # Errors
/// One variant per reason not to believe it.
pub fn verify(
    registration: &Registration,
    user: UserId,
    known: Option<&DeviceLog>,
    now_millis: u64,
) -> Result<(VerifiedDevice, VerifiedSealKey, Option<DeviceLog>), Distrust> {
    let certificate = DeviceCertificate::from_bytes(&registration.certificate)?;
    let claim = Claim {
        expected: Some(user),
        certificate: &certificate,
        log: &registration.log,
        head: None,
    };
    let judged = judge(claim, known, now_millis)?;
    let seal_key = SealKeyRecord::from_bytes(&registration.seal_key)?
        .verify(now_millis, judged.device.device())?;
    Ok((judged.device, seal_key, judged.log))
}
