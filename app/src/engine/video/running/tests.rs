//! Pictures of one device, whose other side is made up.

use std::collections::VecDeque;

use ahoy_media::video::{
    codec::EncodedFrame,
    feedback::Feedback,
    latest::{Latest, UNSEEN},
    packet::Packetizer,
    pattern::{TestPattern, read},
    recv::VideoRecvStats,
    source::{SourceKind, SourceNewsKind, Taken},
    y4m::Y4mError,
};

use super::*;
use crate::{engine::video::VideoIn, sim::World};

fn size() -> Size {
    Size::new(64, 48).unwrap()
}

fn theirs() -> VideoCapabilities {
    VideoCapabilities {
        codecs: VideoCodecs::H264,
        max_width: 640,
        max_height: 480,
        max_fps: 30,
        features: VideoFeatures::NONE,
    }
}

/// What a device sent: in which flow, and what.
type Line = Arc<Mutex<Vec<(u64, Vec<u8>)>>>;

/// Pictures of a pattern, of which one can stand by itself.
fn encoded() -> impl FnMut(bool) -> EncodedFrame {
    let config = VideoConfig {
        size: size(),
        fps: 30,
        bitrate: Bitrate::kbps(300),
        content: Content::Motion,
        temporal_layers: 1,
        threads: 1,
        effort: 0,
    };
    let mut encoder = EncodeStage::new(VideoCodec::H264);
    let mut pattern = TestPattern::new(size());
    move |key| {
        let frame = pattern.next_frame(Duration::ZERO);
        encoder.encode(config, key, &frame).unwrap().unwrap()
    }
}

/// A world with a device in it, and its pictures as these settings say.
struct Stage {
    world: World,
    runtime: Arc<dyn Runtime>,
    video: Video,
    line: Line,
    arrivals: mpsc::Sender<PictureArrival>,
    _estimate: watch::Sender<Option<Estimate>>,
}

fn stage(settings: VideoSettings, theirs: Option<VideoCapabilities>) -> Stage {
    let world = World::new(1);
    let node = world.add_node("alice", &[]);
    let runtime: Arc<dyn Runtime> = world.runtime(node);
    let settings = VideoSettings {
        threads: false,
        ..settings
    };
    let line = Line::default();
    let sent = Arc::clone(&line);
    let (estimate, follow) = watch::channel(None);
    let line_out = PictureLine {
        send: Arc::new(move |flow, bytes, _priority, _expires| {
            lock(&sent).push((flow, bytes.to_vec()));
        }),
        waiting: Arc::new(|| ahoy_transport::datagram::Waiting {
            wire_bytes: 0,
            since: None,
            is_held: false,
        }),
        withdraw: Arc::new(|| {}),
        estimate: follow,
    };
    let (arrivals, queue) = mpsc::channel(64);
    let video = Video::start(
        &runtime,
        &settings,
        theirs.as_ref(),
        line_out,
        SoundClocks::default(),
        queue,
        None,
    );
    Stage {
        world,
        runtime,
        video: video.unwrap().unwrap(),
        line,
        arrivals,
        _estimate: estimate,
    }
}

impl Stage {
    fn arrive(&self, packetizer: &mut Packetizer, frame: &EncodedFrame) {
        for packet in packetizer.packetize(frame).unwrap() {
            let arrival = PictureArrival {
                flow: PICTURE_FLOW,
                at: self.runtime.now(),
                payload: packet.bytes.into(),
            };
            self.arrivals.try_send(arrival).unwrap();
        }
        self.world.run_for(Duration::from_millis(50)).unwrap();
    }

    fn asked_for_key(&self) -> bool {
        lock(&self.line).iter().any(|(flow, bytes)| {
            *flow == REQUEST_FLOW
                && Feedback::decode(bytes).is_ok_and(|feedback| feedback.key_frame)
        })
    }

    fn received(&self) -> VideoRecvStats {
        self.video.stats(self.runtime.now()).received.unwrap()
    }

    fn news(&self) -> Vec<PictureNewsKind> {
        let news = self.video.take_news();
        news.into_iter().map(|news| news.kind).collect()
    }
}

#[test]
fn a_picture_that_cannot_be_decoded_is_said_a_new_one_is_asked_for_and_seen() {
    let stage = stage(
        VideoSettings {
            output: Some(VideoOut::Null),
            ..VideoSettings::default()
        },
        None,
    );
    let mut packetizer = Packetizer::new(VideoCodec::H264, 1, 1);
    let mut next = encoded();
    let good = next(true);
    stage.arrive(&mut packetizer, &good);
    assert_eq!(stage.news(), []);
    let mut broken = next(false);
    let from = broken.bytes.len().min(6);
    broken.bytes.truncate(from);
    broken.bytes.resize(200, 0xa5);
    stage.arrive(&mut packetizer, &broken);
    assert_eq!(stage.news(), [PictureNewsKind::Undecodable]);
    assert!(stage.asked_for_key());
    // What follows is built on it.
    stage.arrive(&mut packetizer, &next(false));
    assert_eq!(stage.news(), []);
    stage.arrive(&mut packetizer, &next(true));
    assert_eq!(stage.news(), [PictureNewsKind::Decodable]);
    let stats = stage.received();
    assert_eq!((stats.undecodable, stats.rendered), (1, 2));
}

#[test]
fn nothing_is_decoded_for_a_window_that_nobody_looks_at_until_somebody_does() {
    for look_away in [true, false] {
        let window = Latest::default();
        let settings = VideoSettings {
            output: Some(VideoOut::Window(window.clone())),
            look_away,
            ..VideoSettings::default()
        };
        let stage = stage(settings, None);
        let mut packetizer = Packetizer::new(VideoCodec::H264, 1, 1);
        let mut next = encoded();
        let most = u64::from(UNSEEN);
        stage.arrive(&mut packetizer, &next(true));
        for _ in 1..most + 40 {
            stage.arrive(&mut packetizer, &next(false));
        }
        let away = stage.received();
        if !look_away {
            assert_eq!((away.rendered, away.unwatched), (most + 40, 0));
            continue;
        }
        assert_eq!((away.rendered, away.unwatched), (most, 40));
        assert_eq!(away.freezes, 0, "nobody saw it stand still");
        assert!(!stage.asked_for_key());
        let mut seen = None;
        assert!(window.look(&mut seen));
        stage.world.run_for(Duration::from_millis(20)).unwrap();
        assert!(
            stage.asked_for_key(),
            "what comes is built on what nobody decoded"
        );
        stage.arrive(&mut packetizer, &next(false));
        assert_eq!(stage.received().rendered, most);
        stage.arrive(&mut packetizer, &next(true));
        stage.arrive(&mut packetizer, &next(false));
        let back = stage.received();
        assert_eq!(
            (back.rendered, back.undecodable, back.freezes),
            (most + 2, 0, 0)
        );
    }
}

#[test]
fn who_can_decode_none_of_ours_is_sent_none_and_that_is_said() {
    let pattern = VideoIn::Pattern {
        size: size(),
        fps: 10,
    };
    let av1 = VideoSettings {
        input: Some(pattern.clone()),
        codec: Some(VideoCodec::Av1),
        ..VideoSettings::default()
    };
    let any = VideoSettings {
        input: Some(pattern),
        ..VideoSettings::default()
    };
    for (settings, theirs, is_sent) in [
        (av1.clone(), Some(theirs()), false),
        (any.clone(), None, false),
        (any, Some(theirs()), true),
    ] {
        let stage = stage(settings, theirs);
        stage.world.run_for(Duration::from_secs(1)).unwrap();
        let expected = if is_sent {
            vec![]
        } else {
            vec![PictureNewsKind::NotShown]
        };
        assert_eq!(stage.news(), expected);
        assert_eq!(!lock(&stage.line).is_empty(), is_sent);
        let stats = stage.video.stats(stage.runtime.now());
        assert_eq!(stats.sent.is_some(), is_sent);
    }
}

/// What a receiver makes of what was sent since it was asked last: the numbers in the pictures, and which were whole.
fn seen(stage: &Stage, recv: &mut VideoRecv, decoder: &mut DecodeStage) -> Vec<u16> {
    let sent = std::mem::take(&mut *lock(&stage.line));
    let now = stage.runtime.now();
    let mut numbers = Vec::new();
    for (flow, bytes) in sent {
        if flow == PICTURE_FLOW {
            recv.insert_packet(now, &bytes);
        }
        while let Some(frame) = recv.poll_frame(now) {
            let picture = decoder.decode(&frame, Duration::ZERO).unwrap();
            numbers.extend(picture.and_then(read));
        }
    }
    numbers
}

#[test]
fn what_is_shown_begins_changes_and_ends_in_a_call_that_goes_on() {
    let own = Latest::default();
    let settings = VideoSettings {
        preview: Some(own.clone()),
        ..VideoSettings::default()
    };
    let mut stage = stage(settings, Some(theirs()));
    let (mut recv, mut decoder) = (
        VideoRecv::new(VideoRecvConfig::default()),
        DecodeStage::new(1),
    );
    let second = Duration::from_secs(1);
    let preview = || {
        let mut newest = None;
        own.look(&mut newest);
        newest.map(|newest| newest.frame.size())
    };
    let pattern = |width, height, fps| Showing {
        input: VideoIn::Pattern {
            size: Size::new(width, height).unwrap(),
            fps,
        },
        content: None,
    };
    stage.world.run_for(second).unwrap();
    assert!(seen(&stage, &mut recv, &mut decoder).is_empty());
    assert!(stage.video.stats(stage.runtime.now()).sent.is_none());

    assert!(stage.video.show(Some(pattern(320, 180, 10))).unwrap());
    stage.world.run_for(second).unwrap();
    let numbers = seen(&stage, &mut recv, &mut decoder);
    assert!(numbers.len() >= 9 && numbers.is_sorted(), "{numbers:?}");
    assert_eq!(
        preview().map(|size| size.to_string()).as_deref(),
        Some("320x180")
    );

    // What cannot be opened changes nothing.
    let missing = Showing {
        input: VideoIn::File("/nowhere/film.y4m".into()),
        content: None,
    };
    assert!(stage.video.show(Some(missing)).is_err());
    assert_eq!(stage.video.showing(), Some(&pattern(320, 180, 10)));
    stage.world.run_for(second).unwrap();
    assert!(seen(&stage, &mut recv, &mut decoder).len() >= 9);

    // Another size and rate, and the first picture of it stands by itself.
    let keys = stage
        .video
        .stats(stage.runtime.now())
        .sent
        .unwrap()
        .key_frames;
    assert!(stage.video.show(Some(pattern(160, 90, 20))).unwrap());
    stage.world.run_for(second).unwrap();
    let numbers = seen(&stage, &mut recv, &mut decoder);
    assert!(numbers.len() >= 18 && numbers[0] == 0, "{numbers:?}");
    let sent = stage.video.stats(stage.runtime.now()).sent.unwrap();
    assert!(sent.key_frames > keys);
    assert_eq!(
        preview().map(|size| size.to_string()).as_deref(),
        Some("160x90")
    );

    assert!(stage.video.show(None).unwrap());
    stage.world.run_for(second).unwrap();
    assert!(seen(&stage, &mut recv, &mut decoder).is_empty());
    assert_eq!(preview(), None);
    assert_eq!(stage.video.showing(), None);

    // The receiver that was not told of an end sees what begins anew.
    assert!(stage.video.show(Some(pattern(320, 180, 10))).unwrap());
    stage.world.run_for(second).unwrap();
    assert_eq!(seen(&stage, &mut recv, &mut decoder)[0], 0);
    assert!(stage.news().is_empty());
    stage.video.stop();
    assert_eq!(preview(), None);
}

#[test]
fn who_watches_themselves_does_so_while_nothing_can_be_sent() {
    for watched in [false, true] {
        let own = Latest::default();
        let settings = VideoSettings {
            preview: watched.then(|| own.clone()),
            input: Some(VideoIn::Pattern {
                size: Size::new(320, 180).unwrap(),
                fps: 30,
            }),
            ..VideoSettings::default()
        };
        let stage = stage(settings, Some(theirs()));
        stage.video.set_paused(stage.runtime.now(), true);
        let second = Duration::from_secs(1);
        let mut numbers = Vec::new();
        for _ in 0..3 {
            stage.world.run_for(second).unwrap();
            let mut newest = None;
            own.look(&mut newest);
            numbers.extend(newest.and_then(|newest| read(&newest.frame)));
        }
        let pictures = |(flow, _): &&(u64, Vec<u8>)| *flow == PICTURE_FLOW;
        assert_eq!(lock(&stage.line).iter().filter(pictures).count(), 0);
        if watched {
            assert!(numbers.is_sorted() && numbers[2] > 80, "{numbers:?}");
        } else {
            assert!(numbers.is_empty());
        }
    }
}

#[test]
fn what_others_take_away_is_gone_and_comes_back_with_the_next_picture() {
    let theirs = Latest::default();
    let stage = stage(
        VideoSettings {
            output: Some(VideoOut::Window(theirs.clone())),
            ..VideoSettings::default()
        },
        None,
    );
    let mut packetizer = Packetizer::new(VideoCodec::H264, 1, 1);
    let config = VideoConfig {
        size: Size::new(320, 180).unwrap(),
        fps: 30,
        bitrate: Bitrate::kbps(500),
        content: Content::Motion,
        temporal_layers: 1,
        threads: 1,
        effort: 0,
    };
    let mut encoder = EncodeStage::new(VideoCodec::H264);
    let mut pattern = TestPattern::new(config.size);
    let mut next = || {
        let frame = pattern.next_frame(Duration::ZERO);
        let key = read(&frame) == Some(0);
        let encoded = encoder.encode(config, key, &frame).unwrap();
        stage.arrive(&mut packetizer, &encoded.unwrap());
        let mut newest = None;
        theirs.look(&mut newest);
        newest.and_then(|newest| read(&newest.frame))
    };
    assert_eq!(next(), Some(0));
    stage.video.set_blank(true);
    assert_eq!(next(), None);
    stage.video.set_blank(false);
    assert_eq!(next(), Some(2));
}

/// A screen that gives what it is told to, in this size.
#[derive(Debug)]
struct Told {
    next: VecDeque<Taken>,
    size: Size,
    kind: SourceKind,
}

impl VideoSource for Told {
    fn size(&self) -> Size {
        self.size
    }

    fn interval(&self) -> Duration {
        Duration::from_millis(50)
    }

    fn read(&mut self, frame: &mut Frame) -> Result<Taken, Y4mError> {
        let next = self.next.pop_front().unwrap_or(Taken::Unchanged);
        if next == Taken::Picture {
            frame.resize(self.size);
        }
        Ok(next)
    }

    fn kind(&self) -> SourceKind {
        self.kind
    }
}

/// What it looks like at the 50 ms from `from` on; at these, a key frame is wanted.
fn looks(eye: &mut Eye, from: u64, count: u64, keys: &[u64]) -> Vec<Look> {
    let look = |index| {
        let shot = Shot {
            index,
            taken: Duration::from_millis(50) * u32::try_from(index).unwrap(),
            config: VideoConfig {
                size: size(),
                fps: 20,
                bitrate: Bitrate::kbps(300),
                content: Content::Text,
                temporal_layers: 1,
                threads: 1,
                effort: 0,
            },
            key: keys.contains(&index),
        };
        eye.look(&shot)
    };
    (from..from + count).map(look).collect()
}

fn eye(kind: SourceKind, size: Size, next: impl IntoIterator<Item = Taken>) -> Eye {
    let told = Told {
        next: next.into_iter().collect(),
        size,
        kind,
    };
    Eye::new(Box::new(told), theirs(), None)
}

/// When it is sent, of so many looks, and whether the other side is told that it stands still.
fn sent_of(looks: &[Look], is_still: bool) -> Vec<usize> {
    let picture = Look::Picture {
        size: size(),
        content: Content::Text,
        is_still,
    };
    (0..looks.len())
        .filter(|at| looks[*at] == picture)
        .collect()
}

#[test]
fn what_stands_still_is_encoded_on_for_a_second_and_then_now_and_then() {
    let mut eye = eye(SourceKind::Screen, size(), [Taken::Picture]);
    let looks = looks(&mut eye, 0, 60, &[41, 42]);
    let sent = sent_of(&looks, false);
    assert_eq!(sent[..20], (0..20).collect::<Vec<_>>());
    // Every 150 ms, and where a key frame is asked for.
    assert_eq!(
        sent[20..],
        [22, 25, 28, 31, 34, 37, 40, 41, 42, 45, 48, 51, 54, 57]
    );
    let same = looks.iter().filter(|look| **look == Look::Same);
    assert_eq!(same.count() + sent.len(), 60);
}

#[test]
fn who_is_told_that_something_stands_still_is_sent_it_ever_more_seldom() {
    let theirs = VideoCapabilities {
        features: VideoFeatures::STILL,
        ..theirs()
    };
    let changes = [vec![Taken::Picture], vec![Taken::Unchanged; 99]].concat();
    let told = Told {
        next: changes.iter().copied().cycle().take(200).collect(),
        size: size(),
        kind: SourceKind::Screen,
    };
    let mut eye = Eye::new(Box::new(told), theirs, None);
    let looks = looks(&mut eye, 0, 140, &[]);
    let sharp = sent_of(&looks, false);
    // A change is sent at once, and said to be one.
    let expected: Vec<usize> = (0..20).chain(100..120).collect();
    assert_eq!(sharp, expected);
    // 150 ms thrice, since what is lost last is missed only then; twice that, four times, and five at most.
    let still = sent_of(&looks, true);
    assert_eq!(
        still,
        [22, 25, 28, 31, 37, 49, 64, 79, 94, 122, 125, 128, 131, 137]
    );
}

/// What a screen that stands still for half a minute costs in its last twenty seconds, on the wire in bits per second; how
/// often its receiver counts it as frozen; and how long after the loss of the last picture before the stillness that is
/// shown after all.
fn still_share(features: VideoFeatures) -> (f64, u64, Duration) {
    let mut stage = stage(
        VideoSettings::default(),
        Some(VideoCapabilities {
            features: features.with(VideoFeatures::RETRANSMISSION),
            ..theirs()
        }),
    );
    // It moves for two seconds, and then once more after thirty.
    let given = [
        vec![Taken::Picture; 40],
        vec![Taken::Unchanged; 600],
        vec![Taken::Picture; 2],
    ];
    let told = Told {
        next: given.concat().into(),
        size: size(),
        kind: SourceKind::Screen,
    };
    let wanted = Showing {
        input: VideoIn::Screen {
            target: "told".into(),
            fps: 20,
        },
        content: Some(Content::Text),
    };
    stage.video.begin(wanted, Box::new(told));
    let mut recv = VideoRecv::new(VideoRecvConfig::default());
    recv.set_round_trip(Duration::from_millis(20));
    let (begin, tick) = (stage.runtime.now(), Duration::from_millis(10));
    let (mut bytes, mut lost, mut repaired) = (0, None, None);
    let mut shown_before = 0;
    for _ in 0..3400 {
        stage.world.run_for(tick).unwrap();
        let now = stage.runtime.now();
        let since = now - begin;
        for (flow, packet) in std::mem::take(&mut *lock(&stage.line)) {
            if flow != PICTURE_FLOW {
                continue;
            }
            if since > Duration::from_secs(11) && since < Duration::from_secs(31) {
                bytes += packet.len() + 64;
            }
            // What is refined for a second after the last change ends there.
            let is_last =
                since >= Duration::from_millis(2895) && since < Duration::from_millis(3010);
            if is_last && lost.is_none_or(|at| at == now) {
                lost = Some(now);
                continue;
            }
            recv.insert_packet(now, &packet);
        }
        while let Some(frame) = recv.poll_frame(now) {
            let is_behind = lost.is_some() && frame.frame.is_repaired;
            if is_behind && repaired.is_none() {
                repaired = lost.map(|at| now - at);
            }
            recv.rendered(now, size(), frame.frame.is_still);
            shown_before += 1;
        }
        for message in recv.poll_feedback(now) {
            let asked = PictureArrival {
                flow: REQUEST_FLOW,
                at: now,
                payload: message.into(),
            };
            stage.arrivals.try_send(asked).unwrap();
        }
    }
    assert!(shown_before > 60, "{shown_before}");
    let stats = recv.stats(stage.runtime.now());
    let bps = bytes as f64 * 8.0 / 20.0;
    eprintln!("{bps:.0} bit/s, {} freezes, {repaired:?}", stats.freezes);
    (bps, stats.freezes, repaired.unwrap())
}

#[test]
fn a_screen_that_stands_still_costs_next_to_nothing_is_not_frozen_and_misses_nothing() {
    let (bps, freezes, repaired) = still_share(VideoFeatures::STILL);
    assert!(bps < 2500.0, "{bps}");
    // The loss itself may be one.
    assert!(freezes <= 1, "{freezes}");
    assert!(repaired < Duration::from_millis(300), "{repaired:?}");
    // So it is for those who do not know of it.
    let (often, freezes, repaired) = still_share(VideoFeatures::NONE);
    assert!(often > 3.0 * bps, "{often} {bps}");
    assert!(freezes <= 1, "{freezes}");
    assert!(repaired < Duration::from_millis(300), "{repaired:?}");
}

#[test]
fn a_size_is_what_the_other_side_shows_at_most_and_nothing_is_nothing() {
    let large = Size::new(1280, 720).unwrap();
    let given = [
        Taken::Nothing,
        Taken::Picture,
        Taken::Nothing,
        Taken::Picture,
    ];
    let mut eye = eye(SourceKind::Camera, large, given);
    let picture = Look::Picture {
        size: Size::new(640, 360).unwrap(),
        content: Content::Motion,
        is_still: false,
    };
    let expected = [Look::Nothing, picture, Look::Nothing, picture];
    assert_eq!(looks(&mut eye, 0, 4, &[]), expected);
}

#[test]
fn a_film_goes_by_while_nobody_looks_and_a_camera_does_not() {
    for (kind, seen) in [(SourceKind::Film, 3), (SourceKind::Camera, 9)] {
        // Nothing comes after these.
        let given = [[Taken::Picture; 10], [Taken::Nothing; 10]].concat();
        let mut eye = eye(kind, size(), given);
        let looks = [looks(&mut eye, 0, 1, &[]), looks(&mut eye, 8, 8, &[])].concat();
        let pictures = looks.iter().take_while(|look| **look != Look::Nothing);
        assert_eq!(pictures.count(), seen, "{kind:?}");
    }
}

#[test]
fn a_screen_that_turns_from_text_to_a_film_is_said_and_a_flag_overrides_it() {
    /// A film of many shades.
    #[derive(Debug)]
    struct Film(u64);

    impl VideoSource for Film {
        fn size(&self) -> Size {
            size()
        }

        fn interval(&self) -> Duration {
            Duration::from_millis(50)
        }

        fn read(&mut self, frame: &mut Frame) -> Result<Taken, Y4mError> {
            frame.resize(size());
            self.0 += 1;
            let [y, _, _] = frame.planes_mut();
            for (at, sample) in y.iter_mut().enumerate() {
                *sample = ((at as u64 * 7 + self.0 * 31) % 220) as u8;
            }
            Ok(Taken::Picture)
        }

        fn kind(&self) -> SourceKind {
            SourceKind::Screen
        }
    }

    let mut eye = Eye::new(Box::new(Film(0)), theirs(), None);
    let content = |look: &Look| match look {
        Look::Picture { content, .. } => *content,
        Look::Nothing | Look::Same => panic!("{look:?}"),
    };
    let seen = looks(&mut eye, 0, 60, &[]);
    assert_eq!(content(&seen[0]), Content::Text);
    assert_eq!(content(&seen[59]), Content::Motion);
    let news: Vec<SourceNewsKind> = eye.take_news().iter().map(|news| news.kind).collect();
    assert_eq!(news, [SourceNewsKind::Content(Content::Motion)]);
    let mut eye = Eye::new(Box::new(Film(0)), theirs(), Some(Content::Text));
    let seen = looks(&mut eye, 0, 60, &[]);
    assert!(seen.iter().all(|look| content(look) == Content::Text));
    assert!(eye.take_news().is_empty());
}
