//! A camera as it is seen by whoever sits before it, outside of any call.
//!
//! It is the same source that a call would open, so what is seen here is what others would see, and what is wrong here would
//! be wrong there. Nothing is encoded, and nothing leaves. Codes that are held up to it may be read.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread::JoinHandle,
    time::Duration,
};

use ahoy_media::video::{
    frame::Frame,
    latest::Latest,
    source::{SourceNewsKind, Taken, TroubleKind, VideoSource},
};

use super::{open::open_source, preview::Preview, scan::read_code};
use crate::engine::video::VideoIn;

/// Codes are looked for so often: a person holds one up for longer, and each look costs a hundredth of a second or two.
const SCAN_EVERY: Duration = Duration::from_millis(200);

/// What a camera that is looked at tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// What keeps pictures from coming, or that nothing does any more.
    Trouble(Option<TroubleKind>),
    /// The text of a code that is held up to it, whatever it is.
    Code(String),
}

/// Shows a source until it is dropped, which lets the source go and takes its picture away before it returns.
#[derive(Debug)]
pub(crate) struct Mirror {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Mirror {
    /// Shows `input` at `latest`, and tells what there is to be told; of codes only where it `scans`.
    ///
    /// # Errors
    /// A sentence, where there is no thread left for it.
    pub(crate) fn start(
        input: VideoIn,
        latest: Latest,
        scans: bool,
        tell: impl FnMut(Told) + Send + 'static,
    ) -> Result<Self, String> {
        let mut preview = Preview::new(latest);
        preview.begin(&input);
        Self::of(
            move || open_source(&input).map_err(|error| error.to_string()),
            preview,
            scans,
            tell,
        )
    }

    fn of(
        open: impl FnOnce() -> Result<Box<dyn VideoSource>, String> + Send + 'static,
        preview: Preview,
        scans: bool,
        mut tell: impl FnMut(Told) + Send + 'static,
    ) -> Result<Self, String> {
        let (stop, stopped) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("ahoy-mirror".into())
            .spawn(move || match open() {
                Ok(source) => look(source, preview, scans, &stopped, &mut tell),
                Err(error) => {
                    tracing::info!(%error, "nothing to look at");
                    tell(Told::Trouble(Some(TroubleKind::Failed)));
                }
            })
            .map_err(|error| error.to_string())?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the mirror broke");
        }
    }
}

fn look(
    mut source: Box<dyn VideoSource>,
    mut preview: Preview,
    scans: bool,
    stopped: &Receiver<()>,
    tell: &mut impl FnMut(Told),
) {
    let mut frame = Frame::black(source.size(), Duration::ZERO);
    let (mut at, mut scan_at) = (Duration::ZERO, Duration::ZERO);
    loop {
        frame.taken = at;
        match source.read(&mut frame) {
            Ok(Taken::Picture) => {
                preview.show(&frame);
                if scans && at >= scan_at {
                    scan_at = at + SCAN_EVERY;
                    if let Some(code) = read_code(&frame) {
                        tell(Told::Code(code));
                    }
                }
            }
            Ok(Taken::Unchanged | Taken::Nothing) => {}
            Ok(Taken::End) | Err(_) => {
                tell(Told::Trouble(Some(TroubleKind::Failed)));
                break;
            }
        }
        for news in source.take_news() {
            match news.kind {
                SourceNewsKind::Opened | SourceNewsKind::Back => tell(Told::Trouble(None)),
                SourceNewsKind::Trouble(trouble) => {
                    preview.clear();
                    tell(Told::Trouble(Some(trouble)));
                }
                SourceNewsKind::Black | SourceNewsKind::Content(_) => {}
            }
        }
        // Nothing is ever said there: that it is closed is what ends this.
        match stopped.recv_timeout(source.interval()) {
            Err(RecvTimeoutError::Timeout) => at += source.interval(),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    // First of all the camera's lamp goes out.
    drop(source);
    preview.clear();
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::TryRecvError,
    };

    use ahoy_media::video::{
        frame::Size,
        latest::Newest,
        pattern::{TestPattern, read},
        source::SourceNews,
        y4m::Y4mError,
    };

    use super::{super::scan::tests::first_read, *};

    /// A camera that has its lamp on from its making until it is let go.
    #[derive(Debug)]
    struct Camera {
        lamp: Arc<AtomicBool>,
        pattern: TestPattern,
        size: Size,
        /// What happens with each look, the next one last.
        script: Vec<Option<TroubleKind>>,
        news: Vec<SourceNews>,
    }

    impl VideoSource for Camera {
        fn size(&self) -> Size {
            self.size
        }

        fn interval(&self) -> Duration {
            Duration::from_millis(1)
        }

        fn read(&mut self, frame: &mut Frame) -> Result<Taken, Y4mError> {
            self.lamp.store(true, Ordering::Relaxed);
            let kind = match self.script.pop() {
                Some(Some(trouble)) => SourceNewsKind::Trouble(trouble),
                Some(None) => SourceNewsKind::Back,
                None => return Ok(Taken::Unchanged),
            };
            self.news.push(SourceNews {
                kind,
                sentence: String::new(),
                trouble: None,
            });
            if matches!(kind, SourceNewsKind::Trouble(_)) {
                return Ok(Taken::Nothing);
            }
            *frame = self.pattern.next_frame(frame.taken);
            Ok(Taken::Picture)
        }

        fn take_news(&mut self) -> Vec<SourceNews> {
            std::mem::take(&mut self.news)
        }
    }

    impl Drop for Camera {
        fn drop(&mut self) {
            self.lamp.store(false, Ordering::Relaxed);
        }
    }

    fn preview_of(size: Size, latest: &Latest) -> Preview {
        let mut preview = Preview::new(latest.clone());
        preview.begin(&VideoIn::Camera {
            id: None,
            size,
            fps: 30,
        });
        preview
    }

    #[test]
    fn what_it_sees_is_mirrored_and_it_is_let_go_at_once() {
        let size = Size::new(640, 360).unwrap();
        let lamp = Arc::new(AtomicBool::new(false));
        let mut script = vec![
            Some(TroubleKind::Missing),
            None,
            Some(TroubleKind::Gone),
            None,
        ];
        let expected: Vec<_> = script.clone();
        script.reverse();
        let camera = Camera {
            lamp: Arc::clone(&lamp),
            pattern: TestPattern::new(size),
            size,
            script,
            news: Vec::new(),
        };
        let latest = Latest::default();
        let preview = preview_of(size, &latest);
        let (told, heard) = sync_channel(16);
        let tell = move |news| told.send(news).unwrap();
        let mirror = Mirror::of(move || Ok(Box::new(camera)), preview, false, tell).unwrap();
        let heard: Vec<_> = heard.iter().take(expected.len()).collect();
        let expected: Vec<_> = expected.into_iter().map(Told::Trouble).collect();
        assert_eq!(heard, expected);
        let mut seen = None;
        // Whoever writes there in this moment is done in the next.
        while !latest.look(&mut seen) {}
        let newest = seen.clone().unwrap();
        assert!(newest.is_mirrored);
        assert_eq!(read(&newest.frame), Some(1), "the second picture");
        assert!(lamp.load(Ordering::Relaxed));
        drop(mirror);
        assert!(!lamp.load(Ordering::Relaxed), "it is let go");
        assert!(latest.look(&mut seen) && seen.is_none(), "nothing is left");
    }

    /// A camera before which somebody holds a code.
    #[derive(Debug)]
    struct Still(Frame);

    impl VideoSource for Still {
        fn size(&self) -> Size {
            self.0.size()
        }

        fn interval(&self) -> Duration {
            Duration::from_millis(1)
        }

        fn read(&mut self, frame: &mut Frame) -> Result<Taken, Y4mError> {
            frame.assign(&self.0);
            Ok(Taken::Picture)
        }
    }

    #[test]
    fn codes_are_told_where_they_are_looked_for_and_only_there() {
        let link = "ahoy:ybndrfg8ejkmcpqxot1uwisza345h769";
        let (_, shown) = first_read((640, 480), link, 20.0, 8.0).unwrap();
        let size = shown.size();
        for scans in [false, true] {
            let latest = Latest::default();
            let preview = preview_of(size, &latest);
            let (told, heard) = sync_channel(1024);
            let tell = move |news| told.send(news).unwrap_or_default();
            let still = Still(shown.clone());
            let mirror = Mirror::of(move || Ok(Box::new(still)), preview, scans, tell).unwrap();
            if scans {
                assert_eq!(heard.recv(), Ok(Told::Code(link.to_owned())));
            } else {
                let mut seen = None;
                let number = |seen: &Option<Newest>| seen.as_ref().map(|newest| newest.number);
                // More pictures than one look for codes lets pass.
                while number(&seen).is_none_or(|number| number < 250) {
                    latest.look(&mut seen);
                    std::thread::yield_now();
                }
                assert_eq!(heard.try_recv(), Err(TryRecvError::Empty));
            }
            drop(mirror);
        }
    }

    #[test]
    fn what_cannot_be_opened_is_told() {
        let (told, heard) = sync_channel(1);
        let preview = Preview::new(Latest::default());
        let tell = move |news| told.send(news).unwrap();
        let mirror = Mirror::of(|| Err("no such thing".into()), preview, false, tell).unwrap();
        let failed = Told::Trouble(Some(TroubleKind::Failed));
        assert_eq!(heard.recv(), Ok(failed));
        drop(mirror);
    }
}
