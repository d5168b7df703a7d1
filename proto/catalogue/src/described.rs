//! A descriptor set, read: whole, within its limits, and with one meaning.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FileDescriptor, Kind, MessageDescriptor, ServiceDescriptor, Value,
};
use prost_types::{DescriptorProto, FileDescriptorSet};
use proto::catalogue::element::MAX_ELEMENT_FIELDS;
use proto::catalogue::{ElementField, MAX_DESCRIPTORS_BYTES, MAX_METHODS, Method, shortened};

use crate::marks::{Marks, Mismarked, OPTIONS_FILE};
use crate::routes::{self, Unroutable};

/// Most files of one set, imports included.
pub const MAX_FILES: usize = 256;
/// Most messages and enums in all of them.
pub const MAX_TYPES: usize = 5_000;
/// Most fields, values and methods in all of them.
pub const MAX_PARTS: usize = 50_000;
/// How deep a message may stand in others.
pub const MAX_NESTING: usize = 32;
/// How many files may import one another in a row.
pub const MAX_IMPORTS_DEEP: usize = 64;

/// A descriptor set that was read whole. Only [`Described::read`] makes one.
#[derive(Clone, Debug)]
pub struct Described {
    pool: DescriptorPool,
    marks: Marks,
}

/// What an entry says of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Its comment.
    pub description: String,
    /// Its methods, with theirs.
    pub methods: Vec<Method>,
    /// The fields of its requests and responses that carry a data element.
    pub elements: Vec<ElementField>,
}

/// Why a descriptor set is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undescribed {
    /// Over one of the limits of this module.
    #[error("the descriptors have {found} {what}, at most {most} are taken; publish fewer services at once")]
    Limit {
        /// What was counted.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// Most that are taken.
        most: usize,
    },
    /// Not a descriptor set.
    #[error("this is no google.protobuf.FileDescriptorSet: {0}; compile the .proto files anew")]
    Unreadable(String),
    /// A file without a name.
    #[error("a file of the descriptors has no name; compile the .proto files anew")]
    Nameless,
    /// A file that is there twice.
    #[error("{0} is there twice; name each file once")]
    FileTwice(String),
    /// An import that is not there.
    #[error("{file} imports {import}, which is not there; give the directory that holds it with --include")]
    Import {
        /// The file.
        file: String,
        /// What it imports.
        import: String,
    },
    /// Files that import one another in a circle.
    #[error("{0} imports itself, through others or not; take what both need into a file of its own")]
    Circle(String),
    /// A syntax that nobody here reads.
    #[error("{file} is written in {syntax:?}, and proto2 and proto3 are read; write it in one of them")]
    Syntax {
        /// The file.
        file: String,
        /// What it says that it is.
        syntax: String,
    },
    /// Names that clash, types that are not there, and all else that has no meaning.
    #[error("the descriptors contradict themselves: {0}; mend the .proto files")]
    Meaningless(String),
    /// Routes that nobody could be led by.
    #[error(transparent)]
    Unroutable(#[from] Unroutable),
    /// Options of ours that are wrong.
    #[error(transparent)]
    Mismarked(#[from] Mismarked),
    /// No such service.
    #[error("the descriptors have no service {service}; they have {}", listed(.known))]
    NoService {
        /// The one that was asked for.
        service: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// A service that the catalogue has no room for.
    #[error("{service} has {found} methods, and a service of the catalogue has 1 to {MAX_METHODS}")]
    Methods {
        /// The service.
        service: String,
        /// Its methods.
        found: usize,
    },
}

fn listed(known: &[String]) -> String {
    if known.is_empty() { "none".to_owned() } else { known.join(", ") }
}

impl Described {
    /// Reads a set, however hostile.
    pub fn read(bytes: &[u8]) -> Result<Self, Undescribed> {
        limit("bytes", bytes.len(), MAX_DESCRIPTORS_BYTES)?;
        let unreadable = |error: prost::DecodeError| Undescribed::Unreadable(error.to_string());
        let files = FileDescriptorSet::decode(bytes).map_err(unreadable)?;
        within_limits(&files)?;
        imports(&files)?;
        syntaxes(&files)?;
        let pool = DescriptorPool::decode(bytes).map_err(|error| Undescribed::Meaningless(error.to_string()))?;
        map_entries(&pool)?;
        let marks = Marks::read(bytes, &pool)?;
        Ok(Self { pool, marks })
    }

    /// The full names of its services, those of imports included.
    pub fn services(&self) -> Vec<String> {
        self.pool.services().map(|service| service.full_name().to_owned()).collect()
    }

    /// The services of these files.
    pub fn services_of(&self, files: &BTreeSet<String>) -> Vec<String> {
        let here = |service: &ServiceDescriptor| files.contains(service.parent_file().name());
        self.pool.services().filter(here).map(|service| service.full_name().to_owned()).collect()
    }

    /// A service of it.
    pub fn service(&self, name: &str) -> Result<ServiceDescriptor, Undescribed> {
        let service = self.pool.get_service_by_name(name);
        service.ok_or_else(|| Undescribed::NoService { service: name.to_owned(), known: self.services() })
    }

    /// What an entry says of a service.
    pub fn said_of(&self, name: &str) -> Result<Said, Undescribed> {
        let service = self.service(name)?;
        let count = service.methods().len();
        if !(1..=MAX_METHODS).contains(&count) {
            return Err(Undescribed::Methods { service: name.to_owned(), found: count });
        }
        let comments = Comments::of(&service.parent_file());
        let methods = service.methods().map(|method| Method {
            name: method.name().to_owned(),
            description: shortened(comments.at(method.path())),
            request: method.input().full_name().to_owned(),
            response: method.output().full_name().to_owned(),
            client_streaming: method.is_client_streaming(),
            server_streaming: method.is_server_streaming(),
            place: None,
        });
        let elements = self.marks.of_service(&service);
        limit("fields with an element in one service", elements.len(), MAX_ELEMENT_FIELDS)?;
        Ok(Said { description: shortened(comments.at(service.path())), methods: methods.collect(), elements })
    }

    /// Whether these services may be published together, as far as the routes go that they declare.
    pub fn routable<'a>(&self, services: impl Iterator<Item = &'a str>) -> Result<(), Undescribed> {
        let services = services.map(|name| self.service(name)).collect::<Result<Vec<_>, _>>()?;
        Ok(routes::judged(services.iter())?)
    }

    pub(crate) fn marks(&self) -> &Marks {
        &self.marks
    }

    /// All of it.
    pub fn pool(&self) -> &DescriptorPool {
        &self.pool
    }

    /// The file that says what this symbol is: a service, a method, a message, a field, an enum, one of its values.
    pub fn file_of(&self, symbol: &str) -> Option<FileDescriptor> {
        let whole = |name: &str| {
            let service = self.pool.get_service_by_name(name).map(|found| found.parent_file());
            let message = || self.pool.get_message_by_name(name).map(|found| found.parent_file());
            let enumeration = || self.pool.get_enum_by_name(name).map(|found| found.parent_file());
            let extension = || self.pool.get_extension_by_name(name).map(|found| found.parent_file());
            service.or_else(message).or_else(enumeration).or_else(extension)
        };
        whole(symbol).or_else(|| {
            let (owner, part) = symbol.rsplit_once('.')?;
            let method = self
                .pool
                .get_service_by_name(owner)
                .filter(|service| service.methods().any(|method| method.name() == part))
                .map(|service| service.parent_file());
            let message = || {
                self.pool
                    .get_message_by_name(owner)
                    .filter(|message| {
                        message.get_field_by_name(part).is_some() || message.oneofs().any(|oneof| oneof.name() == part)
                    })
                    .map(|message| message.parent_file())
            };
            method.or_else(message)
        })
    }
}

fn limit(what: &'static str, found: usize, most: usize) -> Result<(), Undescribed> {
    if found > most { Err(Undescribed::Limit { what, found, most }) } else { Ok(()) }
}

/// prost-reflect looks for the place of an unknown syntax among files that it has not read yet, and panics.
fn syntaxes(files: &FileDescriptorSet) -> Result<(), Undescribed> {
    let unknown = files.file.iter().find(|file| !matches!(file.syntax(), "" | "proto2" | "proto3"));
    match unknown {
        Some(file) => Err(Undescribed::Syntax { file: file.name().to_owned(), syntax: file.syntax().to_owned() }),
        None => Ok(()),
    }
}

/// What calls itself the entry of a map has a key and a value and nothing else (`MessageOptions.map_entry` in descriptor.proto),
/// and its key is a number, a bool or a string: prost-reflect believes it, and panics where it is not so.
fn map_entries(pool: &DescriptorPool) -> Result<(), Undescribed> {
    let has = |entry: &MessageDescriptor, number, name| {
        entry.get_field(number).is_some_and(|field| field.name() == name && !field.is_list())
    };
    let is_key = |entry: &MessageDescriptor| {
        let kind = entry.get_field(1).map(|key| key.kind());
        !matches!(kind, None | Some(Kind::Double | Kind::Float | Kind::Bytes | Kind::Message(_) | Kind::Enum(_)))
    };
    let is_entry = |entry: &MessageDescriptor| {
        let whole = entry.fields().len() == 2 && has(entry, 1, "key") && has(entry, 2, "value");
        whole && entry.oneofs().len() == 0 && is_key(entry)
    };
    match pool.all_messages().find(|message| message.is_map_entry() && !is_entry(message)) {
        Some(message) => {
            let name = message.full_name();
            Err(Undescribed::Meaningless(format!("{name} calls itself the entry of a map, and is none")))
        }
        None => Ok(()),
    }
}

fn within_limits(files: &FileDescriptorSet) -> Result<(), Undescribed> {
    limit("files", files.file.len(), MAX_FILES)?;
    let (mut types, mut parts) = (0, 0);
    for file in &files.file {
        types += file.message_type.len() + file.enum_type.len();
        parts += file.enum_type.iter().map(|each| each.value.len()).sum::<usize>();
        parts += file.service.iter().map(|each| each.method.len()).sum::<usize>() + file.extension.len();
        for message in &file.message_type {
            count(message, 1, &mut types, &mut parts)?;
        }
    }
    limit("messages and enums", types, MAX_TYPES)?;
    limit("fields, values and methods", parts, MAX_PARTS)
}

/// Decoding allows no deeper nesting than a hundred, so this ends.
fn count(message: &DescriptorProto, depth: usize, types: &mut usize, parts: &mut usize) -> Result<(), Undescribed> {
    limit("messages in one another", depth, MAX_NESTING)?;
    *types += message.nested_type.len() + message.enum_type.len();
    *parts += message.field.len() + message.extension.len() + message.oneof_decl.len();
    *parts += message.enum_type.iter().map(|each| each.value.len()).sum::<usize>();
    message.nested_type.iter().try_for_each(|nested| count(nested, depth + 1, types, parts))
}

/// Every import is there, and none leads back.
fn imports(files: &FileDescriptorSet) -> Result<(), Undescribed> {
    let mut by_name = BTreeMap::new();
    for file in &files.file {
        let name = file.name.as_deref().filter(|name| !name.is_empty()).ok_or(Undescribed::Nameless)?;
        if by_name.insert(name, &file.dependency).is_some() {
            return Err(Undescribed::FileTwice(name.to_owned()));
        }
    }
    for (file, imports) in &by_name {
        if let Some(import) = imports.iter().find(|import| !by_name.contains_key(import.as_str())) {
            return Err(Undescribed::Import { file: (*file).to_owned(), import: import.clone() });
        }
    }
    // Files whose imports are all through are through; what is left in the end is a circle, or deeper than anybody needs.
    let mut through: BTreeSet<&str> = BTreeSet::new();
    for _ in 0..MAX_IMPORTS_DEEP {
        let done = |imports: &Vec<String>| imports.iter().all(|import| through.contains(import.as_str()));
        let next: Vec<&str> = by_name.iter().filter(|(_, imports)| done(imports)).map(|(file, _)| *file).collect();
        if next.len() == through.len() {
            break;
        }
        through.extend(next);
    }
    match by_name.keys().find(|file| !through.contains(*file)) {
        Some(file) => Err(Undescribed::Circle((*file).to_owned())),
        None => Ok(()),
    }
}

/// The comments of a file, by the path of what they stand at.
#[derive(Debug, Default)]
pub(crate) struct Comments(BTreeMap<Vec<i32>, String>);

impl Comments {
    pub(crate) fn of(file: &FileDescriptor) -> Self {
        let locations = file.file_descriptor_proto().source_code_info.iter().flat_map(|found| &found.location);
        let said = locations.filter_map(|location| {
            let comment = location.leading_comments.as_ref().or(location.trailing_comments.as_ref())?;
            Some((location.path.clone(), comment.clone()))
        });
        Self(said.collect())
    }

    pub(crate) fn at(&self, path: &[i32]) -> &str {
        self.0.get(path).map_or("", String::as_str)
    }
}

/// The same set without what nobody needs to call a service: places in the source, and files that none of these services
/// needs. The same services and sources make the same bytes.
pub fn reduced(bytes: &[u8], services: &[String]) -> Result<Vec<u8>, Undescribed> {
    let described = Described::read(bytes)?;
    let mut needed = BTreeSet::new();
    for service in services {
        need(&described.service(service)?.parent_file(), &mut needed);
    }
    let meaningless = |error: &dyn std::fmt::Display| Undescribed::Meaningless(error.to_string());
    let global = DescriptorPool::global();
    let set = global.get_message_by_name("google.protobuf.FileDescriptorSet");
    let set = set.ok_or_else(|| meaningless(&"descriptor.proto is missing"))?;
    // Read by its description, so that options of ours, which the plain type would lose, stay.
    let mut set = DynamicMessage::decode(set, bytes).map_err(|error| meaningless(&error))?;
    let files = set.get_field_by_name_mut("file").and_then(Value::as_list_mut);
    if let Some(files) = files {
        let name = |file: &Value| -> String {
            let name = file.as_message().and_then(|file| file.get_field_by_name("name").map(|name| name.into_owned()));
            name.and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
        };
        files.retain(|file| needed.contains(&name(file)));
        files.sort_by_key(name);
        files.iter_mut().filter_map(Value::as_message_mut).for_each(keep_comments_only);
    }
    let reduced = set.encode_to_vec();
    Described::read(&reduced)?;
    Ok(reduced)
}

fn need(file: &FileDescriptor, needed: &mut BTreeSet<String>) {
    if needed.insert(file.name().to_owned()) {
        file.dependencies().for_each(|import| need(&import, needed));
    }
}

fn keep_comments_only(file: &mut DynamicMessage) {
    // What everybody has is explained elsewhere.
    let name = file.get_field_by_name("name").and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default();
    if name.starts_with("google/protobuf/") || name == OPTIONS_FILE {
        file.clear_field_by_name("source_code_info");
    }
    if !file.has_field_by_name("source_code_info") {
        return;
    }
    let locations = file
        .get_field_by_name_mut("source_code_info")
        .and_then(Value::as_message_mut)
        .and_then(|places| places.get_field_by_name_mut("location"))
        .and_then(Value::as_list_mut);
    let Some(locations) = locations else { return };
    locations.retain_mut(|location| {
        let Some(location) = location.as_message_mut() else { return false };
        location.clear_field_by_name("leading_detached_comments");
        // Every location has one; where it was is of no use without the source.
        location.set_field_by_name("span", Value::List(vec![Value::I32(0), Value::I32(0), Value::I32(0)]));
        location.has_field_by_name("leading_comments") || location.has_field_by_name("trailing_comments")
    });
    if locations.is_empty() {
        file.clear_field_by_name("source_code_info");
    }
}
