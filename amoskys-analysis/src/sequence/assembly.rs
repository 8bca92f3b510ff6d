//! Puts the calls of processes together, whether their last calls come before the news of their end or after it.

use std::collections::VecDeque;

use amoskys_core::event::{Payload, ProcessAction, SyscallEvent};
use amoskys_core::{Name, Recorded, Timestamp};
use serde::{Deserialize, Serialize};

use super::SequenceError;
use super::process::process_key;
use crate::finding::{Mark, Span};
use crate::measure::{BoundedMap, hash_bytes};

/// Threads of a process whose place is known.
const THREADS: usize = 16;
/// Characters of a program's name that are kept.
const NAME: usize = 64;
/// How long after the news of its end the last calls of a process are waited for, in event time. Calls and processes come by ways of
/// their own: of a process that lives for milliseconds, the end is in the log before the calls.
const PATIENCE_NS: i64 = 2_000_000_000;

/// What one process called, in order: from its start to its end, or a stretch of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessTrace {
    /// The machine.
    pub device: Name,
    /// Name of the program, as the latest of the events had it, at most 64 characters. A process that becomes another program goes on
    /// with the same trace.
    pub command: String,
    /// The numbers of its calls. Those of several threads stand one run after the other, as they came.
    pub calls: Vec<u32>,
    /// Number of the next call of each thread, of which the last few are kept.
    next: Vec<(u32, u64)>,
    pub(crate) span: Span,
}

/// Collects the calls of processes from events, for models to learn or to judge: both see the same traces of the same log.
///
/// A trace is complete when its process ended two seconds of event time ago, by the clock of its machine; when it has as many calls
/// as were asked for; or when calls were lost, which the numbering of the runs tells.
///
/// # Guarantees
///
/// The same events give the same traces. Memory is bounded: when there are too many processes, the one silent for longest is
/// forgotten, and [counted](Self::evicted).
#[derive(Debug, Serialize, Deserialize)]
pub struct TraceAssembler {
    stretch: usize,
    /// By machine and process.
    traces: BoundedMap<u64, ProcessTrace>,
    /// Processes known to have ended.
    ended: BoundedMap<u64, ()>,
    /// By machine, what waits for the last calls.
    waiting: BoundedMap<u64, Waiting>,
}

/// Processes of one machine that have ended, and until when their calls are waited for.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Waiting {
    latest: Timestamp,
    until: VecDeque<(Timestamp, u64)>,
}

impl TraceAssembler {
    /// One that has seen nothing. Traces are cut at `stretch` calls, and so many `processes` are remembered.
    ///
    /// # Errors
    ///
    /// If `stretch` is not 16 to 1,048,576, or there are to be no `processes`.
    pub fn new(stretch: usize, processes: usize) -> Result<Self, SequenceError> {
        let refuse = |setting, reason| Err(SequenceError::Setting { setting, reason });
        if !(16..=1 << 20).contains(&stretch) {
            return refuse("stretch", "must be 16 to 1,048,576");
        }
        if processes == 0 {
            return refuse("processes", "must be 1 or more");
        }
        Ok(Self {
            stretch,
            traces: BoundedMap::new(processes),
            ended: BoundedMap::new(processes),
            waiting: BoundedMap::new(processes),
        })
    }

    /// Takes the next event of the log. The traces that are complete with it.
    pub fn observe(&mut self, recorded: &Recorded) -> Vec<ProcessTrace> {
        let mark = Mark {
            seq: recorded.seq.0,
            time: recorded.event.time,
            ..Mark::default()
        };
        self.observe_at(recorded, mark)
    }

    /// The traces of the processes that have not ended, from the one silent for longest on.
    #[must_use]
    pub fn finish(self) -> Vec<ProcessTrace> {
        let traces = self.traces.into_values();
        traces.filter(|trace| !trace.calls.is_empty()).collect()
    }

    /// Processes forgotten because there were too many.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.traces.evicted()
    }

    pub(crate) fn observe_at(&mut self, recorded: &Recorded, mark: Mark) -> Vec<ProcessTrace> {
        let device = &recorded.event.device;
        let machine = hash_bytes(device.as_str().as_bytes());
        let mut done = Vec::new();
        match &recorded.event.payload {
            Payload::Syscall(calls) if !calls.numbers.is_empty() => {
                let process = process_key(device, calls.pid, calls.start);
                self.add(process, machine, calls, device, mark, &mut done);
            }
            Payload::Process(process) => {
                let key = process_key(device, process.pid, process.start);
                if process.action == ProcessAction::Exit {
                    self.ended.entry(&key, || ());
                    if self.traces.peek(&key).is_some() {
                        self.wait_for(key, machine, mark.time);
                    }
                } else {
                    // Where starts are not known, a number may come again.
                    self.ended.remove(&key);
                }
            }
            _ => {}
        }
        self.complete(machine, mark.time, &mut done);
        done
    }

    fn add(
        &mut self,
        process: u64,
        machine: u64,
        event: &SyscallEvent,
        device: &Name,
        mark: Mark,
        done: &mut Vec<ProcessTrace>,
    ) {
        let known = self.traces.peek(&process);
        let expected = known.and_then(|trace| trace.next.iter().find(|(tid, _)| *tid == event.tid));
        // A source that does not number calls says 0 each time.
        let lost = expected.is_some_and(|(_, next)| event.first != 0 && event.first != *next);
        if lost {
            done.extend(self.traces.remove(&process));
        }
        let end = event.command.char_indices().nth(NAME);
        let name = end.map_or(&event.command[..], |(end, _)| &event.command[..end]);
        let mut rest = event.numbers.as_slice();
        while !rest.is_empty() {
            if self.traces.peek(&process).is_none() && self.ended.peek(&process).is_some() {
                self.wait_for(process, machine, mark.time);
            }
            let trace = self.traces.entry(&process, || ProcessTrace {
                device: device.clone(),
                command: String::new(),
                calls: Vec::new(),
                next: Vec::new(),
                span: Span::of(mark),
            });
            let room = self.stretch.saturating_sub(trace.calls.len()).max(1);
            let (now, later) = rest.split_at(room.min(rest.len()));
            trace.calls.extend_from_slice(now);
            trace.span.extend(mark);
            if trace.command != name {
                name.clone_into(&mut trace.command);
            }
            rest = later;
            if trace.calls.len() >= self.stretch {
                done.extend(self.traces.remove(&process));
            }
        }
        if let Some(trace) = self.traces.peek_mut(&process) {
            let next = event.first.saturating_add(event.numbers.len() as u64);
            trace.next.retain(|(tid, _)| *tid != event.tid);
            if trace.next.len() >= THREADS {
                trace.next.remove(0);
            }
            trace.next.push((event.tid, next));
        }
    }

    /// Lets a process that has ended wait for its last calls.
    fn wait_for(&mut self, process: u64, machine: u64, time: Timestamp) {
        let waiting = self.waiting.entry(&machine, Waiting::default);
        let from = waiting.latest.max(time);
        let until = Timestamp::from_nanos(from.nanos().saturating_add(PATIENCE_NS));
        waiting.until.push_back((until, process));
    }

    /// Completes what has waited long enough at this time of its machine.
    fn complete(&mut self, machine: u64, time: Timestamp, done: &mut Vec<ProcessTrace>) {
        let Some(waiting) = self.waiting.peek_mut(&machine) else {
            return;
        };
        waiting.latest = waiting.latest.max(time);
        while let Some((until, process)) = waiting.until.front().copied() {
            // Fewer wait than there may be traces, so that they are complete before they are forgotten.
            if until > waiting.latest && waiting.until.len() < self.traces.limit() {
                break;
            }
            waiting.until.pop_front();
            done.extend(self.traces.remove(&process));
        }
    }
}
