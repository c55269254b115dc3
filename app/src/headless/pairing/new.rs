//! The new device: asks the one behind a link to be let in, and becomes the person's.

use std::{sync::Arc, time::Duration};

use ahoy_nat::{
    client::{NodeClient, RequestError},
    supernode::protocol::{Push, Refusal},
};
use ahoy_transport::{
    endpoint::{Endpoint, NodeAuth},
    identity::{
        DeviceCertificate, DeviceId, DeviceKeys, NodeAddress, RootKey, SealKeyRecord,
        log::DeviceLog,
    },
    runtime::{Runtime, TokioRuntime},
    sealed::{CallEnvelopes, seal_pairing},
};
use rand_core::OsRng;
use zeroize::Zeroizing;

use super::{JoinPlan, PAUSE, TRIES, close, host_name, open, reach};
use crate::{
    cli::{CliError, Exit, print_line},
    engine::config::Reaching,
    identity::{
        Identity,
        compare::{CompareStep, Comparison},
    },
    link::{NodeLink, PersonLink, display_name},
    pairing::{Grant, MAX_GRANT, NewDevice, PairLink, PairMessage, Refused, code, context},
    profile::{Profile, ProfileLock},
    settings::Settings,
    store::Store,
    sync::Entry,
};

/// An answer over two hops takes no longer.
const ANSWER: Duration = Duration::from_secs(15);
/// How often the new device says that it is still there, so that it can be answered.
const STILL_THERE: Duration = Duration::from_secs(30);
/// Longer than anybody looks for the other screen.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

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

/// What a device that was let in becomes.
pub(crate) struct Joined {
    identity: Identity,
    entries: Vec<Entry>,
    name: Option<String>,
    homes: Vec<NodeAddress>,
}

impl Joined {
    /// Makes the profile that is locked, and nobody's, that of the person. Says how they are reached.
    ///
    /// # Errors
    /// When it cannot be written; then the profile is still nobody's.
    pub(crate) fn move_in(
        self,
        lock: &ProfileLock,
        settings: Settings,
        now_millis: u64,
    ) -> Result<PersonLink, CliError> {
        // The identity comes last: with it the profile is somebody's.
        let store = Store::open(lock)?;
        store.take_synced(&self.entries, now_millis)?;
        let settings = Settings {
            name: self.name.or(settings.name),
            homes: self.homes.iter().cloned().map(NodeLink).collect(),
            ..settings
        };
        settings.save(lock.profile())?;
        lock.save(&self.identity)?;
        let mut link = PersonLink::new(self.identity.user());
        link.homes = self.homes;
        link.name = settings.name;
        Ok(link)
    }
}

/// Asks the device behind the link to be let in, and becomes the person's.
///
/// # Errors
/// Why not; then the profile is still nobody's.
pub async fn join(profile: &Profile, plan: JoinPlan) -> Result<(), CliError> {
    empty(profile)?;
    let lock = profile.lock()?;
    let settings = Settings::load(profile)?;
    let mut shows = |code: &str| {
        tracing::warn!(
            "this device shows the code {code}: say yes on the other one if it shows the same"
        );
    };
    let (joined, mut way) = be_let_in(&settings, &plan, &mut shows).await?;
    let link = joined.move_in(&lock, settings, TokioRuntime.unix_millis())?;
    way.thank().await;
    tracing::info!("this device speaks for you now");
    print_line(&link.to_string())
}

/// The way to the device that let this one in.
pub(crate) struct WayBack {
    line: Line,
    endpoint: Endpoint,
}

impl WayBack {
    /// Says that everything has come, and closes.
    pub(crate) async fn thank(&mut self) {
        let said = self.line.say(&PairMessage::Done).await;
        said.unwrap_or_else(|_gone| {
            tracing::debug!("the other device is not told that all arrived");
        });
        close(&self.endpoint).await;
    }
}

/// Asks the device behind the link to be let in, and fetches everything. `shows` is given the code for the person.
///
/// # Errors
/// Why not.
pub(crate) async fn be_let_in(
    settings: &Settings,
    plan: &JoinPlan,
    shows: &mut (dyn FnMut(&str) + Send),
) -> Result<(Joined, WayBack), CliError> {
    let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
    let JoinPlan { link, name } = plan;
    let (endpoint, reaching) = open(&runtime, settings, &link.homes)?;
    let keys = DeviceKeys::generate(&mut OsRng, runtime.unix_millis());
    let new = NewDevice {
        device: keys.id(),
        noise_static: keys.noise_public(),
        name: display_name(&name.clone().unwrap_or_else(host_name)),
    };
    let asked = ask_to_be_let_in(&runtime, &endpoint, &reaching, link, &new, shows).await;
    let (grant, line) = asked?;
    let log = DeviceLog::from_bytes(grant.user, &grant.log).map_err(CliError::failed)?;
    let root = grant.root.as_ref().map(|seed| RootKey::from_seed(seed));
    let identity = Identity::paired(root, keys, log, &mut OsRng, runtime.unix_millis())?;
    let joined = Joined {
        identity,
        entries: grant.entries,
        name: Some(grant.name).filter(|name| !name.is_empty()),
        homes: grant.homes,
    };
    Ok((joined, WayBack { line, endpoint }))
}

async fn ask_to_be_let_in(
    runtime: &Arc<dyn Runtime>,
    endpoint: &Endpoint,
    reaching: &Reaching,
    link: &PairLink,
    new: &NewDevice,
    shows: &mut (dyn FnMut(&str) + Send),
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
    shows(&code(&mixed));
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
