use std::io::{self, Write};
use std::str::FromStr;

use amoskys_core::event::{FlowRecord, Summary};

use super::columns::{Cell, Row, visit};

/// Format of [`RowWriter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RowFormat {
    /// Comma-separated values (RFC 4180) after a line of names. Values that do not apply are empty.
    Csv,
    /// One JSON object a line. Values that do not apply are `null`.
    Json,
}

impl FromStr for RowFormat {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        match text {
            "csv" => Ok(Self::Csv),
            "json" => Ok(Self::Json),
            _ => Err(UnknownFormat),
        }
    }
}

/// The text names no [`RowFormat`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a row format is csv or json")]
pub struct UnknownFormat;

/// Which columns a [`RowWriter`] writes. Each set begins with the one before; `docs/flow.md` defines them all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Columns {
    /// Key, times, packets and bytes: eleven columns.
    Counts,
    /// All that is measured. The default.
    #[default]
    Statistics,
    /// Also what is worked out from it (rates, means, handshake times, scaled counts), bulk transfers, entropy, the
    /// tunnel, and what was read in payloads (TLS, QUIC, HTTP).
    All,
}

impl FromStr for Columns {
    type Err = UnknownColumns;

    fn from_str(text: &str) -> Result<Self, UnknownColumns> {
        match text {
            "counts" => Ok(Self::Counts),
            "statistics" => Ok(Self::Statistics),
            "all" => Ok(Self::All),
            _ => Err(UnknownColumns),
        }
    }
}

/// The text names no [`Columns`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a set of columns is counts, statistics or all")]
pub struct UnknownColumns;

/// Writes flow records as rows. Both formats have the same columns, beginning with `src_ip`, `src_port`, `dst_ip`,
/// `dst_port`, `protocol`, `first_ns`, `last_ns`, `fwd_packets`, `fwd_bytes`, `bwd_packets`, `bwd_bytes`.
///
/// Times and periods are nanoseconds, lengths bytes. Means and deviations have three decimals. `first_payload` is hexadecimal. `sequence` is a list of
/// packets, each `+` (forward) or `-` (backward), length, `@`, and the time since the packet before in
/// microseconds, such as `+60@0 -60@120`.
///
/// ```
/// use amoskys_collectors::flow::{RowFormat, RowWriter};
/// use amoskys_core::event::{FlowRecord, Summary};
///
/// let mut rows = RowWriter::new(Vec::new(), RowFormat::Csv)?;
/// rows.write(&FlowRecord::default())?;
/// let text = String::from_utf8(rows.into_inner()?)?;
/// assert!(text.starts_with("src_ip,src_port,dst_ip,dst_port,protocol,first_ns,last_ns,"));
/// assert_eq!(text.lines().count(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RowWriter<W> {
    output: W,
    format: RowFormat,
    columns: Columns,
    /// The row being made.
    line: Vec<u8>,
}

impl<W: Write> RowWriter<W> {
    /// Writes the header line, if the format has one. The output should be buffered; one write is made per row.
    ///
    /// # Errors
    ///
    /// If the output fails.
    pub fn new(output: W, format: RowFormat) -> io::Result<Self> {
        Self::with_columns(output, format, Columns::default())
    }

    /// The same, with these columns.
    ///
    /// # Errors
    ///
    /// If the output fails.
    pub fn with_columns(output: W, format: RowFormat, columns: Columns) -> io::Result<Self> {
        let mut writer = Self {
            output,
            format,
            columns,
            line: Vec::new(),
        };
        if format == RowFormat::Csv {
            visit(&FlowRecord::default(), columns, &mut Header(&mut writer.line))?;
            writer.finish_line()?;
        }
        Ok(writer)
    }

    /// Writes a record.
    ///
    /// # Errors
    ///
    /// If the output fails.
    pub fn write(&mut self, record: &FlowRecord) -> io::Result<()> {
        match self.format {
            RowFormat::Csv => visit(record, self.columns, &mut CsvRow(&mut self.line))?,
            RowFormat::Json => {
                self.line.push(b'{');
                visit(record, self.columns, &mut JsonRow(&mut self.line))?;
                self.line.push(b'}');
            }
        }
        self.finish_line()
    }

    /// Flushes the output and gives it back.
    ///
    /// # Errors
    ///
    /// If the output fails.
    pub fn into_inner(mut self) -> io::Result<W> {
        self.output.flush()?;
        Ok(self.output)
    }

    fn finish_line(&mut self) -> io::Result<()> {
        self.line.push(b'\n');
        self.output.write_all(&self.line)?;
        self.line.clear();
        Ok(())
    }
}

struct Header<'a>(&'a mut Vec<u8>);

impl Row for Header<'_> {
    fn cell(&mut self, name: [&str; 3], _: Cell<'_>) -> io::Result<()> {
        separate(self.0);
        push_name(self.0, name);
        Ok(())
    }
}

struct CsvRow<'a>(&'a mut Vec<u8>);

impl Row for CsvRow<'_> {
    #[inline]
    fn cell(&mut self, _: [&str; 3], cell: Cell<'_>) -> io::Result<()> {
        separate(self.0);
        match cell {
            Cell::Text(text) if text.contains([',', '"', '\n', '\r']) => {
                self.0.push(b'"');
                self.0.extend_from_slice(text.replace('"', "\"\"").as_bytes());
                self.0.push(b'"');
                Ok(())
            }
            plain => push_plain(self.0, plain),
        }
    }

    fn summary(&mut self, _: [&str; 2], summary: &Summary) -> io::Result<()> {
        let line = &mut *self.0;
        if summary.count == 0 {
            line.extend_from_slice(b",0,0,0,0,0");
            return Ok(());
        }
        for value in [summary.count, summary.min, summary.max] {
            line.push(b',');
            push_whole(line, value);
        }
        if summary.min == summary.max {
            // Then the mean is the same, and the deviation 0.
            line.push(b',');
            push_whole(line, summary.min);
            line.extend_from_slice(b",0");
            return Ok(());
        }
        for value in [summary.mean(), summary.std_dev] {
            line.push(b',');
            push_real(line, value)?;
        }
        Ok(())
    }
}

struct JsonRow<'a>(&'a mut Vec<u8>);

impl Row for JsonRow<'_> {
    fn cell(&mut self, name: [&str; 3], cell: Cell<'_>) -> io::Result<()> {
        let line = &mut *self.0;
        if line.last() != Some(&b'{') {
            line.push(b',');
        }
        line.push(b'"');
        push_name(line, name);
        line.extend_from_slice(b"\":");
        match cell {
            Cell::Nothing => line.extend_from_slice(b"null"),
            Cell::Whole(_) | Cell::Time(_) | Cell::Real(_) => push_plain(line, cell)?,
            Cell::Text(text) => push_json_text(line, text)?,
            quoted => {
                line.push(b'"');
                push_plain(line, quoted)?;
                line.push(b'"');
            }
        }
        Ok(())
    }
}

#[inline]
fn separate(line: &mut Vec<u8>) {
    // The first column is never empty, so an empty line is a new one.
    if !line.is_empty() {
        line.push(b',');
    }
}

fn push_name(line: &mut Vec<u8>, name: [&str; 3]) {
    for part in name {
        line.extend_from_slice(part.as_bytes());
    }
}

/// A value that contains nothing to be quoted.
#[inline]
fn push_plain(line: &mut Vec<u8>, cell: Cell<'_>) -> io::Result<()> {
    match cell {
        Cell::Nothing => {}
        Cell::Whole(value) => push_whole(line, value),
        Cell::Time(time) => line.extend_from_slice(itoa::Buffer::new().format(time.nanos()).as_bytes()),
        Cell::Real(value) => push_real(line, value)?,
        Cell::Word(text) | Cell::Text(text) => line.extend_from_slice(text.as_bytes()),
        Cell::Address(address) => write!(line, "{address}")?,
        Cell::Mac(address) => push_hex(line, &address.0, b":"),
        Cell::Bytes(bytes) => push_hex(line, bytes, b""),
        Cell::Sequence(samples) => {
            for (n, sample) in samples.iter().enumerate() {
                line.extend_from_slice(if n == 0 { b"" } else { b" " });
                line.push(if sample.backward { b'-' } else { b'+' });
                push_whole(line, sample.length.into());
                line.push(b'@');
                push_whole(line, sample.gap_us.into());
            }
        }
    }
    Ok(())
}

#[inline]
fn push_whole(line: &mut Vec<u8>, value: u64) {
    if value < 10 {
        line.push(b'0' + value as u8);
    } else {
        line.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }
}

/// Three decimals: a thousandth of a nanosecond, or of a byte. The shortest exact form would take longer to find
/// than all the rest of the row.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range is checked"
)]
fn push_real(line: &mut Vec<u8>, value: f64) -> io::Result<()> {
    if !(0.0..1e15).contains(&value) {
        return write!(line, "{value}");
    }
    let thousandths = (value * 1000.0 + 0.5) as u64;
    push_whole(line, thousandths / 1000);
    let rest = thousandths % 1000;
    if rest != 0 {
        let digits = [rest / 100, rest / 10 % 10, rest % 10].map(|digit| b'0' + digit as u8);
        line.push(b'.');
        line.extend_from_slice(&digits);
    }
    Ok(())
}

fn push_hex(line: &mut Vec<u8>, bytes: &[u8], separator: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (n, byte) in bytes.iter().enumerate() {
        if n > 0 {
            line.extend_from_slice(separator);
        }
        line.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 0xf)]]);
    }
}

fn push_json_text(line: &mut Vec<u8>, text: &str) -> io::Result<()> {
    line.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => line.extend([b'\\', byte]),
            0..0x20 => write!(line, "\\u{byte:04x}")?,
            _ => line.push(byte),
        }
    }
    line.push(b'"');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use amoskys_core::event::DnsStats;

    fn row(format: RowFormat, record: &FlowRecord) -> String {
        row_of(Columns::Statistics, format, record)
    }

    fn row_of(columns: Columns, format: RowFormat, record: &FlowRecord) -> String {
        let mut rows = RowWriter::with_columns(Vec::new(), format, columns).unwrap();
        rows.write(record).unwrap();
        String::from_utf8(rows.into_inner().unwrap()).unwrap()
    }

    fn with_name(name: &str) -> FlowRecord {
        let dns = DnsStats {
            first_name: name.to_owned(),
            ..DnsStats::default()
        };
        FlowRecord {
            dns: Some(dns),
            ..FlowRecord::default()
        }
    }

    #[test]
    fn names_chosen_by_others_are_quoted() {
        let record = with_name("a\"b,c\\\\d");
        assert!(row(RowFormat::Csv, &record).contains(",\"a\"\"b,c\\\\d\","));
        assert!(row(RowFormat::Json, &record).contains(r#""dns_first_name":"a\"b,c\\\\d""#));
    }

    #[test]
    fn a_distribution_is_written_the_same_in_both_formats() {
        let cases = [
            (0, 0, 0, 0, 0.0),
            (3, 12, 4, 4, 0.0),
            (2, 3, 1, 2, 0.5),
            (2, 1 << 60, 0, 1 << 60, 1e17),
        ];
        for (count, sum, min, max, std_dev) in cases {
            let gaps = Summary {
                count,
                sum,
                min,
                max,
                std_dev,
            };
            let record = FlowRecord {
                gaps,
                ..FlowRecord::default()
            };
            let (csv, json) = (row(RowFormat::Csv, &record), row(RowFormat::Json, &record));
            let lines: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
            for (name, value) in lines[0]
                .iter()
                .zip(&lines[1])
                .filter(|(name, _)| name.starts_with("gap_ns_"))
            {
                assert!(
                    json.contains(&format!("\"{name}\":{value}")),
                    "{name} is {value} in {json}"
                );
            }
        }
    }

    #[test]
    fn header_and_rows_have_the_same_columns() {
        let (mut text, mut before) = (String::new(), 0);
        for columns in [Columns::Counts, Columns::Statistics, Columns::All] {
            text = row_of(columns, RowFormat::Csv, &with_name("plain"));
            let counts: Vec<usize> = text.lines().map(|line| line.split(',').count()).collect();
            assert_eq!(counts[0], counts[1]);
            let json = row_of(columns, RowFormat::Json, &with_name("plain"));
            assert_eq!(json.matches("\":").count(), counts[0]);
            assert!(counts[0] > before, "{columns:?}");
            before = counts[0];
        }
        let begin = "src_ip,src_port,dst_ip,dst_port,protocol,first_ns,last_ns,fwd_packets,fwd_bytes,bwd_packets,bwd_bytes,";
        assert!(text.starts_with(begin));
    }
}
