//! `ahoy device pair`, `join` and `revoke`: what a person's devices settle over the network.

use std::{
    io::{BufRead as _, IsTerminal as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use ahoy_nat::{
    client::{NodeClient, RequestError},
    dial::dial,
    supernode::protocol::{Push, Refusal},
};
use ahoy_transport::{
    endpoint::{Endpoint, EndpointConfig, NodeAuth},
    identity::{
        DeviceCertificate, DeviceId, DeviceKeys, NodeAddress, NodeKeys, RootKey, SealKeyRecord,
        log::{DeviceLog, LogOp},
    },
    runtime::{Runtime, RuntimeExt as _, TokioRuntime},
    sealed::{CallEnvelopes, seal_pairing},
};
use rand_core::{CryptoRngCore, OsRng};
use tokio::sync::{mpsc, oneshot};
use zeroize::Zeroizing;

use super::start::{Running, start};
use crate::{
    call::CallConfig,
    chat::{book::ChatBook, shelf::Shelf},
    cli::{AudioIn, AudioOut, CliError, Exit, MediaFlags, print_line},
    engine::{
        config::{Answering, Me, Reaching, ways},
        handle::{Command, Event},
    },
    identity::{
        Identity, IdentityError,
        compare::{CompareStep, Comparison},
    },
    link::{NodeLink, PersonLink, display_name},
    pairing::{
        Grant, MAX_GRANT, MAX_PAIR_HOMES, NewDevice, OldAction, OldSide, PairLink, PairMessage,
        Refused, code, context,
    },
    profile::{Profile, ProfileError, ProfileLock},
    proxy,
    settings::Settings,
    store::Store,
    supernode::{RelaySettings, SupernodeConfig, SupernodeHandle},
    sync::{Entry, SyncBook},
};

/// Supernodes that a device waits at.
const MEETING_PLACES: usize = 2;
/// An answer over two hops takes no longer.
const ANSWER: Duration = Duration::from_secs(15);
/// How often the new device says that it is still there, so that it can be answered.
const STILL_THERE: Duration = Duration::from_secs(30);
/// Longer than anybody looks for the other screen.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// A home that takes no more now does so again soon.
const PAUSE: Duration = Duration::from_secs(1);
const TRIES: u32 = 60;
/// Homes learn of a lost device in this time, or when ahoy runs next.
const TELLING: Duration = Duration::from_secs(8);

/// What `ahoy device pair` is asked for.
#[derive(Debug, Clone)]
pub struct PairPlan {
    /// Let the first device in without asking.
    pub yes: bool,
    /// Give it the root key, too.
    pub with_root: bool,
    /// How long the link holds.
    pub lifetime: Duration,
    /// Meet in this network, without a supernode.
    pub lan: bool,
    /// Supernodes to meet at; empty: those of the profile, or this network.
    pub via: Vec<NodeLink>,
}

/// What `ahoy device join` is asked for.
#[derive(Debug, Clone)]
pub struct JoinPlan {
    /// What the other device showed.
    pub link: PairLink,
    /// What this device is called; none: what the system calls it.
    pub name: Option<String>,
}

/// The person thinks: yes or no.
type Asking = Pin<Box<dyn Future<Output = bool> + Send>>;

/// What this machine is called.
fn host_name() -> String {
    let told = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let told = told.or_else(|| std::env::var("COMPUTERNAME").ok());
    let name = display_name(told.unwrap_or_default().trim());
    if name.is_empty() {
        "a device".into()
    } else {
        name
    }
}

/// A socket of our own, and the ways to supernodes.
fn open(
    runtime: &Arc<dyn Runtime>,
    settings: &Settings,
    homes: &[NodeAddress],
) -> Result<(Endpoint, Reaching), CliError> {
    let bind = |listen| Endpoint::bind(Arc::clone(runtime), EndpointConfig::peer(listen));
    let endpoint = bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)))
        .or_else(|_no_ipv6| bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))))
        .map_err(|error| CliError::failed(format_args!("cannot open a UDP port: {error}")))?;
    let reaching = Reaching {
        ways: ways(settings.path),
        proxy: proxy::choose(
            None,
            settings.proxy.as_ref(),
            |name| std::env::var(name).ok(),
            homes.iter().map(|home| &home.host),
        ),
    };
    Ok((endpoint, reaching))
}

async fn reach(
    runtime: &Arc<dyn Runtime>,
    endpoint: &Endpoint,
    reaching: &Reaching,
    home: &NodeAddress,
    auth: NodeAuth,
) -> Result<NodeClient, String> {
    let place = reaching.locate(&**runtime, home).await;
    let place = place.map_err(|error| format!("{home}: {error}"))?;
    let dialled = dial(endpoint, home.node, &place, auth, reaching.ways).await;
    let dialled = dialled.map_err(|error| format!("{home}: {error}"))?;
    Ok(NodeClient::dialled(Arc::clone(runtime), dialled))
}

// --- who decides about the person's devices ------------------------------------------------------

/// Whoever runs as the person: the app, or this process.
enum Owner {
    #[cfg(unix)]
    App(crate::control::ControlClient),
    Here(Box<Here>),
}

/// This process holds the profile.
struct Here {
    lock: ProfileLock,
    identity: Identity,
    store: Store,
}

impl Owner {
    async fn of(profile: &Profile, now_millis: u64) -> Result<Self, CliError> {
        #[cfg(unix)]
        match crate::control::ControlClient::connect(profile.dir()).await {
            Ok(client) => return Ok(Self::App(client)),
            Err(crate::control::ControlSocketError::NotRunning) => {}
            Err(error) => return Err(error.into()),
        }
        // Only to be waited for where there are such sockets.
        std::future::ready(()).await;
        let lock = match profile.lock() {
            Err(ProfileError::InUse(_)) => {
                return Err(CliError::failed(
                    "another ahoy works on this profile at the moment: end it, or wait until it is done",
                ));
            }
            locked => locked?,
        };
        let identity = profile.open_or_create(&mut OsRng, now_millis)?;
        let store = Store::open(&lock)?;
        store.note_people(now_millis)?;
        Ok(Self::Here(Box::new(Here {
            lock,
            identity,
            store,
        })))
    }

    /// Signs a new device into the log; comes with what it is given, but for name and homes.
    async fn let_in(&mut self, new: &NewDevice, with_root: bool) -> Result<Grant, CliError> {
        match self {
            #[cfg(unix)]
            Self::App(client) => {
                use crate::control::{Command as Ask, Told};
                let ask = Ask::LetIn {
                    device: z32::encode(&new.device.0),
                    noise: z32::encode(&new.noise_static),
                    name: new.name.clone(),
                };
                let answer = client.request(ask).await?;
                let told = match (answer.result, answer.error) {
                    (_, Some(error)) => return Err(CliError::failed(error.message)),
                    (Some(Told::LetIn { grant }), None) => grant,
                    (_, None) => {
                        return Err(CliError::failed(
                            "the app on this profile is of another version",
                        ));
                    }
                };
                let bytes = Zeroizing::new(z32::decode(told.as_bytes()).unwrap_or_default());
                Grant::decode(&bytes).map_err(CliError::failed)
            }
            Self::Here(here) => {
                let now_millis = TokioRuntime.unix_millis();
                let mut identity = here.identity.clone();
                append(&mut identity, new, now_millis)?;
                here.lock.save(&identity)?;
                let mut grant = grant(&identity, &here.store, new, now_millis, usize::MAX)?;
                if with_root {
                    grant.root = identity.root().map(RootKey::seed);
                }
                here.identity = identity;
                Ok(grant)
            }
        }
    }
}

fn append(identity: &mut Identity, new: &NewDevice, now_millis: u64) -> Result<(), IdentityError> {
    let op = LogOp::AddDevice {
        device: new.device,
        noise_static: new.noise_static,
        sealed_name: Vec::new(),
    };
    identity.append(op, now_millis)
}

/// What a device that is in the log now is given: what does not fit into `room` bytes comes by letters.
fn grant(
    identity: &Identity,
    shelf: &dyn Shelf,
    new: &NewDevice,
    now_millis: u64,
    room: usize,
) -> Result<Grant, CliError> {
    let sync = SyncBook(shelf);
    let gather = || {
        let capability = ChatBook(shelf).own_capability(&mut OsRng)?;
        sync.note_capability(identity.user(), &capability, now_millis)?;
        let me = identity.device().id();
        if sync.device_name(me)?.is_none() {
            sync.note_device(me, &host_name(), now_millis)?;
        }
        sync.note_device(new.device, &new.name, now_millis)?;
        let mut entries = sync.all()?;
        let size: usize = entries.iter().map(Entry::max_len).sum();
        if size <= room {
            shelf.change(vec![SyncBook::told(new.device, sync.revision()?)])?;
        } else {
            entries.clear();
        }
        Ok::<_, crate::chat::shelf::ShelfError>(entries)
    };
    Ok(Grant {
        user: identity.user(),
        root: None,
        name: String::new(),
        homes: Vec::new(),
        log: identity.log().to_bytes(),
        entries: gather().map_err(CliError::failed)?,
    })
}

/// The running app lets a device in; comes with the grant in z-base-32, which fits a line of the control socket.
///
/// # Errors
/// A sentence.
pub(super) fn let_in_here(
    renewer: &crate::engine::renewal::Renewer,
    shelf: &dyn Shelf,
    (device, noise, name): (&str, &str, &str),
) -> Result<String, String> {
    /// z-base-32 takes eight fifths of it, and a log of its longest that supernodes take.
    const ROOM: usize = 16 * 1024;
    let key = |text: &str| -> Result<[u8; 32], String> {
        let bytes = z32::decode(text.as_bytes()).map_err(|error| error.to_string())?;
        bytes
            .try_into()
            .map_err(|_length| String::from("that is no key"))
    };
    let new = NewDevice {
        device: DeviceId(key(device)?),
        noise_static: key(noise)?,
        name: display_name(name),
    };
    let now_millis = TokioRuntime.unix_millis();
    let identity = renewer
        .change(|identity| {
            append(identity, &new, now_millis)?;
            Ok(identity.clone())
        })
        .map_err(|error| error.to_string())?;
    let grant = grant(&identity, shelf, &new, now_millis, ROOM);
    let grant = grant.map_err(|error| error.to_string())?;
    Ok(z32::encode(&grant.encode(usize::MAX)))
}

/// Takes a device out of the log, and changes what contacts reach us by: it knows the old one.
///
/// # Errors
/// A sentence.
pub(crate) fn revoke_from(
    identity: &mut Identity,
    shelf: &dyn Shelf,
    device: DeviceId,
    now_millis: u64,
    rng: &mut dyn CryptoRngCore,
) -> Result<(), IdentityError> {
    identity.append(LogOp::RevokeDevice(device), now_millis)?;
    let capability = ahoy_nat::supernode::mailbox::MailCapability::generate(rng);
    let changed = shelf
        .change(vec![ChatBook::capability_set(&capability)])
        .and_then(|()| SyncBook(shelf).note_capability(identity.user(), &capability, now_millis));
    if let Err(error) = changed {
        tracing::error!(%error, "the lost device still knows how contacts reach you");
    }
    Ok(())
}

/// The device of ours that somebody means: by its name, or the beginning of its id.
///
/// # Errors
/// A sentence.
pub(crate) fn find_device(
    log: &DeviceLog,
    shelf: &dyn Shelf,
    wanted: &str,
) -> Result<DeviceId, String> {
    let lower = wanted.to_lowercase();
    let name_of = |device| SyncBook(shelf).device_name(device).ok().flatten();
    let devices: Vec<DeviceId> = log.devices().iter().map(|device| device.device).collect();
    let named = devices
        .iter()
        .copied()
        .filter(|device| name_of(*device).is_some_and(|name| name.to_lowercase() == lower));
    let mut found: Vec<DeviceId> = named.collect();
    if found.is_empty() && !wanted.is_empty() {
        let by_id = devices.into_iter();
        found = by_id
            .filter(|device| device.to_string().starts_with(wanted))
            .collect();
    }
    match found.as_slice() {
        [device] => Ok(*device),
        [] => Err(format!(
            "no device of yours is called, or begins with, {wanted:?}: `ahoy device list` shows them all"
        )),
        [_, _, ..] => Err(format!(
            "several devices are called, or begin with, {wanted:?}: give more of the id"
        )),
    }
}

/// The running app takes a device out.
///
/// # Errors
/// A sentence.
pub(super) fn revoke_here(
    renewer: &crate::engine::renewal::Renewer,
    shelf: &dyn Shelf,
    wanted: &str,
) -> Result<String, String> {
    let now_millis = TokioRuntime.unix_millis();
    let changed = renewer.change(|identity| {
        let device = match find_device(identity.log(), shelf, wanted) {
            Ok(device) => device,
            Err(sentence) => return Ok(Err(sentence)),
        };
        if identity.device().id() == device {
            let sentence = "that is this device: revoke it on another one of yours";
            return Ok(Err(sentence.to_owned()));
        }
        revoke_from(identity, shelf, device, now_millis, &mut OsRng)?;
        Ok(Ok(format!("{device} no longer speaks for you")))
    });
    changed.map_err(|error| error.to_string())?
}

// --- the old device ------------------------------------------------------------------------------

/// Waits for a new device and lets it in.
///
/// # Errors
/// Why nobody was let in.
pub async fn pair(profile: &Profile, plan: PairPlan) -> Result<(), CliError> {
    let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
    let settings = Settings::load(profile)?;
    let links = if plan.via.is_empty() {
        &settings.homes
    } else {
        &plan.via
    };
    // What the new device is to use later.
    let settled: Vec<NodeAddress> = links.iter().map(|link| link.0.clone()).collect();
    let (homes, here) = if settled.is_empty() || plan.lan {
        let (homes, here) = meet_here(&runtime).await?;
        (homes, Some(here))
    } else {
        (settled.clone(), None)
    };
    let now_millis = runtime.unix_millis();
    let mut owner = Owner::of(profile, now_millis).await?;
    #[cfg(unix)]
    if plan.with_root && matches!(owner, Owner::App(_)) {
        return Err(CliError::failed(
            "close ahoy first: a running app does not give the root key away",
        ));
    }
    let (endpoint, reaching) = open(&runtime, &settings, &homes)?;
    let link = PairLink::generate(&mut OsRng, homes.clone());
    // Somebody whom nobody knows waits, for this link alone.
    let throwaway = Identity::start_over(link.root(), &mut OsRng, now_millis);
    let (pushes, mut pushed) = mpsc::channel::<(NodeClient, Push)>(16);
    let mut tasks = Vec::new();
    let mut failures = Vec::new();
    for home in &homes {
        // Addresses of one machine are one place.
        if tasks.len() >= if here.is_some() { 1 } else { MEETING_PLACES } {
            break;
        }
        let auth = NodeAuth::Device {
            keys: Arc::new(throwaway.device().clone()),
            certificate: throwaway.certificate().clone(),
        };
        let client = match reach(&runtime, &endpoint, &reaching, home, auth).await {
            Ok(client) => client,
            Err(failure) => {
                failures.push(failure);
                continue;
            }
        };
        let epoch = u64::from_be_bytes(runtime.random_array());
        let registration = Me::of(&throwaway, "").registration(epoch);
        if let Err(error) = client.register(registration).await {
            failures.push(format!("{home}: {error}"));
            continue;
        }
        let pushes = pushes.clone();
        tasks.push(runtime.spawn_task(async move {
            while let Ok(push) = client.next_push().await {
                if pushes.send((client.clone(), push)).await.is_err() {
                    return;
                }
            }
        }));
    }
    drop(pushes);
    if tasks.is_empty() {
        return Err(CliError::new(
            Exit::NoRoute,
            format_args!("no supernode is reached: {}", failures.join("; ")),
        ));
    }
    show(&link, plan.lifetime)?;
    let mut old = OldSide::new(&link, throwaway.device().clone());
    let mut expiry = std::pin::pin!(tokio::time::sleep(plan.lifetime));
    let mut asking: Option<(NewDevice, Asking)> = None;
    let mut from: Option<NodeClient> = None;
    loop {
        let mut actions = Vec::new();
        tokio::select! {
            biased;
            said = async {
                match &mut asking {
                    Some((_new, answer)) => answer.await,
                    None => std::future::pending().await,
                }
            } => {
                let Some((new, _answer)) = asking.take() else { continue };
                let decided = if said {
                    match owner.let_in(&new, plan.with_root).await {
                        Ok(mut grant) => {
                            grant.name = settings.name.clone().unwrap_or_default();
                            grant.homes = settled.clone();
                            tracing::info!("{} is one of your devices now", named(&new));
                            Ok(grant.encode(MAX_GRANT))
                        }
                        Err(error) => {
                            tracing::error!("{error}");
                            Err(Refused::Failed)
                        }
                    }
                } else {
                    Err(Refused::Person)
                };
                let refused = decided.is_err();
                actions.extend(old.decide(decided));
                carry_out(&from, &actions).await;
                if refused {
                    // What was said last has to leave.
                    close(&endpoint).await;
                    return Err(CliError::failed("nobody was let in; the link is spent"));
                }
                continue;
            }
            push = pushed.recv() => match push {
                Some((client, Push::Incoming { delivery, envelope })) => {
                    actions = old.handle(delivery, &envelope, &mut OsRng);
                    from = Some(client);
                }
                Some(_other) => continue,
                None => {
                    return Err(CliError::new(
                        Exit::NoRoute,
                        "the connection to the supernode was lost: try again",
                    ));
                }
            },
            () = &mut expiry => {
                close(&endpoint).await;
                return Err(CliError::new(
                    Exit::TimeLimit,
                    "the link has expired and nobody was let in: `ahoy device pair` makes another",
                ));
            }
        }
        carry_out(&from, &actions).await;
        for action in actions {
            match action {
                OldAction::Reply(..) => {}
                OldAction::Ask { new, code } => {
                    tracing::warn!(
                        "{} wants to be one of your devices. It shows the code {code}",
                        named(&new)
                    );
                    let answer = ask(plan.yes);
                    asking = Some((new, answer));
                }
                OldAction::Finished => {
                    close(&endpoint).await;
                    return print_line("the new device has everything");
                }
                OldAction::Broken => {
                    close(&endpoint).await;
                    return Err(CliError::new(
                        Exit::Authentication,
                        "whoever came did not keep to the rules: the link is spent, nobody was let in",
                    ));
                }
            }
        }
    }
}

/// A supernode for this link alone, for devices in this network.
async fn meet_here(
    runtime: &Arc<dyn Runtime>,
) -> Result<(Vec<NodeAddress>, SupernodeHandle), CliError> {
    let keys = NodeKeys::generate(&mut OsRng);
    let config = SupernodeConfig {
        listen: vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))],
        port_mapping: false,
        relay: RelaySettings {
            enabled: false,
            ..RelaySettings::default()
        },
        ..SupernodeConfig::default()
    };
    let here = SupernodeHandle::start(Arc::clone(runtime), config, &keys).await;
    let here = here.map_err(CliError::failed)?;
    let links = here.links().into_iter().map(|link| link.0);
    let homes: Vec<NodeAddress> = links.take(MAX_PAIR_HOMES).collect();
    Ok((homes, here))
}

fn named(new: &NewDevice) -> String {
    let id: String = new.device.to_string().chars().take(8).collect();
    if new.name.is_empty() {
        format!("A device ({id}…)")
    } else {
        format!("{} ({id}…)", new.name)
    }
}

/// The link stands alone on standard output; the picture is for a camera.
fn show(link: &PairLink, lifetime: Duration) -> Result<(), CliError> {
    let link = link.to_string();
    if std::io::stderr().is_terminal()
        && let Ok(code) = qrcode::QrCode::new(link.as_bytes())
    {
        let picture = code.render::<qrcode::render::unicode::Dense1x2>().build();
        // Nothing is lost where it cannot be shown.
        writeln!(std::io::stderr(), "{picture}").unwrap_or_default();
    }
    tracing::info!(
        "on the new device: ahoy device join LINK. The link holds for {} s, for one device; whoever sees it can ask to \
         be let in",
        lifetime.as_secs()
    );
    print_line(&link)
}

/// Asks the person whether both screens show the same code.
fn ask(yes: bool) -> Asking {
    if yes {
        return Box::pin(std::future::ready(true));
    }
    tracing::warn!("Does it show that code, and shall it speak for you? yes or no:");
    let (say, said) = oneshot::channel();
    let reader = std::thread::Builder::new().name("answer".into());
    let started = reader.spawn(move || {
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line).is_ok();
        let line = line.trim().to_lowercase();
        // Whoever asked is gone.
        say.send(read && (line == "y" || line == "yes"))
            .unwrap_or_default();
    });
    if let Err(error) = started {
        tracing::error!(%error, "nobody can be asked");
    }
    Box::pin(async move { said.await.unwrap_or(false) })
}

async fn carry_out(client: &Option<NodeClient>, actions: &[OldAction]) {
    let Some(client) = client else { return };
    for action in actions {
        let OldAction::Reply(delivery, payload) = action else {
            continue;
        };
        for _try in 0..TRIES {
            match client.reply(*delivery, payload.clone()).await {
                Ok(()) => break,
                Err(RequestError::Refused(Refusal::TooFast | Refusal::Full)) => {
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "the new device was not answered");
                    break;
                }
            }
        }
    }
}

async fn close(endpoint: &Endpoint) {
    endpoint.close(ahoy_transport::connection::CloseCode::Done, "done");
    endpoint.wait_idle().await;
}

// --- the new device ------------------------------------------------------------------------------

/// The way to the old device.
struct Line {
    client: NodeClient,
    to: DeviceId,
    epoch: u64,
    envelopes: CallEnvelopes,
}

impl Line {
    async fn deliver(&self, envelope: &[u8]) -> Result<(), CliError> {
        for _try in 0..TRIES {
            match self
                .client
                .deliver(self.to, self.epoch, envelope.to_vec())
                .await
            {
                Ok(_delivery) => return Ok(()),
                Err(RequestError::Refused(Refusal::TooFast | Refusal::Full)) => {
                    tokio::time::sleep(PAUSE).await;
                }
                Err(_gone) => return Err(nobody()),
            }
        }
        Err(nobody())
    }

    async fn say(&mut self, message: &PairMessage) -> Result<(), CliError> {
        let sealed = self.envelopes.seal(&message.encode());
        let sealed = sealed.map_err(CliError::failed)?;
        self.deliver(&sealed).await
    }

    /// The next that it says, if it says anything in time.
    async fn hear(&mut self, limit: Duration) -> Result<Option<PairMessage>, CliError> {
        let hearing = async {
            loop {
                let push = self.client.next_push().await.map_err(|_lost| nobody())?;
                let Push::ReplyTo { payload, .. } = push else {
                    continue;
                };
                // Whatever else comes is not the old device's.
                let Ok(payload) = self.envelopes.open(&payload) else {
                    continue;
                };
                return PairMessage::decode(&payload).map_err(CliError::failed);
            }
        };
        match tokio::time::timeout(limit, hearing).await {
            Ok(heard) => heard.map(Some),
            Err(_late) => Ok(None),
        }
    }

    async fn ask(&mut self, message: &PairMessage) -> Result<PairMessage, CliError> {
        self.say(message).await?;
        self.hear(ANSWER).await?.ok_or_else(nobody)
    }
}

fn nobody() -> CliError {
    CliError::new(
        Exit::NoRoute,
        "nobody waits behind that link: it was used, it has expired, or the other device has stopped. \
         `ahoy device pair` there makes another",
    )
}

fn refused(why: Refused) -> CliError {
    CliError::new(Exit::Authentication, why)
}

fn unexpected(message: &PairMessage) -> CliError {
    match message {
        PairMessage::Refused(why) => refused(*why),
        PairMessage::Hello { .. }
        | PairMessage::Number(_)
        | PairMessage::Wait
        | PairMessage::Granted(_)
        | PairMessage::Get(_)
        | PairMessage::Part { .. }
        | PairMessage::Done => CliError::new(
            Exit::Authentication,
            "the other device did not keep to the rules: this one stays as it was",
        ),
    }
}

/// Whether the profile is still nobody's.
fn empty(profile: &Profile) -> Result<(), CliError> {
    match profile.load()? {
        None => Ok(()),
        Some(identity) => Err(CliError::failed(format_args!(
            "the profile {} belongs to ahoy:{} already: choose another folder with --home",
            profile.dir().display(),
            identity.user()
        ))),
    }
}

/// Asks the device behind the link to be let in, and becomes the person's.
///
/// # Errors
/// Why not; then the profile is still nobody's.
pub async fn join(profile: &Profile, plan: JoinPlan) -> Result<(), CliError> {
    empty(profile)?;
    let lock = profile.lock()?;
    let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
    let now_millis = runtime.unix_millis();
    let settings = Settings::load(profile)?;
    let JoinPlan { link, name } = plan;
    let (endpoint, reaching) = open(&runtime, &settings, &link.homes)?;
    let keys = DeviceKeys::generate(&mut OsRng, now_millis);
    let new = NewDevice {
        device: keys.id(),
        noise_static: keys.noise_public(),
        name: display_name(&name.unwrap_or_else(host_name)),
    };
    let joined = ask_to_be_let_in(&runtime, &endpoint, &reaching, &link, &new).await;
    let (grant, mut line) = joined?;
    let log = DeviceLog::from_bytes(grant.user, &grant.log).map_err(CliError::failed)?;
    let root = grant.root.as_ref().map(|seed| RootKey::from_seed(seed));
    let identity = Identity::paired(root, keys, log, &mut OsRng, runtime.unix_millis())?;
    // The identity comes last: with it the profile is somebody's.
    let store = Store::open(&lock)?;
    store.take_synced(&grant.entries, runtime.unix_millis())?;
    let settings = Settings {
        name: Some(grant.name.clone())
            .filter(|name| !name.is_empty())
            .or(settings.name),
        homes: grant.homes.iter().cloned().map(NodeLink).collect(),
        ..settings
    };
    settings.save(profile)?;
    lock.save(&identity)?;
    line.say(&PairMessage::Done).await.unwrap_or_else(|_gone| {
        tracing::debug!("the other device is not told that all arrived");
    });
    close(&endpoint).await;
    let mut link = PersonLink::new(identity.user());
    link.homes = grant.homes;
    link.name = settings.name;
    tracing::info!("this device speaks for you now");
    print_line(&link.to_string())
}

async fn ask_to_be_let_in(
    runtime: &Arc<dyn Runtime>,
    endpoint: &Endpoint,
    reaching: &Reaching,
    link: &PairLink,
    new: &NewDevice,
) -> Result<(Grant, Line), CliError> {
    let user = link.root().user();
    let mut failures = Vec::new();
    let mut found = None;
    for home in &link.homes {
        let client = match reach(runtime, endpoint, reaching, home, NodeAuth::Anonymous).await {
            Ok(client) => client,
            Err(failure) => {
                failures.push(failure);
                continue;
            }
        };
        let registrations = client.lookup(user).await.unwrap_or_default();
        let now_millis = runtime.unix_millis();
        let genuine = registrations.iter().find_map(|registration| {
            let certificate = DeviceCertificate::from_bytes(&registration.certificate).ok()?;
            // Whoever has not seen the link cannot sign this.
            let device = certificate.verify(now_millis, user).ok()?.device();
            let key = SealKeyRecord::from_bytes(&registration.seal_key).ok()?;
            Some((key.verify(now_millis, device).ok()?, registration.epoch))
        });
        if let Some((key, epoch)) = genuine {
            found = Some((client, key, epoch));
            break;
        }
    }
    let Some((client, key, epoch)) = found else {
        return Err(if failures.len() == link.homes.len() {
            CliError::new(
                Exit::NoRoute,
                format_args!(
                    "the supernode of the link is not reached: {}",
                    failures.join("; ")
                ),
            )
        } else {
            nobody()
        });
    };
    let to = key.device();
    let context = context(user, to, new);
    let (mut comparison, step) = Comparison::commit(&context, &mut OsRng);
    let CompareStep::Commitment(commitment) = step else {
        return Err(nobody());
    };
    let hello = PairMessage::Hello {
        new: new.clone(),
        commitment,
    };
    let sealed = seal_pairing(&link.shared(), &key, &hello.encode(), &mut OsRng);
    let (envelopes, envelope) = sealed.map_err(CliError::failed)?;
    let mut line = Line {
        client,
        to,
        epoch,
        envelopes,
    };
    line.deliver(&envelope).await?;
    let answer = line.hear(ANSWER).await?.ok_or_else(nobody)?;
    let PairMessage::Number(theirs) = answer else {
        return Err(unexpected(&answer));
    };
    let reveal = comparison.handle(CompareStep::Number(theirs));
    let (Ok(Some(CompareStep::Number(ours))), Some(mixed)) = (reveal, comparison.mixed()) else {
        return Err(nobody());
    };
    line.say(&PairMessage::Number(ours)).await?;
    tracing::warn!(
        "this device shows the code {}: say yes on the other one if it shows the same",
        code(&mixed)
    );
    let started = runtime.now();
    let granted = loop {
        match line.hear(STILL_THERE).await? {
            Some(PairMessage::Granted(len)) => break len,
            Some(other) => return Err(unexpected(&other)),
            None if runtime.now().saturating_duration_since(started) > PATIENCE => {
                return Err(CliError::new(
                    Exit::TimeLimit,
                    "nobody said yes on the other device",
                ));
            }
            None => line.say(&PairMessage::Wait).await?,
        }
    };
    let len = usize::try_from(granted)
        .ok()
        .filter(|len| *len <= MAX_GRANT)
        .ok_or_else(|| CliError::failed("the other device would send more than there can be"))?;
    // Large enough from the start: growing would leave copies of secrets behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(len));
    while bytes.len() < len {
        let at = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        match line.ask(&PairMessage::Get(at)).await? {
            PairMessage::Part { from, bytes: part } if from == at && !part.is_empty() => {
                bytes.extend_from_slice(&part);
            }
            // Said twice, perhaps.
            PairMessage::Granted(_) => {}
            other @ (PairMessage::Part { .. }
            | PairMessage::Refused(_)
            | PairMessage::Hello { .. }
            | PairMessage::Number(_)
            | PairMessage::Wait
            | PairMessage::Get(_)
            | PairMessage::Done) => return Err(unexpected(&other)),
        }
    }
    let grant = Grant::decode(&bytes).map_err(CliError::failed)?;
    Ok((grant, line))
}

// --- a lost device -------------------------------------------------------------------------------

/// Takes a device of ours out of the log, and tells homes and other devices at once where they are reached.
///
/// # Errors
/// When there is no such device, or the profile cannot be changed.
pub async fn revoke(profile: &Profile, device: &str, via: Vec<NodeLink>) -> Result<(), CliError> {
    let now_millis = TokioRuntime.unix_millis();
    match Owner::of(profile, now_millis).await? {
        #[cfg(unix)]
        Owner::App(mut client) => {
            use crate::control::{Command as Ask, Told};
            let ask = Ask::RevokeDevice {
                device: device.to_owned(),
            };
            let answer = client.request(ask).await?;
            match (answer.result, answer.error) {
                (_, Some(error)) => Err(CliError::usage(error.message)),
                (Some(Told::Said { sentence }), None) => print_line(&sentence),
                (_, None) => Err(CliError::failed(
                    "the app on this profile is of another version",
                )),
            }
        }
        Owner::Here(here) => {
            let Here {
                lock,
                mut identity,
                store,
            } = *here;
            let id = find_device(identity.log(), &store, device).map_err(CliError::usage)?;
            if id == identity.device().id() {
                return Err(CliError::failed(
                    "that is this device: revoke it on another one of yours",
                ));
            }
            revoke_from(&mut identity, &store, id, now_millis, &mut OsRng)?;
            lock.save(&identity)?;
            drop((store, lock));
            let told = tell_homes(profile, via).await;
            let told = told.unwrap_or_else(|error| {
                tracing::debug!(%error, "homes are not told now");
                false
            });
            if !told {
                tracing::warn!(
                    "no supernode of yours is reached: it learns of this when ahoy runs next"
                );
            }
            print_line(&format!("{id} no longer speaks for you"))
        }
    }
}

/// Registers at the homes for a moment, with the log as it is now, and sends what waits for other devices.
async fn tell_homes(profile: &Profile, via: Vec<NodeLink>) -> Result<bool, CliError> {
    let media = MediaFlags {
        audio_in: Some(AudioIn::Silence),
        audio_out: Some(AudioOut::Null),
        via,
        no_portmap: true,
        ..MediaFlags::default()
    };
    let Running {
        engine,
        mut events,
        ending,
        homes,
        ..
    } = start(
        profile,
        &media.plan()?,
        false,
        Answering::Person,
        CallConfig::default(),
        None,
        None,
    )
    .await?;
    let registered = async {
        let mut view = engine.view();
        let is_up = view.wait_for(|view| view.homes.iter().any(|home| home.registered));
        is_up.await.is_ok()
    };
    let up = homes > 0
        && tokio::time::timeout(TELLING, registered)
            .await
            .unwrap_or(false);
    while let Ok(event) = events.try_recv() {
        if let Event::Failed { sentence } = event {
            tracing::warn!("{sentence}");
        }
    }
    engine.send(Command::Quit);
    ending.wait().await;
    Ok(up)
}
