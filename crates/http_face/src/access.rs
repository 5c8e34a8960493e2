//! The access log: one JSON object a line for each request, if there is a place for it.
//!
//! It holds nothing of a client: no address, path, header, cookie or id of a session; the request's and the trace's id join it to
//! other logs. It never makes a request wait: when the writer is behind by [`LINES_MAX`], lines are dropped and counted. The exchange
//! fills it, the face runs its writer.
//!
//! | field | what |
//! |---|---|
//! | `time_unix_ms`, `duration_us` | when the header was whole, and how long until the end of the answer |
//! | `method`, `protocol`, `status` | of the request; status 0: the client left before an answer |
//! | `request_bytes`, `answer_bytes` | of the bodies |
//! | `session` | whether it named one |
//! | `request_id`, `trace_id` | as the instance got them |
//!
//! Invariant: a line is at most a few hundred bytes, and is whole or not there.

use crate::names;
use serde::Serialize;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// Lines that wait for the writer.
const LINES_MAX: usize = 8192;
/// Bytes that are written at once, and a line more.
const BATCH_BYTES: usize = 64 * 1024;
/// The place that means standard output.
pub(crate) const STANDARD_OUTPUT: &str = "-";

/// One request.
#[derive(Serialize)]
pub(crate) struct Line<'a> {
    pub(crate) time_unix_ms: u64,
    pub(crate) duration_us: u64,
    pub(crate) method: &'a str,
    pub(crate) protocol: &'static str,
    pub(crate) status: u16,
    pub(crate) request_bytes: usize,
    pub(crate) answer_bytes: usize,
    pub(crate) session: bool,
    pub(crate) request_id: &'a str,
    pub(crate) trace_id: &'a str,
}

/// Where lines go in.
pub(crate) struct AccessLog(mpsc::Sender<String>);

/// Where they come out.
pub(crate) struct Writer {
    lines: mpsc::Receiver<String>,
    place: PathBuf,
}

/// A log to the file at `place`, or to standard output.
pub(crate) fn log(place: &Path) -> (AccessLog, Writer) {
    let (sender, lines) = mpsc::channel(LINES_MAX);
    (AccessLog(sender), Writer { lines, place: place.to_owned() })
}

impl AccessLog {
    pub(crate) fn note(&self, line: &Line<'_>) {
        let sent = serde_json::to_string(line).is_ok_and(|mut text| {
            text.push('\n');
            self.0.try_send(text).is_ok()
        });
        if !sent {
            metrics::counter!(names::ACCESS_LINES_DROPPED).increment(1);
        }
    }
}

impl Writer {
    /// Writes until there is nobody left who could note anything.
    pub(crate) async fn run(self) {
        let place = self.place.clone();
        if let Err(error) = self.write().await {
            tracing::error!(%error, place = %place.display(), "the access log cannot be written any more");
        }
    }

    /// What has come is written together.
    async fn write(mut self) -> io::Result<()> {
        let mut out: Out = if self.place == Path::new(STANDARD_OUTPUT) {
            Box::new(io::stdout())
        } else {
            Box::new(File::options().append(true).create(true).open(&self.place)?)
        };
        while let Some(mut batch) = self.lines.recv().await {
            while batch.len() < BATCH_BYTES
                && let Ok(line) = self.lines.try_recv()
            {
                batch.push_str(&line);
            }
            out = append(out, batch).await?;
        }
        Ok(())
    }
}

type Out = Box<dyn Write + Send>;

#[allow(
    clippy::disallowed_methods,
    reason = "a disk or a pipe that stalls must stall no client; one write at a time is under way"
)]
async fn append(mut out: Out, batch: String) -> io::Result<Out> {
    let written = tokio::task::spawn_blocking(move || {
        out.write_all(batch.as_bytes())?;
        out.flush()?;
        Ok(out)
    });
    written.await.map_err(io::Error::other)?
}
