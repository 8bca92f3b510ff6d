/// A measured number, from a device or a host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metric {
    /// Name, for example `if_in_octets`.
    pub name: String,
    /// What the number means over time.
    pub kind: MetricKind,
    /// The number.
    pub value: f64,
    /// Unit by UCUM, for example `By` or `Cel`; empty if dimensionless.
    pub unit: String,
    /// What distinguishes it from others of the same name, for example an interface: name and value.
    pub labels: Vec<(String, String)>,
}

/// What a number means over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MetricKind {
    /// It may rise and fall.
    #[default]
    Gauge,
    /// It only rises, except that it starts again at zero.
    Counter,
}
