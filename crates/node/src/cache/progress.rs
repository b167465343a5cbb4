//! How far a compilation is, for whoever waits for it.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use awsm_abi::visible::visible;
use indicatif::{ProgressBar, ProgressStyle};

use super::compiler::Shows;

/// Between two turns of what moves on a terminal.
const TICK: Duration = Duration::from_millis(200);
/// Most that is read of a line.
const LINE_BYTES: u64 = 80;

/// Of one compilation.
#[derive(Clone, Debug)]
pub(super) struct Progress(Arc<Shown>);

#[derive(Debug)]
struct Shown {
    file: String,
    began: Instant,
    shows: Shows,
    bar: ProgressBar,
}

impl Progress {
    /// One of that file begins.
    pub(super) fn begin(shows: Shows, file: &Path) -> Self {
        let name = visible(&file.display().to_string()).into_owned();
        let bar = match shows {
            Shows::Log => {
                tracing::info!("{name}: compiling");
                ProgressBar::hidden()
            }
            // It draws nothing unless standard error is a terminal.
            Shows::Terminal => {
                let bar = ProgressBar::new(1).with_message(name.clone());
                let style = ProgressStyle::with_template(
                    "compiling {msg} [{bar:30}] {percent:>3} %, {elapsed}",
                );
                if let Ok(style) = style {
                    bar.set_style(style.progress_chars("=> "));
                }
                bar.enable_steady_tick(TICK);
                bar
            }
        };
        Self(Arc::new(Shown { file: name, began: Instant::now(), shows, bar }))
    }

    /// Reads what the compiler says: lines of bytes that are done and bytes of all.
    pub(super) fn follow(&self, stream: impl Read) -> String {
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        while let Ok(1..) = stream.by_ref().take(LINE_BYTES).read_line(&mut line) {
            let mut numbers = line.split_ascii_whitespace().map(str::parse::<u64>);
            if let (Some(Ok(done)), Some(Ok(all))) = (numbers.next(), numbers.next()) {
                self.0.bar.set_length(all.max(1));
                self.0.bar.set_position(done.min(all));
            }
            line.clear();
        }
        String::new()
    }

    /// It has ended.
    pub(super) fn end(&self, well: bool) {
        let Shown { file, began, shows, bar } = &*self.0;
        bar.finish_and_clear();
        if *shows == Shows::Log && well {
            tracing::info!("{file}: compiled in {:.1} s", began.elapsed().as_secs_f64());
        }
    }
}
