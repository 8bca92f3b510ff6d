use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use amoskys_core::config::WhenFull;
use amoskys_core::event::Gap;
use amoskys_core::seal::LogParts;
use amoskys_core::{BoxError, Class, Epoch, Offset, StreamId, Wal, WalError};

use super::anchor::{ANCHOR_FILE, Anchor, AnchorFault, StoredAnchor};
use super::error::LogError;
use super::fork::{Ends, FORK_FILE, ForkRequest, RETIRED_FILE, read_retired, write_retired};
use super::heads::Heads;
use super::keeper::{CurrentSigner, Keeper, SharedKeeper};
use super::options::LogOptions;
use super::quarantine::find_gaps;
use super::reseal::Reseal;
use super::rotate::KeyRotation;
use super::sieve::AgentSieve;
use super::{EPOCH_ENDING, KEY_FILE, KEYS_DIR, LOG_DIR, epoch};
use crate::key::{FileSigner, Signer, TrustMap};
use crate::seal::{Check, Head, Keyring, Opener, Sealer, seal_gap};
use crate::wal::lock::DirLock;
use crate::wal::segment::{list_segments, lock};
use crate::wal::{FileLogKeys, Known, LogKeys, Loss, SledWal, create_dir};

/// A durable log of sealed batches in a directory, opened or begun: the log itself, the sealer that goes on where
/// its streams have come to, and the opener.
///
/// ```text
/// DIR/keys/agent.key    signing key, mode 0600, drawn when the log is begun
/// DIR/keys/agent.pub    its public key: what a verifier needs
/// DIR/keys/agent.epoch  the agent's epoch, counted on each time it begins a new log
/// DIR/log/              the log: segments, anchor, state
/// ```
///
/// A signing key is replaced by putting another beside it, as `agent.key.next`: when the log is opened, or while it is
/// [watched](KeyRotation), the old key signs the hand-over to the new one, and the new file takes the place of the old.
///
/// A new epoch begins only with a new log. What was damaged or lost of an old one is replaced by signed gaps when
/// it is opened. The anchor, a signed statement of how far the log has come, is renewed within the
/// [sync interval](crate::WalOptions::sync_interval) and when the log is closed.
///
/// ```
/// use amoskys_core::Wal as _;
/// use amoskys_transport::{Log, LogOptions};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path();
/// let log = Log::open(path, LogOptions::new().agent("gateway-3"))?;
/// assert_eq!(log.wal.durable().0, 0);
/// let parts = log.into_parts(); // what a pipeline takes
/// # drop(parts);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Log {
    /// The log.
    pub wal: Arc<SledWal>,
    /// Seals what goes into it.
    pub sealer: Sealer,
    /// Opens what comes out of it.
    pub opener: Arc<Opener>,
    pub(crate) keeper: SharedKeeper,
    rotation: KeyRotation,
    /// Where streams of earlier epochs were given up.
    #[cfg_attr(not(feature = "bus"), expect(dead_code, reason = "only a publisher asks"))]
    pub(crate) retired: Ends,
}

impl Log {
    /// Opens the log in a directory, or begins one.
    ///
    /// # Errors
    ///
    /// If the key cannot be used, the directory is in use or cannot be written, the log is another agent's, or of
    /// a newer version. Damage is no error.
    pub fn open(dir: impl AsRef<Path>, options: LogOptions) -> Result<Self, LogError> {
        let dir = dir.as_ref();
        let log_dir = dir.join(LOG_DIR);
        create_dir(dir)?;
        create_dir(&log_dir)?;
        let lock = DirLock::take(&log_dir)?;
        let key_file = options
            .key_file
            .clone()
            .unwrap_or_else(|| dir.join(KEYS_DIR).join(KEY_FILE));
        let signer = match options.signer.clone() {
            Some(signer) => signer,
            None => file_signer(&key_file)?,
        };
        let mut trust = TrustMap::clone(&options.trust.snapshot());
        trust.insert(options.agent.clone(), signer.public_key());
        let log_keys = match (&options.log_keys, &options.log_key_file) {
            (Some(keys), _) => Some(keys.clone()),
            (None, Some(file)) => {
                let keys = FileLogKeys::open(file).map_err(LogError::LogKey)?;
                Some(Arc::new(keys) as Arc<dyn LogKeys>)
            }
            (None, None) => None,
        };
        let opening = Opening {
            log_keys,
            log_dir,
            key_file,
            options,
            signer,
            trust,
            keyring: Arc::default(),
        };
        opening.run(lock)
    }

    /// Hands over to a new signing key: the old key signs the hand-over, and what is sealed from then on is signed by the
    /// new one. The hand-over is durable when this returns; who follows the log and trusts the old key then trusts the
    /// new one. If the new key is the one in the file [`.next`](FileSigner::next_path) beside the log's key file, that
    /// file takes its place now. An embedder with a signer of its own must open the log with the new one from now on.
    ///
    /// Once the sealer was given away, for example to a pipeline, use [`key_rotation`](Self::key_rotation).
    ///
    /// # Errors
    ///
    /// If a key cannot sign, or the log does not take the record. Then the old key goes on.
    pub fn rotate_key(&mut self, new: Arc<dyn Signer>) -> Result<(), LogError> {
        self.rotation.begin(new);
        self.sealer.rotate();
        match self.rotation.finish() {
            Some(result) => result,
            None => Err(LogError::HandOver("the log is full".into())),
        }
    }

    /// Hands over to new signing keys while the sealer is in use elsewhere.
    #[must_use]
    pub fn key_rotation(&self) -> KeyRotation {
        self.rotation.clone()
    }

    /// The parts a pipeline takes.
    #[must_use]
    pub fn into_parts(self) -> LogParts {
        LogParts {
            wal: self.wal,
            seal: Box::new(self.sealer),
            open: self.opener,
        }
    }

    /// Where every stream in the log has come to, as far as it is durable: also those of other agents, in the log of a
    /// bus.
    #[must_use]
    pub fn heads(&self) -> BTreeMap<StreamId, Head> {
        lock(&self.keeper.0).heads.0.clone()
    }

    /// The epoch of the log's streams.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.sealer.epoch()
    }
}

impl Log {
    /// Hands over to the key that was put beside the log's own, if there is one.
    fn rotate_to_next(&mut self) {
        match self.rotation.next_key() {
            Ok(None) => {}
            Ok(Some(next)) => {
                if let Err(error) = self.rotate_key(next) {
                    tracing::error!(error = %amoskys_core::error::Chain(&error), "the new signing key is not used");
                }
            }
            Err(error) => tracing::error!(%error, "the new signing key is not used"),
        }
    }
}

impl From<Log> for LogParts {
    fn from(log: Log) -> Self {
        log.into_parts()
    }
}

fn file_signer(path: &Path) -> Result<Arc<dyn Signer>, LogError> {
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        create_dir(dir)?;
    }
    // A new key in the place of a lost one would not fit what is left of it the next time.
    let lost = !path.exists() && FileSigner::public_path(path).exists();
    let signer = if lost {
        FileSigner::open(path)?
    } else {
        FileSigner::open_or_create(path)?
    };
    Ok(Arc::new(signer))
}

struct Opening {
    log_keys: Option<Arc<dyn LogKeys>>,
    log_dir: PathBuf,
    key_file: PathBuf,
    options: LogOptions,
    signer: Arc<dyn Signer>,
    trust: TrustMap,
    keyring: Arc<Keyring>,
}

impl Opening {
    fn run(mut self, dir_lock: DirLock) -> Result<Log, LogError> {
        let stored = self.read_anchor()?;
        if let Some(stored) = &stored {
            let known = stored.anchor.hand_overs.iter();
            known.for_each(|proof| self.keyring.observe(proof));
            self.trust_own();
        }
        let believed = stored
            .as_ref()
            .filter(|stored| self.is_believed(stored))
            .map(|stored| &stored.anchor);
        let begun = stored.is_some() || !self.segments()?.is_empty();
        let epoch_file = self.key_file.with_extension(EPOCH_ENDING);
        let noted = epoch::read(&epoch_file).unwrap_or_else(|error| {
            tracing::warn!(%error, "the agent's epoch cannot be read; the log's own is used");
            None
        });
        let known_epoch = stored
            .as_ref()
            .map(|stored| stored.anchor.epoch)
            .or(noted.filter(|_| begun));
        let epoch = match known_epoch {
            Some(epoch) => epoch,
            None => epoch::draw(noted).map_err(|source| file_error(&epoch_file, "drawn", source))?,
        };
        let mut keeper = self.keeper(
            epoch,
            believed,
            stored.as_ref().map_or(0, |stored| stored.anchor.generation),
        );
        let anchor_file = self.log_dir.join(ANCHOR_FILE);
        if !begun {
            // Before the first segment, so that a log without an anchor is always one that lost it.
            keeper
                .write(0)
                .map_err(|source| file_error(&anchor_file, "written", source))?;
        }

        let known = Known {
            durable: believed.map_or(0, |anchor| anchor.end),
            log: Some(epoch.random),
        };
        let keeper = Arc::new(Mutex::new(keeper));
        let (wal, gaps) = {
            // Meanwhile the log's thread waits for the keeper.
            let mut filling = lock(&keeper);
            let observer = Box::new(SharedKeeper(keeper.clone()));
            let loss = Loss {
                sieve: Some(Arc::new(AgentSieve(SharedKeeper(keeper.clone())))),
                shed: self.options.when_full == WhenFull::Shed,
                retention: self.options.retention,
            };
            let options = &self.options.wal;
            let wal = SledWal::open_locked(
                &self.log_dir,
                dir_lock,
                options,
                known,
                Some(observer),
                loss,
                self.log_keys.clone(),
            )?;
            let gaps = self.fill(&mut filling, &wal, believed.is_some());
            filling.end = wal.durable().0;
            let current = self.follow_own();
            filling.signer = self.signer.clone();
            filling.sealing.set(self.signer.clone());
            if stored.is_none() && begun {
                // The records know better than the file, which may have gone on to another log.
                filling.epoch = self.own_epoch(&filling.heads).unwrap_or(epoch);
            }
            // Before `wal`, whose thread may want it to end.
            drop(filling);
            current?;
            (wal, gaps?)
        };
        self.trust_own();
        self.record(&wal, &gaps);
        let shared = SharedKeeper(keeper);
        let retired = self.resolve_fork(&wal, &shared, noted)?;

        let mut keeper = lock(&shared.0);
        // Never back: the file counts for all logs of the agent.
        if noted.is_none_or(|noted| noted.counter < keeper.epoch.counter)
            && let Err(source) = epoch::write(&epoch_file, keeper.epoch)
        {
            if !begun {
                return Err(file_error(&epoch_file, "written", source));
            }
            tracing::warn!(file = %epoch_file.display(), error = %source, "the agent's epoch could not be noted");
        }
        if begun && let Err(error) = keeper.write(wal.durable().0) {
            tracing::warn!(dir = %self.log_dir.display(), %error, "the anchor of the log could not be written");
        }
        let opener = match self.options.check {
            Check::Signature => Opener::verifying(self.options.trust.clone())
                .own(self.own_keys())
                .keyring(self.keyring.clone()),
            Check::Form => Opener::unchecked(),
        };
        let wal = Arc::new(wal);
        let own_file = self.options.signer.is_none().then(|| self.key_file.clone());
        let rotation = KeyRotation::new(&wal, shared.clone(), own_file);
        let sealer = self
            .sealer(keeper.epoch, &keeper.heads)
            .rotation(rotation.listener());
        drop(keeper);
        let mut log = Log {
            sealer,
            opener: Arc::new(opener),
            wal,
            keeper: shared,
            rotation,
            retired,
        };
        log.rotate_to_next();
        Ok(log)
    }

    /// Believes the keys of the agent itself that are connected with the present one, for its own log.
    fn trust_own(&mut self) {
        for (agent, keys) in self.own_keys().iter() {
            keys.iter().for_each(|key| self.trust.insert(agent.clone(), *key));
        }
    }

    fn own_keys(&self) -> TrustMap {
        let agent = &self.options.agent;
        let keys = self.keyring.related(agent, &self.signer.public_key());
        let own = keys.into_iter();
        own.fold(TrustMap::new(), |own, key| own.allow(agent.clone(), key))
    }

    /// If the log was handed over to another key, goes on with that one: it is still beside the old one.
    fn follow_own(&mut self) -> Result<(), LogError> {
        let found = self.signer.public_key();
        let mut current = found;
        while let Some(link) = self.keyring.successor(&self.options.agent, current.id()) {
            current = link.new;
        }
        if current == found {
            return Ok(());
        }
        let next = match self.options.signer {
            Some(_) => None,
            None => FileSigner::next(&self.key_file)?,
        };
        match next.filter(|next| next.public_key() == current) {
            Some(next) => {
                FileSigner::switch(&self.key_file)?;
                self.signer = Arc::new(next);
                Ok(())
            }
            None => Err(LogError::HandedOver {
                dir: self.log_dir.clone(),
                key: current.id(),
                found: found.id(),
            }),
        }
    }

    fn read_anchor(&self) -> Result<Option<StoredAnchor>, LogError> {
        let path = self.log_dir.join(ANCHOR_FILE);
        let stored = match StoredAnchor::read(&self.log_dir) {
            Ok(stored) => stored,
            Err(AnchorFault::Missing) => return Ok(None),
            Err(AnchorFault::Version(found)) => return Err(LogError::Version { path, found }),
            Err(AnchorFault::Io(source)) => return Err(file_error(&path, "read", source)),
            Err(AnchorFault::Damaged(reason)) => {
                tracing::warn!(anchor = %path.display(), reason, "the anchor is damaged; the whole log is read instead");
                return Ok(None);
            }
        };
        if stored.anchor.agent != self.options.agent {
            let (found, wanted) = (stored.anchor.agent, self.options.agent.clone());
            return Err(LogError::Agent {
                dir: self.log_dir.clone(),
                found,
                wanted,
            });
        }
        Ok(Some(stored))
    }

    fn is_believed(&self, stored: &StoredAnchor) -> bool {
        let signed = stored.is_signed(&self.trust);
        if !signed {
            tracing::warn!(
                key = %stored.key,
                "the anchor of the log is not signed by a trusted key; the whole log is read instead"
            );
        }
        signed
    }

    fn segments(&self) -> Result<Vec<crate::wal::segment::SegmentFile>, LogError> {
        list_segments(&self.log_dir).map_err(|source| file_error(&self.log_dir, "read", source))
    }

    fn keeper(&self, epoch: Epoch, believed: Option<&Anchor>, generation: u64) -> Keeper {
        Keeper {
            dir: self.log_dir.clone(),
            signer: self.signer.clone(),
            sealing: Arc::new(CurrentSigner::new(self.signer.clone())),
            agent: self.options.agent.clone(),
            epoch,
            generation,
            floor: believed.map_or(0, |anchor| anchor.floor),
            base: believed.map(|anchor| anchor.base.clone()).unwrap_or_default(),
            heads: believed.map(|anchor| anchor.heads.clone()).unwrap_or_default(),
            keyring: self.keyring.clone(),
            end: 0,
        }
    }

    /// Finds out where the streams have come to, and which gaps have to be recorded.
    fn fill(&self, keeper: &mut Keeper, wal: &SledWal, anchored: bool) -> Result<Vec<Gap>, LogError> {
        let at_anchor = keeper.heads.clone();
        let mut from = Offset(
            self.read_anchor()?
                .filter(|_| anchored)
                .map_or(0, |stored| stored.anchor.end),
        );
        if !anchored {
            keeper.floor = wal.oldest().0;
        }
        // A beginning that nobody trimmed away.
        let mut damaged = wal.oldest().0 > keeper.floor && !wal.is_explained_from(wal.oldest());
        loop {
            match wal.read_kept(from, 1 << 20) {
                Ok(records) => {
                    let Some((last, _)) = records.last() else { break };
                    from = last.next();
                    for (_, record) in &records {
                        if !anchored {
                            keeper.base.begin(record);
                        }
                        keeper.heads.observe(record);
                        keeper.keyring.observe(record);
                    }
                }
                Err(WalError::Damaged { offset, reason }) => {
                    tracing::warn!(%offset, reason, "the log is damaged; reading goes on behind it");
                    damaged = true;
                    from = offset.next();
                }
                Err(error) => return Err(error.into()),
            }
        }
        if !damaged && !wal.damage_noted() {
            return Ok(Vec::new());
        }
        let (dir, agent) = (&self.log_dir, &self.options.agent);
        let found = find_gaps(
            dir,
            agent,
            keeper.floor,
            self.log_keys.as_deref(),
            (&keeper.base, &at_anchor),
            (&self.trust, &self.keyring),
        );
        let (gaps, heads) = found.map_err(|source| file_error(dir, "read", source))?;
        keeper.heads = heads;
        Ok(gaps)
    }

    /// Puts gaps into the log. What cannot be put there now will be found again next time.
    fn record(&self, wal: &SledWal, gaps: &[Gap]) {
        let mut last = None;
        for gap in gaps {
            tracing::warn!(
                stream = %gap.stream,
                first = gap.first.0,
                last = gap.last.0,
                reason = %gap.reason,
                "events are missing from the log; a gap is recorded in their place"
            );
            let appended = seal_gap(gap, &*self.signer, &self.keyring)
                .map_err(BoxError::from)
                .and_then(|sealed| wal.append(sealed.record).map_err(BoxError::from));
            match appended {
                Ok(offset) => last = Some(offset),
                Err(error) => {
                    tracing::warn!(%error, "the gap could not be recorded");
                    return;
                }
            }
        }
        if let Some(Err(error)) = last.map(|last| wal.wait_durable(last)) {
            tracing::warn!(%error, "the gap could not be recorded");
            return;
        }
        wal.damage_explained();
    }

    /// If a publisher noted that the bus has other records than this log, begins a new epoch. Returns where streams were
    /// given up, now and before.
    fn resolve_fork(
        &self,
        wal: &SledWal,
        keeper: &SharedKeeper,
        noted: Option<Epoch>,
    ) -> Result<Ends, LogError> {
        let dir = &self.log_dir;
        let mut retired = read_retired(dir).unwrap_or_else(|error| {
            let file = dir.join(RETIRED_FILE);
            tracing::warn!(file = %file.display(), %error, "the note of streams that were given up cannot be read");
            Ends::default()
        });
        let fork_file = dir.join(FORK_FILE);
        let unusable = |action| {
            let fork_file = fork_file.clone();
            move |source: BoxError| file_error(&fork_file, action, source)
        };
        let current = lock(&keeper.0).epoch;
        let request = match ForkRequest::read(dir) {
            Ok(None) => return Ok(retired),
            Ok(Some(request)) => Some(request),
            Err(error) => {
                tracing::warn!(file = %fork_file.display(), %error, "a note about a fork cannot be read; the publisher finds it again");
                None
            }
        };
        let request = request.filter(|request| request.old == current || request.new == Some(current));
        let Some(mut request) = request else {
            ForkRequest::remove(dir).map_err(|error| unusable("removed")(error.into()))?;
            return Ok(retired);
        };
        let new = match request.new {
            Some(new) => new,
            None => {
                let before = noted.max(Some(current));
                epoch::draw(before).map_err(|source| file_error(&self.key_file, "drawn", source))?
            }
        };
        // What is begun is gone on with, not begun anew.
        request.new = Some(new);
        request
            .write(dir)
            .map_err(|error| unusable("written")(error.into()))?;
        for class in Class::ALL {
            let end = request.shared.get(&class).copied().unwrap_or_default();
            retired.insert((request.old, class), end);
        }
        let retired_file = dir.join(RETIRED_FILE);
        write_retired(dir, &retired).map_err(|error| file_error(&retired_file, "written", error))?;
        let heads = {
            let mut keeper = lock(&keeper.0);
            keeper.epoch = new;
            // The log keeps the identity of the epoch it was begun in, so that epoch must stay known.
            let agent = self.options.agent.clone();
            let begun = StreamId {
                agent,
                epoch: request.old,
                class: Class::Audit,
            };
            keeper.heads.0.entry(begun).or_default();
            let written = keeper.write(wal.durable().0);
            written.map_err(|source| file_error(&dir.join(ANCHOR_FILE), "written", source))?;
            keeper.heads.clone()
        };
        tracing::warn!(
            agent = %self.options.agent,
            old = %request.old,
            %new,
            "the bus has other records of this agent than this log; a new epoch is begun"
        );
        let reseal = Reseal {
            wal,
            agent: &self.options.agent,
            request: &request,
            new,
            sealer: self.sealer(new, &heads),
            heads,
        };
        reseal.run().map_err(unusable("acted upon"))?;
        ForkRequest::remove(dir).map_err(|error| unusable("removed")(error.into()))?;
        Ok(retired)
    }

    fn own_epoch(&self, heads: &Heads) -> Option<Epoch> {
        heads
            .0
            .keys()
            .filter(|stream| stream.agent == self.options.agent)
            .map(|stream| stream.epoch)
            .max()
    }

    fn sealer(&self, epoch: Epoch, heads: &Heads) -> Sealer {
        let agent = self.options.agent.clone();
        let mut sealer =
            Sealer::new(agent.clone(), epoch, self.signer.clone()).compression(self.options.compression);
        for class in Class::ALL {
            let stream = StreamId {
                agent: agent.clone(),
                epoch,
                class,
            };
            if let Some(head) = heads.0.get(&stream) {
                sealer = sealer.resume(class, *head);
            }
        }
        sealer
    }
}

fn file_error(path: &Path, action: &'static str, source: impl Into<BoxError>) -> LogError {
    LogError::File {
        path: path.to_owned(),
        action,
        source: source.into(),
    }
}
