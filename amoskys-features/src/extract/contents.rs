use amoskys_core::event::{Entity, FlowRecord};

use super::catalog::{Catalog, Feature};
use super::domain::{byte_entropy, registered_domain};
use super::fact::Fact;
use super::flow::bytes::{entropy, http_method, http_status, printable_share, tls_record};
use super::parts::count;
use crate::aggregate::{Frequencies, Moments, aggregate, ratio};
use crate::hash::KeyHash;

/// Features of what a host sends and gets in the clear: TLS hellos, HTTP, and the first bytes of anything else. The
/// entity is [`Entity::Host`], the one that opened the flows; they count when they end.
pub struct Contents;

type F = Feature<ContentAggregate>;

aggregate! {
    /// What is kept of the contents of a host's flows.
    pub struct ContentAggregate {
        flows: u64,
        with_payload: u64,
        tls: u64,
        tls_elsewhere: u64,
        tls_old: u64,
        hellos: u64,
        quic: u64,
        nameless: u64,
        names: Frequencies,
        domains: Frequencies,
        fingerprints: Frequencies,
        protocols: Frequencies,
        name_length: Moments,
        name_entropy: Moments,
        http: u64,
        http_elsewhere: u64,
        requests: u64,
        methods: Frequencies,
        changing: u64,
        hosts: Frequencies,
        host_addresses: u64,
        agents: Frequencies,
        agentless: u64,
        agent_length: Moments,
        responses: u64,
        success: u64,
        redirect: u64,
        client_error: u64,
        server_error: u64,
        statuses: Frequencies,
        unknown: u64,
        openings: Frequencies,
        forward_printable: Moments,
        backward_printable: Moments,
        forward_entropy: Moments,
        backward_entropy: Moments,
        tunnels: u64,
    }
}

impl Catalog for Contents {
    type Aggregate = ContentAggregate;

    const NAME: &'static str = "content";

    fn entity(fact: &Fact<'_>) -> Option<Entity> {
        match fact {
            Fact::Closed { record, .. } => Some(Entity::Host(record.key.source)),
            _ => None,
        }
    }

    fn add(content: &mut ContentAggregate, fact: &Fact<'_>) {
        if let Fact::Closed { record, .. } = fact {
            content.flow(record);
        }
    }

    fn features() -> Vec<Feature<ContentAggregate>> {
        let mut features = tls();
        features.extend(http());
        features.extend([
            F::new("flows", "", "flows that ended", |w| count(w.flows)),
            F::new(
                "payload_ratio",
                "",
                "flows that ended with payload / flows",
                |w| ratio(w.with_payload, w.flows),
            ),
            F::new(
                "unknown_ratio",
                "",
                "flows whose payload is neither TLS, QUIC, HTTP nor DNS / flows with payload",
                |w| ratio(w.unknown, w.with_payload),
            ),
            F::new(
                "openings",
                "",
                "distinct first payloads, by their first 4 bytes",
                |w| w.openings.distinct(),
            ),
            F::new(
                "opening_entropy",
                "bit",
                "entropy of the first 4 bytes of first payloads",
                |w| w.openings.entropy(),
            ),
            F::new(
                "opening_top_share",
                "",
                "share of the commonest first 4 bytes",
                |w| w.openings.top_share(),
            ),
            F::new(
                "forward_printable_share",
                "",
                "mean share of printable ASCII in the first bytes sent; NaN without",
                |w| w.forward_printable.mean(),
            ),
            F::new(
                "backward_printable_share",
                "",
                "mean share of printable ASCII in the first bytes received; NaN without",
                |w| w.backward_printable.mean(),
            ),
            F::new(
                "forward_first_entropy",
                "bit",
                "mean entropy of the first bytes sent; NaN without",
                |w| w.forward_entropy.mean(),
            ),
            F::new(
                "backward_first_entropy",
                "bit",
                "mean entropy of the first bytes received; NaN without",
                |w| w.backward_entropy.mean(),
            ),
            F::new("tunnel_ratio", "", "flows within tunnels / flows", |w| {
                ratio(w.tunnels, w.flows)
            }),
        ]);
        features
    }
}

fn tls() -> Vec<F> {
    vec![
        F::new("tls", "", "flows that began with a TLS handshake", |w| {
            count(w.tls)
        }),
        F::new("tls_ratio", "", "tls / flows", |w| ratio(w.tls, w.flows)),
        F::new(
            "tls_elsewhere_ratio",
            "",
            "TLS to other ports than 443, 465, 853, 993, 995 and 8443 / tls",
            |w| ratio(w.tls_elsewhere, w.tls),
        ),
        F::new(
            "tls_old_ratio",
            "",
            "hellos that offer nothing newer than TLS 1.1 / hellos read",
            |w| ratio(w.tls_old, w.hellos),
        ),
        F::new("quic_ratio", "", "hellos in QUIC / hellos read", |w| {
            ratio(w.quic, w.hellos)
        }),
        F::new(
            "nameless_ratio",
            "",
            "hellos without a server name / hellos read",
            |w| ratio(w.nameless, w.hellos),
        ),
        F::new("tls_names", "", "distinct server names", |w| w.names.distinct()),
        F::new("tls_name_entropy", "bit", "entropy of the server names", |w| {
            w.names.entropy()
        }),
        F::new(
            "tls_domains",
            "",
            "distinct registered domains of server names",
            |w| w.domains.distinct(),
        ),
        F::new(
            "tls_domain_top_share",
            "",
            "share of the commonest registered domain",
            |w| w.domains.top_share(),
        ),
        F::new(
            "tls_name_length_mean",
            "By",
            "mean length of server names; NaN without",
            |w| w.name_length.mean(),
        ),
        F::new(
            "tls_name_length_max",
            "By",
            "length of the longest server name; NaN without",
            |w| w.name_length.max(),
        ),
        F::new(
            "tls_name_bytes_entropy",
            "bit",
            "mean entropy of the bytes of server names; NaN without",
            |w| w.name_entropy.mean(),
        ),
        F::new(
            "fingerprints",
            "",
            "distinct JA4 fingerprints: programs that speak TLS",
            |w| w.fingerprints.distinct(),
        ),
        F::new(
            "fingerprint_entropy",
            "bit",
            "entropy of the JA4 fingerprints",
            |w| w.fingerprints.entropy(),
        ),
        F::new(
            "fingerprint_top_share",
            "",
            "share of the commonest JA4 fingerprint",
            |w| w.fingerprints.top_share(),
        ),
        F::new(
            "alpn_entropy",
            "bit",
            "entropy of the lists of application protocols offered",
            |w| w.protocols.entropy(),
        ),
    ]
}

fn http() -> Vec<F> {
    vec![
        F::new("http", "", "flows that began with an HTTP/1 request", |w| {
            count(w.http)
        }),
        F::new("http_ratio", "", "http / flows", |w| ratio(w.http, w.flows)),
        F::new(
            "http_elsewhere_ratio",
            "",
            "HTTP to other ports than 80 and 8080 / http",
            |w| ratio(w.http_elsewhere, w.http),
        ),
        F::new("http_methods", "", "distinct methods", |w| w.methods.distinct()),
        F::new("http_method_entropy", "bit", "entropy of the methods", |w| {
            w.methods.entropy()
        }),
        F::new(
            "http_changing_ratio",
            "",
            "requests other than GET, HEAD and OPTIONS / http",
            |w| ratio(w.changing, w.http),
        ),
        F::new("http_hosts", "", "distinct values of the header Host", |w| {
            w.hosts.distinct()
        }),
        F::new(
            "http_host_entropy",
            "bit",
            "entropy of the values of the header Host",
            |w| w.hosts.entropy(),
        ),
        F::new(
            "http_host_address_ratio",
            "",
            "requests whose header Host is an address / requests read",
            |w| ratio(w.host_addresses, w.requests),
        ),
        F::new(
            "http_agents",
            "",
            "distinct values of the header User-Agent",
            |w| w.agents.distinct(),
        ),
        F::new(
            "http_agent_entropy",
            "bit",
            "entropy of the values of the header User-Agent",
            |w| w.agents.entropy(),
        ),
        F::new(
            "http_agentless_ratio",
            "",
            "requests without the header User-Agent / requests read",
            |w| ratio(w.agentless, w.requests),
        ),
        F::new(
            "http_agent_length_mean",
            "By",
            "mean length of the header User-Agent; NaN without",
            |w| w.agent_length.mean(),
        ),
        F::new(
            "http_responses",
            "",
            "flows whose server began with an HTTP/1 response",
            |w| count(w.responses),
        ),
        F::new(
            "http_success_ratio",
            "",
            "first responses of status 200 to 299 / http_responses",
            |w| ratio(w.success, w.responses),
        ),
        F::new(
            "http_redirect_ratio",
            "",
            "first responses of status 300 to 399 / http_responses",
            |w| ratio(w.redirect, w.responses),
        ),
        F::new(
            "http_client_error_ratio",
            "",
            "first responses of status 400 to 499 / http_responses",
            |w| ratio(w.client_error, w.responses),
        ),
        F::new(
            "http_server_error_ratio",
            "",
            "first responses of status 500 to 599 / http_responses",
            |w| ratio(w.server_error, w.responses),
        ),
        F::new(
            "http_status_entropy",
            "bit",
            "entropy of the status of first responses",
            |w| w.statuses.entropy(),
        ),
    ]
}

impl ContentAggregate {
    fn flow(&mut self, record: &FlowRecord) {
        let (forward, backward) = (&record.forward.first_bytes[..], &record.backward.first_bytes[..]);
        self.flows += 1;
        self.tunnels += u64::from(record.tunnel.is_some());
        if forward.is_empty() && backward.is_empty() {
            return;
        }
        self.with_payload += 1;
        for (bytes, printable, of_bytes) in [
            (forward, &mut self.forward_printable, &mut self.forward_entropy),
            (backward, &mut self.backward_printable, &mut self.backward_entropy),
        ] {
            if !bytes.is_empty() {
                printable.add(printable_share(bytes));
                of_bytes.add(entropy(bytes));
            }
        }
        self.openings.add(KeyHash::of(&forward[..forward.len().min(4)]));
        let is_tls = self.tls(record);
        let is_http = self.http(record);
        self.unknown += u64::from(!is_tls && !is_http && record.dns.is_none());
    }

    fn tls(&mut self, record: &FlowRecord) -> bool {
        let is_tls = record.tls.is_some() || tls_record(&record.forward.first_bytes).is_some();
        if !is_tls {
            return false;
        }
        self.tls += 1;
        let expected = matches!(record.key.destination_port, 443 | 465 | 853 | 993 | 995 | 8443);
        self.tls_elsewhere += u64::from(!expected);
        let Some(hello) = &record.tls else { return true };
        self.hellos += 1;
        self.tls_old += u64::from(hello.version < 0x0303);
        self.quic += u64::from(hello.quic);
        self.fingerprints.add(KeyHash::of(hello.ja4.as_bytes()));
        self.protocols.add(KeyHash::of(hello.alpn.as_bytes()));
        if hello.server_name.is_empty() {
            self.nameless += 1;
        } else {
            let name = hello.server_name.to_ascii_lowercase();
            self.names.add(KeyHash::of(name.as_bytes()));
            self.domains.add(KeyHash::of(registered_domain(&name).as_bytes()));
            self.name_length.add(count(name.len() as u64));
            self.name_entropy.add(byte_entropy(&name));
        }
        true
    }

    fn http(&mut self, record: &FlowRecord) -> bool {
        let read = record.http.as_ref().map(|request| request.method.as_str());
        let Some(method) = read.or(http_method(&record.forward.first_bytes)) else {
            return false;
        };
        self.http += 1;
        self.http_elsewhere += u64::from(!matches!(record.key.destination_port, 80 | 8080));
        self.methods.add(KeyHash::of(method.as_bytes()));
        self.changing += u64::from(!matches!(method, "GET" | "HEAD" | "OPTIONS"));
        if let Some(request) = &record.http {
            self.requests += 1;
            let host = request.host.split(':').next().unwrap_or_default();
            self.hosts
                .add(KeyHash::of(request.host.to_ascii_lowercase().as_bytes()));
            self.host_addresses += u64::from(host.parse::<std::net::IpAddr>().is_ok());
            self.agents.add(KeyHash::of(request.user_agent.as_bytes()));
            self.agentless += u64::from(request.user_agent.is_empty());
            self.agent_length.add(count(request.user_agent.len() as u64));
        }
        if let Some(status) = http_status(&record.backward.first_bytes) {
            self.responses += 1;
            self.statuses.add(KeyHash::of_number(u64::from(status)));
            match status {
                200..=299 => self.success += 1,
                300..=399 => self.redirect += 1,
                400..=499 => self.client_error += 1,
                500..=599 => self.server_error += 1,
                _ => {}
            }
        }
        true
    }
}
