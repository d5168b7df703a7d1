//! What a descriptor set means to the catalogue: its services and their methods with their comments, the data elements that
//! their fields carry and who is asked for them, whether a version breaks what consumers rely on, the set as .proto text and as
//! OpenAPI, and messages as JSON; and the same of the OpenAPI document of a REST service. Pure: bytes in, answers out; however hostile
//! the bytes are.

pub mod breaking;
pub mod described;
pub mod json;
mod marks;
pub mod named;
pub mod once;
pub mod openapi;
pub mod rest;
pub mod routes;
pub mod search;
pub mod source;
pub mod subjects;
pub mod wire_fields;

pub use breaking::breaks;
pub use described::{Described, Said, Undescribed, reduced};
pub use marks::{Mismarked, OPTIONS_FILE, OPTIONS_SOURCE};
pub use rest::{OpenApi, Undocumented};
