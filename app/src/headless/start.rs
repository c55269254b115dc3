//! An engine on a profile, as the command line asks for it.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use ahoy_media::{
    rate::Bitrate,
    video::{
        codec::{Content, VideoCodec},
        frame::Size,
    },
};
use ahoy_nat::{
    dial::Ways,
    discovery::dht::{Dht, mainline::Mainline, publisher::PublishPolicy},
};
use ahoy_transport::{
    identity::NodeAddress,
    runtime::{Runtime, RuntimeExt, Task, TokioRuntime},
};
use rand_core::OsRng;
use tokio::sync::broadcast;

use crate::{
    call::CallConfig,
    cli::{
        AudioIn as CliAudioIn, AudioOut as CliAudioOut, CliError, Exit, MediaPlan, VideoCodecFlag,
        VideoContentFlag, VideoIn as CliVideoIn, VideoOut as CliVideoOut, VideoPlan, VoiceFlags,
    },
    dht,
    engine::{
        self, Ending,
        book::AddressBook,
        config::{Answering, EngineConfig, Finding, Me, PathPolicy, Reaching, Upkeep, ways},
        files::FilesSettings,
        handle::{Command, EngineHandle, Event},
        lending::LendSettings,
        media::{AudioIn, AudioOut, AudioSettings, SoundDevices},
        notice::Notice,
        profile_book::ProfileBook,
        recording::RecordSettings,
        video::{Showing, VideoIn, VideoOut, VideoSettings, WindowPictures},
    },
    identity::Identity,
    link::NodeLink,
    network::Membership,
    profile::{Profile, ProfileLock},
    proxy,
    settings::{Settings, SettingsError},
    sound::{SoundChange, SoundChoices},
    store::Store,
};

/// What a running engine keeps open.
#[derive(Debug)]
pub(crate) struct Running {
    /// To talk to it.
    pub(crate) engine: EngineHandle,
    /// Everything that happens, from the first moment on.
    pub(crate) events: broadcast::Receiver<Event>,
    /// Ends when it has ended.
    pub(crate) ending: Ending,
    /// No other process runs on the profile meanwhile.
    pub(crate) lock: Arc<ProfileLock>,
    /// Renews certificate and keys.
    _renewal: Task,
    /// Supernodes it registers at.
    pub(crate) homes: usize,
    /// It is found in its own network.
    pub(crate) lan: bool,
    /// Saves what is chosen about sound.
    _saving: Task,
    /// The people of the profile, and what was written.
    pub(crate) book: Arc<dyn AddressBook>,
}

/// Starts an engine as the person of `profile`; the first use makes one. Every call is recorded to `record`. Pictures go to `window`, unless the command line
/// wants them elsewhere.
///
/// # Errors
/// What is in the way: another process on the profile, a supernode whose name nobody knows, no free port.
pub(crate) async fn start(
    profile: &Profile,
    media: &MediaPlan,
    echo: bool,
    answering: Answering,
    limits: CallConfig,
    record: Option<&Path>,
    window: Option<&WindowPictures>,
) -> Result<Running, CliError> {
    let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
    let lock = Arc::new(profile.lock()?);
    let mut identity = profile.open_or_create(&mut OsRng, runtime.unix_millis())?;
    if identity.refresh(runtime.unix_millis(), &mut OsRng) {
        lock.save(&identity)?;
    }
    let settings = Settings::load(profile)?;
    let store = Store::open(&lock)?;
    let rescued = store.rescued().cloned();
    store.note_people(runtime.unix_millis())?;
    // From here on one thread does everything, calls included.
    store.write_behind();
    let private = settings.network.as_ref();
    // In a private network nobody else is asked anything, unless that was wanted when it was joined.
    let inside = private.is_some_and(|network| !network.may_leave);
    let own_nodes: Vec<NodeLink> = private
        .iter()
        .flat_map(|network| network.nodes.iter().cloned().map(NodeLink))
        .chain(settings.homes.iter().filter(|_| !inside).cloned())
        .collect();
    let links = if media.via.is_empty() {
        &own_nodes
    } else {
        &media.via
    };
    let path = path_policy(media.path, settings.path);
    let proxy = proxy::choose(
        media.proxy.as_ref(),
        settings.proxy.as_ref(),
        |name| std::env::var(name).ok(),
        links.iter().map(|link| &link.0.host),
    );
    let reaching = Reaching {
        ways: ways(path),
        proxy: proxy.clone(),
    };
    let wants_lan = settings.lan_discovery && !media.no_lan && path.allows_direct() && !inside;
    let mut homes = Vec::with_capacity(links.len());
    for link in links {
        let addr = match locate(&*runtime, &reaching, &link.0).await {
            // There may be no internet now, and somebody in this network all the same. What was named just now has to
            // be there.
            Err(error) if wants_lan && media.via.is_empty() => {
                tracing::warn!("{error}");
                SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), link.0.port)
            }
            located => located?,
        };
        homes.push((link.0.clone(), addr));
    }
    let name = settings.name.clone().unwrap_or_default();
    let sound = sound(media.voice, settings.sound());
    let limits = CallConfig {
        begins_muted: sound.push_to_talk,
        // Whoever answers by itself has one call, and a file holds the sound of one.
        call_waiting: limits.call_waiting
            && settings.call_waiting
            && answering == Answering::Person
            && !matches!(media.audio_out, CliAudioOut::File(_)),
        ..limits
    };
    let book = ProfileBook::new(
        store,
        Arc::clone(&runtime),
        identity.log().clone(),
        settings.name.clone(),
        settings.strangers,
    );
    let count = homes.len();
    let mut video = video(&media.video)?;
    if let Some(window) = window.filter(|_| cfg!(feature = "video")) {
        let shown = || VideoOut::Window(window.theirs.clone());
        video.output = video.output.or_else(|| Some(shown()));
        video.preview = Some(window.own.clone());
    }
    // With all supernodes on this machine everybody is here, and nobody comes from outside.
    let all_here = count > 0 && homes.iter().all(|(_address, addr)| addr.ip().is_loopback());
    let lan = wants_lan && !all_here;
    let entries = if media.no_dht || inside {
        Vec::new()
    } else {
        let variable = std::env::var(dht::VARIABLE).ok();
        let asked = &media.dht_bootstrap;
        dht::entries(asked, variable.as_deref(), &settings, all_here).map_err(CliError::usage)?
    };
    let table = (!entries.is_empty()).then(|| Mainline::new(Arc::clone(&runtime), entries));
    let finding = Finding {
        publish: PublishPolicy {
            // A table of one's own supernodes is there for that.
            open: media.dht_publish
                || settings.dht_publish
                || table.as_ref().is_some_and(|table| !table.is_public()),
            ..PublishPolicy::default()
        },
        dht: table.map(|table| Arc::new(table) as Arc<dyn Dht>),
        supernodes: settings.directory && !media.no_directory,
        gossip: true,
        // Who answers by a machine is there whenever it is.
        presence: settings.presence && answering == Answering::Person,
        access: private.map(Membership::access),
        ..Finding::default()
    };
    let files = FilesSettings {
        folder: settings.download_folder.clone().or_else(downloads),
        accept: settings.accept_files,
        max_bytes: u64::from(settings.largest_file_mb) * 1_000_000,
        ..FilesSettings::default()
    };
    let config = |listen| EngineConfig {
        me: Me::of(&identity, &name),
        listen,
        homes: homes.clone(),
        path,
        proxy: proxy.clone(),
        audio: audio(media, echo, &sound),
        video: video.clone(),
        recording: RecordSettings {
            file: record.map(Path::to_owned),
            ..RecordSettings::default()
        },
        files: files.clone(),
        sound: sound.clone(),
        answering,
        limits: limits.clone(),
        // A call between two processes of one machine is a direct one too.
        allow_loopback: homes.iter().any(|(_address, addr)| addr.ip().is_loopback()),
        port_mapping: settings.port_mapping
            && path.allows_direct()
            && !media.no_portmap
            && !all_here,
        upkeep: Upkeep::default(),
        lan_discovery: lan,
        mailbox: true,
        finding: finding.clone(),
        // What is lent is lent to everybody.
        lend: (!inside).then(|| lend(&settings, &identity, all_here)),
        guess_ports: settings.guess_ports,
        probe: None,
        video_probe: None,
        measure_cost: true,
    };
    let book: Arc<dyn AddressBook> = Arc::new(book);
    // A socket on `::` serves IPv4 too; where there is no IPv6 at all it cannot be had.
    let (engine, ending) = engine::start(
        &runtime,
        config(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))),
        Arc::clone(&book),
    )
    .or_else(|_no_ipv6| {
        let listen = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        engine::start(&runtime, config(listen), Arc::clone(&book))
    })
    .map_err(|error| CliError::failed(format_args!("cannot open a UDP port: {error}")))?;
    if let Some(rescued) = rescued {
        engine.send(Command::Complain(Notice::Rescued(rescued)));
    }
    let saving = Arc::clone(&lock);
    let renewal =
        engine
            .renewer()
            .keep_fresh(Arc::clone(&runtime), identity, name, move |identity| {
                saving.save(identity)
            });
    // The first listener also hears what happened before: that is for those who wait for the link.
    let events = engine.events();
    let saving = save_choices(Arc::clone(&lock), engine.clone(), engine.events());
    Ok(Running {
        _renewal: runtime.spawn_task(renewal),
        _saving: runtime.spawn_task(saving),
        events,
        engine,
        ending,
        lock,
        homes: count,
        lan,
        book,
    })
}

/// The system's folder for downloads.
fn downloads() -> Option<PathBuf> {
    let folders = directories::UserDirs::new()?;
    let usual = || folders.home_dir().join("Downloads");
    Some(folders.download_dir().map_or_else(usual, Into::into))
}

/// What a person chose while the engine runs.
enum Choice {
    Sound(SoundChange),
    Lending(bool),
}

impl Choice {
    fn save(&self, profile: &Profile) -> Result<(), SettingsError> {
        match self {
            Self::Sound(change) => Settings::change_sound(profile, change),
            Self::Lending(on) => Settings::change_lending(profile, *on),
        }
    }
}

/// Writes what the person chooses about sound and lending into the settings, until the engine ends.
async fn save_choices(
    lock: Arc<ProfileLock>,
    engine: EngineHandle,
    mut events: broadcast::Receiver<Event>,
) {
    loop {
        let chosen = match events.recv().await {
            Ok(Event::SoundChosen(change)) => Choice::Sound(change),
            Ok(Event::Lending(lending)) => Choice::Lending(lending.wanted),
            Ok(_other) => continue,
            Err(broadcast::error::RecvError::Lagged(count)) => {
                tracing::warn!(count, "choices may not be saved");
                continue;
            }
            Err(broadcast::error::RecvError::Closed) => return,
        };
        let lock = Arc::clone(&lock);
        // A disk takes its time.
        let saved = tokio::task::spawn_blocking(move || chosen.save(lock.profile()));
        match saved.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                engine.send(Command::Complain(Notice::NotSaved(error.to_string())));
            }
            Err(error) => tracing::error!(%error, "saving settings"),
        }
    }
}

/// What the owner lends, as a supernode with the node key of the profile.
fn lend(settings: &Settings, identity: &Identity, all_here: bool) -> LendSettings {
    let lend = &settings.lend;
    let listen = if all_here {
        // Nobody comes from outside, and there may be several on this machine.
        SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
    } else {
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, lend.port))
    };
    LendSettings {
        on: lend.on,
        upload_bps: u64::from(lend.upload) * 1000,
        people: lend.people.into(),
        metered: lend.metered,
        allow_private: all_here,
        port_mapping: settings.port_mapping && !all_here,
        ..LendSettings::new(identity.node().clone(), listen)
    }
}

async fn locate(
    runtime: &dyn Runtime,
    reaching: &Reaching,
    address: &NodeAddress,
) -> Result<SocketAddr, CliError> {
    if reaching.ways == Ways::Tcp && address.tcp.is_none() {
        return Err(CliError::usage(format_args!(
            "--path tcp needs a supernode with a TCP port; the link ahoy-node:{address} names none \
             (it would end in ?tcp=443 or the like)"
        )));
    }
    reaching.find(runtime, address).await.map_err(|error| {
        CliError::new(
            Exit::NoRoute,
            format_args!(
                "the supernode {address} cannot be found ({error}): check its link and your network"
            ),
        )
    })
}

/// What is asked for on the command line counts; `auto` leaves it to the settings.
fn path_policy(asked: PathPolicy, settings: PathPolicy) -> PathPolicy {
    match asked {
        PathPolicy::Auto => settings,
        PathPolicy::Direct | PathPolicy::Relay | PathPolicy::Tcp => asked,
    }
}

/// The command line only takes away from what the settings want, but for what is off of itself.
fn sound(flags: VoiceFlags, set: SoundChoices) -> SoundChoices {
    let VoiceFlags {
        no_aec,
        no_ns,
        no_agc,
        no_hpf,
        soften_keys,
        voice_gate,
        push_to_talk,
        music,
    } = flags;
    SoundChoices {
        echo_cancellation: set.echo_cancellation && !no_aec,
        noise_suppression: set.noise_suppression && !no_ns,
        gain_control: set.gain_control && !no_agc,
        high_pass: set.high_pass && !no_hpf,
        click_suppression: set.click_suppression || soften_keys,
        voice_gate: set.voice_gate || voice_gate,
        push_to_talk: set.push_to_talk || push_to_talk,
        music: set.music || music,
        ..set
    }
}

fn audio(media: &MediaPlan, echo: bool, sound: &SoundChoices) -> AudioSettings {
    let defaults = AudioSettings::default();
    AudioSettings {
        clock_ppm: 0,
        input: match &media.audio_in {
            _any if echo => AudioIn::Silence,
            CliAudioIn::Microphone => AudioIn::Microphone,
            CliAudioIn::File(path) => AudioIn::File(path.clone()),
            CliAudioIn::Tone => AudioIn::Tone,
            CliAudioIn::Silence => AudioIn::Silence,
        },
        output: match &media.audio_out {
            _any if echo => AudioOut::Echo,
            CliAudioOut::Speaker => AudioOut::Speaker,
            CliAudioOut::File(path) => AudioOut::File(path.clone()),
            CliAudioOut::Null => AudioOut::Null,
        },
        music: sound.music,
        share_sound: media.share_sound,
        bitrate_bps: media.bitrate_bps,
        frame_millis: media.ptime_millis.unwrap_or(defaults.frame_millis),
        protections: defaults.protections,
        devices: SoundDevices {
            microphone: sound.microphone.clone(),
            speaker: sound.speaker.clone(),
        },
        codec: defaults.codec,
        voice: sound.voice(defaults.voice.echo),
        room: None,
    }
}

/// What is asked for about pictures, on threads of their own.
///
/// # Errors
/// Pictures of this size are not possible.
pub(super) fn video(plan: &VideoPlan) -> Result<VideoSettings, CliError> {
    let (width, height) = plan.size;
    let size = Size::new(width, height).map_err(CliError::usage)?;
    let source = |input: &CliVideoIn| video_source(input, size, plan.fps);
    Ok(VideoSettings {
        input: source(&plan.input),
        output: match &plan.output {
            CliVideoOut::Nothing => None,
            CliVideoOut::Null => Some(VideoOut::Null),
            CliVideoOut::File(path) => Some(VideoOut::File(path.clone())),
        },
        reference: plan.reference.as_ref().and_then(source),
        codec: plan.codec.map(|codec| match codec {
            VideoCodecFlag::Av1 => VideoCodec::Av1,
            VideoCodecFlag::H264 => VideoCodec::H264,
        }),
        max_rate: plan.max_bps.map(Bitrate),
        content: content(plan.content),
        ..VideoSettings::default()
    })
}

fn video_source(input: &CliVideoIn, size: Size, fps: u8) -> Option<VideoIn> {
    let fps = fps.into();
    match input {
        CliVideoIn::Nothing => None,
        CliVideoIn::Pattern => Some(VideoIn::Pattern { size, fps }),
        CliVideoIn::Screen(target) => Some(VideoIn::Screen {
            target: target.clone(),
            fps,
        }),
        CliVideoIn::Camera(id) => Some(VideoIn::Camera {
            id: id.clone(),
            size,
            fps,
        }),
        CliVideoIn::File(path) => Some(VideoIn::File(path.clone())),
    }
}

fn content(flag: VideoContentFlag) -> Option<Content> {
    match flag {
        VideoContentFlag::Auto => None,
        VideoContentFlag::Text => Some(Content::Text),
        VideoContentFlag::Motion => Some(Content::Motion),
    }
}

/// What to show of this source, as usual; nothing of [`CliVideoIn::Nothing`].
///
/// # Errors
/// Never: the usual size is a possible one.
pub(crate) fn showing(
    input: &CliVideoIn,
    flag: VideoContentFlag,
) -> Result<Option<Showing>, CliError> {
    let usual = VideoPlan::default();
    let (width, height) = usual.size;
    let size = Size::new(width, height).map_err(CliError::usage)?;
    let input = video_source(input, size, usual.fps);
    Ok(input.map(|input| Showing {
        input,
        content: content(flag),
    }))
}

/// A profile's book where no engine runs on it, and what keeps engines away meanwhile.
///
/// # Errors
/// When the profile is in use, or cannot be read.
pub(super) fn book_at_rest(profile: &Profile) -> Result<(ProfileLock, ProfileBook), CliError> {
    let runtime = Arc::new(TokioRuntime);
    let identity = profile.open_or_create(&mut OsRng, runtime.unix_millis())?;
    let settings = Settings::load(profile)?;
    let lock = profile.lock()?;
    let store = Store::open(&lock)?;
    let log = identity.log().clone();
    let book = ProfileBook::new(store, runtime, log, settings.name, settings.strangers);
    Ok((lock, book))
}

#[cfg(test)]
mod tests {
    use ahoy_media::audio::voice::VoiceConfig;

    use super::*;

    #[test]
    fn the_command_line_takes_stages_away_and_music_takes_all() {
        let echo = VoiceConfig::default().echo;
        let set = SoundChoices {
            high_pass: false,
            ..SoundChoices::default()
        };
        let no_aec = VoiceFlags {
            no_aec: true,
            ..VoiceFlags::default()
        };
        let expected = VoiceConfig {
            echo_cancellation: false,
            high_pass: false,
            ..VoiceConfig::default()
        };
        assert_eq!(sound(no_aec, set.clone()).voice(echo), expected);
        let music = VoiceFlags {
            music: true,
            voice_gate: true,
            ..VoiceFlags::default()
        };
        assert!(sound(music, set).voice(echo).is_off());
    }
}
