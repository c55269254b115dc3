//! What went wrong, in the person's language. Commands say the same in English, by `Display`.
//!
//! What a system, a codec or a database says of itself in a way that nobody knows stays as it says it, behind what we say.

use std::path::Path;

use ahoy_media::{
    audio::device_error::{DeviceError, Direction},
    video::trouble::SourceTrouble,
};
use ahoy_nat::supernode::protocol::Refusal;

use crate::{
    call::CommandError,
    contacts::NameError,
    disk::{DiskTrouble, DiskTroubleKind},
    engine::{
        notice::{FileRefused, Notice, RecordTrouble, SoundTold, SoundWhat},
        video::PictureTrouble,
    },
    files::{MAX_SIZE, trouble::FileTrouble},
    link::LinkError,
    ui::words,
};

/// Characters of a key in a link.
const KEY_CHARS: u64 = 52;

/// What the engine tells.
pub(in crate::ui) fn notice(notice: &Notice) -> String {
    match notice {
        Notice::Said(said) => said.clone(),
        Notice::NotSaved(error) => words::trouble_not_saved(error),
        Notice::Rescued(rescued) => {
            let file = rescued.aside.display();
            words::trouble_rescued(file, rescued.read, rescued.added)
        }
        Notice::NoEcho(error) => words::trouble_no_echo(error),
        Notice::Link(error) => link(error),
        Notice::Name(NameError::Unknown(name)) => words::trouble_name_unknown(name),
        Notice::Name(NameError::Ambiguous(name, _)) => words::trouble_name_several(name),
        Notice::NodeToCall | Notice::NodeToAdd => words::trouble_node_link().into(),
        Notice::OwnLink => words::trouble_own_link().into(),
        Notice::OwnLinkToAdd => words::trouble_own_link_add().into(),
        Notice::NotAContact => words::trouble_no_contact().into(),
        Notice::DeclinedSilently => words::trouble_declined_silently().into(),
        Notice::NoName => words::trouble_no_name().into(),
        Notice::Profile(error) => words::trouble_profile(error),
        Notice::Command(error) => command(*error).into(),
        Notice::NoSafetyWords => words::trouble_no_words().into(),
        Notice::Device(error) => device(error),
        Notice::Media(error) => words::trouble_media(error),
        Notice::Sound(told) => sound(told),
        Notice::Pictures(trouble) => pictures(trouble),
        Notice::Recording(trouble) => recording(trouble),
        Notice::NothingToSay => words::trouble_nothing_to_say().into(),
        Notice::OutboxFull(_) => words::trouble_outbox_full().into(),
        Notice::MessageNotKept(error) => words::trouble_message_not_kept(error),
        Notice::FilesToContacts => words::trouble_files_to_contacts().into(),
        Notice::File(refused) => file_refused(refused),
        Notice::CannotLend => words::trouble_cannot_lend().into(),
        Notice::ShutOut { why, text } => shut_out(*why, text),
        Notice::PassEnds(0) => words::trouble_pass_over().into(),
        Notice::PassEnds(days) => words::trouble_pass_ends(*days),
        Notice::TakenOut => words::trouble_taken_out().into(),
        Notice::OwnFork => words::trouble_own_fork().into(),
        Notice::Fork { name } => words::trouble_fork(name),
        Notice::Contradicted { name, networks } => {
            words::trouble_contradicted(*networks as u64, name)
        }
        Notice::Behind { name, networks } => words::trouble_behind(*networks as u64, name),
        Notice::Unwitnessed { name } => words::trouble_unwitnessed(name),
    }
}

/// What is wrong with a link, in a sentence.
pub(in crate::ui) fn link(error: &LinkError) -> String {
    words::link_unusable(link_part(error))
}

/// The same as a part of a sentence.
pub(in crate::ui) fn link_part(error: &LinkError) -> String {
    match error {
        LinkError::Empty => words::trouble_link_empty().into(),
        LinkError::TooLong => words::trouble_link_long().into(),
        LinkError::Whitespace => words::trouble_link_space().into(),
        LinkError::NotALink => words::trouble_link_none().into(),
        LinkError::Slashes => words::trouble_link_slashes().into(),
        LinkError::Case => words::trouble_link_case().into(),
        LinkError::NodeNotPerson => words::trouble_link_person_wanted().into(),
        LinkError::PersonNotNode => words::trouble_link_node_wanted().into(),
        LinkError::KeyLength(count) => words::trouble_link_cut(count, KEY_CHARS),
        LinkError::KeyCharacter(character) => {
            words::trouble_link_character(format_args!("{character:?}"))
        }
        LinkError::KeyUnusable => words::trouble_link_mistyped().into(),
        LinkError::Version(_) | LinkError::UnknownParameter(_) => {
            words::trouble_link_newer().into()
        }
        LinkError::NoValue(part) | LinkError::Order(part) | LinkError::Encoding(part) => {
            words::trouble_link_damaged(format_args!("{part:?}"))
        }
        LinkError::Name => words::trouble_link_damaged("name"),
        LinkError::TooManyHomes | LinkError::Home(_) => words::trouble_link_home().into(),
        LinkError::Node(_) => words::trouble_link_node().into(),
        LinkError::Token(_) => words::trouble_link_invite().into(),
    }
}

fn command(error: CommandError) -> &'static str {
    match error {
        CommandError::InCall => words::trouble_in_call(),
        CommandError::NoCall => words::trouble_no_call(),
        CommandError::NotRinging => words::trouble_not_ringing(),
        CommandError::NotTalking => words::trouble_not_talking(),
    }
}

/// Why a microphone or a speaker does not work.
pub(in crate::ui) fn device(error: &DeviceError) -> String {
    match error {
        DeviceError::None(Direction::Input) => words::trouble_device_none_microphone().into(),
        DeviceError::None(Direction::Output) => words::trouble_device_none_speaker().into(),
        DeviceError::NotFound { .. } => words::trouble_device_away().into(),
        DeviceError::Busy => words::trouble_device_busy().into(),
        DeviceError::Denied => words::trouble_device_denied().into(),
        DeviceError::Unsupported(format) => words::trouble_device_format(format),
        DeviceError::Lost => words::trouble_device_lost().into(),
        DeviceError::Stalled => words::trouble_device_stalled().into(),
        DeviceError::Hung => words::trouble_sound_hung().into(),
        DeviceError::System(error) => words::trouble_sound_system(error),
    }
}

/// What happened to a microphone or a speaker of a call.
pub(in crate::ui) fn sound(told: &SoundTold) -> String {
    match (&told.what, told.microphone) {
        (SoundWhat::Opened(name), true) => words::trouble_microphone_open(name),
        (SoundWhat::Opened(name), false) => words::trouble_speaker_open(name),
        (SoundWhat::Lost(error), true) => words::trouble_microphone_lost(device(error)),
        (SoundWhat::Lost(error), false) => words::trouble_speaker_lost(device(error)),
        (SoundWhat::Gone, true) => words::trouble_microphone_gone().into(),
        (SoundWhat::Gone, false) => words::trouble_speaker_gone().into(),
        (SoundWhat::Displaced, true) => words::trouble_microphone_displaced().into(),
        (SoundWhat::Displaced, false) => words::trouble_speaker_displaced().into(),
        (SoundWhat::Followed(name), true) => words::trouble_microphone_follows(name),
        (SoundWhat::Followed(name), false) => words::trouble_speaker_follows(name),
        (SoundWhat::OthersNeedDevices, _) => words::trouble_others_need_devices().into(),
        (SoundWhat::OthersUnheard(why), _) => words::trouble_others_unheard(why),
    }
}

/// What is wrong with the pictures of a call.
pub(in crate::ui) fn pictures(trouble: &PictureTrouble) -> String {
    match trouble {
        PictureTrouble::Source(trouble) => source(trouble),
        PictureTrouble::Black => words::trouble_picture_black().into(),
        PictureTrouble::NotShown => words::trouble_picture_unseen().into(),
        PictureTrouble::NoCodec => words::trouble_picture_codec().into(),
        PictureTrouble::NotEncoded(error) => words::trouble_picture_not_encoded(error),
        PictureTrouble::Undecodable => words::trouble_picture_undecodable().into(),
        PictureTrouble::Stuck => words::trouble_picture_stuck().into(),
        PictureTrouble::NotBuilt => words::trouble_picture_not_built().into(),
        PictureTrouble::NotYet => words::trouble_picture_not_yet().into(),
        PictureTrouble::NobodySees => words::trouble_picture_nobody().into(),
        PictureTrouble::Open(error) => words::trouble_picture_open(error),
    }
}

/// Why a camera, a screen or a window gives no pictures.
pub(in crate::ui) fn source(trouble: &SourceTrouble) -> String {
    match trouble {
        SourceTrouble::NoCamera => words::trouble_no_camera().into(),
        SourceTrouble::CameraAway { camera } => words::trouble_camera_away(camera),
        SourceTrouble::CameraUnknown { camera, there } => {
            words::trouble_camera_unknown(camera, there.join(", "))
        }
        SourceTrouble::CameraAmbiguous { camera, several } => {
            words::trouble_camera_several(camera, several.join(", "))
        }
        SourceTrouble::CameraUnplugged { camera } => words::trouble_camera_unplugged(camera),
        SourceTrouble::CameraDenied { camera } => words::trouble_camera_denied(camera),
        SourceTrouble::NodesDenied { nodes } => words::trouble_camera_denied(nodes.join(", ")),
        SourceTrouble::CameraBusy { camera } => words::trouble_camera_busy(camera),
        SourceTrouble::CameraBroken { camera, error } => {
            words::trouble_camera_broken(camera, error)
        }
        SourceTrouble::CameraFormat { camera, given, .. } => {
            words::trouble_camera_format(camera, given.join(", "))
        }
        SourceTrouble::CameraSilent { camera } => words::trouble_camera_silent(camera),
        SourceTrouble::NoScreens => words::trouble_no_screens().into(),
        SourceTrouble::NoDisplay { wayland: true } => words::trouble_no_display_wayland().into(),
        SourceTrouble::NoDisplay { wayland: false } => words::trouble_no_display().into(),
        SourceTrouble::DisplayLost => words::trouble_display_lost().into(),
        SourceTrouble::DisplayRefuses => words::trouble_display_refuses().into(),
        SourceTrouble::ScreenDepth { depth: None } => words::trouble_screen_number().into(),
        SourceTrouble::ScreenDepth { depth: Some(depth) } => words::trouble_screen_depth(depth),
        SourceTrouble::ScreenSize { all: true, .. } => words::trouble_screens_size().into(),
        SourceTrouble::ScreenSize { all: false, .. } => words::trouble_screen_size().into(),
        SourceTrouble::ScreenUnknown { screen, there } => {
            words::trouble_screen_unknown(screen, there.join(", "))
        }
        SourceTrouble::WindowUnknown { window, .. } => words::trouble_window_unknown(window),
        SourceTrouble::WindowAmbiguous {
            window, several, ..
        } => words::trouble_window_several(window, several.names.join(", ")),
        SourceTrouble::WindowClosed {
            window,
            comes_back: true,
        } => words::trouble_window_closed(window),
        SourceTrouble::WindowClosed {
            window,
            comes_back: false,
        } => words::trouble_window_closed_for_good(window),
        SourceTrouble::WindowHidden { window } => words::trouble_window_hidden(window),
        SourceTrouble::Locked => words::trouble_locked().into(),
        SourceTrouble::NoPortal => words::trouble_no_portal().into(),
        SourceTrouble::NotPicked => words::trouble_not_picked().into(),
        SourceTrouble::Ended => words::trouble_share_ended().into(),
        SourceTrouble::PortalFormat => words::trouble_portal_format().into(),
        SourceTrouble::Film(error) => words::trouble_film(error),
    }
}

fn recording(trouble: &RecordTrouble) -> String {
    match trouble {
        RecordTrouble::Already => words::trouble_recorded_already().into(),
        RecordTrouble::OtherCall => words::trouble_other_recorded().into(),
        RecordTrouble::Exists { path, .. } => words::trouble_record_exists(path.display()),
        RecordTrouble::Create {
            path, disk: why, ..
        } => words::trouble_record_create(path.display(), disk(why)),
        RecordTrouble::Write {
            path, disk: why, ..
        } => words::trouble_record_write(path.display(), disk(why)),
        RecordTrouble::Other(error) => words::trouble_record_other(error),
    }
}

fn file_refused(refused: &FileRefused) -> String {
    match refused {
        FileRefused::Unreadable { path, disk: why } => {
            words::trouble_file_unreadable(path.display(), disk(why))
        }
        FileRefused::NoFile(path) => words::trouble_no_file(path.display()),
        FileRefused::TooLarge(path) => {
            words::trouble_file_larger(path.display(), words::size(MAX_SIZE))
        }
        FileRefused::Busy => words::trouble_disk_busy().into(),
        FileRefused::TooMany => words::trouble_too_many_files().into(),
        FileRefused::Unknown(_) => words::trouble_unknown_file().into(),
        FileRefused::Ours => words::trouble_own_file().into(),
        FileRefused::Complete => words::trouble_file_complete().into(),
        FileRefused::Refused { person } => words::trouble_file_was_refused(person),
        FileRefused::NoFolder => words::trouble_no_folder().into(),
        FileRefused::Still => words::trouble_file_still().into(),
    }
}

/// Why a file does not move, as a part of what is said of it.
pub(in crate::ui) fn file(trouble: &FileTrouble) -> String {
    let shown = |path: &Path| path.display().to_string();
    match trouble {
        FileTrouble::Full => words::trouble_file_full().into(),
        FileTrouble::Disk { path, disk: why } => words::trouble_file_disk(shown(path), disk(why)),
        FileTrouble::Names(folder) => words::trouble_file_names(shown(folder)),
        FileTrouble::TooLarge(_) => words::file_too_large().into(),
        FileTrouble::TakenBack => words::file_taken_back().into(),
        FileTrouble::NotWanted(person) => words::file_they_refused(person),
        FileTrouble::Changed => words::file_changed().into(),
        FileTrouble::Other(text) => text.clone(),
    }
}

/// What a disk says, as a part of a sentence.
pub(in crate::ui) fn disk(trouble: &DiskTrouble) -> String {
    match trouble.kind {
        DiskTroubleKind::Full => words::trouble_disk_full().into(),
        DiskTroubleKind::Denied => words::trouble_disk_denied().into(),
        DiskTroubleKind::ReadOnly => words::trouble_disk_read_only().into(),
        DiskTroubleKind::Missing => words::trouble_disk_missing().into(),
        DiskTroubleKind::Other => words::trouble_disk_other(&trouble.text),
    }
}

fn shut_out(why: Refusal, text: &str) -> String {
    match why {
        Refusal::NoPass => words::trouble_no_pass().into(),
        Refusal::PassForeign => words::trouble_pass_foreign().into(),
        Refusal::PassExpired => words::trouble_pass_expired().into(),
        Refusal::PassRevoked => words::trouble_pass_revoked().into(),
        Refusal::PassTaken => words::trouble_pass_taken().into(),
        Refusal::PassWrong => words::trouble_pass_wrong().into(),
        Refusal::NotYours
        | Refusal::UnknownDevice
        | Refusal::WrongEpoch
        | Refusal::UnknownDelivery
        | Refusal::Full
        | Refusal::TooFast
        | Refusal::NoRelay
        | Refusal::UnprovenRelay
        | Refusal::Malformed
        | Refusal::NoMail
        | Refusal::BoxFull => words::trouble_supernode_refuses(text),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, io};

    use ahoy_media::record::RecordError;

    use super::*;
    use crate::{
        chat::outbox::OutboxFull,
        files::TransferId,
        store::rescue::Rescued,
        ui::words::{Language, with},
    };

    fn sources() -> Vec<SourceTrouble> {
        let camera = || String::from("Cam 3000");
        let window = || String::from("Letter");
        let names = || vec![String::from("A"), String::from("B")];
        let error = ahoy_media::video::frame::Size::new(1, 1).unwrap_err();
        let mut all = vec![
            SourceTrouble::NoCamera,
            SourceTrouble::CameraAway { camera: camera() },
            SourceTrouble::CameraUnknown {
                camera: camera(),
                there: names(),
            },
            SourceTrouble::CameraAmbiguous {
                camera: camera(),
                several: names(),
            },
            SourceTrouble::CameraUnplugged { camera: camera() },
            SourceTrouble::CameraDenied { camera: camera() },
            SourceTrouble::CameraBusy { camera: camera() },
            SourceTrouble::CameraBroken {
                camera: camera(),
                error: "EIO".into(),
            },
            SourceTrouble::CameraFormat {
                camera: camera(),
                given: names(),
                known: names(),
            },
            SourceTrouble::CameraSilent { camera: camera() },
            SourceTrouble::NoScreens,
            SourceTrouble::DisplayLost,
            SourceTrouble::DisplayRefuses,
            SourceTrouble::ScreenUnknown {
                screen: "HDMI-1".into(),
                there: names(),
            },
            SourceTrouble::WindowUnknown {
                window: window(),
                there: Default::default(),
            },
            SourceTrouble::WindowAmbiguous {
                window: window(),
                first: 1,
                several: Default::default(),
            },
            SourceTrouble::WindowHidden { window: window() },
            SourceTrouble::Locked,
            SourceTrouble::NoPortal,
            SourceTrouble::NotPicked,
            SourceTrouble::Ended,
            SourceTrouble::PortalFormat,
            SourceTrouble::Film("EOF".into()),
        ];
        for one in [true, false] {
            all.extend([
                SourceTrouble::NoDisplay { wayland: one },
                SourceTrouble::ScreenDepth {
                    depth: one.then_some(8),
                },
                SourceTrouble::ScreenSize { all: one, error },
                SourceTrouble::WindowClosed {
                    window: window(),
                    comes_back: one,
                },
            ]);
        }
        all
    }

    fn devices() -> Vec<DeviceError> {
        vec![
            DeviceError::None(Direction::Input),
            DeviceError::None(Direction::Output),
            DeviceError::NotFound {
                id: "alsa:x".into(),
            },
            DeviceError::Busy,
            DeviceError::Denied,
            DeviceError::Unsupported("u8".into()),
            DeviceError::Lost,
            DeviceError::Stalled,
            DeviceError::Hung,
            DeviceError::System("EIO".into()),
        ]
    }

    fn recordings() -> Vec<RecordTrouble> {
        let path = || std::path::PathBuf::from("/tmp/call.mkv");
        let kinds = [
            io::ErrorKind::StorageFull,
            io::ErrorKind::PermissionDenied,
            io::ErrorKind::ReadOnlyFilesystem,
            io::ErrorKind::NotFound,
        ];
        let mut all = vec![
            RecordTrouble::Already,
            RecordTrouble::OtherCall,
            RecordTrouble::from(&RecordError::Exists { path: path() }),
            RecordTrouble::Other("EIO".into()),
        ];
        for kind in kinds {
            let (path, source) = (path(), io::Error::from(kind));
            all.push((&RecordError::Create { path, source }).into());
        }
        let (path, source) = (path(), io::Error::from(io::ErrorKind::StorageFull));
        all.push((&RecordError::Write { path, source }).into());
        all
    }

    /// One of each kind.
    fn notices() -> Vec<Notice> {
        let name = || String::from("Grace");
        let path = || std::path::PathBuf::from("/tmp/film.mkv");
        let mut all = vec![
            Notice::NotSaved("EIO".into()),
            Notice::Rescued(Rescued {
                why: "torn".into(),
                aside: path(),
                read: 7,
                added: 2,
            }),
            Notice::NoEcho("EIO".into()),
            Notice::Name(NameError::Unknown(name())),
            Notice::Name(NameError::Ambiguous(name(), 2)),
            Notice::NodeToAdd,
            Notice::OwnLink,
            Notice::OwnLinkToAdd,
            Notice::NotAContact,
            Notice::DeclinedSilently,
            Notice::NoName,
            Notice::Profile("EIO".into()),
            Notice::NoSafetyWords,
            Notice::Media("EIO".into()),
            Notice::NothingToSay,
            Notice::OutboxFull(OutboxFull),
            Notice::MessageNotKept("EIO".into()),
            Notice::FilesToContacts,
            Notice::CannotLend,
            Notice::PassEnds(0),
            Notice::PassEnds(1),
            Notice::PassEnds(2),
            Notice::TakenOut,
            Notice::OwnFork,
            Notice::Fork { name: name() },
            Notice::Unwitnessed { name: name() },
        ];
        for networks in [1, 2] {
            all.push(Notice::Contradicted {
                name: name(),
                networks,
            });
            all.push(Notice::Behind {
                name: name(),
                networks,
            });
        }
        let links = [
            LinkError::Empty,
            LinkError::TooLong,
            LinkError::Whitespace,
            LinkError::NotALink,
            LinkError::Slashes,
            LinkError::Case,
            LinkError::NodeNotPerson,
            LinkError::PersonNotNode,
            LinkError::KeyLength(7),
            LinkError::KeyCharacter('0'),
            LinkError::KeyUnusable,
            LinkError::NoValue("home".into()),
            LinkError::Version("2".into()),
            LinkError::TooManyHomes,
        ];
        all.extend(links.map(Notice::Link));
        let commands = [
            CommandError::InCall,
            CommandError::NoCall,
            CommandError::NotRinging,
            CommandError::NotTalking,
        ];
        all.extend(commands.map(Notice::Command));
        all.extend(devices().into_iter().map(Notice::Device));
        for microphone in [true, false] {
            let whats = [
                SoundWhat::Opened("X".into()),
                SoundWhat::Lost(DeviceError::Lost),
                SoundWhat::Gone,
                SoundWhat::Displaced,
                SoundWhat::Followed("X".into()),
            ];
            all.extend(whats.map(|what| Notice::Sound(SoundTold { microphone, what })));
        }
        for what in [
            SoundWhat::OthersNeedDevices,
            SoundWhat::OthersUnheard("EIO".into()),
        ] {
            let microphone = true;
            all.push(Notice::Sound(SoundTold { microphone, what }));
        }
        let pictures = [
            PictureTrouble::Black,
            PictureTrouble::NotShown,
            PictureTrouble::NoCodec,
            PictureTrouble::NotEncoded("EIO".into()),
            PictureTrouble::Undecodable,
            PictureTrouble::Stuck,
            PictureTrouble::NotBuilt,
            PictureTrouble::NotYet,
            PictureTrouble::NobodySees,
            PictureTrouble::Open("EIO".into()),
        ];
        let sources = sources().into_iter().map(PictureTrouble::Source);
        all.extend(sources.chain(pictures).map(Notice::Pictures));
        all.extend(recordings().into_iter().map(Notice::Recording));
        let files = [
            FileRefused::Unreadable {
                path: path(),
                disk: (&io::Error::from(io::ErrorKind::NotFound)).into(),
            },
            FileRefused::NoFile(path()),
            FileRefused::TooLarge(path()),
            FileRefused::Busy,
            FileRefused::TooMany,
            FileRefused::Unknown(TransferId([1; 16])),
            FileRefused::Ours,
            FileRefused::Complete,
            FileRefused::Refused { person: name() },
            FileRefused::NoFolder,
            FileRefused::Still,
        ];
        all.extend(files.map(Notice::File));
        let shut = [
            Refusal::NoPass,
            Refusal::PassForeign,
            Refusal::PassExpired,
            Refusal::PassRevoked,
            Refusal::PassTaken,
            Refusal::PassWrong,
            Refusal::Full,
        ];
        all.extend(shut.map(|why| Notice::ShutOut {
            why,
            text: "ENOENT".into(),
        }));
        all
    }

    #[test]
    fn all_that_goes_wrong_has_a_sentence_of_its_own_in_each_language() {
        let notices = notices();
        let mut sentences = BTreeSet::new();
        for language in [Language::English, Language::German, Language::Spanish] {
            for told in &notices {
                let sentence = with(language, || notice(told));
                let ends = ['.', ':', '?', ')'];
                let is_whole = sentence.ends_with(ends) || matches!(told, Notice::Link(_));
                assert!(is_whole, "{language:?}: {sentence}");
                assert!(!sentence.contains(".."), "{language:?}: {sentence}");
                let command = told.to_string();
                assert!(
                    language == Language::English || sentence != command,
                    "{command}"
                );
                assert!(sentences.insert(sentence.clone()), "twice: {sentence}");
            }
        }
        assert_eq!(sentences.len(), 3 * notices.len());
    }

    #[test]
    fn what_a_disk_says_is_told_and_what_nobody_knows_stays_as_it_is() {
        let full = DiskTrouble::from(&io::Error::from(io::ErrorKind::StorageFull));
        let told = with(Language::German, || disk(&full));
        assert!(told.starts_with("der Datenträger ist voll"), "{told}");
        let strange = DiskTrouble::from(&io::Error::other("the head fell off"));
        let told = with(Language::Spanish, || disk(&strange));
        assert_eq!(told, "el sistema dice: the head fell off");
        let path = std::path::PathBuf::from("/media/stick/film.mkv");
        let trouble = FileTrouble::Disk { path, disk: full };
        let told = with(Language::Spanish, || file(&trouble));
        assert!(
            told.contains("/media/stick/film.mkv") && told.contains("lleno"),
            "{told}"
        );
    }
}
