use std::io::{self, Read};

use super::block::{Head, PacketBlock, TakeHead};
use super::input::Input;
use super::pcap::{FILE_HEADER_BYTES, FileHeader};
use super::pcapng::{self, Block, Section};
use super::{Damage, DamageKind, MAX_PACKET_BYTES, Packet};
use amoskys_core::Timestamp;

/// Type, length, and the byte-order magic of a section: the least a block can be.
const MIN_HEAD: usize = pcapng::MIN_BLOCK_BYTES as usize;
/// What a block adds to the largest packet: fields and options.
const BLOCK_OVERHEAD_BYTES: usize = 4096;

/// The format of a capture file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// pcap: one interface, one link type.
    Pcap,
    /// pcapng: blocks, several interfaces.
    Pcapng,
}

/// Why a capture could not be read at all. Damage inside a file is no error; see [`CaptureReader::damage`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// The file begins like neither pcap nor pcapng. Nothing was read.
    #[error("not a capture file: it begins with {}", hex(.0))]
    UnknownFormat(Vec<u8>),
    /// The file could not be read. Packets returned before are good; reading may be tried again.
    #[error("could not read the capture at byte {offset}")]
    Read {
        /// Place in the file.
        offset: u64,
        /// What the system said.
        source: io::Error,
    },
}

fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "nothing: it is empty".to_owned();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads packets from a capture file, pcap or pcapng, whichever it is.
///
/// Packets are lent one at a time, and nothing is allocated for them. A damaged file gives the packets before
/// the damage; what was wrong is in [`damage`](Self::damage). Memory use is fixed (about 520 KiB), whatever the
/// file says.
///
/// ```
/// use amoskys_collectors::capture::CaptureReader;
///
/// # let file: &[u8] = &[0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];
/// let mut reader = CaptureReader::new(file)?;
/// while let Some(packet) = reader.next_packet()? {
///     println!("{} {} bytes", packet.time, packet.wire_len);
/// }
/// assert!(reader.damage().is_empty());
/// # Ok::<(), amoskys_collectors::capture::CaptureError>(())
/// ```
pub struct CaptureReader<R> {
    input: Input<R>,
    state: State,
    /// Bytes at the start of the input that belong to the packet lent last.
    lent: usize,
    /// Bytes still to be passed of a block of no concern.
    skipping: u64,
    damage: Damage,
    dropped: u64,
    /// Time of the latest packet, for those that have none.
    time: Timestamp,
    /// A packet that begins the next block, at the start of the input.
    carried: Option<Head>,
}

enum State {
    Pcap(FileHeader),
    Pcapng(Section),
    /// Nothing more can be read, after the format it was.
    Ended(Format),
}

impl<R: Read> CaptureReader<R> {
    /// Reads the beginning of a capture. The reader need not be buffered.
    ///
    /// # Errors
    ///
    /// If it is no capture, or cannot be read.
    pub fn new(reader: R) -> Result<Self, CaptureError> {
        let mut input = Input::new(reader);
        let read = |input: &mut Input<R>, bytes| {
            input
                .fill(bytes)
                .map_err(|source| CaptureError::Read { offset: 0, source })
        };
        let at_hand = read(&mut input, FILE_HEADER_BYTES)?;
        let unknown = |input: &Input<R>| {
            let start = input.available();
            CaptureError::UnknownFormat(start[..start.len().min(4)].to_vec())
        };
        let mut damage = Damage::default();
        let state = if input
            .available()
            .starts_with(&pcapng::SECTION_HEADER.to_be_bytes())
        {
            // The section header is read as a block, like any later one.
            State::Pcapng(Section::default())
        } else if let Some(header) = input.available().first_chunk().and_then(FileHeader::parse) {
            input.consume(FILE_HEADER_BYTES);
            State::Pcap(header)
        } else if (4..FILE_HEADER_BYTES).contains(&at_hand) && begins_like_pcap(input.available()) {
            damage.count(DamageKind::Truncated, 0);
            State::Ended(Format::Pcap)
        } else {
            return Err(unknown(&input));
        };
        Ok(Self {
            input,
            state,
            lent: 0,
            skipping: 0,
            damage,
            dropped: 0,
            time: Timestamp::default(),
            carried: None,
        })
    }

    /// The next packet; `None` at the end of the file, or where damage makes going on impossible.
    ///
    /// # Errors
    ///
    /// If the file cannot be read. The call may be repeated.
    #[inline]
    pub fn next_packet(&mut self) -> Result<Option<Packet<'_>>, CaptureError> {
        if self.carried.is_none() {
            match self.find_at_hand() {
                Some(head) => self.carried = Some(head),
                None => self.carried = self.find()?,
            }
        }
        let start = self.input.start();
        Ok(self
            .carried
            .take()
            .map(|head| head.of(self.input.available(), start)))
    }

    /// The next packets, as many as were read at a time: about 128 KiB of the file, or one larger packet. They take the
    /// place of those in `block`, whose memory is read into later: two or three blocks that take turns cost no allocation.
    /// False at the end of the file, or where damage makes going on impossible; the block is empty then.
    ///
    /// A block may go to another thread. What [`damage`](Self::damage) and [`offset`](Self::offset) say may be ahead of it
    /// by what was read to find its end.
    ///
    /// # Errors
    ///
    /// If the file cannot be read. What was read before has been given. The call may be repeated.
    pub fn next_block(&mut self, block: &mut PacketBlock) -> Result<bool, CaptureError> {
        let PacketBlock { heads, bytes } = block;
        heads.clear();
        self.next_heads(bytes, heads)
    }

    /// The same; `taker` gets each packet, and its bytes, which will be in `bytes`.
    #[inline]
    pub(crate) fn next_heads(
        &mut self,
        bytes: &mut Vec<u8>,
        taker: &mut impl TakeHead,
    ) -> Result<bool, CaptureError> {
        self.input.keep_bytes(std::mem::take(bytes));
        let mut any = false;
        if let Some(head) = self.carried.take() {
            taker.take(head, head.data(self.input.buffer()));
            any = true;
        }
        loop {
            any |= self.take_at_hand(taker);
            let found = self.find();
            let full = self.input.take_full();
            match (found, full) {
                (Ok(Some(head)), Some(full)) if any => {
                    (*bytes, self.carried) = (full, Some(head));
                    return Ok(true);
                }
                (Ok(Some(head)), full) => {
                    // Where nothing was found yet, the bytes are of no use.
                    if let Some(full) = full {
                        self.input.keep_bytes(full);
                    }
                    taker.take(head, head.data(self.input.buffer()));
                    any = true;
                }
                (Ok(None), full) => {
                    *bytes = full.unwrap_or_else(|| self.input.take_last());
                    return Ok(any);
                }
                (Err(error), full) => {
                    if let Some(full) = full {
                        *bytes = full;
                        if any {
                            // It is met again by the next call, if it is there to stay.
                            return Ok(true);
                        }
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Takes all packets for which nothing has to be read: nearly all of a pcap file. Whether there were any. What is looked at
    /// for each packet is in no other place than the processor's own; that is why it is not inlined, where other things would
    /// take its registers.
    #[inline(never)]
    fn take_at_hand(&mut self, taker: &mut impl TakeHead) -> bool {
        let State::Pcap(header) = self.state else {
            return false;
        };
        let buffer = self.input.at_hand_in_place();
        // Where the packet lent last begins, and where the next one does.
        let (mut before, mut at) = (self.input.start(), self.input.start() + self.lent);
        let first = at;
        while let Some((record, data)) = header.next_record(buffer, at) {
            let start = at + header.record_header_bytes();
            taker.take(header.head(record, start), data);
            (before, at) = (at, start + data.len());
        }
        self.input.consume(before - self.input.start());
        self.lent = at - before;
        at > first
    }

    /// The next packet, at the start of the input, where nothing has to be read for it: nearly always in a pcap file.
    #[inline]
    fn find_at_hand(&mut self) -> Option<Head> {
        let State::Pcap(header) = &self.state else {
            return None;
        };
        let at = self.input.start() + self.lent;
        let (record, data) = header.next_record(self.input.at_hand_in_place(), at)?;
        let head = header.head(record, at + header.record_header_bytes());
        let whole = header.record_header_bytes() + data.len();
        self.input.consume(self.lent);
        self.lent = whole;
        Some(head)
    }

    /// The next packet, at the start of the input.
    #[cold]
    fn find(&mut self) -> Result<Option<Head>, CaptureError> {
        self.input.consume(std::mem::take(&mut self.lent));
        let found = match &self.state {
            State::Pcap(header) => {
                let header = *header;
                self.find_pcap(header)
            }
            State::Pcapng(_) => self.find_pcapng(),
            State::Ended(_) => Ok(None),
        };
        found.map_err(|source| CaptureError::Read {
            offset: self.input.offset(),
            source,
        })
    }

    /// The header of a pcap file: all that is needed to tell what is known of a packet from the bytes before it.
    pub(crate) fn file_header(&self) -> Option<FileHeader> {
        match self.state {
            State::Pcap(header) => Some(header),
            State::Pcapng(_) | State::Ended(_) => None,
        }
    }

    /// The format of the file.
    #[must_use]
    pub fn format(&self) -> Format {
        match &self.state {
            State::Pcap(_) => Format::Pcap,
            State::Pcapng(_) => Format::Pcapng,
            State::Ended(format) => *format,
        }
    }

    /// What was wrong with the file so far.
    #[must_use]
    pub fn damage(&self) -> &Damage {
        &self.damage
    }

    /// Packets that, by the file's own statistics, the capturing system lost.
    #[must_use]
    pub fn dropped_by_capture(&self) -> u64 {
        self.dropped
    }

    /// How many bytes of the file have been used.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.input.offset() + self.lent as u64
    }

    #[inline]
    fn find_pcap(&mut self, header: FileHeader) -> io::Result<Option<Head>> {
        let head = header.record_header_bytes();
        let at_hand = self.input.fill(head)?;
        if at_hand < head {
            return Ok(self.end(Format::Pcap, (at_hand > 0).then_some(DamageKind::Truncated)));
        }
        let Some(record) = header.record(self.input.available()) else {
            return Ok(self.end(Format::Pcap, Some(DamageKind::Truncated)));
        };
        let captured = record.captured as usize;
        if captured > MAX_PACKET_BYTES {
            return Ok(self.end(Format::Pcap, Some(DamageKind::RecordTooLarge)));
        }
        let whole = head + captured;
        if self.input.fill(whole)? < whole {
            return Ok(self.end(Format::Pcap, Some(DamageKind::Truncated)));
        }
        self.lent = whole;
        Ok(Some(header.head(record, self.input.start() + head)))
    }

    /// Reads blocks until one holds a packet. Its bytes stay at the start of the input.
    fn find_pcapng(&mut self) -> io::Result<Option<Head>> {
        loop {
            while self.skipping > 0 {
                match self.input.skip(self.skipping)? {
                    0 => return Ok(self.end(Format::Pcapng, Some(DamageKind::Truncated))),
                    skipped => self.skipping -= skipped,
                }
            }
            let State::Pcapng(section) = &mut self.state else {
                return Ok(None);
            };
            let at_hand = self.input.fill(MIN_HEAD)?;
            let start = self.input.available();
            if at_hand < MIN_HEAD {
                return Ok(self.end(Format::Pcapng, (at_hand > 0).then_some(DamageKind::Truncated)));
            }
            // A section header is the same in both byte orders, and says which one follows.
            if start.starts_with(&pcapng::SECTION_HEADER.to_be_bytes()) {
                match Section::begin([start[8], start[9], start[10], start[11]]) {
                    Some(new) => *section = new,
                    None => return Ok(self.end(Format::Pcapng, Some(DamageKind::BadSection))),
                }
            }
            let head = match section.head(start) {
                Some(head) if head.total >= pcapng::MIN_BLOCK_BYTES && head.total.is_multiple_of(4) => head,
                _ => return Ok(self.end(Format::Pcapng, Some(DamageKind::BadBlock))),
            };
            let total = head.total as usize;
            if !Section::wants(head.kind) {
                self.skipping = u64::from(head.total);
                continue;
            }
            if total > MAX_PACKET_BYTES + BLOCK_OVERHEAD_BYTES {
                return Ok(self.end(Format::Pcapng, Some(DamageKind::RecordTooLarge)));
            }
            if self.input.fill(total)? < total {
                return Ok(self.end(Format::Pcapng, Some(DamageKind::Truncated)));
            }
            let block = &self.input.available()[..total];
            if section.trailer(block) != Some(head.total) {
                return Ok(self.end(Format::Pcapng, Some(DamageKind::BadBlock)));
            }
            let offset = self.input.offset();
            match section.read(head.kind, &block[8..total - 4]) {
                Block::Packet { packet, cut } => {
                    if cut {
                        self.damage.count(DamageKind::PacketBeyondBlock, offset);
                    }
                    let start = self.input.start() + pcapng::packet_start(head.kind);
                    let mut found = Head::new(&packet, start);
                    if head.kind == pcapng::SIMPLE_PACKET {
                        found.time = self.time;
                    }
                    self.time = found.time;
                    self.lent = total;
                    return Ok(Some(found));
                }
                Block::UnknownInterface => self.damage.count(DamageKind::UnknownInterface, offset),
                Block::Bad => self.damage.count(DamageKind::BadBlock, offset),
                Block::Dropped(count) => self.dropped = self.dropped.saturating_add(count),
                Block::Other => {}
            }
            self.input.consume(total);
        }
    }

    #[cold]
    fn end<T>(&mut self, format: Format, damage: Option<DamageKind>) -> Option<T> {
        if let Some(kind) = damage {
            self.damage.count(kind, self.input.offset());
        }
        self.skipping = 0;
        self.state = State::Ended(format);
        None
    }
}

fn begins_like_pcap(bytes: &[u8]) -> bool {
    let mut header = [0; FILE_HEADER_BYTES];
    header[..4].copy_from_slice(&bytes[..4]);
    FileHeader::parse(&header).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PCAP_HEAD: [u8; 24] = [
        0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0,
    ];

    fn pcap(records: &[&[u8]]) -> Vec<u8> {
        let mut file = PCAP_HEAD.to_vec();
        for (n, data) in records.iter().enumerate() {
            let len = u32::try_from(data.len()).unwrap();
            for field in [u32::try_from(n).unwrap(), 0, len, len] {
                file.extend(field.to_le_bytes());
            }
            file.extend(*data);
        }
        file
    }

    fn block(kind: u32, body: &[u8]) -> Vec<u8> {
        let padded = body.len().next_multiple_of(4);
        let total = u32::try_from(12 + padded).unwrap().to_le_bytes();
        let mut block = kind.to_le_bytes().to_vec();
        block.extend(total);
        block.extend(body);
        block.resize(8 + padded, 0);
        block.extend(total);
        block
    }

    fn section() -> Vec<u8> {
        block(
            pcapng::SECTION_HEADER,
            &[
                0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255,
            ],
        )
    }

    fn enhanced(interface: u32, data: &[u8], claimed: u32) -> Vec<u8> {
        let mut body = Vec::new();
        for field in [interface, 0, 5, claimed, claimed] {
            body.extend(field.to_le_bytes());
        }
        body.extend(data);
        block(6, &body)
    }

    fn read(file: &[u8]) -> (Vec<Vec<u8>>, Damage) {
        let mut reader = CaptureReader::new(file).unwrap();
        let mut packets = Vec::new();
        while let Some(packet) = reader.next_packet().unwrap() {
            packets.push(packet.data.to_vec());
        }
        assert!(reader.next_packet().unwrap().is_none(), "the end is final");
        (packets, reader.damage().clone())
    }

    fn only(kind: DamageKind, offset: u64) -> Damage {
        let mut damage = Damage::default();
        damage.count(kind, offset);
        damage
    }

    #[test]
    fn a_cut_file_gives_the_packets_before_the_cut() {
        let file = pcap(&[b"one", b"three"]);
        assert_eq!(
            read(&file),
            (vec![b"one".to_vec(), b"three".to_vec()], Damage::default())
        );
        for cut in 24..file.len() {
            let (packets, damage) = read(&file[..cut]);
            assert_eq!(packets.len(), usize::from(cut >= 24 + 16 + 3), "cut at {cut}");
            let whole = cut == 24 || cut == 24 + 16 + 3;
            let offset = if cut < 43 { 24 } else { 43 };
            assert_eq!(
                damage,
                if whole {
                    Damage::default()
                } else {
                    only(DamageKind::Truncated, offset)
                }
            );
        }
        for cut in 4..24 {
            assert_eq!(read(&file[..cut]), (vec![], only(DamageKind::Truncated, 0)));
        }
        assert!(matches!(
            CaptureReader::new(&file[..3]),
            Err(CaptureError::UnknownFormat(_))
        ));
        assert!(matches!(
            CaptureReader::new(&b""[..]),
            Err(CaptureError::UnknownFormat(_))
        ));
    }

    #[test]
    fn an_impossible_record_ends_reading() {
        let mut file = pcap(&[b"one"]);
        let offset = file.len() as u64;
        file.extend([0; 8]);
        file.extend(u32::MAX.to_le_bytes());
        file.extend([0; 400]);
        assert_eq!(
            read(&file),
            (vec![b"one".to_vec()], only(DamageKind::RecordTooLarge, offset))
        );
    }

    #[test]
    fn the_largest_packet_is_read() {
        let data = vec![7; MAX_PACKET_BYTES];
        assert_eq!(read(&pcap(&[&data, &data])).0, vec![data.clone(), data]);
    }

    #[test]
    fn blocks_of_other_kinds_are_skipped_whatever_their_size() {
        let mut file = section();
        file.extend(block(1, &[1, 0, 0, 0, 0, 0, 0, 0]));
        file.extend(block(0xbad, &vec![0; 3_000_000]));
        file.extend(enhanced(0, b"data", 4));
        file.extend(section());
        file.extend(enhanced(0, b"of no interface", 4));
        assert_eq!(
            read(&file),
            (
                vec![b"data".to_vec()],
                only(DamageKind::UnknownInterface, (file.len() - 48) as u64)
            )
        );
    }

    #[test]
    fn a_packet_may_not_claim_more_than_its_block() {
        let mut file = section();
        file.extend(block(1, &[1, 0, 0, 0, 0, 0, 0, 0]));
        let offset = file.len() as u64;
        file.extend(enhanced(0, b"data", 99));
        assert_eq!(
            read(&file),
            (
                vec![b"data".to_vec()],
                only(DamageKind::PacketBeyondBlock, offset)
            )
        );
    }

    #[test]
    fn lengths_of_a_block_must_agree() {
        let mut file = section();
        file.extend(block(1, &[1, 0, 0, 0, 0, 0, 0, 0]));
        let offset = file.len() as u64;
        let mut packet = enhanced(0, b"data", 4);
        *packet.last_mut().unwrap() = 1;
        file.extend(packet);
        assert_eq!(read(&file), (vec![], only(DamageKind::BadBlock, offset)));
    }
}
