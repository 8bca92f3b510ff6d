use std::fmt::Write as _;
use std::io::{self, Write};

use amoskys_core::event::FlowRecord;

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

/// Writes flow records as rows. Both formats have the same columns, beginning with `src_ip`, `src_port`, `dst_ip`,
/// `dst_port`, `protocol`, `first_ns`, `last_ns`, `fwd_packets`, `fwd_bytes`, `bwd_packets`, `bwd_bytes`.
///
/// Times and periods are nanoseconds, lengths bytes. `first_payload` is hexadecimal. `sequence` is a list of
/// packets, each `+` (forward) or `-` (backward), length, `@`, and the time since the packet before in
/// microseconds, such as `+60@0 -60@120`.
///
/// ```
/// use amoskys_collectors::flow::{RowFormat, RowWriter};
/// use amoskys_core::event::FlowRecord;
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
    /// The row being made.
    line: String,
}

impl<W: Write> RowWriter<W> {
    /// Writes the header line, if the format has one. The output should be buffered; one write is made per row.
    ///
    /// # Errors
    ///
    /// If the output fails.
    pub fn new(output: W, format: RowFormat) -> io::Result<Self> {
        let mut writer = Self {
            output,
            format,
            line: String::new(),
        };
        if format == RowFormat::Csv {
            visit(&FlowRecord::default(), &mut Header(&mut writer.line))?;
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
            RowFormat::Csv => visit(record, &mut CsvRow(&mut self.line))?,
            RowFormat::Json => {
                self.line.push('{');
                visit(record, &mut JsonRow(&mut self.line))?;
                self.line.push('}');
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
        self.line.push('\n');
        self.output.write_all(self.line.as_bytes())?;
        self.line.clear();
        Ok(())
    }
}

struct Header<'a>(&'a mut String);

impl Row for Header<'_> {
    fn cell(&mut self, name: [&str; 3], _: Cell<'_>) -> io::Result<()> {
        separate(self.0);
        self.0.extend(name);
        Ok(())
    }
}

struct CsvRow<'a>(&'a mut String);

impl Row for CsvRow<'_> {
    fn cell(&mut self, name: [&str; 3], cell: Cell<'_>) -> io::Result<()> {
        // The first column is never empty, so an empty line is a new one.
        separate(self.0);
        match cell {
            Cell::Nothing => {}
            Cell::Text(text) if text.contains([',', '"', '\n', '\r']) => {
                self.0.extend(["\"", &text.replace('"', "\"\""), "\""]);
            }
            Cell::Text(text) => self.0.push_str(text),
            plain => push_plain(self.0, plain),
        }
        let _ = name;
        Ok(())
    }
}

struct JsonRow<'a>(&'a mut String);

impl Row for JsonRow<'_> {
    fn cell(&mut self, name: [&str; 3], cell: Cell<'_>) -> io::Result<()> {
        if !self.0.ends_with('{') {
            self.0.push(',');
        }
        self.0.push('"');
        self.0.extend(name);
        self.0.push_str("\":");
        match cell {
            Cell::Nothing => self.0.push_str("null"),
            Cell::Whole(_) | Cell::Time(_) | Cell::Real(_) => push_plain(self.0, cell),
            Cell::Text(text) => push_json_text(self.0, text),
            quoted => {
                self.0.push('"');
                push_plain(self.0, quoted);
                self.0.push('"');
            }
        }
        Ok(())
    }
}

fn separate(line: &mut String) {
    if !line.is_empty() {
        line.push(',');
    }
}

/// A value that contains nothing to be quoted.
fn push_plain(line: &mut String, cell: Cell<'_>) {
    // Writing to a string does not fail.
    let _ = match cell {
        Cell::Nothing => Ok(()),
        Cell::Whole(value) => write!(line, "{value}"),
        Cell::Time(time) => write!(line, "{}", time.nanos()),
        Cell::Real(value) => write!(line, "{value}"),
        Cell::Word(text) | Cell::Text(text) => write!(line, "{text}"),
        Cell::Address(address) => write!(line, "{address}"),
        Cell::Mac(address) => write!(line, "{address}"),
        Cell::Bytes(bytes) => bytes.iter().try_for_each(|byte| write!(line, "{byte:02x}")),
        Cell::Sequence(samples) => samples.iter().enumerate().try_for_each(|(n, sample)| {
            let space = if n == 0 { "" } else { " " };
            let sign = if sample.backward { '-' } else { '+' };
            write!(line, "{space}{sign}{}@{}", sample.length, sample.gap_us)
        }),
    };
}

fn push_json_text(line: &mut String, text: &str) {
    line.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => line.extend(['\\', character]),
            control if control < ' ' => {
                let _ = write!(line, "\\u{:04x}", u32::from(control));
            }
            other => line.push(other),
        }
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use amoskys_core::event::DnsStats;

    fn row(format: RowFormat, record: &FlowRecord) -> String {
        let mut rows = RowWriter::new(Vec::new(), format).unwrap();
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
    fn header_and_rows_have_the_same_columns() {
        let text = row(RowFormat::Csv, &with_name("plain"));
        let columns: Vec<usize> = text.lines().map(|line| line.split(',').count()).collect();
        assert_eq!(columns[0], columns[1]);
        let json = row(RowFormat::Json, &with_name("plain"));
        assert_eq!(json.matches("\":").count(), columns[0]);
        let begin = "src_ip,src_port,dst_ip,dst_port,protocol,first_ns,last_ns,fwd_packets,fwd_bytes,bwd_packets,bwd_bytes,";
        assert!(text.starts_with(begin));
    }
}
