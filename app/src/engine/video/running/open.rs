//! What pictures come from, and go to.

#[cfg(target_os = "linux")]
use ahoy_media::video::frame::Size;
use ahoy_media::video::{
    latest::LatestSink,
    reference::Reference,
    screen::{self, ScreenOptions, ScreenTarget},
    sink::{NullSink, RecordingSink},
    source::{PatternSource, VideoSource},
    y4m::{AtEnd, Y4mSource},
};

use super::Show;
use crate::engine::{
    media::MediaError,
    video::{VideoIn, VideoOut, VideoSettings},
};

pub(super) fn open_source(input: &VideoIn) -> Result<Box<dyn VideoSource>, MediaError> {
    Ok(match input {
        VideoIn::File(path) => Box::new(Y4mSource::open(path, AtEnd::Loop)?),
        VideoIn::Pattern { size, fps } => Box::new(PatternSource::new(*size, *fps)),
        VideoIn::Screen { target, fps } => {
            let target: ScreenTarget = target
                .parse()
                .map_err(|error| MediaError::Pictures(format!("{target}: {error}")))?;
            let options = ScreenOptions {
                fps: *fps,
                ..ScreenOptions::default()
            };
            Box::new(screen::source(target, options))
        }
        VideoIn::Camera { id, size, fps } => open_camera(id.clone(), *size, *fps)?,
    })
}

#[cfg(target_os = "linux")]
#[expect(clippy::unnecessary_wraps, reason = "other systems refuse")]
fn open_camera(
    camera: Option<String>,
    size: Size,
    fps: u32,
) -> Result<Box<dyn VideoSource>, MediaError> {
    use ahoy_media::video::camera::{CameraWish, source};

    Ok(Box::new(source(CameraWish { camera, size, fps })))
}

#[cfg(not(target_os = "linux"))]
fn open_camera(
    _camera: Option<String>,
    _size: Size,
    _fps: u32,
) -> Result<Box<dyn VideoSource>, MediaError> {
    let sentence = "cameras can be used on Linux only so far: leave out --video-in camera";
    Err(MediaError::Pictures(sentence.into()))
}

pub(super) fn open_show(settings: &VideoSettings) -> Result<Option<Show>, MediaError> {
    let Some(output) = &settings.output else {
        return Ok(None);
    };
    let fps = |input: &VideoIn| match input {
        VideoIn::File(_) | VideoIn::Camera { .. } | VideoIn::Screen { .. } => None,
        VideoIn::Pattern { fps, .. } => Some(*fps),
    };
    let fps = settings.reference.as_ref().and_then(fps).unwrap_or(30);
    Ok(Some(Show {
        sink: match output {
            VideoOut::Null => Box::new(NullSink),
            VideoOut::File(path) => Box::new(RecordingSink::new(path.clone(), fps)),
            VideoOut::Window(latest) => Box::new(LatestSink(latest.clone())),
        },
        reference: match &settings.reference {
            // What these showed is not at hand.
            None | Some(VideoIn::Camera { .. } | VideoIn::Screen { .. }) => None,
            Some(VideoIn::Pattern { size, .. }) => Some(Reference::pattern(*size)),
            Some(VideoIn::File(path)) => Some(Reference::file(path)?),
        },
        errors: 0,
    }))
}
