//! Collects the fields of a message.

use crate::peer::{Fields, Node};

/// Collects fields; those without presence only if they are not the default.
#[derive(Default)]
pub(crate) struct Says(pub(crate) Fields);

impl Says {
    pub(crate) fn put(mut self, name: &str, node: Node) -> Self {
        assert!(self.0.insert(name.to_owned(), node).is_none(), "{name} twice");
        self
    }

    pub(crate) fn put_if(self, wanted: bool, name: &str, node: Node) -> Self {
        if wanted { self.put(name, node) } else { self }
    }

    pub(crate) fn uint(self, name: &str, value: impl Into<u64>) -> Self {
        let value = value.into();
        self.put_if(value != 0, name, Node::Uint(value))
    }

    pub(crate) fn uint_if(self, name: &str, value: Option<impl Into<u64>>) -> Self {
        match value {
            Some(value) => self.put(name, Node::Uint(value.into())),
            None => self,
        }
    }

    pub(crate) fn int(self, name: &str, value: impl Into<i64>) -> Self {
        let value = value.into();
        self.put_if(value != 0, name, Node::Int(value))
    }

    pub(crate) fn int_if(self, name: &str, value: Option<impl Into<i64>>) -> Self {
        match value {
            Some(value) => self.put(name, Node::Int(value.into())),
            None => self,
        }
    }

    pub(crate) fn double(self, name: &str, value: f64) -> Self {
        self.put_if(value.to_bits() != 0, name, Node::Double(value.to_bits()))
    }

    pub(crate) fn flag(self, name: &str, value: bool) -> Self {
        self.put_if(value, name, Node::Bool(value))
    }

    pub(crate) fn text(self, name: &str, value: &str) -> Self {
        self.put_if(!value.is_empty(), name, Node::Text(value.to_owned()))
    }

    pub(crate) fn bytes(self, name: &str, value: &[u8]) -> Self {
        self.put_if(
            value.iter().any(|byte| *byte != 0),
            name,
            Node::Bytes(value.to_vec()),
        )
    }

    pub(crate) fn number(self, name: &str, value: i32) -> Self {
        self.put_if(value != 0, name, Node::Enum(value))
    }

    pub(crate) fn message(self, name: &str, value: Fields) -> Self {
        self.put_if(!value.is_empty(), name, Node::Message(value))
    }

    pub(crate) fn message_if(self, name: &str, value: Option<Fields>) -> Self {
        match value {
            Some(value) => self.put(name, Node::Message(value)),
            None => self,
        }
    }

    pub(crate) fn list(self, name: &str, values: impl IntoIterator<Item = Node>) -> Self {
        let values: Vec<Node> = values.into_iter().collect();
        self.put_if(!values.is_empty(), name, Node::List(values))
    }
}
