//! `ahoy device pair`, `join` and `revoke`: what a person's devices settle over the network.

mod new;
mod old;

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use ahoy_nat::{client::NodeClient, dial::dial};
use ahoy_transport::{
    endpoint::{Endpoint, EndpointConfig, NodeAuth},
    identity::{
        DeviceId, NodeAddress, RootKey,
        log::{DeviceLog, LogOp},
    },
    runtime::{Runtime, TokioRuntime},
};
use rand_core::{CryptoRngCore, OsRng};
use zeroize::Zeroizing;

use super::start::{Running, start};
#[cfg(feature = "window")]
use crate::engine::book::AddressBook;
use crate::{
    call::CallConfig,
    chat::{book::ChatBook, shelf::Shelf},
    cli::{AudioIn, AudioOut, CliError, MediaFlags, print_line},
    engine::{
        config::{Answering, Reaching, ways},
        handle::{Command, Event},
        renewal::Renewer,
    },
    identity::{Identity, IdentityError},
    link::{NodeLink, display_name},
    pairing::{Grant, NewDevice, PairLink},
    profile::{Profile, ProfileError, ProfileLock},
    proxy,
    settings::Settings,
    store::Store,
    sync::{Entry, SyncBook},
};
pub use new::join;
#[cfg(feature = "window")]
pub(crate) use new::{Joined, be_let_in};
pub use old::pair;
#[cfg(feature = "window")]
pub(crate) use old::pair_inside;

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
pub(crate) type Asking = Pin<Box<dyn Future<Output = bool> + Send>>;

/// Where the person sees what happens: a terminal, or a window.
pub(crate) trait PairFace: Send {
    /// The new device is to be given this link, which holds for so long.
    ///
    /// # Errors
    /// It cannot be shown.
    fn show(&mut self, link: &PairLink, lifetime: Duration) -> Result<(), CliError>;

    /// The new device shows this code: is it the one?
    fn ask(&mut self, new: &NewDevice, code: &str) -> Asking;
}

/// What this machine is called.
pub(crate) fn host_name() -> String {
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
    if let Some(network) = &settings.network {
        endpoint.set_access(network.access());
    }
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

/// Whoever runs as the person: the app, this very app, or this process.
enum Owner {
    #[cfg(unix)]
    App(crate::control::ControlClient),
    #[cfg(feature = "window")]
    Inside(Inside),
    Here(Box<Here>),
}

/// The engine that runs in this process.
#[cfg(feature = "window")]
#[derive(Debug, Clone)]
pub(crate) struct Inside {
    /// Changes who it is.
    pub(crate) renewer: Renewer,
    /// Where contacts and names lie.
    pub(crate) book: Arc<dyn AddressBook>,
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
            #[cfg(feature = "window")]
            Self::Inside(inside) => {
                let Inside { renewer, book } = inside;
                grant_here(renewer, book.shelf(), new, usize::MAX).map_err(CliError::failed)
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
    renewer: &Renewer,
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
    let grant = grant_here(renewer, shelf, &new, ROOM)?;
    Ok(z32::encode(&grant.encode(usize::MAX)))
}

/// The running app signs a device into the log; comes with what it is given: of what is larger than `room` bytes, nothing.
fn grant_here(
    renewer: &Renewer,
    shelf: &dyn Shelf,
    new: &NewDevice,
    room: usize,
) -> Result<Grant, String> {
    let now_millis = TokioRuntime.unix_millis();
    let identity = renewer
        .change(|identity| {
            append(identity, new, now_millis)?;
            Ok(identity.clone())
        })
        .map_err(|error| error.to_string())?;
    let grant = grant(&identity, shelf, new, now_millis, room);
    grant.map_err(|error| error.to_string())
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
pub(crate) fn revoke_here(
    renewer: &Renewer,
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

/// A device by its name and the start of its id.
pub(crate) fn named(new: &NewDevice) -> String {
    let id: String = new.device.to_string().chars().take(8).collect();
    if new.name.is_empty() {
        format!("A device ({id}…)")
    } else {
        format!("{} ({id}…)", new.name)
    }
}

async fn close(endpoint: &Endpoint) {
    endpoint.close(ahoy_transport::connection::CloseCode::Done, "done");
    endpoint.wait_idle().await;
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
        #[cfg(feature = "window")]
        Owner::Inside(Inside { renewer, book }) => {
            let told = revoke_here(&renewer, book.shelf(), device);
            print_line(&told.map_err(CliError::failed)?)
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
