use bytes::Bytes;

/// Sees what becomes of the records of a log. Called from the log's thread only, so it may take its time, but
/// commits wait for it.
pub(crate) trait Observer: Send {
    /// These records are durable now; `first` is the offset of the first of them.
    fn committed(&mut self, first: u64, records: &mut dyn Iterator<Item = &Bytes>);

    /// Something was committed since the last call, and the sync interval is over or the log is being closed.
    fn settle(&mut self, durable: u64);

    /// Everything below `first` is about to be deleted: these segments, in order. The next one begins at `first`.
    fn deleting(&mut self, segments: &[std::sync::Arc<super::segment::Segment>], first: u64, durable: u64);
}
