use amoskys_core::event::{DnsRecord, Entity};

use super::catalog::{Catalog, Feature};
use super::domain::{byte_entropy, labels, registered_domain, subdomain};
use super::fact::Fact;
use super::parts::count;
use crate::aggregate::{Distinct, Frequencies, Groups, Moments, aggregate, ratio};
use crate::hash::KeyHash;

/// Features of a host as a client of the domain name system. The entity is [`Entity::Client`] of protocol 17
/// (UDP and TCP are counted together) and the server's port: 53 for DNS, 5353 for mDNS.
pub struct DnsClients;

aggregate! {
    /// What is kept for a DNS client.
    pub struct DnsAggregate {
        queries: u64,
        responses: u64,
        nx_domain: u64,
        errors: u64,
        truncated: u64,
        malformed: u64,
        types: Frequencies,
        addresses_asked: u64,
        reverse_asked: u64,
        carriers_asked: u64,
        names: Distinct,
        domains: Frequencies,
        below: Groups,
        new_domains: u64,
        servers: Distinct,
        name_length: Moments,
        label_length: Moments,
        label_count: Moments,
        subdomain_length: Moments,
        subdomain_entropy: Moments,
        digit_share: Moments,
        query_bytes: Moments,
        response_bytes: Moments,
        answer_bytes: Moments,
        answers: Moments,
        ttl: Moments,
    }
}

impl Catalog for DnsClients {
    type Aggregate = DnsAggregate;

    const NAME: &'static str = "dns_client";

    fn entity(fact: &Fact<'_>) -> Option<Entity> {
        let Fact::Dns { record, .. } = fact else {
            return None;
        };
        let key = &record.key;
        let (client, server_port) = if record.response {
            (key.destination, key.source_port)
        } else {
            (key.source, key.destination_port)
        };
        Some(Entity::Client(client, 17, server_port))
    }

    fn add(client: &mut DnsAggregate, fact: &Fact<'_>) {
        let Fact::Dns { record, new_domain } = fact else {
            return;
        };
        client.malformed += u64::from(record.malformed);
        client.truncated += u64::from(record.truncated);
        if record.response {
            client.responses += 1;
            match record.rcode {
                0 => {}
                3 => client.nx_domain += 1,
                _ => client.errors += 1,
            }
            client.response_bytes.add(f64::from(record.bytes));
            client.answer_bytes.add(f64::from(record.answer_bytes));
            client.answers.add(f64::from(record.answers));
            client.ttl.add(record.min_ttl.map_or(f64::NAN, f64::from));
        } else {
            client.queries += 1;
            client.new_domains += u64::from(*new_domain);
            client.servers.add(KeyHash::of_address(record.key.destination));
            client.query_bytes.add(f64::from(record.bytes));
            client.add_question(record);
        }
    }

    fn features() -> Vec<Feature<DnsAggregate>> {
        vec![
            Feature::new("queries", "", "queries sent", |w| count(w.queries)),
            Feature::new("responses", "", "responses received", |w| count(w.responses)),
            Feature::new(
                "unanswered_ratio",
                "",
                "(queries - responses) / queries, at least 0",
                |w| ratio(w.queries.saturating_sub(w.responses), w.queries),
            ),
            Feature::new(
                "nx_domain",
                "",
                "responses that say the name does not exist",
                |w| count(w.nx_domain),
            ),
            Feature::new("nx_domain_ratio", "", "nx_domain / responses", |w| {
                ratio(w.nx_domain, w.responses)
            }),
            Feature::new(
                "error_ratio",
                "",
                "responses with another error code / responses",
                |w| ratio(w.errors, w.responses),
            ),
            Feature::new("truncated_ratio", "", "truncated messages / messages", |w| {
                ratio(w.truncated, w.queries + w.responses)
            }),
            Feature::new("malformed_ratio", "", "malformed messages / messages", |w| {
                ratio(w.malformed, w.queries + w.responses)
            }),
            Feature::new("servers", "", "distinct servers asked", |w| w.servers.count()),
            Feature::new(
                "names",
                "",
                "distinct names asked, without reverse lookups",
                |w| w.names.count(),
            ),
            Feature::new(
                "domains",
                "",
                "distinct registered domains asked, without reverse lookups",
                |w| w.domains.distinct(),
            ),
            Feature::new(
                "domain_entropy",
                "bit",
                "entropy of the registered domains asked",
                |w| w.domains.entropy(),
            ),
            Feature::new(
                "domain_top_share",
                "",
                "share of questions under the commonest registered domain",
                |w| w.domains.top_share(),
            ),
            Feature::new(
                "new_domains",
                "",
                "queries for a registered domain this client had not asked about before",
                |w| count(w.new_domains),
            ),
            Feature::new(
                "subdomains_max",
                "",
                "most distinct names below one registered domain: a tunnel needs a new name for each query",
                |w| w.below.largest(),
            ),
            Feature::new(
                "subdomains_top_share",
                "",
                "share of that domain in the distinct names below all domains",
                |w| w.below.top_share(),
            ),
            Feature::new(
                "name_length_mean",
                "By",
                "mean length of the names asked; NaN without",
                |w| w.name_length.mean(),
            ),
            Feature::new(
                "name_length_max",
                "By",
                "length of the longest name asked; NaN without",
                |w| w.name_length.max(),
            ),
            Feature::new(
                "label_length_mean",
                "By",
                "mean length of the longest label of each name; NaN without",
                |w| w.label_length.mean(),
            ),
            Feature::new(
                "label_length_max",
                "By",
                "length of the longest label; NaN without",
                |w| w.label_length.max(),
            ),
            Feature::new(
                "label_count_mean",
                "",
                "mean number of labels in a name; NaN without",
                |w| w.label_count.mean(),
            ),
            Feature::new(
                "subdomain_length_mean",
                "By",
                "mean length of the part below the registered domain; NaN without",
                |w| w.subdomain_length.mean(),
            ),
            Feature::new(
                "subdomain_entropy_mean",
                "bit",
                "mean entropy of the bytes of the part below the registered domain; NaN without",
                |w| w.subdomain_entropy.mean(),
            ),
            Feature::new(
                "subdomain_entropy_max",
                "bit",
                "largest entropy of the bytes of the part below the registered domain; NaN without",
                |w| w.subdomain_entropy.max(),
            ),
            Feature::new(
                "digit_share_mean",
                "",
                "mean share of digits in the part below the registered domain; NaN without",
                |w| w.digit_share.mean(),
            ),
            Feature::new("types", "", "distinct types asked for", |w| w.types.distinct()),
            Feature::new("type_entropy", "bit", "entropy of the types asked for", |w| {
                w.types.entropy()
            }),
            Feature::new(
                "address_ratio",
                "",
                "questions of types A, AAAA and HTTPS / queries",
                |w| ratio(w.addresses_asked, w.queries),
            ),
            Feature::new("reverse_ratio", "", "questions of type PTR / queries", |w| {
                ratio(w.reverse_asked, w.queries)
            }),
            Feature::new(
                "carrier_type_ratio",
                "",
                "questions of types that can carry data back (NULL, TXT, CNAME, MX, KEY, SRV, private use) / queries",
                |w| ratio(w.carriers_asked, w.queries),
            ),
            Feature::new(
                "query_size_mean",
                "By",
                "mean size of queries; NaN without",
                |w| w.query_bytes.mean(),
            ),
            Feature::new(
                "response_size_mean",
                "By",
                "mean size of responses; NaN without",
                |w| w.response_bytes.mean(),
            ),
            Feature::new(
                "answer_size_mean",
                "By",
                "mean bytes of data in the answers of a response; NaN without",
                |w| w.answer_bytes.mean(),
            ),
            Feature::new("answer_size_sum", "By", "bytes of data in all answers", |w| {
                w.answer_bytes.sum()
            }),
            Feature::new(
                "answers_mean",
                "",
                "mean number of answers in a response; NaN without",
                |w| w.answers.mean(),
            ),
            Feature::new(
                "ttl_mean",
                "s",
                "mean of the smallest time to live in each response; NaN without",
                |w| w.ttl.mean(),
            ),
            Feature::new(
                "ttl_min",
                "s",
                "smallest time to live in any response; NaN without",
                |w| w.ttl.min(),
            ),
        ]
    }
}

impl DnsAggregate {
    #[expect(clippy::cast_precision_loss, reason = "lengths of names")]
    fn add_question(&mut self, record: &DnsRecord) {
        let Some(question) = record.questions.first() else {
            return;
        };
        self.types.add(KeyHash::of_number(u64::from(question.qtype)));
        match question.qtype {
            1 | 28 | 65 => self.addresses_asked += 1,
            12 => self.reverse_asked += 1,
            5 | 10 | 15 | 16 | 25 | 33 | 65_280..=65_534 => self.carriers_asked += 1,
            _ => {}
        }
        // Case carries no meaning (RFC 4343), and some resolvers vary it on purpose.
        let name = question.name.to_ascii_lowercase();
        if name.ends_with(".arpa") {
            return;
        }
        let domain = registered_domain(&name);
        let below = subdomain(&name);
        let (label_count, longest) = labels(&name);
        let domain_hash = KeyHash::of(domain.as_bytes());
        self.names.add(KeyHash::of(name.as_bytes()));
        self.domains.add(domain_hash);
        self.name_length.add(name.len() as f64);
        self.label_length.add(longest as f64);
        self.label_count.add(label_count as f64);
        if !below.is_empty() {
            self.below.add(domain_hash, KeyHash::of(below.as_bytes()));
            self.subdomain_length.add(below.len() as f64);
            self.subdomain_entropy.add(byte_entropy(below));
            let digits = below.bytes().filter(u8::is_ascii_digit).count();
            self.digit_share.add(digits as f64 / below.len() as f64);
        }
    }
}
