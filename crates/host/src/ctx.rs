//! What an invocation carries: arguments, environment, standard streams, descriptors.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use awsm_sandbox::{Leave, TrapKind, Wait, clock};
use rustix::event::{PollFd, Timespec, poll};

use crate::connect;
use crate::devices;
use crate::errno::{Errno, Fail};
use crate::grants::{FileLimits, Grants, Socket};
use crate::rights::Rights;
use crate::streams::{Output, Stdin};
use crate::strings::StringList;
use crate::table::{Descriptor, STREAMS, Table, Tree};
use crate::waiting::{Ask, Helpers, Interest, Job, Panicked, Pending, Source};

/// What helpers move at once where they hold much for the account already.
const HELPER_LEAST_BYTES: usize = 4096;

/// The state of one invocation's WASI calls.
#[derive(Debug)]
pub struct WasiCtx {
    /// Program name and arguments.
    pub args: Arc<StringList>,
    /// Environment that all invocations of a function share.
    pub env: Arc<StringList>,
    /// Environment of this invocation, after the shared one.
    pub request_env: StringList,
    /// Descriptor 0.
    pub stdin: Stdin,
    /// Descriptor 1.
    pub stdout: Output,
    /// Descriptor 2.
    pub stderr: Output,
    /// Directories and sockets.
    pub grants: Option<Arc<Grants>>,
    /// Who does what may take long. Without them it is done at once, and the thread waits.
    pub helpers: Option<Arc<Helpers>>,
    /// The guest's descriptors; none as long as it has only looked at its streams.
    pub(crate) table: Option<Box<Table>>,
    /// Bytes written to files.
    pub(crate) written: u64,
    /// See [`Self::take_helped_ns`].
    pub(crate) helped_ns: u64,
    /// What the call that the guest is in waits for, if it has to.
    pub(crate) pending: Option<Box<Pending>>,
    /// How far that call had come when the guest was preempted in it.
    pub(crate) progress: Progress,
}

/// How far a call had come that was interrupted. Taken by the call that goes on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Progress {
    /// No call was.
    #[default]
    None,
    /// It has filled so many bytes.
    Bytes(usize),
    /// It is in a list of buffers.
    Buffers(Position),
    /// It has looked at so many subscriptions, found so many events, and nothing else comes before
    /// that time.
    Subscriptions { index: u32, events: u32, earliest_ns: u64 },
}

/// How far a call has come in a list of buffers. The buffer at hand is noted when the call comes to
/// it: what is read may overwrite the list.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Position {
    /// Which buffer.
    pub(crate) index: u32,
    /// Where it lies.
    pub(crate) start: u32,
    pub(crate) len: u32,
    /// Bytes of the buffer at hand that are done with.
    pub(crate) done: u32,
    /// Bytes of all buffers, as far as the call counts them.
    pub(crate) total: u32,
}

impl Default for WasiCtx {
    fn default() -> Self {
        Self {
            args: Arc::default(),
            env: Arc::default(),
            request_env: StringList::new(),
            stdin: Stdin::Empty,
            stdout: Output::Discard,
            stderr: Output::Discard,
            grants: None,
            helpers: None,
            table: None,
            written: 0,
            helped_ns: 0,
            pending: None,
            progress: Progress::None,
        }
    }
}

impl WasiCtx {
    /// A descriptor to look at. A guest that looks at nothing but its streams has no table.
    #[inline]
    pub(crate) fn get(&mut self, fd: u32) -> Result<&Descriptor, Errno> {
        if self.table.is_none() {
            if let Some(stream) = STREAMS.get(fd as usize) {
                return Ok(stream);
            }
            if self.grants.is_none() {
                return Err(Errno::Badf);
            }
        }
        self.table().get(fd)
    }

    /// A descriptor to change.
    pub(crate) fn get_mut(&mut self, fd: u32) -> Result<&mut Descriptor, Errno> {
        self.get(fd)?;
        self.table().get_mut(fd)
    }

    /// A descriptor that may do all of this.
    pub(crate) fn allowed(&mut self, fd: u32, needed: Rights) -> Result<&Descriptor, Errno> {
        let descriptor = self.get(fd)?;
        descriptor.allows(needed)?;
        Ok(descriptor)
    }

    /// All descriptors, those that are granted included.
    pub(crate) fn table(&mut self) -> &mut Table {
        let grants = self.grants.as_deref();
        self.table.get_or_insert_with(|| {
            let limits = grants.map_or_else(FileLimits::default, |g| g.limits);
            let mut table = Table::new(limits, grants.and_then(|g| g.descriptors.clone()));
            let has_devices = grants.is_some_and(Grants::has_devices);
            let mounts = grants.map_or(&[][..], |grants| &grants.mounts);
            for (place, mount) in mounts.iter().enumerate() {
                let has_devices = has_devices && mount.name == devices::ROOT;
                let tree = Tree::Host { dir: Arc::clone(&mount.dir), has_devices };
                table.grant(Descriptor::of_directory(tree, mount.writable, Some(place)));
            }
            if grants.is_some_and(|grants| grants.preopened() > mounts.len()) {
                table.grant(Descriptor::of_directory(Tree::Devices, false, Some(mounts.len())));
            }
            for socket in grants.iter().flat_map(|g| &g.sockets) {
                match socket {
                    // All invocations share it.
                    Socket::Listener(_) => table.grant(connect::open(socket)),
                    _ => table.grant_connection(|| connect::open(socket)),
                }
            }
            Box::new(table)
        })
    }

    /// The limits on files.
    pub(crate) fn limits(&self) -> FileLimits {
        self.grants.as_deref().map_or_else(FileLimits::default, |grants| grants.limits)
    }

    /// The descriptors that the guest waits for when it is blocked in
    /// [`Wait::Event`].
    #[must_use]
    pub fn interests(&self) -> &[Interest] {
        self.pending.as_deref().map_or(&[], |pending| &pending.interests)
    }

    /// What the guest waits to be done when it is blocked in
    /// [`Wait::Event`].
    #[must_use]
    pub fn job(&self) -> Option<&Job> {
        self.pending.as_deref()?.job.as_ref()
    }

    /// Bytes that it takes while its guest waits, and that the guest can make more: what it has
    /// said and nobody has taken, what it waits for, its descriptors.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let waits = self.pending.as_deref().map_or(0, |pending| pending.interests.capacity());
        let descriptors = self.table.as_deref().map_or(0, Table::held_bytes);
        let said = self.stdout.capacity() + self.stderr.capacity();
        said + waits * size_of::<Interest>() + descriptors
    }

    /// Nobody can wait for what the guest is blocked in: the call answers this error when it is
    /// made again and would still have to wait.
    pub fn cannot_wait(&mut self, errno: Errno) {
        self.pending().failed = Some(errno);
    }

    pub(crate) fn pending(&mut self) -> &mut Pending {
        self.pending.get_or_insert_default()
    }

    /// The guest is gone: closes up to `count` of its descriptors. Says whether there are more,
    /// which would be closed with the rest of what it has.
    pub fn close_some(&mut self, count: usize) -> bool {
        let more = self.table.as_mut().is_some_and(|table| table.close_some(count));
        if !more {
            self.table = None;
        }
        more
    }

    /// Another call begins.
    #[inline]
    pub(crate) fn forget_call(&mut self) {
        self.pending = None;
        self.progress = Progress::None;
    }
}

impl WasiCtx {
    /// How to leave until a descriptor is ready.
    pub(crate) fn until_ready(&mut self, source: Source, read: bool) -> Fail {
        let pending = self.pending();
        pending.interests.clear();
        pending.interests.push(Interest { source, read, write: !read });
        pending.until_ready(None)
    }

    /// Waits on this thread for what a blocked guest waits for, at most until a time of the
    /// monotonic clock.
    ///
    /// # Errors
    /// If the system cannot wait.
    pub fn wait(&self, until_ns: Option<u64>) -> io::Result<()> {
        if let Some(job) = self.job() {
            job.wait();
            return Ok(());
        }
        let mut fds: Vec<_> = self
            .interests()
            .iter()
            .map(|interest| PollFd::from_borrowed_fd(interest.source.as_fd(), interest.flags()))
            .collect();
        loop {
            let timeout =
                until_ns.map(|until| timespec(until.saturating_sub(clock::monotonic_ns())));
            match poll(&mut fds, timeout.as_ref()) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn timespec(ns: u64) -> Timespec {
    Timespec { tv_sec: (ns / 1_000_000_000).cast_signed(), tv_nsec: (ns % 1_000_000_000) as _ }
}

impl WasiCtx {
    /// What a helper has answered to this question of the call that the guest is in; `None` if it
    /// was not asked. A call looks for its answer before it decides anything, since what it decided
    /// by may have changed by the very work that it waits for.
    ///
    /// # Errors
    /// That the guest waits on, or that its helper panicked; `EIO` if the call asked something
    /// else, which is not done again.
    pub(crate) fn answered<R: 'static>(&mut self, ask: Ask<R>) -> Result<Option<R>, Fail> {
        let Some(pending) = &mut self.pending else { return Ok(None) };
        let Some(mut job) = pending.job.take() else { return Ok(None) };
        if job.asked != ask.name {
            return Err(Errno::Io.into());
        }
        let Some((answer, cpu_ns)) = job.take() else {
            pending.job = Some(job);
            return Err(Leave::Block(Wait::Event { until_ns: None }).into());
        };
        self.helped_ns += cpu_ns;
        match answer.downcast::<R>() {
            Ok(answer) => Ok(Some(*answer)),
            Err(other) if other.is::<Panicked>() => Err(Leave::Trap(TrapKind::HostPanic).into()),
            Err(_) => Err(Errno::Io.into()),
        }
    }

    /// Asks for something that may take long: a helper does it if there are helpers, and the guest
    /// leaves until it is done. Without helpers it is done here.
    ///
    /// # Errors
    /// How the guest leaves.
    pub(crate) fn ask<R: Send + 'static>(
        &mut self,
        ask: Ask<R>,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, Fail> {
        self.ask_holding(ask, 0, work)
    }

    /// The same, for what holds so many bytes.
    ///
    /// # Errors
    /// As there; `ENOBUFS` if the helpers hold too much for the account already.
    pub(crate) fn ask_holding<R: Send + 'static>(
        &mut self,
        ask: Ask<R>,
        bytes: usize,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, Fail> {
        let Some(helpers) = &self.helpers else { return Ok(work()) };
        let job = helpers.begin(ask.name, bytes, work).map_err(|_| Errno::Nobufs)?;
        self.pending().job = Some(job);
        Err(Leave::Block(Wait::Event { until_ns: None }).into())
    }

    /// How much of `bytes` a helper can be asked to move at once: all of it where its account has
    /// room.
    pub(crate) fn helper_room(&self, bytes: usize) -> usize {
        let has_room = self.helpers.as_ref().is_none_or(|helpers| helpers.has_room(bytes));
        if has_room { bytes } else { bytes.min(HELPER_LEAST_BYTES) }
    }

    /// The processor's time that helpers have taken for it since this was last asked.
    pub fn take_helped_ns(&mut self) -> u64 {
        std::mem::take(&mut self.helped_ns)
    }

    /// As [`Self::answered`] and then [`Self::ask`], for calls that have nothing to decide.
    ///
    /// # Errors
    /// As these.
    pub(crate) fn offload<R: Send + 'static>(
        &mut self,
        ask: Ask<R>,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, Fail> {
        match self.answered(ask)? {
            Some(answer) => Ok(answer),
            None => Ok(self.ask(ask, work)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOUBLE: Ask<usize> = Ask::new("double");
    const NAME: Ask<String> = Ask::new("name");
    /// Of another type than the real one.
    const FALSE_DOUBLE: Ask<String> = Ask::new("double");

    fn is_blocked<R>(result: Result<R, Fail>) -> bool {
        matches!(result, Err(Fail::Leave(Leave::Block(Wait::Event { until_ns: None }))))
    }

    #[test]
    fn what_a_guest_makes_it_hold_is_counted() {
        let mut context = WasiCtx { stdout: Output::buffer(1 << 20), ..WasiCtx::default() };
        context.stderr = Output::log(1 << 10);
        assert_eq!(context.held_bytes(), 0);
        context.table();
        let table = context.held_bytes();
        assert!(table > 0, "three descriptors");
        context.stdout.write(&[0; 5000]).expect("there is room");
        context.stderr.write(&[0; 500]).expect("there is room");
        let said = context.held_bytes();
        assert!(said >= table + 5500);
        let interest = Interest { source: Source::Stdin, read: true, write: false };
        context.pending().interests = vec![interest; 100];
        assert!(context.held_bytes() >= said + 100 * size_of::<Interest>());
        context.forget_call();
        assert_eq!(context.held_bytes(), said);
    }

    #[test]
    fn an_answer_is_for_what_was_asked() {
        let context = || WasiCtx { helpers: Some(Helpers::new(1)), ..WasiCtx::default() };
        let asked = || {
            let mut context = context();
            assert!(matches!(context.answered(DOUBLE), Ok(None)));
            assert!(context.ask(DOUBLE, || 4).is_err());
            context.wait(None).expect("waits");
            context
        };
        assert!(matches!(asked().answered(DOUBLE), Ok(Some(4))));
        let mut other = asked();
        assert!(matches!(other.answered(NAME), Err(Fail::Errno(Errno::Io))));
        assert!(matches!(other.answered(DOUBLE), Ok(None)), "it is gone");
        assert!(matches!(asked().answered(FALSE_DOUBLE), Err(Fail::Errno(Errno::Io))));
        // Another call begins without it.
        let mut next = asked();
        next.forget_call();
        assert!(matches!(next.answered(DOUBLE), Ok(None)));
        assert!(is_blocked(next.offload(NAME, || "x".to_owned())));
        next.wait(None).expect("waits");
        assert_eq!(next.offload(NAME, || "y".to_owned()).ok().as_deref(), Some("x"));
        // A helper's panic is the call's.
        let mut failing = context();
        assert!(failing.ask(NAME, || panic!("of this test")).is_err());
        failing.wait(None).expect("waits");
        let trapped = Fail::Leave(Leave::Trap(TrapKind::HostPanic));
        assert_eq!(format!("{:?}", failing.answered(NAME)), format!("Err({trapped:?})"));
    }
}
