//! Cameras.

use serde::Serialize;

use super::findings::Finding;

/// One camera, as `--video-in camera:ID` refers to it.
#[derive(Debug, Serialize)]
pub(super) struct Camera {
    id: String,
    name: String,
    path: String,
}

/// Whether there is something to be seen by.
#[cfg(all(feature = "video", target_os = "linux"))]
pub(super) fn examine() -> (Vec<Camera>, Vec<Finding>) {
    judge(ahoy_media::video::camera::list())
}

/// A build without pictures, or a system whose cameras are not known.
#[cfg(not(all(feature = "video", target_os = "linux")))]
pub(super) fn examine() -> (Vec<Camera>, Vec<Finding>) {
    (Vec::new(), Vec::new())
}

#[cfg(all(feature = "video", target_os = "linux"))]
fn judge(cameras: ahoy_media::video::camera::Cameras) -> (Vec<Camera>, Vec<Finding>) {
    use super::findings::Group;

    const WHAT: &str = "camera";
    let mut findings: Vec<Finding> = cameras
        .there
        .iter()
        .map(|camera| {
            let found = format!("{}, {}", camera.name, camera.path.display());
            Finding::ok(
                Group::Pictures,
                WHAT,
                found,
                format!("camera:{}", camera.id),
            )
        })
        .collect();
    for trouble in &cameras.troubles {
        let found = "one that may not be looked at";
        findings.push(Finding::note(
            Group::Pictures,
            WHAT,
            found,
            trouble.to_string(),
        ));
    }
    if findings.is_empty() {
        let none = Finding::note(
            Group::Pictures,
            WHAT,
            "none found",
            "Others would not see you.",
        );
        findings.push(none.advise(
            "Plug one in, or show something else: --video-in screen, window:TITLE or FILE.y4m",
        ));
    }
    let there = cameras.there.into_iter().map(|camera| Camera {
        id: camera.id,
        name: camera.name,
        path: camera.path.display().to_string(),
    });
    (there.collect(), findings)
}

#[cfg(all(test, feature = "video", target_os = "linux"))]
mod tests {
    use ahoy_media::video::{
        camera::{CameraInfo, Cameras},
        trouble::SourceTrouble,
    };

    use super::*;
    use crate::headless::doctor::findings::Standing;

    #[test]
    fn cameras_are_named_with_their_ids_and_none_keeps_nobody_from_calling() {
        let denied = SourceTrouble::NodesDenied {
            nodes: vec!["/dev/video2".into()],
        };
        let (told, findings) = judge(Cameras {
            there: vec![CameraInfo {
                id: "usb-1".into(),
                name: "Cam 3000".into(),
                path: "/dev/video0".into(),
            }],
            troubles: vec![denied.clone()],
        });
        assert_eq!(told[0].id, "usb-1");
        let lines: Vec<(Standing, &str, &str)> = findings
            .iter()
            .map(|one| (one.standing, one.found.as_str(), one.meaning.as_str()))
            .collect();
        assert_eq!(
            lines,
            [
                (Standing::Ok, "Cam 3000, /dev/video0", "camera:usb-1"),
                (
                    Standing::Note,
                    "one that may not be looked at",
                    denied.to_string().as_str()
                ),
            ]
        );
        let (told, findings) = judge(Cameras::default());
        assert!(told.is_empty());
        assert_eq!(findings[0].standing, Standing::Note);
        assert!(findings[0].advice.is_some());
    }
}
