//! Ours and its peers, each as one would use it for this.

use std::error::Error;
use std::fs::File;
use std::hint::black_box;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use amoskys_core::{Name, Open as _, Seal, Wal};
use amoskys_transport::{FileLogKeys, Log, LogOptions, SledWal, WalOptions};
use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use rusqlite::Connection;

use crate::events::{Commit, EVENT_BYTES, unsealed};

/// Something that makes events durable.
pub(crate) trait Store {
    /// Its name in ratios.
    fn name(&self) -> &'static str;
    /// What it does for a commit.
    fn does(&self) -> &'static str;
    /// Begins a new store.
    fn open(&mut self, dir: &Path) -> Result<(), Box<dyn Error>>;
    /// Makes the events durable.
    fn commit(&mut self, commit: &Commit) -> Result<(), Box<dyn Error>>;
    /// Reads the oldest commits back, to at least this many events or the end, and returns how many events it read.
    fn read_back(&mut self, commit: &Commit, events: u64) -> Result<u64, Box<dyn Error>>;
    /// Ends as it would at the end of a program.
    fn close(&mut self);
}

const NOT_OPEN: &str = "the store is not open";
/// Bytes that are read at a time.
const READ_BYTES: usize = 1 << 20;

/// Reads records in order until `visit` has seen enough of them.
fn read_records(
    wal: &SledWal,
    mut visit: impl FnMut(&Bytes) -> Result<bool, Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let mut from = wal.first();
    loop {
        let records = wal.read(from, READ_BYTES)?;
        let Some((last, _)) = records.last() else {
            return Ok(());
        };
        from = last.next();
        for (_, record) in &records {
            if !visit(record)? {
                return Ok(());
            }
        }
    }
}

/// Reads records of the size of this commit's.
fn read_sealed(wal: &SledWal, commit: &Commit, events: u64) -> Result<u64, Box<dyn Error>> {
    let mut read = 0;
    read_records(wal, |record| {
        black_box(record);
        read += commit.payloads.len() as u64;
        Ok(read < events)
    })?;
    Ok(read)
}

/// Our log, given records that are sealed already.
#[derive(Default)]
pub(crate) struct OurLog(Option<SledWal>);

impl Store for OurLog {
    fn name(&self) -> &'static str {
        "append"
    }

    fn does(&self) -> &'static str {
        "our log: sealed record, checksum, fdatasync"
    }

    fn open(&mut self, dir: &Path) -> Result<(), Box<dyn Error>> {
        self.0 = Some(SledWal::open(dir, WalOptions::new().budget_bytes(1 << 40))?);
        Ok(())
    }

    fn commit(&mut self, commit: &Commit) -> Result<(), Box<dyn Error>> {
        let wal = self.0.as_ref().ok_or(NOT_OPEN)?;
        let offset = wal.append(commit.record.clone())?;
        Ok(wal.wait_durable(offset)?)
    }

    fn read_back(&mut self, commit: &Commit, events: u64) -> Result<u64, Box<dyn Error>> {
        read_sealed(self.0.as_ref().ok_or(NOT_OPEN)?, commit, events)
    }

    fn close(&mut self) {
        self.0 = None;
    }
}

/// Our log, with the sealing: encoded, hashed, chained, signed.
#[derive(Default)]
pub(crate) struct SealedLog(Option<(Log, Name)>);

impl Store for SealedLog {
    fn name(&self) -> &'static str {
        "seal_append"
    }

    fn does(&self) -> &'static str {
        "the same, and before it: encode, SHA-256, chain, Ed25519"
    }

    fn open(&mut self, dir: &Path) -> Result<(), Box<dyn Error>> {
        let options = LogOptions::new().wal(WalOptions::new().budget_bytes(1 << 40));
        self.0 = Some((Log::open(dir, options)?, Name::from("bench")));
        Ok(())
    }

    fn commit(&mut self, commit: &Commit) -> Result<(), Box<dyn Error>> {
        let (log, source) = self.0.as_mut().ok_or(NOT_OPEN)?;
        let sealed = log.sealer.seal(unsealed(source, &commit.events))?;
        let offset = log.wal.append(sealed.record)?;
        Ok(log.wal.wait_durable(offset)?)
    }

    fn read_back(&mut self, _: &Commit, events: u64) -> Result<u64, Box<dyn Error>> {
        let (log, _) = self.0.as_ref().ok_or(NOT_OPEN)?;
        let mut read = 0;
        read_records(&log.wal, |record| {
            read += black_box(log.opener.open(record)?).events.len() as u64;
            Ok(read < events)
        })?;
        Ok(read)
    }

    fn close(&mut self) {
        self.0 = None;
    }
}

/// Our log, encrypted.
#[derive(Default)]
pub(crate) struct EncryptedLog(Option<Log>);

impl Store for EncryptedLog {
    fn name(&self) -> &'static str {
        "append_encrypted"
    }

    fn does(&self) -> &'static str {
        "our log, and before it is written: AES-256-GCM"
    }

    fn open(&mut self, dir: &Path) -> Result<(), Box<dyn Error>> {
        let keys = FileLogKeys::create(dir.join("log.key"))?;
        let options = LogOptions::new()
            .wal(WalOptions::new().budget_bytes(1 << 40))
            .log_keys(Arc::new(keys));
        self.0 = Some(Log::open(dir, options)?);
        Ok(())
    }

    fn commit(&mut self, commit: &Commit) -> Result<(), Box<dyn Error>> {
        let wal = &self.0.as_ref().ok_or(NOT_OPEN)?.wal;
        let offset = wal.append(commit.record.clone())?;
        Ok(wal.wait_durable(offset)?)
    }

    fn read_back(&mut self, commit: &Commit, events: u64) -> Result<u64, Box<dyn Error>> {
        read_sealed(&self.0.as_ref().ok_or(NOT_OPEN)?.wal, commit, events)
    }

    fn close(&mut self) {
        self.0 = None;
    }
}

/// A file that is appended to: no structure, no checksum, no way back to a record.
#[derive(Default)]
pub(crate) struct BareFile(Option<File>);

impl Store for BareFile {
    fn name(&self) -> &'static str {
        "bare_file"
    }

    fn does(&self) -> &'static str {
        "write at the end, fdatasync"
    }

    fn open(&mut self, dir: &Path) -> Result<(), Box<dyn Error>> {
        self.0 = Some(
            File::options()
                .create_new(true)
                .read(true)
                .write(true)
                .open(dir.join("file"))?,
        );
        Ok(())
    }

    fn commit(&mut self, commit: &Commit) -> Result<(), Box<dyn Error>> {
        let file = self.0.as_mut().ok_or(NOT_OPEN)?;
        file.write_all(&commit.packed)?;
        Ok(file.sync_data()?)
    }

    fn read_back(&mut self, _: &Commit, events: u64) -> Result<u64, Box<dyn Error>> {
        let file = self.0.as_mut().ok_or(NOT_OPEN)?;
        file.seek(SeekFrom::Start(0))?;
        let mut buffer = vec![0; READ_BYTES];
        let (mut left, mut bytes) = (events * EVENT_BYTES as u64, 0);
        while left > 0 {
            let read = file.read(&mut buffer)? as u64;
            if read == 0 {
                break;
            }
            bytes += read;
            left = left.saturating_sub(read);
        }
        file.seek(SeekFrom::End(0))?;
        Ok(bytes / EVENT_BYTES as u64)
    }

    fn close(&mut self) {
        self.0 = None;
    }
}

/// SQLite with one row an event, and one transaction a commit.
#[derive(Default)]
pub(crate) struct Sqlite {
    connection: Option<Connection>,
    events: u64,
}

impl Store for Sqlite {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn does(&self) -> &'static str {
        "WAL, synchronous=FULL; a row an event with a unique key and a checksum"
    }

    fn open(&mut self, dir: &Path) -> Result<(), Box<dyn Error>> {
        let connection = Connection::open(dir.join("wal.db"))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(
            "CREATE TABLE wal (
                id INTEGER PRIMARY KEY AUTOINCREMENT,
                idempotency_key TEXT NOT NULL UNIQUE,
                ts_ns INTEGER NOT NULL,
                payload BLOB NOT NULL,
                checksum INTEGER NOT NULL
            )",
        )?;
        self.connection = Some(connection);
        Ok(())
    }

    fn commit(&mut self, commit: &Commit) -> Result<(), Box<dyn Error>> {
        let connection = self.connection.as_mut().ok_or(NOT_OPEN)?;
        let transaction = connection.transaction()?;
        {
            let sql = "INSERT INTO wal (idempotency_key, ts_ns, payload, checksum) VALUES (?1, ?2, ?3, ?4)";
            let mut insert = transaction.prepare_cached(sql)?;
            for payload in &commit.payloads {
                self.events += 1;
                // Keys come in no order, as keys that name an event by its content do.
                let key = format!("{:016x}", self.events.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                insert.execute((key, 1_700_000_000_000_i64, &payload[..], crc32fast::hash(payload)))?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn read_back(&mut self, _: &Commit, events: u64) -> Result<u64, Box<dyn Error>> {
        let connection = self.connection.as_ref().ok_or(NOT_OPEN)?;
        let sql = "SELECT payload, checksum FROM wal ORDER BY id LIMIT ?1";
        let mut select = connection.prepare_cached(sql)?;
        let (mut rows, mut read) = (select.query([i64::try_from(events)?])?, 0);
        while let Some(row) = rows.next()? {
            let payload = row.get_ref(0)?.as_blob()?;
            let checksum: u32 = row.get(1)?;
            if crc32fast::hash(payload) != checksum {
                return Err("a row's checksum differs".into());
            }
            read += 1;
        }
        Ok(read)
    }

    fn close(&mut self) {
        self.connection = None;
    }
}

/// fjall with one value a commit, the events packed in it.
#[derive(Default)]
pub(crate) struct Fjall {
    database: Option<(Database, Keyspace)>,
    commits: u64,
}

impl Store for Fjall {
    fn name(&self) -> &'static str {
        "fjall"
    }

    fn does(&self) -> &'static str {
        "a value a commit, persist(SyncAll)"
    }

    fn open(&mut self, dir: &Path) -> Result<(), Box<dyn Error>> {
        let database = Database::builder(dir).open()?;
        let keyspace = database.keyspace("events", KeyspaceCreateOptions::default)?;
        self.database = Some((database, keyspace));
        Ok(())
    }

    fn commit(&mut self, commit: &Commit) -> Result<(), Box<dyn Error>> {
        let (database, keyspace) = self.database.as_ref().ok_or(NOT_OPEN)?;
        self.commits += 1;
        keyspace.insert(self.commits.to_be_bytes(), commit.packed.as_slice())?;
        Ok(database.persist(PersistMode::SyncAll)?)
    }

    fn read_back(&mut self, commit: &Commit, events: u64) -> Result<u64, Box<dyn Error>> {
        let (_, keyspace) = self.database.as_ref().ok_or(NOT_OPEN)?;
        let mut read = 0;
        for entry in keyspace.iter() {
            black_box(entry.value()?);
            read += commit.payloads.len() as u64;
            if read >= events {
                break;
            }
        }
        Ok(read)
    }

    fn close(&mut self) {
        self.database = None;
    }
}
