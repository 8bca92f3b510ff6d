//! DNS messages (RFC 1035): header, questions, and what matters of the answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use amoskys_core::event::{DnsQuestion, DnsRecord};

use super::{be16, be32};

/// Questions and addresses kept of one message.
const MAX_KEPT: usize = 16;
/// Longest label of a name, and longest name (RFC 1035 section 2.3.4).
const MAX_LABEL_BYTES: usize = 63;
const MAX_NAME_BYTES: usize = 255;
const HEADER_BYTES: usize = 12;
/// Real names follow a handful; a message full of pointers could make us follow thousands.
const MAX_POINTERS: usize = 32;

/// Reads DNS messages into a record that is used again, so that nothing is allocated once it has grown.
#[derive(Debug, Default)]
pub struct DnsDecoder {
    record: DnsRecord,
    /// Questions not in use, with their buffers.
    spare: Vec<DnsQuestion>,
}

impl DnsDecoder {
    /// A decoder.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a message of `length` bytes, of which `bytes` were captured. Flow and key are left for the caller to
    /// fill in. A message that breaks off or breaks the format is marked as malformed.
    pub fn decode(&mut self, bytes: &[u8], length: u32) -> &mut DnsRecord {
        self.clear();
        self.record.bytes = length;
        self.record.malformed = self.read(bytes).is_none();
        &mut self.record
    }

    fn clear(&mut self) {
        self.spare.append(&mut self.record.questions);
        let questions = std::mem::take(&mut self.record.questions);
        let mut addresses = std::mem::take(&mut self.record.addresses);
        addresses.clear();
        self.record = DnsRecord {
            questions,
            addresses,
            ..DnsRecord::default()
        };
    }

    /// `None` where the message breaks off.
    fn read(&mut self, bytes: &[u8]) -> Option<()> {
        let record = &mut self.record;
        let flags = be16(bytes, 2)?;
        record.id = be16(bytes, 0)?;
        record.response = flags & 0x8000 != 0;
        record.opcode = (flags >> 11 & 0xf) as u8;
        record.authoritative = flags & 0x0400 != 0;
        record.truncated = flags & 0x0200 != 0;
        record.rcode = if record.response { (flags & 0xf) as u8 } else { 0 };
        let questions = be16(bytes, 4)?;
        record.answers = be16(bytes, 6)?;
        record.authorities = be16(bytes, 8)?;
        record.additionals = be16(bytes, 10)?;
        let mut at = HEADER_BYTES;
        for n in 0..questions {
            if usize::from(n) < MAX_KEPT {
                let mut question = self.spare.pop().unwrap_or_default();
                question.name.clear();
                (question.qtype, question.qclass) = (0, 0);
                let read = read_question(bytes, &mut at, &mut question);
                if read.is_some() || !question.name.is_empty() {
                    self.record.questions.push(question);
                } else {
                    self.spare.push(question);
                }
                read?;
            } else {
                at = skip_name(bytes, at)?.checked_add(4)?;
            }
        }
        for _ in 0..self.record.answers {
            at = self.read_answer(bytes, at)?;
        }
        (at <= bytes.len()).then_some(())
    }

    fn read_answer(&mut self, bytes: &[u8], at: usize) -> Option<usize> {
        let at = skip_name(bytes, at)?;
        let kind = be16(bytes, at)?;
        let ttl = be32(bytes, at + 4)?;
        let length = be16(bytes, at + 8)?;
        let data = bytes.get(at + 10..at + 10 + usize::from(length))?;
        let record = &mut self.record;
        record.answer_bytes = record.answer_bytes.saturating_add(u32::from(length));
        record.min_ttl = Some(record.min_ttl.map_or(ttl, |least| least.min(ttl)));
        if record.addresses.len() < MAX_KEPT {
            let address = match kind {
                1 => data
                    .try_into()
                    .ok()
                    .map(|bytes: [u8; 4]| IpAddr::V4(Ipv4Addr::from(bytes))),
                28 => data
                    .try_into()
                    .ok()
                    .map(|bytes: [u8; 16]| IpAddr::V6(Ipv6Addr::from(bytes))),
                _ => None,
            };
            record.addresses.extend(address);
        }
        Some(at + 10 + data.len())
    }
}

fn read_question(bytes: &[u8], at: &mut usize, question: &mut DnsQuestion) -> Option<()> {
    read_name(bytes, *at, &mut question.name)?;
    let after = skip_name(bytes, *at)?;
    question.qtype = be16(bytes, after)?;
    question.qclass = be16(bytes, after + 2)?;
    *at = after + 4;
    Some(())
}

/// The place after the name at `at`.
fn skip_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = *bytes.get(at)?;
        match length {
            0 => return Some(at + 1),
            1..=63 => at += 1 + usize::from(length),
            // A pointer ends a name.
            0xc0.. => return Some(at + 2),
            _ => return None,
        }
    }
}

/// Appends the name at `at` in presentation format. What was read before it breaks off stays in `name`.
fn read_name(bytes: &[u8], mut at: usize, name: &mut String) -> Option<()> {
    // A pointer must lead to an earlier place than all before, so that every name ends.
    let mut earliest = at;
    let mut total = 0;
    let mut pointers = 0;
    loop {
        let length = *bytes.get(at)?;
        match length {
            0 => return Some(()),
            1..=63 => {
                let end = at + 1 + usize::from(length);
                total += 1 + usize::from(length);
                if total > MAX_NAME_BYTES {
                    return None;
                }
                let label = bytes.get(at + 1..end).or(bytes.get(at + 1..)).unwrap_or_default();
                if !name.is_empty() {
                    name.push('.');
                }
                push_label(label, name);
                at = end;
            }
            0xc0.. => {
                let target = usize::from(be16(bytes, at)? & 0x3fff);
                pointers += 1;
                if target >= earliest || pointers > MAX_POINTERS {
                    return None;
                }
                (at, earliest) = (target, target);
            }
            _ => return None,
        }
    }
}

fn push_label(label: &[u8], name: &mut String) {
    // Put together elsewhere: each push to a string is a check of its own.
    let mut text = [0; 4 * MAX_LABEL_BYTES + 4];
    let mut length = 0;
    for byte in label.iter().take(MAX_LABEL_BYTES) {
        let (escaped, size) = &PRESENTED[usize::from(*byte)];
        // All four, of which the next byte overwrites what is too much.
        if let Some(place) = text.get_mut(length..length + 4) {
            place.copy_from_slice(escaped);
        }
        length += usize::from(*size);
    }
    // It is ASCII.
    name.push_str(std::str::from_utf8(&text[..length]).unwrap_or_default());
}

/// How each byte is written in presentation format, and how long that is. Tunnels over DNS have names in which half of the
/// bytes are escaped.
static PRESENTED: [([u8; 4], u8); 256] = {
    let mut table = [([0; 4], 0); 256];
    let mut byte = 0;
    while byte < 256 {
        let plain = byte as u8;
        table[byte] = match plain {
            b'.' | b'\\' => ([b'\\', plain, 0, 0], 2),
            0x21..=0x7e => ([plain, 0, 0, 0], 1),
            _ => {
                let digits = [b'0' + plain / 100, b'0' + plain / 10 % 10, b'0' + plain % 10];
                ([b'\\', digits[0], digits[1], digits[2]], 4)
            }
        };
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn message(flags: u16, counts: [u16; 4], body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x12, 0x34];
        bytes.extend(flags.to_be_bytes());
        bytes.extend(counts.iter().flat_map(|count| count.to_be_bytes()));
        bytes.extend(body);
        bytes
    }

    #[test]
    fn a_response_with_a_compressed_name() {
        let mut body = b"\x03www\x07example\x00\x00\x01\x00\x01".to_vec();
        body.extend(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x01");
        let bytes = message(0x8580, [1, 1, 0, 0], &body);
        let mut decoder = DnsDecoder::new();
        let record = decoder.decode(&bytes, 99);
        assert_eq!(
            (record.id, record.response, record.rcode, record.bytes),
            (0x1234, true, 0, 99)
        );
        assert_eq!(record.questions[0].name, "www.example");
        assert_eq!((record.questions[0].qtype, record.questions[0].qclass), (1, 1));
        assert_eq!(record.addresses, [IpAddr::from([192, 0, 2, 1])]);
        assert_eq!((record.min_ttl, record.answer_bytes), (Some(60), 4));
        assert!(record.authoritative && !record.malformed);
        let expected = record.clone();
        // What an earlier message left behind must not show.
        decoder.decode(b"", 0);
        assert_eq!(*decoder.decode(&bytes, 99), expected);
    }

    #[test]
    fn bytes_that_are_no_text_are_written_as_numbers() {
        let bytes = message(0x0100, [1, 0, 0, 0], b"\x05a.\\\x00\xff\x00\x00\x0a\x00\x01");
        let mut decoder = DnsDecoder::new();
        assert_eq!(decoder.decode(&bytes, 0).questions[0].name, r"a\.\\\000\255");
    }

    #[test]
    fn pointers_that_go_round_end() {
        for body in [
            &b"\xc0\x0c\x00\x01\x00\x01"[..],
            b"\x01a\xc0\x0c\x00\x01\x00\x01",
            b"\xc0\x0e\xc0\x0c",
        ] {
            let bytes = message(0x0100, [1, 0, 0, 0], body);
            assert!(DnsDecoder::new().decode(&bytes, 0).malformed);
        }
    }

    #[test]
    fn a_cut_message_keeps_what_was_read() {
        let bytes = message(0x0100, [1, 0, 0, 0], b"\x06secret\x07exam");
        let mut decoder = DnsDecoder::new();
        let record = decoder.decode(&bytes, 0);
        assert!(record.malformed);
        assert_eq!(record.questions[0].name, "secret.exam");
    }

    /// Found by fuzzing: type and class of a message before were left in a question that broke off.
    #[test]
    fn a_question_that_breaks_off_has_nothing_of_an_earlier_one() {
        let mut decoder = DnsDecoder::new();
        decoder.decode(&message(0x0100, [1, 0, 0, 0], b"\x01a\x00\x00\x10\x00\x01"), 0);
        let cut = message(0x0100, [1, 0, 0, 0], b"\x01b\x00");
        let question = decoder.decode(&cut, 0).questions[0].clone();
        assert_eq!(
            (question.name.as_str(), question.qtype, question.qclass),
            ("b", 0, 0)
        );
    }

    #[test]
    fn counts_that_lie_do_no_harm() {
        let bytes = message(0x8000, [u16::MAX; 4], &b"\x01a\x00\x00\x01\x00\x01".repeat(9000));
        let mut decoder = DnsDecoder::new();
        assert_eq!(decoder.decode(&bytes, 0).questions.len(), MAX_KEPT);
        assert!(decoder.decode(&bytes, 0).malformed);
    }
}
