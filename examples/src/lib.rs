//! An example country: four agencies as plain tonic programs, with synthetic people.
//!
//! The agencies know nothing of the bus. Each is an ordinary gRPC service that calls its peers at the addresses it was
//! given, with whatever metadata it was told to attach; whether a security server stands in between is not its concern.
//! Only the [`sandbox`], which runs them on the bus, knows both.

pub mod agencies;
pub mod sandbox;

/// The messages, clients and servers of `protos/**/*.proto`, as generated.
#[allow(missing_docs, clippy::all)]
pub mod wire {
    /// The population register.
    pub mod population {
        tonic::include_proto!("population.v1");
    }
    /// The civil registry.
    pub mod civil {
        tonic::include_proto!("civil.v1");
    }
    /// Social insurance.
    pub mod insurance {
        tonic::include_proto!("insurance.v1");
    }
    /// The one-stop portal.
    pub mod portal {
        tonic::include_proto!("portal.v1");
    }
    /// The archive.
    pub mod archive {
        tonic::include_proto!("archive.v1");
    }
    /// Who received what about a person, as security servers tell it.
    pub mod disclosures {
        tonic::include_proto!("causeway.disclosures.v1");
    }
}
