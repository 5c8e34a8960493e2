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
use std::io;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncWrite, AsyncWriteExt, BufWriter};
use tokio::sync::mpsc;

/// Lines that wait for the writer.
const LINES_MAX: usize = 8192;
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

    async fn write(mut self) -> io::Result<()> {
        if self.place == Path::new(STANDARD_OUTPUT) {
            return write_all(&mut self.lines, tokio::io::stdout()).await;
        }
        let file = std::fs::OpenOptions::new().append(true).create(true).open(&self.place)?;
        write_all(&mut self.lines, tokio::fs::File::from_std(file)).await
    }
}

/// What has come is written together, and then flushed.
async fn write_all(lines: &mut mpsc::Receiver<String>, out: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut out = BufWriter::new(out);
    while let Some(line) = lines.recv().await {
        out.write_all(line.as_bytes()).await?;
        while let Ok(line) = lines.try_recv() {
            out.write_all(line.as_bytes()).await?;
        }
        out.flush().await?;
    }
    out.flush().await
}
