//! Why an exchange did not come about, in two voices: the caller learns the code, the operator the reason.

use proto::identifier::ExchangeId;
use proto::refusal::Code;

/// A refusal at the consumer's server, before anything was sealed.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", code.as_str())]
pub struct Refusal {
    code: Code,
    why: String,
    detail: Option<Box<str>>,
}

impl Refusal {
    /// With the reason for the operator: what was wrong, in words that never reach the caller.
    pub(crate) fn new(code: Code, why: impl Into<String>) -> Self {
        Self { code, why: why.into(), detail: None }
    }

    /// And tells the caller what it was of its own call, where the answer has room for more than a code. Nothing else belongs
    /// here: no address, no grant, nothing of another member's.
    pub(crate) fn telling(self, detail: impl Into<Box<str>>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    /// What the caller learns.
    pub fn code(&self) -> Code {
        self.code
    }

    /// What of its own call it was, for the caller.
    pub(crate) fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }
}

/// A refusal at the provider's server that leaves no record, and says nothing but its code.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", code.as_str())]
pub struct BareRefusal {
    code: Code,
    why: String,
    exchange: Option<ExchangeId>,
}

impl BareRefusal {
    pub(crate) fn new(code: Code, why: impl Into<String>) -> Self {
        Self { code, why: why.into(), exchange: None }
    }

    /// Before a signature holds there is one code for everything: a stranger learns nothing from the difference.
    pub(crate) fn unproven(why: impl std::fmt::Display) -> Self {
        Self::new(Code::Unproven, why.to_string())
    }

    /// What the peer learns.
    pub fn code(&self) -> Code {
        self.code
    }
}
