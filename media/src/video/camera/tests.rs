//! Cameras that are pulled out, used by others and forbidden, none of them real.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};

use rustix::io::Errno;

use super::{
    pixels::{Colours, Layout},
    *,
};
use crate::video::source::{SourceNewsKind, Taken, TroubleKind, VideoSource as _};

/// A node of the machine below.
#[derive(Debug, Clone)]
struct Plugged {
    path: PathBuf,
    identity: Identity,
    modes: Vec<Mode>,
    /// What the next calls answer.
    opens: Result<(), Errno>,
    starts: Result<(), Errno>,
    takes: Result<(), Errno>,
    /// Pictures that are ready.
    ready: usize,
    /// Of them, the brightness.
    brightness: u8,
    /// What was asked for.
    mode: Option<Mode>,
    streams: bool,
}

/// A machine whose cameras are pulled and plugged by tests.
#[derive(Debug, Clone, Default)]
struct Machine(Arc<Mutex<Vec<Plugged>>>);

fn mode(fourcc: &[u8; 4], width: u32, height: u32, fps: f64) -> Mode {
    Mode {
        fourcc: *fourcc,
        width,
        height,
        fps: Some(fps),
    }
}

impl Machine {
    fn plug(&self, number: usize, card: &str, bus: &str) {
        self.0.lock().unwrap().push(Plugged {
            path: format!("/dev/video{number}").into(),
            identity: Identity {
                card: card.into(),
                bus: bus.into(),
                is_camera: true,
            },
            modes: vec![mode(b"YUYV", 64, 48, 30.0)],
            opens: Ok(()),
            starts: Ok(()),
            takes: Ok(()),
            ready: 0,
            brightness: 100,
            mode: None,
            streams: false,
        });
    }

    fn change(&self, number: usize, change: impl FnOnce(&mut Plugged)) {
        let path = PathBuf::from(format!("/dev/video{number}"));
        let mut all = self.0.lock().unwrap();
        change(all.iter_mut().find(|node| node.path == path).unwrap());
    }

    fn pull(&self, number: usize) -> Plugged {
        let path = PathBuf::from(format!("/dev/video{number}"));
        let mut all = self.0.lock().unwrap();
        let at = all.iter().position(|node| node.path == path).unwrap();
        all.remove(at)
    }
}

impl Nodes for Machine {
    fn list(&self) -> Vec<PathBuf> {
        let all = self.0.lock().unwrap();
        all.iter().map(|node| node.path.clone()).collect()
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Node>> {
        let node = Open {
            machine: self.clone(),
            path: path.to_owned(),
        };
        node.with(|plugged| plugged.opens)??;
        Ok(Box::new(node))
    }
}

#[derive(Debug)]
struct Open {
    machine: Machine,
    path: PathBuf,
}

impl Open {
    fn with<T>(&self, ask: impl FnOnce(&mut Plugged) -> T) -> io::Result<T> {
        let mut all: MutexGuard<'_, Vec<Plugged>> = self.machine.0.lock().unwrap();
        let plugged = all.iter_mut().find(|node| node.path == self.path);
        Ok(ask(plugged.ok_or(Errno::NODEV)?))
    }
}

impl Node for Open {
    fn identity(&mut self) -> io::Result<Identity> {
        self.with(|plugged| plugged.identity.clone())
    }

    fn modes(&mut self, _wanted: (u32, u32)) -> io::Result<Vec<Mode>> {
        self.with(|plugged| plugged.modes.clone())
    }

    fn set_mode(&mut self, mode: Mode) -> io::Result<Layout> {
        self.with(|plugged| {
            plugged.mode = Some(mode);
            Layout {
                format: PixelFormat::of(mode.fourcc).unwrap(),
                width: mode.width,
                height: mode.height,
                stride: 2 * mode.width as usize,
                colours: Colours {
                    is_709: true,
                    is_full: false,
                },
            }
        })
    }

    fn set_rate(&mut self, _fps: u32) -> io::Result<()> {
        Err(Errno::NOTTY.into())
    }

    fn start(&mut self, _buffers: u32) -> io::Result<()> {
        self.with(|plugged| {
            plugged.starts?;
            plugged.streams = true;
            Ok(())
        })?
    }

    fn take(&mut self, into: &mut Vec<u8>) -> io::Result<Filled> {
        self.with(|plugged| {
            plugged.takes?;
            assert!(plugged.streams);
            if plugged.ready == 0 {
                return Ok(Filled::Nothing);
            }
            plugged.ready -= 1;
            into.clear();
            into.extend([plugged.brightness, 128].repeat(64 * 48));
            Ok(Filled::Whole)
        })?
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // It may be pulled out.
        self.with(|plugged| plugged.streams = false).ok();
    }
}

fn wish(camera: Option<&str>) -> CameraWish {
    CameraWish {
        camera: camera.map(str::to_owned),
        size: Size::new(640, 360).unwrap(),
        fps: 10,
    }
}

/// A call that looks at a camera of this machine ten times a second.
struct Call {
    machine: Machine,
    source: LiveSource,
    frame: Frame,
}

impl Call {
    fn new(machine: &Machine, camera: Option<&str>) -> Self {
        Self {
            machine: machine.clone(),
            source: from(Box::new(machine.clone()), wish(camera)),
            frame: Frame::black(Size::new(64, 48).unwrap(), Duration::ZERO),
        }
    }

    /// Looks so often, while each camera fills a buffer; what came last, and all that was said.
    fn run(&mut self, count: usize) -> (Taken, Vec<(SourceNewsKind, String)>) {
        let mut last = Taken::Nothing;
        let mut told = Vec::new();
        for _ in 0..count {
            for node in self.machine.0.lock().unwrap().iter_mut() {
                node.ready = (node.ready + 1).min(BUFFERS as usize);
            }
            last = self.source.read(&mut self.frame).unwrap();
            let news = self.source.take_news();
            told.extend(news.into_iter().map(|news| (news.kind, news.sentence)));
            self.frame.taken += Duration::from_millis(100);
        }
        (last, told)
    }

    /// The same, where one thing is said.
    #[track_caller]
    fn told(&mut self, count: usize, kind: SourceNewsKind, part: &str) -> Taken {
        let (last, told) = self.run(count);
        let [(first, sentence)] = told.as_slice() else {
            panic!("{told:?}");
        };
        assert_eq!(*first, kind, "{sentence}");
        assert!(sentence.contains(part), "{sentence}");
        last
    }
}

const fn trouble(kind: TroubleKind) -> SourceNewsKind {
    SourceNewsKind::Trouble(kind)
}

#[test]
fn a_camera_that_is_pulled_and_plugged_in_again_elsewhere_is_seen_again() {
    let machine = Machine::default();
    machine.plug(0, "Cam 3000", "usb-1");
    let mut call = Call::new(&machine, None);
    assert_eq!(
        call.told(3, SourceNewsKind::Opened, "The camera Cam 3000 can be seen"),
        Taken::Picture
    );
    let camera = machine.pull(0);
    let gone = trouble(TroubleKind::Gone);
    assert_eq!(call.told(60, gone, "was unplugged"), Taken::Nothing);
    // Another one is not taken in its place.
    machine.plug(1, "Attic", "usb-2");
    assert_eq!(call.run(60), (Taken::Nothing, vec![]));
    // The kernel gives it another number, and its old one may be somebody else's.
    machine.0.lock().unwrap().push(Plugged {
        path: "/dev/video2".into(),
        streams: false,
        ..camera
    });
    machine.change(2, |node| node.brightness = 50);
    let back = call.told(
        60,
        SourceNewsKind::Back,
        "can be seen by the other side again",
    );
    assert_eq!(back, Taken::Picture);
    assert_eq!(call.frame.plane(crate::video::frame::Plane::Y)[0], 50);
}

#[test]
fn a_camera_that_is_busy_denied_or_missing_is_one_sentence_and_comes_when_it_can() {
    let machine = Machine::default();
    let mut call = Call::new(&machine, None);
    call.told(30, trouble(TroubleKind::Missing), "No camera is plugged in");
    machine.plug(0, "Cam 3000", "usb-1");
    machine.change(0, |node| node.opens = Err(Errno::ACCESS));
    call.told(30, trouble(TroubleKind::Denied), "join the group");
    machine.change(0, |node| {
        node.opens = Ok(());
        node.starts = Err(Errno::BUSY);
    });
    call.told(30, trouble(TroubleKind::Busy), "used by another program");
    machine.change(0, |node| node.starts = Err(Errno::IO));
    call.told(30, trouble(TroubleKind::Failed), "plug it out and in");
    machine.change(0, |node| node.starts = Ok(()));
    let last = call.told(30, SourceNewsKind::Opened, "Cam 3000");
    assert_eq!(last, Taken::Picture);
    machine.change(0, |node| node.takes = Err(Errno::NODEV));
    call.told(30, trouble(TroubleKind::Gone), "was unplugged");
}

#[test]
fn a_camera_that_gives_no_pictures_is_opened_anew() {
    let machine = Machine::default();
    machine.plug(0, "Cam 3000", "usb-1");
    // Too short for a picture: the cable is bad.
    machine.change(0, |node| node.modes = vec![mode(b"YUYV", 128, 48, 30.0)]);
    let mut call = Call::new(&machine, None);
    assert_eq!(call.run(40), (Taken::Nothing, vec![]));
    call.told(60, trouble(TroubleKind::Failed), "gives no pictures");
    machine.change(0, |node| node.modes = vec![mode(b"YUYV", 64, 48, 30.0)]);
    call.told(70, SourceNewsKind::Opened, "Cam 3000");
}

#[test]
fn the_newest_picture_counts_and_one_that_is_not_there_yet_is_waited_for() {
    let machine = Machine::default();
    machine.plug(0, "Cam 3000", "usb-1");
    let mut call = Call::new(&machine, None);
    call.run(1);
    machine.change(0, |node| node.ready = 3);
    call.run(1);
    machine.change(0, |node| {
        assert_eq!(node.ready, 0, "the old ones are thrown away")
    });
    assert_eq!(call.source.read(&mut call.frame).unwrap(), Taken::Nothing);
    assert_eq!(call.run(1).0, Taken::Picture);
}

#[test]
fn cameras_are_listed_once_each_with_ids_and_found_by_them_and_by_names() {
    let machine = Machine::default();
    machine.plug(0, "Cam 3000", "usb-1");
    machine.plug(1, "Cam 3000", "usb-1");
    machine.change(1, |node| node.identity.is_camera = false);
    machine.plug(2, "Cam 3000 IR\u{1b}[2J", "usb-1");
    machine.plug(3, "Door", "usb-2");
    machine.plug(4, "Secret", "usb-3");
    machine.change(4, |node| node.opens = Err(Errno::PERM));
    let cameras = look(&machine);
    let ids: Vec<(&str, &str)> = cameras
        .there
        .iter()
        .map(|camera| (camera.id.as_str(), camera.name.as_str()))
        .collect();
    assert_eq!(
        ids,
        [
            ("usb-1", "Cam 3000"),
            ("usb-1#2", "Cam 3000 IR[2J"),
            ("usb-2", "Door")
        ]
    );
    assert_eq!(cameras.troubles.len(), 1);
    assert!(cameras.troubles[0].to_string().contains("/dev/video4"));
    let found = |wanted| choose(&cameras, Some(wanted)).map(|camera| camera.id);
    for (wanted, id) in [
        ("usb-1#2", "usb-1#2"),
        ("/dev/video3", "usb-2"),
        ("cam 3000", "usb-1"),
        ("door", "usb-2"),
        ("ir", "usb-1#2"),
    ] {
        assert_eq!(found(wanted).as_deref(), Ok(id), "{wanted}");
    }
    assert_eq!(choose(&cameras, None).unwrap().id, "usb-1");
    let several = found("cam").unwrap_err().why.to_string();
    assert!(several.contains("camera:usb-1#2"), "{several}");
    let none = found("attic").unwrap_err().why.to_string();
    assert!(
        none.contains("There are: Cam 3000 (camera:usb-1)"),
        "{none}"
    );
}

#[test]
fn of_modes_the_one_counts_that_is_fast_enough_then_large_enough_then_the_least_work() {
    let wanted = Size::new(1280, 720).unwrap();
    let usual = [
        mode(b"YUYV", 640, 480, 30.0),
        mode(b"YUYV", 1280, 720, 10.0),
        mode(b"MJPG", 1280, 720, 30.0),
        mode(b"MJPG", 1920, 1080, 30.0),
        mode(b"H264", 1280, 720, 30.0),
    ];
    assert_eq!(best(&usual, wanted, 30), Some(usual[2]));
    // Where it is fast enough, what needs no decoding.
    assert_eq!(best(&usual, wanted, 10), Some(usual[1]));
    assert_eq!(
        best(&usual, Size::new(1600, 900).unwrap(), 30),
        Some(usual[3])
    );
    assert_eq!(
        best(&usual, Size::new(320, 180).unwrap(), 30),
        Some(usual[0])
    );
    assert_eq!(best(&usual[..2], wanted, 30), Some(usual[0]));
    assert_eq!(best(&usual[4..], wanted, 30), None);
    let silent = Mode {
        fps: None,
        ..usual[1]
    };
    assert_eq!(best(&[usual[0], silent], wanted, 30), Some(silent));

    let machine = Machine::default();
    machine.plug(0, "Cam 3000", "usb-1");
    machine.change(0, |node| node.modes = vec![mode(b"GREY", 64, 48, 30.0)]);
    let mut call = Call::new(&machine, None);
    call.told(
        5,
        trouble(TroubleKind::Failed),
        "(GREY; understood are NV12",
    );
}
