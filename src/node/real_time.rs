//! A daemon that is never late: started with a real-time priority, where that is allowed.
//!
//! A VRRP router that doesn't get a processor for three adverts loses the virtual IP, or takes it from
//! one that is alive. On a machine with ten busy processes for each processor, a normal process waits
//! up to 170 ms, one with a real-time priority 1 ms (docs/configuration.md, Keepalived). Keepalived's own
//! `vrrp_rt_priority` limits the processor time of a reload as well, and its child is killed for it, so the priority is given from outside.

use anyhow::anyhow;
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

/// Above every normal process, below the kernel's own threads, which have 50.
const PRIORITY: u8 = 20;

/// Does `work` with a real-time priority (`SCHED_FIFO`), which processes that it starts keep.
///
/// Where this is not allowed (a lab without root, a container without `CAP_SYS_NICE`), `say` is told,
/// and the work is done without.
///
/// # Errors
/// Those of `work`.
pub(super) fn start<T: Send>(
    say: &(dyn Fn(&str) + Sync),
    work: impl FnOnce() -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    // A thread of its own: the priority ends with it, and only what it started has it.
    let worker = || {
        if let Err(error) = raise() {
            say(&format!("no real-time priority: {error}"));
        }
        work()
    };
    std::thread::scope(|scope| scope.spawn(worker).join())
        .map_err(|_| anyhow!("the thread that starts the daemon panicked"))?
}

fn raise() -> anyhow::Result<()> {
    let priority = ThreadPriorityValue::try_from(PRIORITY).map_err(|why| anyhow!(why))?;
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    set_thread_priority_and_policy(
        thread_native_id(),
        ThreadPriority::Crossplatform(priority),
        policy,
    )
    .map_err(|error| match error {
        thread_priority::Error::OS(code) => std::io::Error::from_raw_os_error(code).into(),
        other => anyhow!("{other:?}"),
    })
}
