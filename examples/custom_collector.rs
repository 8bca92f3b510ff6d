//! A source of one's own: readings of a sensor from a text file, lines of `SECONDS NAME VALUE`, as metrics.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};

use amoskys_core::event::{Metric, Payload};
use amoskys_core::pipeline::Pipeline;
use amoskys_core::{Batch, Collector, DropReason, Event, Position, Shutdown, Timestamp};

/// Reads a file to its end. A line's place in the file names its event, so that it can be read again.
pub(crate) struct Readings {
    pub(crate) file: BufReader<File>,
    pub(crate) offset: u64,
}

impl Readings {
    fn event(&self, line: &[u8]) -> Option<Event> {
        let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
        let (time, name) = (words.next()?.parse().ok()?, words.next()?.to_owned());
        let value = words.next()?.parse().ok()?;
        let metric = Metric {
            name,
            value,
            ..Metric::default()
        };
        let mut event = Event {
            time: Timestamp::from_secs(time),
            source: self.source().into(),
            payload: Payload::Metric(Box::new(metric)),
            ..Event::default()
        };
        event.id.ordinal = self.offset;
        Some(event)
    }
}

impl Collector for Readings {
    type Error = io::Error;

    fn source(&self) -> &str {
        "readings"
    }

    fn is_replayable(&self) -> bool {
        true
    }

    async fn resume(&mut self, position: &Position) -> io::Result<()> {
        let offset = position.0.as_ref().try_into().map_err(io::Error::other)?;
        self.offset = self.file.seek(SeekFrom::Start(u64::from_be_bytes(offset)))?;
        Ok(())
    }

    /// Nothing is awaited, so a call cannot be dropped half-way. A source that waits reads on a thread of its own.
    async fn next_batch(&mut self) -> io::Result<Option<Batch>> {
        let (mut batch, mut line) = (Batch::default(), Vec::new());
        while batch.tally.seen() < 512 && self.file.read_until(b'\n', &mut line)? > 0 {
            match self.event(&line) {
                Some(event) => batch.events.push(event),
                None => batch.tally.drop_items(DropReason::MALFORMED, 1),
            }
            batch.tally.used = batch.events.len() as u64;
            self.offset += line.len() as u64;
            line.clear();
        }
        batch.position = Some(Position(self.offset.to_be_bytes().to_vec().into()));
        Ok((!batch.tally.is_empty()).then_some(batch))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("name a file of readings")?;
    let file = BufReader::new(File::open(path)?);
    let readings = Readings { file, offset: 0 };
    let pipeline = Pipeline::builder().collector(readings).build()?;
    println!("{}", pipeline.run(Shutdown::new()).await?.ledger);
    Ok(())
}
