//! What the system keeps of a process: no core dump, and no look into its memory by other programs of the same user.

/// Set, the system may keep what it wants: to look for what made ahoy end.
const VARIABLE: &str = "AHOY_CORE_DUMPS";

/// Sees to it. A system that cannot is told of in the log. `closed`: other programs may not look either, which a window
/// cannot have: portals look whose it is before they let it see a screen.
#[cfg(target_os = "linux")]
pub(super) fn start(closed: bool) {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

    if std::env::var_os(VARIABLE).is_some_and(|value| !value.is_empty()) {
        return;
    }
    // One byte and not none: with none, the kernel still pipes a dump to whatever the system collects them with.
    let limit = Rlimit {
        current: Some(1),
        maximum: Some(1),
    };
    if let Err(error) = setrlimit(Resource::Core, limit) {
        tracing::debug!(%error, "core dumps stay on");
    }
    if closed && let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::debug!(%error, "others may look into this process");
    }
}

/// There is nothing to be done about it here.
#[cfg(not(target_os = "linux"))]
pub(super) fn start(_closed: bool) {
    if std::env::var_os(VARIABLE).is_none() {
        tracing::debug!("this system may keep core dumps");
    }
}
