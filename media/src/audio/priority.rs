//! Threads that sound depends on go first, where the system lets them.
//!
//! They are given more weight, not real-time rights: what they do is bounded by the beat, but sound systems are known
//! to repeat one error a hundred thousand times a second, and a thread that nothing may interrupt would take the machine
//! with it. New threads inherit the weight, so the one that opens a device raises itself and with it those of the sound
//! system's library, without a call from within a callback.

/// Whether a thread goes before others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ThreadPriority {
    /// As the system gives it to everybody: nothing was asked for, or there is nothing to ask for here. Callbacks of
    /// macOS and Windows run on threads that those raise themselves.
    #[default]
    Ordinary,
    /// The thread goes before ordinary ones.
    Raised,
    /// It was asked for, and the system does not allow it.
    Denied,
}

/// Raises the calling thread, and all that it starts from here on.
pub(super) fn raise() -> ThreadPriority {
    system::raise()
}

#[cfg(target_os = "linux")]
#[expect(
    unsafe_code,
    reason = "the standard library cannot do it; one call, by value"
)]
mod system {
    use std::ffi::{c_int, c_uint};

    use super::ThreadPriority;

    /// Of -20 to 19, what sound servers give themselves.
    const NICE: c_int = -11;

    /// One thread or process; on Linux 0 is the calling thread, not its whole process.
    const PRIO_PROCESS: c_int = 0;

    unsafe extern "C" {
        // SAFETY: it takes numbers and changes nothing of this process but its place in the scheduler.
        safe fn setpriority(which: c_int, who: c_uint, nice: c_int) -> c_int;
    }

    pub(super) fn raise() -> ThreadPriority {
        match setpriority(PRIO_PROCESS, 0, NICE) {
            0 => ThreadPriority::Raised,
            _refused => ThreadPriority::Denied,
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::ThreadPriority;

    pub(super) fn raise() -> ThreadPriority {
        ThreadPriority::Ordinary
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The nineteenth field of a thread's line, counted from 1; the second may hold spaces.
    #[cfg(target_os = "linux")]
    fn nice() -> i64 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let fields = stat.rsplit_once(')').unwrap().1;
        fields.split_whitespace().nth(16).unwrap().parse().unwrap()
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_raised_thread_and_those_it_starts_go_before_others_and_nobody_else() {
        let before = nice();
        let seen = std::thread::Builder::new()
            .spawn(|| {
                let raised = raise();
                let child = std::thread::Builder::new().spawn(nice).unwrap();
                (raised, nice(), child.join().unwrap())
            })
            .unwrap()
            .join()
            .unwrap();
        let expected = match seen.0 {
            ThreadPriority::Raised => -11,
            ThreadPriority::Denied => before,
            ThreadPriority::Ordinary => panic!("Linux knows priorities"),
        };
        assert_eq!((seen.1, seen.2), (expected, expected));
        assert_eq!(nice(), before);
    }

    #[cfg(not(target_os = "linux"))]
    #[test]
    fn elsewhere_there_is_nothing_to_ask_for() {
        assert_eq!(raise(), ThreadPriority::Ordinary);
    }
}
