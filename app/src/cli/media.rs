//! Where sound comes from and goes to, and which ways it may take.

use std::{convert::Infallible, path::PathBuf, str::FromStr};

use ahoy_nat::discovery::dht::mainline::DhtEntry;
use clap::Args;

use super::{CliError, values};
use crate::{link::NodeLink, proxy::ProxyChoice, settings::PathPolicy};

/// Media options of `call`, `answer` and `demo`.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Media")]
pub struct MediaFlags {
    /// What the other side hears: mic, tone, silence or a FILE.wav.
    #[arg(long, value_name = "SOURCE")]
    pub audio_in: Option<AudioIn>,
    /// Where the other side is heard: speaker, null or a FILE.wav.
    #[arg(long, value_name = "SINK")]
    pub audio_out: Option<AudioOut>,
    /// What pictures to send, and what to do with those that come.
    #[command(flatten)]
    pub video: VideoFlags,
    /// Supernode to use, by its ahoy-node: link; may be repeated.
    #[arg(long, value_name = "NODE_LINK")]
    pub via: Vec<NodeLink>,
    /// Which ways media may take.
    #[arg(long, value_enum, default_value_t)]
    pub path: PathPolicy,
    /// What TCP connections to supernodes go through: http://user:password@host:port, socks5://host:port or none.
    #[arg(long, value_name = "URL")]
    pub proxy: Option<ProxyChoice>,
    /// Bits per second of sound to send, such as 32k; if not said, 32k for a voice and 128k for music.
    #[arg(long, value_name = "BPS", value_parser = values::audio_bitrate)]
    pub bitrate: Option<u32>,
    /// Milliseconds of sound in a packet: 10, 20, 40 or 60.
    #[arg(long, value_name = "MS", value_parser = values::ptime)]
    pub ptime: Option<u16>,
    /// Let the other side hear what other programs play, too: the sound of a film, say.
    #[arg(long)]
    pub share_sound: bool,
    /// Do not ask the router to let others in.
    #[arg(long)]
    pub no_portmap: bool,
    /// Find nobody in the own network without a supernode, and be not found there.
    #[arg(long)]
    pub no_lan: bool,
    /// Where to enter the DHT that people are found by, instead of the public one: HOST:PORT; may be repeated.
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "no_dht")]
    pub dht_bootstrap: Vec<DhtEntry>,
    /// Be found by the public DHT, too: its nodes, which may be anybody's, see which address you have.
    #[arg(long, conflicts_with = "no_dht")]
    pub dht_publish: bool,
    /// Look nobody up in the DHT, and put nothing there.
    #[arg(long)]
    pub no_dht: bool,
    /// Leave word of where you are at your own supernodes alone, and look nobody up at others.
    #[arg(long)]
    pub no_directory: bool,
    /// What is left out of the microphone's processing.
    #[command(flatten)]
    pub voice: VoiceFlags,
}

/// Pictures; nothing of them is sent or shown unless it is said here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct VideoFlags {
    /// What the other side sees: screen, screen:NAME, screen:all, screen:pick (in the desktop's dialog), window:TITLE,
    /// window:0xNUMBER, camera, camera:ID, pattern, none or a FILE.y4m, over and over.
    #[arg(long, value_name = "SOURCE")]
    pub video_in: Option<VideoIn>,
    /// Where the other side is seen: null, none or a FILE.y4m.
    #[arg(long, value_name = "SINK")]
    pub video_out: Option<VideoOut>,
    /// Of the pattern's pictures, or as near as the camera can, such as 640x360.
    #[arg(long, value_name = "WxH", value_parser = values::size)]
    pub video_size: Option<(u32, u32)>,
    /// How many pictures of pattern, camera or screen per second, 1 to 60.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(1..=60))]
    pub video_fps: Option<u8>,
    /// Send pictures with no more bits per second than this, 40k to 50M, such as 600k; what the line carries otherwise.
    #[arg(long, value_name = "BPS", value_parser = values::video_bitrate)]
    pub video_bitrate: Option<u32>,
    /// Whether to send what is shown sharp or smoothly.
    #[arg(long, value_enum, default_value_t)]
    pub video_content: VideoContentFlag,
    /// In which codec to send, instead of the best that the other side shows.
    #[arg(long, value_enum)]
    pub video_codec: Option<VideoCodecFlag>,
    /// What the other side sends, pattern or a FILE.y4m with numbers in its pictures: the report then says how near it
    /// was.
    #[arg(long, value_name = "SOURCE", requires = "video_out")]
    pub video_reference: Option<VideoIn>,
}

/// Where pictures come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VideoIn {
    /// Nowhere: none are sent.
    Nothing,
    /// Test pictures that move and have a number.
    Pattern,
    /// A screen or a window, as it was named.
    Screen(String),
    /// A camera, by its id, or the first that works.
    Camera(Option<String>),
    /// A film.
    File(PathBuf),
}

/// What is more important of pictures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum VideoContentFlag {
    /// As a screen's own pictures suggest; cameras and films smoothly.
    #[default]
    Auto,
    /// Sharp, and full size before many.
    Text,
    /// Smoothly, and many before full size.
    Motion,
}

/// Where pictures go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VideoOut {
    /// Nowhere: the other side is asked for none.
    Nothing,
    /// They are decoded, and that is all.
    Null,
    /// A film.
    File(PathBuf),
}

/// A codec of pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum VideoCodecFlag {
    /// The better picture.
    Av1,
    /// Less work.
    H264,
}

/// Pictures, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoPlan {
    /// What is sent.
    pub input: VideoIn,
    /// What becomes of what comes.
    pub output: VideoOut,
    /// Of the pattern or the camera.
    pub size: (u32, u32),
    /// Of the pattern, the camera or the screen.
    pub fps: u8,
    /// In bits per second; absent: what the line carries.
    pub max_bps: Option<u32>,
    /// What is more important.
    pub content: VideoContentFlag,
    /// Absent: the best.
    pub codec: Option<VideoCodecFlag>,
    /// What the other side sends, if that is known.
    pub reference: Option<VideoIn>,
}

impl Default for VideoPlan {
    fn default() -> Self {
        Self {
            input: VideoIn::Nothing,
            output: VideoOut::Nothing,
            size: PATTERN_SIZE,
            fps: PATTERN_FPS,
            max_bps: None,
            content: VideoContentFlag::Auto,
            codec: None,
            reference: None,
        }
    }
}

/// Pattern and camera, unless it is to be otherwise: what cameras give.
const PATTERN_SIZE: (u32, u32) = (1280, 720);
const PATTERN_FPS: u8 = 30;

impl VideoFlags {
    /// Checks them.
    ///
    /// # Errors
    /// Pictures in a build without them, a file that is not there.
    pub fn plan(self) -> Result<VideoPlan, CliError> {
        let plan = VideoPlan {
            input: self.video_in.unwrap_or(VideoIn::Nothing),
            output: self.video_out.unwrap_or(VideoOut::Nothing),
            size: self.video_size.unwrap_or(PATTERN_SIZE),
            fps: self.video_fps.unwrap_or(PATTERN_FPS),
            max_bps: self.video_bitrate,
            content: self.video_content,
            codec: self.video_codec,
            reference: self
                .video_reference
                .filter(|reference| *reference != VideoIn::Nothing),
        };
        let wanted = plan.input != VideoIn::Nothing || plan.output != VideoOut::Nothing;
        if wanted && !cfg!(feature = "video") {
            return Err(CliError::usage(
                "this build has no pictures: leave out --video-in and --video-out",
            ));
        }
        if let Some(VideoIn::Screen(_) | VideoIn::Camera(_)) = &plan.reference {
            return Err(CliError::usage(
                "what a screen or a camera shows is not at hand to compare with: --video-reference takes pattern or a \
                 FILE.y4m",
            ));
        }
        let sources = [
            ("--video-in", Some(&plan.input)),
            ("--video-reference", plan.reference.as_ref()),
        ];
        for (option, source) in sources {
            if let Some(VideoIn::File(path)) = source
                && !path.is_file()
            {
                let path = path.display();
                return Err(CliError::usage(format_args!(
                    "there is no film {path}: {option} takes {}pattern, none or a FILE.y4m",
                    if option == "--video-in" {
                        "screen, window:TITLE, camera, "
                    } else {
                        ""
                    }
                )));
            }
        }
        if let VideoOut::File(path) = &plan.output {
            writable(path, "--video-out")?;
            for (_, source) in sources {
                if let Some(VideoIn::File(from)) = source {
                    spares(from, path, "--video-out")?;
                }
            }
        }
        Ok(plan)
    }
}

/// What is done to the microphone's sound; what is not said here the settings say. Files are sent as they are, in one
/// channel unless they are music.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Args)]
pub struct VoiceFlags {
    /// Leave in what the microphone hears of the loudspeaker.
    #[arg(long)]
    pub no_aec: bool,
    /// Leave noise in.
    #[arg(long)]
    pub no_ns: bool,
    /// Leave the voice as loud as it is.
    #[arg(long)]
    pub no_agc: bool,
    /// Leave hum and rumble in.
    #[arg(long)]
    pub no_hpf: bool,
    /// Soften keys that are struck while nobody speaks.
    #[arg(long)]
    pub soften_keys: bool,
    /// Send silence while nobody speaks.
    #[arg(long)]
    pub voice_gate: bool,
    /// Begin with the microphone muted: `ahoy ctl ptt-down` and `ptt-up` let it be heard.
    #[arg(long)]
    pub push_to_talk: bool,
    /// Send sound as it is, in two channels where there are two, whatever else is said.
    #[arg(long)]
    pub music: bool,
}

/// Where sound comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AudioIn {
    /// The microphone.
    Microphone,
    /// A sound file.
    File(PathBuf),
    /// A tone.
    Tone,
    /// Nothing to hear, but sent all the same.
    Silence,
}

/// Where sound goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AudioOut {
    /// The loudspeaker.
    Speaker,
    /// A sound file.
    File(PathBuf),
    /// Nowhere.
    Null,
}

/// Media options, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaPlan {
    /// Where sound comes from.
    pub audio_in: AudioIn,
    /// Where sound goes.
    pub audio_out: AudioOut,
    /// Pictures.
    pub video: VideoPlan,
    /// Supernodes to use; empty: those of the profile.
    pub via: Vec<NodeLink>,
    /// Which ways media may take.
    pub path: PathPolicy,
    /// What TCP connections go through; absent: as the settings or the environment say.
    pub proxy: Option<ProxyChoice>,
    /// Bits per second to send; absent: the app's choice.
    pub bitrate_bps: Option<u32>,
    /// Milliseconds of sound in a packet; absent: the app's choice.
    pub ptime_millis: Option<u16>,
    /// What other programs play is heard too.
    pub share_sound: bool,
    /// Do not ask the router to let others in.
    pub no_portmap: bool,
    /// Find nobody in the own network without a supernode, and be not found there.
    pub no_lan: bool,
    /// Where to enter the DHT; empty: as the settings or the environment say.
    pub dht_bootstrap: Vec<DhtEntry>,
    /// Be found by the public one, too.
    pub dht_publish: bool,
    /// Leave the DHT alone.
    pub no_dht: bool,
    /// Leave supernodes alone that are not ours.
    pub no_directory: bool,
    /// What is left out of the microphone's processing.
    pub voice: VoiceFlags,
}

/// Most supernodes named for one call: a device keeps two or three warm.
const MAX_VIA: usize = 8;

impl MediaFlags {
    /// Checks them. Without a word about it, sound comes from the microphone and goes to the loudspeaker; in
    /// a build without devices it is silence and goes nowhere.
    ///
    /// # Errors
    /// A device in a build without devices, a file that is not there, a link that is none.
    pub fn plan(self) -> Result<MediaPlan, CliError> {
        let devices = cfg!(feature = "devices");
        let audio_in = self.audio_in.unwrap_or(if devices {
            AudioIn::Microphone
        } else {
            AudioIn::Silence
        });
        let audio_out = self.audio_out.unwrap_or(if devices {
            AudioOut::Speaker
        } else {
            AudioOut::Null
        });
        if audio_in == AudioIn::Microphone && !devices {
            return Err(CliError::usage(
                "this build has no microphone: say --audio-in FILE.wav, tone or silence",
            ));
        }
        if audio_out == AudioOut::Speaker && !devices {
            return Err(CliError::usage(
                "this build has no loudspeaker: say --audio-out FILE.wav or null",
            ));
        }
        if let AudioIn::File(path) = &audio_in
            && !path.is_file()
        {
            let path = path.display();
            return Err(CliError::usage(format_args!(
                "there is no sound file {path}: --audio-in takes mic, tone, silence or a FILE.wav"
            )));
        }
        if let AudioOut::File(path) = &audio_out {
            writable(path, "--audio-out")?;
        }
        if let (AudioIn::File(from), AudioOut::File(to)) = (&audio_in, &audio_out) {
            spares(from, to, "--audio-out")?;
        }
        let video = self.video.plan()?;
        if let (AudioIn::File(from), VideoOut::File(to)) = (&audio_in, &video.output) {
            spares(from, to, "--video-out")?;
        }
        if let (VideoIn::File(from), AudioOut::File(to)) = (&video.input, &audio_out) {
            spares(from, to, "--audio-out")?;
        }
        if let (AudioOut::File(sound), VideoOut::File(pictures)) = (&audio_out, &video.output)
            && sound == pictures
        {
            return Err(CliError::usage(
                "--audio-out and --video-out name the same file: sound is a .wav, pictures are a .y4m",
            ));
        }
        if self.via.len() > MAX_VIA {
            return Err(CliError::usage(format_args!(
                "--via can be given {MAX_VIA} times at most"
            )));
        }
        Ok(MediaPlan {
            audio_in,
            audio_out,
            video,
            via: self.via,
            path: self.path,
            proxy: self.proxy,
            bitrate_bps: self.bitrate,
            ptime_millis: self.ptime,
            share_sound: self.share_sound,
            no_portmap: self.no_portmap,
            no_lan: self.no_lan,
            dht_bootstrap: self.dht_bootstrap,
            dht_publish: self.dht_publish,
            no_dht: self.no_dht,
            no_directory: self.no_directory,
            voice: self.voice,
        })
    }
}

/// What is written `to` a file is not what is read `from` another name of it.
fn spares(from: &std::path::Path, to: &std::path::Path, option: &str) -> Result<(), CliError> {
    match (from.canonicalize(), to.canonicalize()) {
        (Ok(one), Ok(other)) if one == other => Err(CliError::usage(format_args!(
            "{} would be written over before it is sent: name another file with {option}",
            to.display()
        ))),
        _ => Ok(()),
    }
}

/// A file could be written there, as far as one can tell before doing it.
pub(super) fn writable(path: &std::path::Path, option: &str) -> Result<(), CliError> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let folder_there = parent.is_none_or(std::path::Path::is_dir);
    if path.is_dir() || path.file_name().is_none() || !folder_there {
        let path = path.display();
        return Err(CliError::usage(format_args!(
            "{option} cannot be written to {path}: name a file in a folder that exists"
        )));
    }
    Ok(())
}

/// A file could be written there, and there is none.
pub(super) fn unused(path: &std::path::Path, option: &str) -> Result<(), CliError> {
    writable(path, option)?;
    if path.symlink_metadata().is_ok() {
        let path = path.display();
        return Err(CliError::usage(format_args!(
            "there is a file {path} already, and {option} writes over none: name another one"
        )));
    }
    Ok(())
}

impl FromStr for AudioIn {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "mic" => Self::Microphone,
            "tone" => Self::Tone,
            "silence" => Self::Silence,
            file => Self::File(PathBuf::from(file)),
        })
    }
}

impl FromStr for VideoIn {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "none" => Self::Nothing,
            "pattern" => Self::Pattern,
            "camera" => Self::Camera(None),
            "screen" => Self::Screen(text.into()),
            other => match other.split_once(':') {
                Some(("camera", id)) if !id.is_empty() => Self::Camera(Some(id.into())),
                Some(("screen" | "window", name)) if !name.trim().is_empty() => {
                    Self::Screen(text.into())
                }
                _ => Self::File(PathBuf::from(other)),
            },
        })
    }
}

impl FromStr for VideoOut {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "none" => Self::Nothing,
            "null" => Self::Null,
            file => Self::File(PathBuf::from(file)),
        })
    }
}

impl FromStr for AudioOut {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "speaker" => Self::Speaker,
            "null" => Self::Null,
            file => Self::File(PathBuf::from(file)),
        })
    }
}
