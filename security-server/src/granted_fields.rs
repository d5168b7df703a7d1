//! The fields that an admin names in a grant, and what the names mean: by the descriptors that the provider listed, at the
//! moment of the grant. From then on their numbers count, and no exchange looks anything up.

use std::collections::BTreeSet;

use catalogue::named::{Unnamed, named};
use command_line::did_you_mean;
use proto::access::fields::{FieldName, Fields, Named};
use proto::catalogue::{ServiceForm, ServiceName};
use proto::identifier::{MethodPath, SubsystemId};
use proto::minimise::FieldPath;

use crate::access_rights::{NamedFields, NotGranted};
use crate::{SecurityServer, listings};

/// The fields that are named by numbers alone, of services that nobody describes.
pub(crate) fn numbered(asked: &NamedFields) -> Result<Fields, NotGranted> {
    let of_method = |(method, names): (&String, &BTreeSet<String>)| Ok((method.clone(), by_number(names)?));
    fields(asked.iter().map(of_method))
}

fn by_number(names: &BTreeSet<String>) -> Result<Named, NotGranted> {
    let path = |name: &String| Ok((name.parse::<FieldPath>().map_err(rule)?, name.parse::<FieldName>().map_err(rule)?));
    names.iter().map(path).collect()
}

fn fields(named: impl Iterator<Item = Result<(String, Named), NotGranted>>) -> Result<Fields, NotGranted> {
    let named: std::collections::BTreeMap<String, Named> = named.collect::<Result<_, _>>()?;
    Fields::try_from(named).map_err(rule)
}

fn rule(why: impl ToString) -> NotGranted {
    NotGranted::Rule(why.to_string())
}

impl SecurityServer {
    /// What these names mean in this provider's responses. What is listed is looked up, whether it is named or numbered; of
    /// what is not listed numbers are taken as they are.
    pub(crate) async fn meant(&self, provider: &SubsystemId, asked: &NamedFields) -> Result<Fields, NotGranted> {
        let mut meant = Vec::new();
        for (method, names) in asked {
            let path: MethodPath = method.parse().map_err(rule)?;
            meant.push(self.meant_of(provider, &path, names).await.map(|named| (method.clone(), named)));
        }
        fields(meant.into_iter())
    }

    async fn meant_of(
        &self,
        provider: &SubsystemId,
        path: &MethodPath,
        names: &BTreeSet<String>,
    ) -> Result<Named, NotGranted> {
        let (service, configuration) = (path.service(), self.configuration.load());
        let listed = service.parse().ok().and_then(|name: ServiceName| configuration.service_at(provider, &name));
        let Some(listed) = listed else {
            let not_listed = |_| {
                rule(format!(
                    "{provider} does not list {service}, so that nothing says which numbers its fields have: \
                     `security-server services publish` it, or name fields by their numbers, like 1.2"
                ))
            };
            return by_number(names).map_err(not_listed);
        };
        let entry = listings::verified(self, &configuration, listed).await.map_err(rule)?;
        if entry.entry().form == ServiceForm::Rest {
            return Err(rule(format!(
                "{service} is a REST service, of whose answers no fields are taken out: grant its operations whole, without --fields"
            )));
        }
        let described = listings::described(self, &entry).await.map_err(rule)?.service(service).map_err(rule)?;
        let name = path.as_str().rsplit('/').next().unwrap_or_default();
        let Some(method) = described.methods().find(|method| method.name() == name) else {
            let known: Vec<String> = described.methods().map(|method| method.name().to_owned()).collect();
            let remedy = did_you_mean(name, &known, &format!("it has {}", known.join(", ")));
            return Err(rule(format!("{service} has no method {name}; {remedy}")));
        };
        named(&method.output(), names.iter().map(String::as_str)).map_err(|why| match &why {
            Unnamed::Unknown { name, known, .. } => {
                rule(format!("{why}; {}", did_you_mean(name, known, &format!("there are {}", known.join(", ")))))
            }
            _ => rule(why),
        })
    }
}
