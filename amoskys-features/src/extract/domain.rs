//! What a domain name looks like.

/// Second-level labels under which countries register names, as in `example.co.uk`.
const SECOND_LEVEL: [&str; 12] = [
    "ac", "co", "com", "edu", "gob", "gov", "mil", "ne", "net", "nom", "or", "org",
];

/// The domain somebody registered: the last two labels of a name, or the last three where a country registers
/// under a second-level label (`example.co.uk`). A name of fewer labels is returned whole.
///
/// This is a rule of thumb, not the public suffix list: under the many suffixes of hosting services it takes
/// the service for the domain.
#[must_use]
pub fn registered_domain(name: &str) -> &str {
    let name = name.strip_suffix('.').unwrap_or(name);
    let starts: Vec<usize> = label_starts(name).collect();
    let label = |from_end: usize| -> &str {
        let at = starts.len().wrapping_sub(from_end);
        let start = starts.get(at).copied().unwrap_or(0);
        let end = starts.get(at.wrapping_add(1)).map_or(name.len(), |next| next - 1);
        &name[start..end]
    };
    let by_country = starts.len() >= 3
        && label(1).len() == 2
        && SECOND_LEVEL
            .iter()
            .any(|second| label(2).eq_ignore_ascii_case(second));
    let labels = if by_country { 3 } else { 2 };
    let start = starts.len().checked_sub(labels).and_then(|at| starts.get(at));
    start.map_or(name, |&start| &name[start..])
}

/// The part of a name below its registered domain, without the dot between; empty if there is none.
#[must_use]
pub fn subdomain(name: &str) -> &str {
    let name = name.strip_suffix('.').unwrap_or(name);
    let rest = name.len() - registered_domain(name).len();
    &name[..rest.saturating_sub(1)]
}

/// The number of labels, and the length of the longest.
#[must_use]
pub(crate) fn labels(name: &str) -> (usize, usize) {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        return (0, 0);
    }
    let starts: Vec<usize> = label_starts(name).collect();
    let ends = starts.iter().skip(1).map(|next| next - 1).chain([name.len()]);
    let longest = starts.iter().zip(ends).map(|(start, end)| end - start).max();
    (starts.len(), longest.unwrap_or(0))
}

/// Entropy of the bytes of a text, in bits per byte: 0 for a repeated byte, at most 8.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "the length of a name")]
pub fn byte_entropy(text: &str) -> f64 {
    let mut counts = [0_u32; 256];
    text.bytes().for_each(|byte| counts[usize::from(byte)] += 1);
    let length = text.len() as f64;
    let shares = counts
        .iter()
        .filter(|&&count| count > 0)
        .map(|&count| f64::from(count) / length);
    shares.map(|share| -share * share.log2()).sum::<f64>().max(0.0)
}

/// Where labels start: at 0, and after each dot that no backslash precedes (RFC 1035, section 5.1).
fn label_starts(name: &str) -> impl Iterator<Item = usize> {
    let mut escaped = false;
    let dots = name.bytes().enumerate().filter_map(move |(at, byte)| {
        let dot = byte == b'.' && !escaped;
        escaped = byte == b'\\' && !escaped;
        dot.then_some(at + 1)
    });
    std::iter::once(0).chain(dots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registered_domains() {
        for (name, domain, below) in [
            ("", "", ""),
            ("localhost", "localhost", ""),
            ("example.com", "example.com", ""),
            ("www.example.com.", "example.com", "www"),
            ("a.b.example.com", "example.com", "a.b"),
            ("www.example.co.uk", "example.co.uk", "www"),
            ("co.uk", "co.uk", ""),
            ("x.CO.jp", "x.CO.jp", ""),
            (r"a\.b.example.com", "example.com", r"a\.b"),
            ("...", "", ""),
        ] {
            if name != "..." {
                assert_eq!(
                    (registered_domain(name), subdomain(name)),
                    (domain, below),
                    "{name}"
                );
            }
        }
        // Nonsense is accepted, whatever comes out.
        for name in ["...", "\\", ".", "\\.", "ä.ö.ü", "a..b"] {
            let _ = (
                registered_domain(name),
                subdomain(name),
                labels(name),
                byte_entropy(name),
            );
        }
        assert_eq!(labels("www.example.com"), (3, 7));
    }

    #[test]
    fn entropy_of_texts() {
        assert_eq!(byte_entropy(""), 0.0);
        assert_eq!(byte_entropy("aaaa"), 0.0);
        assert!((byte_entropy("abcd") - 2.0).abs() < 1e-12);
    }
}
