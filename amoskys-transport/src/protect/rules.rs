//! Usual answers to the question whose data an event is.

use amoskys_core::Event;
use amoskys_core::event::{Payload, Value};

use super::Subject;

/// Says whose data an event is; `None` if nobody's.
pub type Rule = Box<dyn Fn(&Event) -> Option<Subject> + Send + Sync>;

/// The subject is the value of this attribute: text, or a whole number. Events without it are nobody's.
pub fn by_attribute(name: impl Into<String>) -> impl Fn(&Event) -> Option<Subject> + Send + Sync + 'static {
    let name = name.into();
    move |event| match event.attributes.get(&name)? {
        Value::Text(text) if !text.is_empty() => Some(Subject::new(text)),
        Value::Uint(number) => Some(Subject::new(number.to_string())),
        Value::Int(number) => Some(Subject::new(number.to_string())),
        _ => None,
    }
}

/// The subject is the user whose process it is, as `uid:NUMBER@DEVICE`, because numbers of users mean something on one
/// machine only. For users from `least` on: below are those of the system. Events about anything but processes are
/// nobody's.
pub fn by_uid(least: u32) -> impl Fn(&Event) -> Option<Subject> + Send + Sync + 'static {
    move |event| match &event.payload {
        Payload::Process(process) if process.uid >= least => {
            Some(Subject::new(format!("uid:{}@{}", process.uid, event.device)))
        }
        _ => None,
    }
}

/// The subject is the device, as `device:NAME`: for machines that belong to one person.
pub fn by_device() -> impl Fn(&Event) -> Option<Subject> + Send + Sync + 'static {
    |event| {
        let name = event.device.as_str();
        (!name.is_empty()).then(|| Subject::new(format!("device:{name}")))
    }
}

/// The first of these rules that knows whose it is.
pub fn any_of<const N: usize>(
    rules: [Rule; N],
) -> impl Fn(&Event) -> Option<Subject> + Send + Sync + 'static {
    move |event| rules.iter().find_map(|rule| rule(event))
}
