//! Compares our `.proto` files with the contract in Apache's published rocketmq-proto. Every name, number, type, label,
//! oneof, enum value and method must be the same.

use std::{collections::BTreeSet, fs};

use prost::Message;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet, ServiceDescriptorProto,
    field_descriptor_proto::{Label, Type},
};

/// The environment variable with the path of the descriptors that `cargo x test` extracts from the published jar.
const PUBLISHED: &str = "PUBLISHED_CONTRACT";

#[test]
#[ignore = "needs the published package, which `cargo x test` fetches with Maven"]
fn ours_is_the_published_contract() {
    let path = std::env::var(PUBLISHED).expect("the path of the published descriptors");
    let published = describe(&fs::read(path).expect("the published descriptors"));
    let ours = describe(rocketmq_thin_proto::DESCRIPTORS);
    assert!(published.len() > 400, "the published contract looks empty: {} lines", published.len());
    let missing = published.difference(&ours).map(|line| format!("- {line}"));
    let added = ours.difference(&published).map(|line| format!("+ {line}"));
    let drift: Vec<String> = missing.chain(added).collect();
    assert!(drift.is_empty(), "- published only, + ours only:\n{}", drift.join("\n"));
}

#[test]
fn ours_describes_every_call() {
    let ours = describe(rocketmq_thin_proto::DESCRIPTORS);
    assert_eq!(ours.iter().filter(|line| line.starts_with("rpc MessagingService.")).count(), 17);
}

/// Returns one line for each element that affects the wire format or generated code.
fn describe(descriptors: &[u8]) -> BTreeSet<String> {
    let set = FileDescriptorSet::decode(descriptors).expect("a FileDescriptorSet");
    let mut lines = BTreeSet::new();
    for file in set.file.iter().filter(|file| file.package() == "apache.rocketmq.v2") {
        file.message_type.iter().for_each(|message| describe_message("", message, &mut lines));
        file.enum_type.iter().for_each(|values| describe_enum("", values, &mut lines));
        file.service.iter().for_each(|service| describe_service(service, &mut lines));
    }
    lines
}

fn describe_message(outer: &str, message: &DescriptorProto, lines: &mut BTreeSet<String>) {
    let name = format!("{outer}{}", message.name());
    let map =
        if message.options.as_ref().is_some_and(|options| options.map_entry()) { " (map entry)" } else { "" };
    lines.insert(format!("message {name}{map}"));
    for field in &message.field {
        lines.insert(format!("field {name}.{}", describe_field(message, field)));
    }
    let inner = format!("{name}.");
    message.nested_type.iter().for_each(|nested| describe_message(&inner, nested, lines));
    message.enum_type.iter().for_each(|values| describe_enum(&inner, values, lines));
}

fn describe_field(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let label = match (field.label(), field.proto3_optional()) {
        (Label::Repeated, _) => "repeated ",
        (_, true) => "optional ",
        _ => "",
    };
    let kind = match field.r#type() {
        Type::Message | Type::Enum => field.type_name().to_owned(),
        scalar => format!("{scalar:?}").to_lowercase(),
    };
    let oneof = match field.oneof_index {
        Some(index) if !field.proto3_optional() => {
            format!(" in oneof {}", message.oneof_decl[usize::try_from(index).expect("an index")].name())
        }
        _ => String::new(),
    };
    format!("{} = {}: {label}{kind}{oneof}", field.name(), field.number())
}

fn describe_enum(outer: &str, values: &EnumDescriptorProto, lines: &mut BTreeSet<String>) {
    for value in &values.value {
        lines.insert(format!("enum {outer}{}.{} = {}", values.name(), value.name(), value.number()));
    }
}

fn describe_service(service: &ServiceDescriptorProto, lines: &mut BTreeSet<String>) {
    let stream = |streaming| if streaming { "stream " } else { "" };
    for method in &service.method {
        lines.insert(format!(
            "rpc {}.{}({}{}) returns ({}{})",
            service.name(),
            method.name(),
            stream(method.client_streaming()),
            method.input_type(),
            stream(method.server_streaming()),
            method.output_type(),
        ));
    }
}
