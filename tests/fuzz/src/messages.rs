//! Messages between processes: what the protocol's library accepts is translated, or refused with the field that is wrong.

use prost::Message;
use streamd_core::protocol::{WorkerCommand, WorkerEvent, WorkerRegistration};
use streamd_rpc::{proto, status};

/// What a worker says to the job manager.
pub fn worker_event(bytes: &[u8]) -> bool {
    let event = translate::<proto::WorkerEvent, WorkerEvent>(bytes);
    event | translate::<proto::WorkerRegistration, WorkerRegistration>(bytes)
}

/// What the job manager says to a worker.
pub fn worker_command(bytes: &[u8]) -> bool {
    translate::<proto::WorkerCommand, WorkerCommand>(bytes)
}

/// What is accepted says the same after one more journey.
fn translate<M, T>(bytes: &[u8]) -> bool
where
    M: Message + Default + From<T>,
    T: TryFrom<M> + Clone + std::fmt::Debug,
    T::Error: std::fmt::Debug,
{
    let Ok(message) = M::decode(bytes) else { return false };
    let Ok(value) = T::try_from(message) else { return false };
    let again = M::decode(&M::from(value.clone()).encode_to_vec()[..]).map(T::try_from);
    let again = again
        .expect("what was encoded is decoded")
        .expect("what was accepted is accepted");
    // Not-a-number is not equal to itself.
    assert_eq!(format!("{again:?}"), format!("{value:?}"));
    true
}

/// An error that travels in the metadata of an answer.
pub fn error(bytes: &[u8]) -> bool {
    let Ok(error) = proto::Error::decode(bytes) else {
        return false;
    };
    let coded = status::from_proto(&error);
    assert!(
        !coded.message.contains(char::is_control),
        "what arrives ends on terminals"
    );
    true
}
