/// The sensor's clock, as an event: [`Event::time`](super::Event::time) is the time it states.
///
/// After a punctuation at time `t`, events earlier than `t - lateness_ns` are late. It keeps windows moving
/// on links where nothing happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Punctuation {
    /// How much out of order the source may still be, in nanoseconds. Default 0.
    pub lateness_ns: u64,
    /// The source has ended: every window may close.
    pub end: bool,
}
