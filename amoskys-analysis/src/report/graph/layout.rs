//! Which hosts and ribbons are drawn, and where.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::report::MOST_NAME_CHARS;
use crate::report::findings::{Numbered, accused, accused_pairs};
use crate::report::format::{count, foreign};
use crate::report::talkers::{Talkers, Traffic};

const MOST_HOSTS_A_SIDE: usize = 12;
const NODE_GAP: f64 = 10.0;
const NODE_MIN: f64 = 30.0;
/// Height that all ribbons share. A side is higher than that, because small hosts need room for their label.
const RIBBONS: f64 = 240.0;
const RIBBON_MAX: f64 = 36.0;
/// Of ribbons, and of the bars that they begin and end at.
pub(super) const RIBBON_MIN: f64 = 1.2;

pub(super) struct Graph {
    pub(super) left: Side,
    pub(super) right: Side,
    pub(super) ribbons: Vec<Ribbon>,
}

/// One column of hosts, the last of which may stand for all others.
#[derive(Default)]
pub(super) struct Side {
    pub(super) nodes: Vec<Node>,
}

pub(super) struct Node {
    /// `None` for all hosts that have no node of their own.
    pub(super) host: Option<IpAddr>,
    hosts: u64,
    pub(super) name: Option<String>,
    pub(super) accused: bool,
    pub(super) traffic: Traffic,
    pub(super) y: f64,
    pub(super) height: f64,
    /// Height that the ribbons of this node take together.
    pub(super) ribbons: f64,
}

pub(super) struct Ribbon {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) traffic: Traffic,
    accused: bool,
    pub(super) alert: Option<usize>,
    pub(super) from_y: f64,
    pub(super) to_y: f64,
    pub(super) width: f64,
}

impl Graph {
    pub(super) fn of(talkers: &Talkers, alerts: &[Numbered<'_>]) -> Option<Self> {
        let accused = accused(alerts);
        let blamed = accused_pairs(alerts);
        let harmed: BTreeSet<IpAddr> = blamed.keys().map(|(_, peer)| *peer).collect();
        let began: BTreeSet<IpAddr> = talkers.pairs().map(|(from, ..)| from).collect();
        let answered = harmed
            .union(&accused)
            .filter(|host| harmed.contains(host) || !began.contains(host));
        let mut left = Side::choose(talkers, &accused, &accused, |(from, _)| from);
        let mut right = Side::choose(talkers, &answered.copied().collect(), &accused, |(_, to)| to);
        let mut ribbons = join(talkers, &left, &right, &accused, &blamed);
        if ribbons.is_empty() {
            return None;
        }
        right.sort_by_neighbours(&mut ribbons);
        let roots = || ribbons.iter().map(|ribbon| root(ribbon.traffic.flows));
        let scale = (RIBBONS / roots().sum::<f64>()).min(RIBBON_MAX / roots().fold(1.0, f64::max));
        for ribbon in &mut ribbons {
            ribbon.width = (scale * root(ribbon.traffic.flows)).max(RIBBON_MIN);
        }
        left.lay_out(
            &mut ribbons,
            |ribbon| (ribbon.from, ribbon.to),
            |ribbon, y| ribbon.from_y = y,
        );
        right.lay_out(
            &mut ribbons,
            |ribbon| (ribbon.to, ribbon.from),
            |ribbon, y| ribbon.to_y = y,
        );
        // What is accused is drawn last, above the rest.
        ribbons.sort_by_key(|ribbon| (ribbon.alert.is_some(), ribbon.accused, ribbon.from, ribbon.to));
        Some(Self { left, right, ribbons })
    }
}

impl Side {
    /// The hosts of one side: those that alerts are about, then the busiest.
    fn choose(
        talkers: &Talkers,
        involved: &BTreeSet<IpAddr>,
        accused: &BTreeSet<IpAddr>,
        end: impl Fn((IpAddr, IpAddr)) -> IpAddr,
    ) -> Self {
        let mut hosts: BTreeMap<IpAddr, Traffic> = BTreeMap::new();
        for (from, to, traffic) in talkers.pairs() {
            hosts.entry(end((from, to))).or_default().add(traffic);
        }
        let total = talkers.total();
        let share = |traffic: &Traffic| total.share(traffic.flows, traffic.bytes);
        let busier = |a: &(IpAddr, Traffic), b: &(IpAddr, Traffic)| {
            share(&b.1).total_cmp(&share(&a.1)).then(a.0.cmp(&b.0))
        };
        let (mut chosen, mut waiting): (Vec<_>, Vec<_>) =
            hosts.into_iter().partition(|(host, _)| involved.contains(host));
        chosen.sort_by(busier);
        // An alert concerns few hosts as a rule; when it concerns many, the rest must not vanish behind them.
        waiting.extend(chosen.drain((MOST_HOSTS_A_SIDE / 2).min(chosen.len())..));
        waiting.sort_by(busier);
        // A node "1 other host" takes the room of that host.
        let mut room = MOST_HOSTS_A_SIDE.saturating_sub(chosen.len());
        if waiting.len() == room + 1 {
            room += 1;
        }
        let rest = waiting.split_off(room.min(waiting.len()));
        chosen.append(&mut waiting);
        let mut nodes: Vec<Node> = chosen
            .into_iter()
            .map(|(host, traffic)| Node {
                name: talkers.name(host).map(str::to_owned),
                accused: accused.contains(&host),
                ..Node::new(Some(host), 1, traffic)
            })
            .collect();
        if !rest.is_empty() {
            let mut all = Traffic::default();
            rest.iter().for_each(|(_, traffic)| all.add(*traffic));
            nodes.push(Node::new(
                None,
                u64::try_from(rest.len()).unwrap_or(u64::MAX),
                all,
            ));
        }
        Self { nodes }
    }

    /// Puts each host near those it is joined with, so that few ribbons cross. The rest stays last.
    fn sort_by_neighbours(&mut self, ribbons: &mut [Ribbon]) {
        let mut order: Vec<(bool, f64, usize)> = Vec::new();
        for (at, node) in self.nodes.iter().enumerate() {
            let mine = ribbons.iter().filter(|ribbon| ribbon.to == at);
            let (sum, weight) = mine.fold((0.0, 0.0), |(sum, weight), ribbon| {
                let place = f64::from(u32::try_from(ribbon.from).unwrap_or(u32::MAX));
                let part = root(ribbon.traffic.flows);
                (sum + place * part, weight + part)
            });
            order.push((
                node.host.is_none(),
                if weight > 0.0 { sum / weight } else { f64::MAX },
                at,
            ));
        }
        order.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)));
        let mut places = vec![0; order.len()];
        for (new, (_, _, old)) in order.iter().enumerate() {
            places[*old] = new;
        }
        for ribbon in ribbons {
            ribbon.to = places[ribbon.to];
        }
        let mut placed: Vec<(usize, Node)> =
            std::mem::take(&mut self.nodes).into_iter().enumerate().collect();
        placed.sort_by_key(|(old, _)| places[*old]);
        self.nodes = placed.into_iter().map(|(_, node)| node).collect();
    }

    /// Sets where each node is, and where on it its ribbons end.
    fn lay_out(
        &mut self,
        ribbons: &mut [Ribbon],
        ends: impl Fn(&Ribbon) -> (usize, usize),
        mut set: impl FnMut(&mut Ribbon, f64),
    ) {
        let mut y = 0.0;
        for (at, node) in self.nodes.iter_mut().enumerate() {
            let mut mine: Vec<&mut Ribbon> =
                ribbons.iter_mut().filter(|ribbon| ends(ribbon).0 == at).collect();
            mine.sort_by_key(|ribbon| ends(ribbon).1);
            node.ribbons = mine.iter().map(|ribbon| ribbon.width).sum();
            node.height = node.ribbons.max(NODE_MIN);
            node.y = y;
            let mut end_y = y + (node.height - node.ribbons) / 2.0;
            for ribbon in mine {
                set(ribbon, end_y);
                end_y += ribbon.width;
            }
            y += node.height + NODE_GAP;
        }
    }

    pub(super) fn height(&self) -> f64 {
        self.nodes.last().map_or(0.0, |node| node.y + node.height)
    }

    fn place_of(&self, host: IpAddr) -> Option<usize> {
        let own = self.nodes.iter().position(|node| node.host == Some(host));
        own.or_else(|| self.nodes.iter().position(|node| node.host.is_none()))
    }
}

impl Node {
    fn new(host: Option<IpAddr>, hosts: u64, traffic: Traffic) -> Self {
        Self {
            host,
            hosts,
            name: None,
            accused: false,
            traffic,
            y: 0.0,
            height: 0.0,
            ribbons: 0.0,
        }
    }

    pub(super) fn label(&self) -> String {
        self.host.map_or_else(
            || format!("{} other hosts", count(self.hosts)),
            |host| host.to_string(),
        )
    }

    pub(super) fn title(&self) -> String {
        match &self.name {
            Some(name) => format!("{} ({})", self.label(), foreign(name, MOST_NAME_CHARS)),
            None => self.label(),
        }
    }
}

impl Ribbon {
    pub(super) fn class(&self) -> &'static str {
        match (self.alert, self.accused) {
            (Some(_), _) => "blamed",
            (None, true) => "suspect",
            (None, false) => "plain",
        }
    }
}

/// The ribbons between the nodes of both sides.
fn join(
    talkers: &Talkers,
    left: &Side,
    right: &Side,
    accused: &BTreeSet<IpAddr>,
    blamed: &BTreeMap<(IpAddr, IpAddr), usize>,
) -> Vec<Ribbon> {
    // Innocent traffic between the same nodes gets a ribbon of its own: it must not look accused because one of
    // "37 other hosts" is.
    let mut ribbons: BTreeMap<(usize, usize, bool), Ribbon> = BTreeMap::new();
    for (host, peer, traffic) in talkers.pairs() {
        let (Some(from), Some(to)) = (left.place_of(host), right.place_of(peer)) else {
            continue;
        };
        // What the accused began is meant; only where it began nothing, what was begun with it.
        let answer = || {
            blamed
                .get(&(peer, host))
                .filter(|_| !talkers.has_pair(peer, host))
        };
        let alert = blamed.get(&(host, peer)).or_else(answer).copied();
        let ribbon = ribbons.entry((from, to, alert.is_some())).or_insert(Ribbon {
            from,
            to,
            traffic: Traffic::default(),
            accused: false,
            alert,
            from_y: 0.0,
            to_y: 0.0,
            width: 0.0,
        });
        ribbon.traffic.add(traffic);
        ribbon.accused |= accused.contains(&host);
        ribbon.alert = ribbon.alert.min(alert);
    }
    ribbons.into_values().collect()
}

/// Widths grow with the square root, so that a scan does not make everything else invisible.
#[expect(clippy::cast_precision_loss, reason = "a pixel is coarser")]
fn root(flows: u64) -> f64 {
    (flows as f64).sqrt()
}
