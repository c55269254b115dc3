//! The old device: waits behind a link of its own, and lets in whom the person does.

use std::{
    io::{BufRead as _, IsTerminal as _, Write as _},
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ahoy_nat::{
    client::{NodeClient, RequestError},
    supernode::protocol::{Push, Refusal},
};
use ahoy_transport::{
    endpoint::NodeAuth,
    identity::{NodeAddress, NodeKeys},
    runtime::{Runtime, RuntimeExt as _, TokioRuntime},
};
use rand_core::OsRng;
use tokio::sync::{mpsc, oneshot};

#[cfg(feature = "window")]
use super::Inside;
use super::{Asking, Owner, PAUSE, PairFace, PairPlan, TRIES, close, named, open, reach};
use crate::{
    cli::{CliError, Exit, print_line},
    engine::config::Me,
    identity::Identity,
    pairing::{MAX_GRANT, MAX_PAIR_HOMES, NewDevice, OldAction, OldSide, PairLink, Refused},
    profile::Profile,
    settings::Settings,
    supernode::{RelaySettings, SupernodeConfig, SupernodeHandle},
};

/// Supernodes that a device waits at.
const MEETING_PLACES: usize = 2;

/// The face of a terminal.
struct Terminal {
    yes: bool,
}

impl PairFace for Terminal {
    fn show(&mut self, link: &PairLink, lifetime: Duration) -> Result<(), CliError> {
        show(link, lifetime)
    }

    fn ask(&mut self, new: &NewDevice, code: &str) -> Asking {
        tracing::warn!(
            "{} wants to be one of your devices. It shows the code {code}",
            named(new)
        );
        ask(self.yes)
    }
}

/// Waits for a new device and lets it in.
///
/// # Errors
/// Why nobody was let in.
pub async fn pair(profile: &Profile, plan: PairPlan) -> Result<(), CliError> {
    let owner = Owner::of(profile, TokioRuntime.unix_millis()).await?;
    #[cfg(unix)]
    if plan.with_root && matches!(owner, Owner::App(_)) {
        return Err(CliError::failed(
            "close ahoy first: a running app does not give the root key away",
        ));
    }
    let mut terminal = Terminal { yes: plan.yes };
    let settings = Settings::load(profile)?;
    wait_for_device(&settings, owner, &plan, &mut terminal).await?;
    print_line("the new device has everything")
}

/// The same for the app that runs on the profile, whose person looks at `face`. Dropped, it ends, and the link is spent.
///
/// # Errors
/// Why nobody was let in.
#[cfg(feature = "window")]
pub(crate) async fn pair_inside(
    settings: &Settings,
    inside: Inside,
    plan: &PairPlan,
    face: &mut dyn PairFace,
) -> Result<NewDevice, CliError> {
    wait_for_device(settings, Owner::Inside(inside), plan, face).await
}

/// Waits behind a link of its own, and lets in whom the person does. Comes with who has everything.
async fn wait_for_device(
    settings: &Settings,
    mut owner: Owner,
    plan: &PairPlan,
    face: &mut dyn PairFace,
) -> Result<NewDevice, CliError> {
    let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
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
    let (endpoint, reaching) = open(&runtime, settings, &homes)?;
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
    face.show(&link, plan.lifetime)?;
    let mut old = OldSide::new(&link, throwaway.device().clone());
    let mut expiry = std::pin::pin!(tokio::time::sleep(plan.lifetime));
    let mut asking: Option<(NewDevice, Asking)> = None;
    let mut let_in: Option<NewDevice> = None;
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
                            let_in = Some(new);
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
                    let answer = face.ask(&new, &code);
                    asking = Some((new, answer));
                }
                OldAction::Finished => {
                    close(&endpoint).await;
                    return let_in.ok_or_else(|| {
                        CliError::failed("somebody has everything and was not let in")
                    });
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
