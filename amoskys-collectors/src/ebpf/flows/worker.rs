//! The thread that reads the meter's ring and sweeps its table, and does what the meter leaves to user space.

use std::time::{Duration, Instant};

use amoskys_core::event::{LossReport, Payload};
use amoskys_core::{Shutdown, Timestamp};
use aya::maps::{MapData, RingBuf};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::meter::{Census, Meter, Orders, stats};
use super::packet::read_packet;
use super::report::read;
use super::stats::{KernelFlowCounts, KernelSkip};
use super::user::UserSide;
use crate::clock::{BootClock, boot_ns};
use crate::ebpf::error::EbpfError;
use crate::ebpf::record::BadRecord;
use crate::live::LiveBatcher;

/// The ring is looked at this often, and when it is a quarter full.
const PATIENCE: Duration = Duration::from_millis(50);
/// Time-outs are looked for this often, or, where a sweep takes long and there is room for more flows, as rarely as lets
/// sweeps have this part of the time.
const SWEEP: Duration = Duration::from_millis(200);
const SWEEP_SHARE: u32 = 20;
/// The clock is stated this often.
const PUNCTUATION: Duration = Duration::from_secs(1);
/// Records read before something else is looked after.
const TURN: usize = 8192;

pub(super) type Batcher = LiveBatcher<EbpfError>;

/// All that the thread has.
pub(super) struct Worker {
    pub(super) meter: Meter,
    pub(super) ring: RingBuf<MapData>,
    pub(super) clock: BootClock,
    pub(super) max_flows: u32,
    /// What has been told of the program's counts.
    pub(super) told: KernelFlowCounts,
    /// What is done with packets.
    pub(super) user: UserSide,
}

impl Worker {
    /// Reads until told to stop, or nobody wants more.
    pub(super) fn run(mut self, mut batcher: Batcher, stop: &Shutdown) {
        if let Err(error) = self.work(&mut batcher, stop) {
            batcher.fail(error);
        }
    }

    fn work(&mut self, batcher: &mut Batcher, stop: &Shutdown) -> Result<(), EbpfError> {
        let (mut swept, mut stated) = (Instant::now(), Instant::now());
        let mut pause = SWEEP;
        while batcher.is_wanted() && !stop.is_triggered() {
            self.wait()?;
            let time = self.now();
            let turn = Instant::now();
            if turn.duration_since(swept) >= pause {
                swept = turn;
                let census = self.meter.sweep(Orders::default())?;
                pause = match census {
                    // What is due waits for room in the ring.
                    Census { waiting: 1.., .. } => Duration::ZERO,
                    _ if census.live + census.dormant > u64::from(self.max_flows / 2) => SWEEP,
                    _ => SWEEP.max(turn.elapsed() * SWEEP_SHARE),
                };
                self.make_room(&census)?;
                self.account(batcher)?;
            }
            let emptied = self.drain(batcher) < TURN;
            // What was in the ring by then is earlier.
            if emptied {
                self.user.advance(time, batcher);
            }
            if emptied && turn.duration_since(stated) >= PUNCTUATION {
                stated = turn;
                self.clock.look();
                batcher.punctuate(time, false);
            }
        }
        self.finish(batcher)
    }

    /// No more is counted; what has been is handed over.
    fn finish(&mut self, batcher: &mut Batcher) -> Result<(), EbpfError> {
        self.meter.detach();
        let orders = Orders {
            finish: true,
            ..Orders::default()
        };
        loop {
            while self.drain(batcher) > 0 {}
            let census = self.meter.sweep(orders)?;
            while self.drain(batcher) > 0 {}
            if (census.live == 0 && census.dormant == 0) || !batcher.is_wanted() {
                break;
            }
        }
        self.user.finish(batcher);
        self.account(batcher)?;
        batcher.punctuate(self.now(), true);
        Ok(())
    }

    fn now(&self) -> Timestamp {
        self.clock.time(u64::try_from(boot_ns()).unwrap_or_default())
    }

    fn wait(&self) -> Result<(), EbpfError> {
        let patience = Timespec {
            tv_sec: 0,
            tv_nsec: PATIENCE.subsec_nanos().into(),
        };
        let mut waiting = [PollFd::new(&self.ring, PollFlags::IN)];
        match poll(&mut waiting, Some(&patience)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(EbpfError::Wait(error.into())),
        }
    }

    /// Ends flows that are unused for longest if the table is nearly full.
    fn make_room(&mut self, census: &Census) -> Result<(), EbpfError> {
        let now = u64::try_from(boot_ns()).unwrap_or_default();
        let evict_before = census.evict_before(self.max_flows, now);
        if evict_before == 0 {
            return Ok(());
        }
        let orders = Orders {
            evict_before,
            ..Orders::default()
        };
        let census = self.meter.sweep(orders)?;
        tracing::debug!(
            evicted = census.evicted,
            live = census.live,
            "the table of flows was nearly full"
        );
        // A sweep leaves its orders behind, but they mean nothing to packets.
        Ok(())
    }

    /// Hands over what is in the ring; how many records there were, at most as many as are read in a turn.
    fn drain(&mut self, batcher: &mut Batcher) -> usize {
        let mut count = 0;
        while count < TURN
            && let Some(item) = self.ring.next()
        {
            count += 1;
            match read_packet(&item) {
                Ok(None) => {}
                Ok(Some(packet)) => {
                    let time = self.clock.time(packet.time);
                    self.user.take(&packet, time, batcher);
                    continue;
                }
                Err(BadRecord) => {
                    batcher.dropped("malformed", 1);
                    continue;
                }
            }
            let Ok(mut report) = read(&item, self.clock) else {
                batcher.dropped("malformed", 1);
                continue;
            };
            self.user.complete(&mut report.record);
            if matches!(report.record.phase, amoskys_core::event::FlowPhase::End(_)) {
                batcher.used(report.record.packets());
            }
            let time = self.clock.time(report.time);
            batcher.add(time, Payload::Flow(Box::new(report.record)));
        }
        count
    }

    /// Enters what the program left out or lost since the last time.
    fn account(&mut self, batcher: &mut Batcher) -> Result<(), EbpfError> {
        let total = stats(&self.meter.counters)?.total();
        let told = std::mem::replace(&mut self.told, total);
        let now = self.now();
        let mut tell = |reason: &'static str, count: u64, is_loss: bool| match (count, is_loss) {
            (0, _) => {}
            (count, true) => batcher.lost(now, reason, count, "packets", "kernel"),
            (count, false) => batcher.dropped(reason, count),
        };
        for reason in KernelSkip::ALL {
            let count = total.skipped(reason) - told.skipped(reason);
            tell(reason.as_str(), count, reason.is_loss());
        }
        tell("kernel", total.lost_packets - told.lost_packets, true);
        let unread = total.unread - told.unread;
        if unread > 0 {
            // Their packets are counted; only what they said is lost.
            let report = LossReport {
                count: unread,
                unit: "payloads".to_owned(),
                reason: "payload_unread".to_owned(),
                stage: "kernel".to_owned(),
            };
            batcher.add(now, Payload::Loss(Box::new(report)));
        }
        Ok(())
    }
}
