//! The independent implementation: rust-protobuf, with messages made by reflection from the `.proto`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use protobuf::descriptor::FileDescriptorProto;
use protobuf::descriptor::field_descriptor_proto::{Label, Type};
use protobuf::reflect::{
    FieldDescriptor, FileDescriptor, MessageDescriptor, ReflectFieldRef, ReflectMapRef, ReflectValueRef,
};
use protobuf::{MessageDyn, UnknownValueRef};

/// What a message says, in a form of our own: field name to value. Absent fields are not there.
pub(crate) type Fields = BTreeMap<String, Node>;

/// A value of a field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Node {
    Uint(u64),
    Int(i64),
    /// The bits.
    Double(u64),
    Bool(bool),
    Text(String),
    Bytes(Vec<u8>),
    Enum(i32),
    Message(Fields),
    List(Vec<Node>),
    Map(BTreeMap<String, Node>),
}

static FILE: LazyLock<FileDescriptor> = LazyLock::new(|| {
    let mut proto = parse();
    // The peer leaves out what is zero when it writes proto3, even where it should not: fields with explicit
    // presence. As proto2 it writes exactly what is there, and what is there comes from our bytes. The one
    // other difference between the two is the default form of repeated numbers, which is stated here.
    proto.set_syntax("proto2".to_owned());
    proto.message_type.iter_mut().for_each(|message| {
        for field in &mut message.field {
            let packable = matches!(field.type_(), Type::TYPE_UINT32 | Type::TYPE_UINT64);
            if field.label() == Label::LABEL_REPEATED && packable {
                field.options.mut_or_insert_default().set_packed(true);
            }
        }
    });
    FileDescriptor::new_dynamic(proto, &[]).unwrap()
});

/// The `.proto` as it is published.
pub(crate) fn parse() -> FileDescriptorProto {
    // In this crate's folder, or above it: the fuzz targets use this file too.
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let proto = here
        .ancestors()
        .map(|folder| folder.join("proto"))
        .find(|proto| proto.is_dir())
        .unwrap();
    let mut parser = protobuf_parse::Parser::new();
    parser
        .pure()
        .include(&proto)
        .input(proto.join("amoskys/v1/event.proto"));
    let mut files = parser.file_descriptor_set().unwrap().file;
    assert_eq!(files.len(), 1);
    files.remove(0)
}

pub(crate) fn descriptor(message: &str) -> MessageDescriptor {
    FILE.message_by_package_relative_name(message).unwrap()
}

pub(crate) fn all_messages() -> Vec<MessageDescriptor> {
    FILE.messages().collect()
}

/// Reads a message, or says that it cannot.
pub(crate) fn read(message: &str, bytes: &[u8]) -> Option<Box<dyn MessageDyn>> {
    descriptor(message).parse_from_bytes(bytes).ok()
}

pub(crate) fn write(message: &dyn MessageDyn) -> Vec<u8> {
    message.write_to_bytes_dyn().unwrap()
}

/// What a message says. If `proto3`, by the rules of proto3, in which the default of a field without presence
/// is the same as its absence; otherwise as it is written.
pub(crate) fn fields(message: &dyn MessageDyn, proto3: bool) -> Fields {
    let mut fields = Fields::new();
    for field in message.descriptor_dyn().fields() {
        let node = match field.get_reflect(message) {
            ReflectFieldRef::Optional(value) => value.value().map(|value| node(&value, proto3)),
            ReflectFieldRef::Repeated(values) => (!values.is_empty())
                .then(|| Node::List(values.into_iter().map(|value| node(&value, proto3)).collect())),
            ReflectFieldRef::Map(values) => (!values.is_empty()).then(|| map(&values, proto3)),
        };
        let Some(node) = node else { continue };
        if !(proto3 && !has_presence(&field) && is_default(&node)) {
            fields.insert(field.name().to_owned(), node);
        }
    }
    for (number, value) in message.special_fields_dyn().unknown_fields().iter() {
        let value = match value {
            UnknownValueRef::Varint(value) | UnknownValueRef::Fixed64(value) => Node::Uint(value),
            UnknownValueRef::Fixed32(value) => Node::Uint(value.into()),
            UnknownValueRef::LengthDelimited(bytes) => Node::Bytes(bytes.to_vec()),
        };
        match fields
            .entry(format!("#{number}"))
            .or_insert(Node::List(Vec::new()))
        {
            Node::List(values) => values.push(value),
            _ => unreachable!(),
        }
    }
    fields
}

fn map(values: &ReflectMapRef<'_>, proto3: bool) -> Node {
    let entries = values.into_iter().map(|(name, value)| {
        let name = name.to_str().unwrap().to_owned();
        (name, node(&value, proto3))
    });
    Node::Map(entries.collect())
}

fn node(value: &ReflectValueRef<'_>, proto3: bool) -> Node {
    match value {
        ReflectValueRef::U32(value) => Node::Uint((*value).into()),
        ReflectValueRef::U64(value) => Node::Uint(*value),
        ReflectValueRef::I32(value) => Node::Int((*value).into()),
        ReflectValueRef::I64(value) => Node::Int(*value),
        ReflectValueRef::F32(_) => panic!("the format has no float"),
        ReflectValueRef::F64(value) => Node::Double(value.to_bits()),
        ReflectValueRef::Bool(value) => Node::Bool(*value),
        ReflectValueRef::String(value) => Node::Text((*value).to_owned()),
        ReflectValueRef::Bytes(value) => Node::Bytes(value.to_vec()),
        ReflectValueRef::Enum(_, value) => Node::Enum(*value),
        ReflectValueRef::Message(message) => Node::Message(fields(&**message, proto3)),
    }
}

fn has_presence(field: &FieldDescriptor) -> bool {
    field.proto().proto3_optional() || field.containing_oneof_including_synthetic().is_some()
}

/// A nested message without fields counts as a default: whether it is there makes no difference to us.
fn is_default(node: &Node) -> bool {
    match node {
        Node::Uint(value) => *value == 0,
        Node::Int(value) => *value == 0,
        Node::Double(bits) => *bits == 0,
        Node::Bool(value) => !value,
        Node::Text(text) => text.is_empty(),
        Node::Bytes(bytes) => bytes.is_empty(),
        Node::Enum(value) => *value == 0,
        Node::Message(fields) => fields.is_empty(),
        Node::List(_) | Node::Map(_) => false,
    }
}
