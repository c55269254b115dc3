//! The echo test: somebody who is always there, without internet and without any server. A supernode and an engine like
//! every other's run in this process on the loopback, and a call to them goes the whole way of a call.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ahoy_transport::{
    identity::{NodeAddress, NodeKeys, UserId},
    runtime::{Runtime, RuntimeExt as _, TokioRuntime, timeout},
};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

use super::pair::REGISTRATION;
use crate::{
    call::CallConfig,
    cli::{CliError, Exit},
    engine::{
        self, Ending,
        config::{Answering, EngineConfig, Finding, Me, PathPolicy, Upkeep},
        files::FilesSettings,
        handle::{CallView, Command, EngineHandle, Phase, View},
        media::{AudioIn, AudioOut, AudioSettings},
        memory_book::MemoryBook,
        notice::Notice,
        recording::RecordSettings,
        video::VideoSettings,
    },
    identity::Identity,
    link::PersonLink,
    supernode::{SupernodeConfig, SupernodeHandle},
};

/// What it is called.
pub(crate) const NAME: &str = "Echo test";

/// A call to it shows within this time, or was refused.
const PLACING: Duration = Duration::from_secs(5);

/// It answers while this lives.
#[derive(Debug)]
pub(crate) struct EchoPeer {
    engine: EngineHandle,
    ending: Ending,
    user: UserId,
    link: String,
    _supernode: SupernodeHandle,
}

impl EchoPeer {
    /// Starts it, and waits until it can be called.
    ///
    /// # Errors
    /// When there are no ports on the loopback.
    pub(crate) async fn start(runtime: &Arc<dyn Runtime>) -> Result<Self, CliError> {
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut rng = ChaCha20Rng::from_seed(runtime.random_array());
        let keys = NodeKeys::generate(&mut rng);
        let mut config = SupernodeConfig {
            listen: vec![here],
            port_mapping: false,
            ..SupernodeConfig::default()
        };
        config.relay.allow_private = true;
        config.network.announce = false;
        let supernode = SupernodeHandle::start(Arc::clone(runtime), config, &keys)
            .await
            .map_err(CliError::failed)?;
        let addr = *supernode
            .local_addrs()
            .first()
            .ok_or_else(|| CliError::failed("the echo test listens nowhere"))?;
        let home = NodeAddress::new(keys.id(), addr);
        let identity = Identity::create(&mut rng, runtime.unix_millis());
        let config = EngineConfig {
            me: Me::of(&identity, NAME),
            listen: here,
            homes: vec![(home.clone(), addr)],
            path: PathPolicy::Auto,
            proxy: None,
            audio: AudioSettings {
                input: AudioIn::Greeting,
                output: AudioOut::EchoLater,
                ..AudioSettings::default()
            },
            video: VideoSettings::default(),
            recording: RecordSettings::default(),
            files: FilesSettings::default(),
            sound: crate::sound::SoundChoices::default(),
            answering: Answering::Everybody,
            limits: CallConfig::default(),
            allow_loopback: true,
            port_mapping: false,
            upkeep: Upkeep::default(),
            lan_discovery: false,
            mailbox: false,
            finding: Finding::default(),
            lend: None,
            guess_ports: false,
            probe: None,
            video_probe: None,
            measure_cost: false,
        };
        let book = Arc::new(MemoryBook::new(identity.user(), NAME));
        let (engine, ending) = engine::start(runtime, config, book)
            .map_err(|error| CliError::failed(format_args!("cannot open a UDP port: {error}")))?;
        let mut view = engine.view();
        let ready = view.wait_for(|view| view.link.is_some());
        let is_ready = timeout(&**runtime, REGISTRATION, ready).await;
        if !matches!(is_ready, Some(Ok(_))) {
            let sentence = "the echo test does not answer on this machine's loopback";
            return Err(CliError::new(Exit::NoRoute, sentence));
        }
        let mut link = PersonLink::new(identity.user());
        link.homes = vec![home];
        link.name = Some(NAME.into());
        Ok(Self {
            engine,
            ending,
            user: identity.user(),
            link: link.to_string(),
            _supernode: supernode,
        })
    }

    /// Has `engine` call it.
    pub(crate) fn be_called_by(&self, engine: &EngineHandle) -> bool {
        engine.send(Command::Echo(self.link.clone()))
    }

    /// Whether `engine` is in a call with it.
    fn is_talked_to(&self, engine: &View) -> bool {
        let over = |call: &CallView| matches!(call.phase, Phase::Ended { .. });
        let call = engine.call.as_ref().filter(|call| !over(call));
        call.is_some_and(|call| call.user == self.user)
    }

    /// Says good-bye and ends.
    pub(crate) async fn stop(self) {
        self.engine.send(Command::Quit);
        self.ending.wait().await;
    }
}

/// Has `engine` call the echo test, which runs for as long as that call. What goes wrong is told by `engine`.
pub(crate) async fn call_by(engine: EngineHandle) {
    let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
    let peer = match EchoPeer::start(&runtime).await {
        Ok(peer) => peer,
        Err(error) => {
            engine.send(Command::Complain(Notice::NoEcho(error.to_string())));
            return;
        }
    };
    let mut view = engine.view();
    if peer.be_called_by(&engine) {
        let placed = view.wait_for(|view| peer.is_talked_to(view));
        let placed = timeout(&*runtime, PLACING, placed).await;
        let is_placed = matches!(placed, Some(Ok(_)));
        drop(placed);
        if is_placed && let Err(error) = view.wait_for(|view| !peer.is_talked_to(view)).await {
            tracing::debug!(%error, "the engine ended first");
        }
    }
    peer.stop().await;
}
