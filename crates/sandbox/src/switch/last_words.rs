//! The last line of a process in which isolation may be broken.
//!
//! Everything here runs in a signal handler of a process that is about to end: it allocates, locks
//! and panics nowhere, and calls nothing but what signal handlers may call (`open`, `read`,
//! `close`, `write`, `sigaction`, `tgkill`).

use std::mem::MaybeUninit;

use crate::limits::TRACE_NAME_CHARS;
use crate::switch::reach::Reach;

/// Longest line, its end included.
const LINE_BYTES: usize = 1024;

/// A fault that no rule explains.
pub(crate) struct Fault<'a> {
    /// The signal's number.
    pub signal: libc::c_int,
    /// The instruction that was executed.
    pub pc: usize,
    /// The address that it touched, or what the system says in its place.
    pub address: usize,
    /// The reach of the current guest.
    pub reach: &'a Reach,
    /// Is the address in the guard below the guest's stack?
    pub in_guard: bool,
}

/// Says what happened, in one line on standard error, and ends the process as the signal does by
/// default.
pub(crate) fn end_process(fault: &Fault<'_>) -> ! {
    let mut line = Line::new();
    describe(fault, &mut line);
    line.write_to_stderr();
    die_of(fault.signal)
}

fn describe(fault: &Fault<'_>, line: &mut Line) {
    line.text("awsm: ");
    line.text(signal_name(fault.signal));
    line.text(" at pc ");
    line.hex(fault.pc);
    match fault.reach.place_of(fault.pc) {
        Some(place) => {
            line.text(" (code of the guest's module + ");
            line.hex(place.offset);
            if !place.function.is_empty() {
                line.text(", function `");
                line.name(place.function);
                line.text("`");
            }
            line.text(")");
        }
        None => {
            line.text(" (");
            maps::describe(fault.pc, line);
            line.text(")");
        }
    }
    line.text(", address ");
    line.hex(fault.address);
    line.text(", while a guest was running");
    if fault.in_guard {
        line.text(": a function of the host has used up the guest's stack");
    }
    line.text(
        ". It is no trap of the guest's own: isolation may be broken, so the process ends. \
         Report this line together with the module.",
    );
}

fn signal_name(signal: libc::c_int) -> &'static str {
    match signal {
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGBUS => "SIGBUS",
        libc::SIGILL => "SIGILL",
        libc::SIGFPE => "SIGFPE",
        libc::SIGTRAP => "SIGTRAP",
        _ => "a signal",
    }
}

/// Ends the process by `signal`'s default action, with a core file where the system writes one.
pub(crate) fn die_of(signal: libc::c_int) -> ! {
    restore_default(signal);
    // SAFETY: sends a signal to this thread; the other calls end the process.
    unsafe {
        libc::syscall(libc::SYS_tgkill, libc::getpid(), libc::gettid(), signal);
        // Where the signal is blocked.
        libc::abort()
    }
}

/// Puts the default action of `signal` back.
pub(crate) fn restore_default(signal: libc::c_int) {
    // SAFETY: all-zero is a valid sigaction: the default action, an empty mask, no flags.
    unsafe {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        action.sa_sigaction = libc::SIG_DFL;
        libc::sigaction(signal, &raw const action, std::ptr::null_mut());
    }
}

/// A line of text that is cut where its room ends.
struct Line {
    bytes: [u8; LINE_BYTES],
    len: usize,
}

impl Line {
    fn new() -> Self {
        Self { bytes: [0; LINE_BYTES], len: 0 }
    }

    fn byte(&mut self, byte: u8) {
        // The last place is the line's end.
        if let Some(place) = self.bytes[..LINE_BYTES - 1].get_mut(self.len) {
            *place = byte;
            self.len += 1;
        }
    }

    fn text(&mut self, text: &str) {
        text.bytes().for_each(|byte| self.byte(byte));
    }

    /// A name that somebody else chose: nothing in it may end the line or move a terminal's cursor.
    fn name(&mut self, name: &str) {
        self.foreign(name.as_bytes());
    }

    fn foreign(&mut self, bytes: &[u8]) {
        for byte in bytes.iter().take(TRACE_NAME_CHARS) {
            self.byte(if byte.is_ascii_graphic() || *byte == b' ' { *byte } else { b'?' });
        }
    }

    fn hex(&mut self, number: usize) {
        self.text("0x");
        let digits = (usize::BITS - number.leading_zeros()).div_ceil(4).max(1);
        for digit in (0..digits).rev() {
            let digit = (number >> (4 * digit)) & 0xf;
            self.byte(b"0123456789abcdef"[digit]);
        }
    }

    fn write_to_stderr(&mut self) {
        self.bytes[self.len] = b'\n';
        // SAFETY: initialised bytes of this value. Whatever comes of it, the process ends.
        unsafe { libc::write(libc::STDERR_FILENO, self.bytes.as_ptr().cast(), self.len + 1) };
    }
}

/// Which file an address belongs to. Source: Linux, `filesystems/proc.rst`, `/proc/PID/maps`.
mod maps {
    use super::Line;

    /// Of each line of the table, as many bytes are looked at.
    const ENTRY_BYTES: usize = 512;

    /// Writes what is mapped at `address`, as far as the system tells.
    pub(super) fn describe(address: usize, line: &mut Line) {
        let mut entry = [0; ENTRY_BYTES];
        let mut entry_bytes = 0;
        let mut found = false;
        let readable = read(|byte| match byte {
            _ if found => {}
            b'\n' => {
                found = describe_entry(&entry[..entry_bytes], address, line);
                entry_bytes = 0;
            }
            byte if entry_bytes < ENTRY_BYTES => {
                entry[entry_bytes] = byte;
                entry_bytes += 1;
            }
            _ => {}
        });
        if !found {
            line.text(if readable { "nothing is mapped there" } else { "outside of its module" });
        }
    }

    /// Calls `each` with each byte of the table; false if it cannot be read.
    fn read(mut each: impl FnMut(u8)) -> bool {
        let mut buffer = [0_u8; 1024];
        // SAFETY: a constant path; the buffer is valid for each call; the descriptor is this
        // function's.
        unsafe {
            let maps = libc::open(c"/proc/self/maps".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
            if maps < 0 {
                return false;
            }
            while let Ok(bytes @ 1..) =
                usize::try_from(libc::read(maps, buffer.as_mut_ptr().cast(), buffer.len()))
            {
                buffer.iter().take(bytes).for_each(|byte| each(*byte));
            }
            libc::close(maps);
        }
        true
    }

    /// Writes what `entry`, a line like `7f00-7f80 r-xp 00001000 08:01 42   /lib/a.so`, says of
    /// `address`; false if it is about others.
    pub(super) fn describe_entry(entry: &[u8], address: usize, line: &mut Line) -> bool {
        let mut rest = entry;
        let mut number = |until: u8| {
            let mut value = 0_usize;
            while let Some((byte, after)) = rest.split_first() {
                rest = after;
                let digit = match byte {
                    b'0'..=b'9' => byte - b'0',
                    b'a'..=b'f' => byte - b'a' + 10,
                    byte if *byte == until => return Some(value),
                    _ => return None,
                };
                value = value.wrapping_mul(16).wrapping_add(usize::from(digit));
            }
            None
        };
        let (Some(start), Some(end)) = (number(b'-'), number(b' ')) else { return false };
        if !(start..end).contains(&address) {
            return false;
        }
        // Behind "r-xp ".
        rest = rest.get(5..).unwrap_or_default();
        let mut offset = 0;
        while let Some((byte @ (b'0'..=b'9' | b'a'..=b'f'), after)) = rest.split_first() {
            let digit = if byte.is_ascii_digit() { byte - b'0' } else { byte - b'a' + 10 };
            offset = offset * 16 + usize::from(digit);
            rest = after;
        }
        match rest.iter().position(|byte| matches!(byte, b'/' | b'[')) {
            Some(path) => {
                line.foreign(&rest[path..]);
                line.text(" + ");
                line.hex(address - start + offset);
            }
            None => line.text("memory without a file"),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Line)) -> String {
        let mut line = Line::new();
        write(&mut line);
        String::from_utf8(line.bytes[..line.len].to_vec()).expect("text")
    }

    #[test]
    fn a_line_stays_one_line() {
        assert_eq!(written(|line| line.name("a\nb\x1b[2Jc\u{e9}")), "a?b?[2Jc??");
        assert_eq!(
            written(|line| [0, 0xf, 0x10, usize::MAX].into_iter().for_each(|n| line.hex(n))),
            "0x00xf0x100xffffffffffffffff"
        );
        let long = written(|line| (0..100).for_each(|_| line.name(&"x".repeat(300))));
        assert_eq!(long, "x".repeat(LINE_BYTES - 1));
    }

    #[test]
    fn an_address_is_found_in_its_file() {
        let entry = b"7f00a000-7f00c000 r-xp 00003000 08:01 1234      /usr/lib/a file.so";
        let at = |address| {
            written(|line| {
                let found = maps::describe_entry(entry, address, line);
                line.text(if found { "" } else { "other" });
            })
        };
        assert_eq!(at(0x7f00_a010), "/usr/lib/a file.so + 0x3010");
        assert_eq!([0x7f00_9fff, 0x7f00_c000].map(at), ["other", "other"]);
        let anonymous = b"10000-20000 rw-p 00000000 00:00 0 ";
        assert_eq!(
            written(|line| assert!(maps::describe_entry(anonymous, 0x10000, line))),
            "memory without a file"
        );
        for broken in [&b""[..], b"-", b"10-", b"10-20", b"xx-yy r", b"10-20 "] {
            let said = written(|line| {
                maps::describe_entry(broken, 0x10, line);
            });
            assert!(!said.contains('/'), "{said}");
        }
        let here = an_address_is_found_in_its_file as *const () as usize;
        let said = written(|line| maps::describe(here, line));
        assert!(said.contains(" + 0x") && said.starts_with('/'), "{said}");
        assert_eq!(written(|line| maps::describe(1, line)), "nothing is mapped there");
    }
}
