//! Round trips, garbage, bounds, and the bytes as they are on the wire.

#![expect(clippy::indexing_slicing, reason = "a test may fail by a panic")]

use ahoy_transport::wire::Writer as _;
use proptest::prelude::*;

use super::*;
use crate::identity::compare::CompareStep;
use crate::report::{AudioPackets, AudioReport, Network, Participant, Setup};

fn capabilities() -> impl Strategy<Value = MediaCapabilities> {
    let audio = (
        any::<u32>(),
        any::<[bool; 4]>(),
        any::<[bool; 3]>(),
        any::<u8>(),
    )
        .prop_map(|(max_bitrate_bps, durations, features, channels)| {
            let millis: Vec<u16> = FrameDurations::ALL
                .iter()
                .zip(durations)
                .filter_map(|(millis, on)| on.then_some(millis))
                .collect();
            let known = [
                AudioFeatures::IN_BAND_FEC,
                AudioFeatures::RED,
                AudioFeatures::DRED,
                AudioFeatures::APART,
            ];
            let features = known
                .into_iter()
                .zip(features)
                .filter(|(_, on)| *on)
                .fold(AudioFeatures::NONE, |set, (feature, _)| set.with(feature));
            AudioCapabilities {
                max_bitrate_bps,
                frame_durations: FrameDurations::of(&millis),
                features,
                channels,
            }
        });
    let video = (any::<(bool, bool, bool)>(), any::<(u16, u16, u8)>()).prop_map(
        |((av1, h264, repeats), (max_width, max_height, max_fps))| VideoCapabilities {
            codecs: [(VideoCodecs::AV1, av1), (VideoCodecs::H264, h264)]
                .into_iter()
                .filter(|(_, on)| *on)
                .fold(VideoCodecs::NONE, |set, (codec, _)| set.with(codec)),
            max_width,
            max_height,
            max_fps,
            features: if repeats {
                VideoFeatures::RETRANSMISSION.with(VideoFeatures::PARITY)
            } else {
                VideoFeatures::NONE
            },
        },
    );
    (
        prop::option::of(audio),
        prop::option::of(video),
        any::<bool>(),
    )
        .prop_map(|(audio, video, compares)| MediaCapabilities {
            audio,
            video,
            compares,
        })
}

fn report() -> impl Strategy<Value = RemoteReport> {
    (any::<Option<u64>>(), any::<Option<u64>>(), any::<bool>()).prop_map(
        |(duration_ms, received, heard)| RemoteReport {
            duration_ms,
            setup: Setup::default(),
            participants: if heard {
                vec![Participant {
                    id: String::from("device"),
                    audio: Some(AudioReport {
                        packets: AudioPackets {
                            received,
                            ..AudioPackets::default()
                        },
                        ..AudioReport::default()
                    }),
                    video: None,
                }]
            } else {
                Vec::new()
            },
            network: heard.then(Network::default),
        },
    )
}

fn signal() -> impl Strategy<Value = Signal> {
    let decline = prop_oneof![
        Just(DeclineReason::Person),
        Just(DeclineReason::Incompatible)
    ];
    let cancel = prop_oneof![
        Just(CancelReason::Person),
        Just(CancelReason::NoAnswer),
        Just(CancelReason::AnsweredElsewhere),
        Just(CancelReason::DeclinedElsewhere),
        Just(CancelReason::Merged),
        Just(CancelReason::Over),
    ];
    let hang_up = prop_oneof![
        Just(HangUpReason::Person),
        Just(HangUpReason::NoPath),
        Just(HangUpReason::Media),
        Just(HangUpReason::Protocol),
        Just(HangUpReason::TimeLimit),
    ];
    prop_oneof![
        Just(Signal::Ringing),
        capabilities().prop_map(Signal::Accept),
        decline.prop_map(Signal::Decline),
        Just(Signal::Busy),
        cancel.prop_map(Signal::Cancel),
        hang_up.prop_map(Signal::HangUp),
        any::<(u32, [bool; 4])>().prop_map(|(revision, [muted, held, blank, recording])| {
            Signal::MediaState {
                revision,
                muted,
                held,
                blank,
                recording,
            }
        }),
        prop::collection::vec(any::<u8>(), 0..MAX_CANDIDATES_BYTES).prop_map(Signal::Candidates),
        report().prop_map(|report| Signal::Report(Box::new(report))),
        (any::<[u8; 32]>(), prop::collection::vec(1..=u16::MAX, 0..4)).prop_map(
            |(bytes, ports)| {
                let node = ahoy_transport::identity::NodeKeys::from_seed(&[7; 32]).id();
                let home = |port| NodeAddress::new(node, ([192, 0, 2, 1], port).into());
                Signal::MailPass {
                    capability: MailCapability::from_bytes(bytes),
                    homes: ports.into_iter().map(home).collect(),
                }
            }
        ),
        prop::collection::vec(any::<[u8; 32]>(), 0..=MAX_HANDED)
            .prop_map(|nodes| Signal::Handed(nodes.into_iter().map(NodeId).collect())),
        any::<(bool, [u8; 32])>().prop_map(|(commits, bytes)| {
            Signal::Compare(if commits {
                CompareStep::Commitment(bytes)
            } else {
                CompareStep::Number(bytes)
            })
        }),
    ]
}

fn message() -> impl Strategy<Value = SignalMessage> {
    (any::<[u8; 16]>(), any::<[u8; 32]>(), signal()).prop_map(|(call, participant, signal)| {
        SignalMessage {
            call: CallId(call),
            participant: DeviceId(participant),
            signal,
        }
    })
}

proptest! {
    #[test]
    fn signals_round_trip(message in message()) {
        let bytes = message.encode();
        prop_assert!(bytes.len() <= SignalMessage::MAX_BYTES);
        prop_assert_eq!(SignalMessage::decode(&bytes), Ok(message));
    }

    #[test]
    fn offers_round_trip(
        media in capabilities(),
        display_name in "\\PC{0,40}",
        invite in prop::collection::vec(any::<u8>(), 0..MAX_INVITE_BYTES),
    ) {
        let offer = Offer { media, display_name, invite };
        prop_assert_eq!(Offer::decode(&offer.encode()), Ok(offer));
    }

    #[test]
    fn follow_ups_round_trip(
        candidates in prop::collection::vec(any::<u8>(), 0..MAX_CANDIDATES_BYTES),
        message in prop::option::of(message()),
    ) {
        let follow_up = FollowUp { candidates, message };
        prop_assert_eq!(FollowUp::decode(&follow_up.encode()), Ok(follow_up));
    }

    #[test]
    fn garbage_is_refused_without_a_panic(bytes: Vec<u8>) {
        if let Ok(read) = SignalMessage::decode(&bytes) {
            prop_assert_eq!(SignalMessage::decode(&read.encode()), Ok(read));
        }
        if let Ok(read) = Offer::decode(&bytes) {
            prop_assert_eq!(Offer::decode(&read.encode()), Ok(read));
        }
        if let Ok(read) = FollowUp::decode(&bytes) {
            prop_assert_eq!(FollowUp::decode(&read.encode()), Ok(read));
        }
    }

    #[test]
    fn damaged_messages_are_read_or_refused_without_a_panic(
        message in message(),
        at: prop::sample::Index,
        byte: u8,
        cut: prop::sample::Index,
    ) {
        let mut bytes = message.encode();
        let place = at.index(bytes.len());
        bytes[place] = byte;
        if let Ok(read) = SignalMessage::decode(&bytes) {
            prop_assert_eq!(SignalMessage::decode(&read.encode()), Ok(read));
        }
        bytes.truncate(cut.index(bytes.len()));
        let short = SignalMessage::decode(&bytes);
        prop_assert!(short.is_err(), "{short:?}");
    }

    #[test]
    fn both_sides_choose_the_same(ours in capabilities(), theirs in capabilities()) {
        let (here, there) = (ours.negotiate(&theirs), theirs.negotiate(&ours));
        prop_assert_eq!(here.map(|choice| choice.audio), there.map(|choice| choice.audio));
        // Each sends what the other one shows.
        prop_assert_eq!(here.map(|choice| choice.video), there.map(|_| theirs.video));
        prop_assert_eq!(there.map(|choice| choice.video), here.map(|_| ours.video));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn golden(signal: Signal) -> String {
    let message = SignalMessage {
        call: CallId([0xc1; 16]),
        participant: DeviceId([0xd2; 32]),
        signal,
    };
    let bytes = message.encode();
    assert_eq!(SignalMessage::decode(&bytes), Ok(message));
    let head = format!("{}{}", "c1".repeat(16), "d2".repeat(32));
    let text = hex(&bytes);
    let (kind, rest) = text.split_at(4);
    format!("{kind} {}", rest.strip_prefix(&head).unwrap())
}

#[test]
fn the_bytes_of_every_signal_stay_as_they_are() {
    assert_eq!(golden(Signal::Ringing), "0101 ");
    let accept = Signal::Accept(MediaCapabilities::default());
    assert_eq!(golden(accept), "0102 0201080001f4000f000f020300");
    assert_eq!(golden(Signal::Decline(DeclineReason::Person)), "0103 00");
    assert_eq!(
        golden(Signal::Decline(DeclineReason::Incompatible)),
        "0103 01"
    );
    assert_eq!(golden(Signal::Busy), "0104 ");
    assert_eq!(golden(Signal::Cancel(CancelReason::Person)), "0105 00");
    assert_eq!(golden(Signal::Cancel(CancelReason::NoAnswer)), "0105 01");
    assert_eq!(
        golden(Signal::Cancel(CancelReason::AnsweredElsewhere)),
        "0105 02"
    );
    assert_eq!(
        golden(Signal::Cancel(CancelReason::DeclinedElsewhere)),
        "0105 03"
    );
    assert_eq!(golden(Signal::Cancel(CancelReason::Merged)), "0105 04");
    assert_eq!(golden(Signal::Cancel(CancelReason::Over)), "0105 05");
    assert_eq!(golden(Signal::HangUp(HangUpReason::Person)), "0106 00");
    assert_eq!(golden(Signal::HangUp(HangUpReason::NoPath)), "0106 01");
    assert_eq!(golden(Signal::HangUp(HangUpReason::Media)), "0106 02");
    assert_eq!(golden(Signal::HangUp(HangUpReason::Protocol)), "0106 03");
    assert_eq!(golden(Signal::HangUp(HangUpReason::TimeLimit)), "0106 04");
    let state = Signal::MediaState {
        revision: 258,
        muted: true,
        held: true,
        blank: false,
        recording: false,
    };
    assert_eq!(golden(state), "0107 0000010203");
    let state = Signal::MediaState {
        revision: 2,
        muted: false,
        held: false,
        blank: true,
        recording: false,
    };
    assert_eq!(golden(state), "0107 0000000204");
    let state = Signal::MediaState {
        revision: 3,
        muted: false,
        held: false,
        blank: false,
        recording: true,
    };
    assert_eq!(golden(state), "0107 0000000308");
    assert_eq!(golden(Signal::Candidates(vec![7, 8])), "0108 020708");
    let report = Signal::Report(Box::default());
    let json = hex(br#"{"setup":{},"participants":[]}"#);
    assert_eq!(golden(report), format!("0109 1e{json}"));
}

#[test]
fn the_bytes_of_offer_and_follow_up_stay_as_they_are() {
    let offer = Offer {
        media: MediaCapabilities::default(),
        display_name: String::from("Eva"),
        invite: vec![0xaa],
    };
    assert_eq!(
        hex(&offer.encode()),
        "010201080001f4000f000f0203000345766101aa"
    );
    let follow_up = FollowUp {
        candidates: vec![1],
        message: None,
    };
    assert_eq!(hex(&follow_up.encode()), "01010100");
}

#[test]
fn the_bytes_of_pictures_stay_as_they_are_and_are_skipped_by_who_knows_none() {
    let media = MediaCapabilities {
        video: Some(VideoCapabilities {
            codecs: VideoCodecs::AV1.with(VideoCodecs::H264),
            max_width: 1920,
            max_height: 1080,
            max_fps: 60,
            features: VideoFeatures::RETRANSMISSION,
        }),
        ..MediaCapabilities::default()
    };
    let accept = Signal::Accept(media);
    assert_eq!(
        golden(accept),
        "0102 0301080001f4000f000f0202080307800438\
         3c00010300"
    );
}

#[test]
fn what_later_versions_add_is_skipped_and_other_versions_are_not_read() {
    // A second kind of media, and one more byte in the first.
    let bytes = [2, 9, 1, 77, 1, 9, 0, 1, 0xf4, 0, 0xf, 0, 15, 2, 55];
    let mut reader = Reader::new(&bytes);
    let media = MediaCapabilities::decode(&mut reader).unwrap();
    let older = MediaCapabilities {
        compares: false,
        ..MediaCapabilities::default()
    };
    assert_eq!(media, older);
    assert_eq!(reader.finish(), Ok(()));
    let ringing = SignalMessage {
        call: CallId([0; 16]),
        participant: DeviceId([0; 32]),
        signal: Signal::Decline(DeclineReason::Incompatible),
    };
    let mut bytes = ringing.encode();
    // A reason of a later version is a plain no.
    *bytes.last_mut().unwrap() = 200;
    let read = SignalMessage::decode(&bytes).unwrap();
    assert_eq!(read.signal, Signal::Decline(DeclineReason::Person));
    bytes[0] = 2;
    assert_eq!(SignalMessage::decode(&bytes), Err(WireError::Version(2)));
    bytes[0] = 1;
    bytes[1] = 99;
    assert_eq!(SignalMessage::decode(&bytes), Err(WireError::Undefined));
    assert_eq!(SignalMessage::read(&bytes), Ok(None));
    // By way of the homes, what comes with it counts.
    let mut follow_up = vec![VERSION, 3, 1, 2, 3];
    follow_up.put_var_bytes(&bytes);
    let read = FollowUp::decode(&follow_up).unwrap();
    assert_eq!((read.candidates, read.message), (vec![1, 2, 3], None));
}

#[test]
fn a_long_name_is_cut_at_a_character() {
    let offer = Offer {
        media: MediaCapabilities::default(),
        display_name: "ä".repeat(200) + "!",
        invite: Vec::new(),
    };
    let read = Offer::decode(&offer.encode()).unwrap();
    assert_eq!(read.display_name, "ä".repeat(128));
}

#[test]
fn a_report_that_is_too_long_loses_details_not_the_message() {
    let participant = Participant {
        id: "x".repeat(3000),
        audio: None,
        video: None,
    };
    let report = RemoteReport {
        duration_ms: Some(7),
        participants: vec![participant; 5],
        ..RemoteReport::default()
    };
    let message = SignalMessage {
        call: CallId([0; 16]),
        participant: DeviceId([0; 32]),
        signal: Signal::Report(Box::new(report)),
    };
    let read = SignalMessage::decode(&message.encode()).unwrap();
    let Signal::Report(report) = read.signal else {
        panic!("{read:?}")
    };
    assert_eq!(
        (report.duration_ms, report.participants.len()),
        (Some(7), 2)
    );
}

#[test]
fn frame_durations_find_the_nearest_in_common() {
    let thin = FrameDurations::of(&[20, 60]);
    assert_eq!(thin.nearest(20), Some(20));
    assert_eq!(thin.nearest(40), Some(60));
    assert_eq!(thin.nearest(10), Some(20));
    assert!(!thin.contains(40));
    assert_eq!(FrameDurations::of(&[15]).nearest(20), None);
}
