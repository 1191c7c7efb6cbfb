//! What an election is to those who want to lead: permission to try, and a place to give signs of life.

use streamd_core::error::CodedError;
use streamd_snapshot::LeaderRecord;

/// How the job managers of a cluster agree on which of them tries to lead.
///
/// It need not be right: two that try at once are told apart by the record of the epoch, which one of them creates. It must let
/// somebody try in the end, and should let nobody try while the leader lives.
pub(crate) trait Election: Send + 'static {
    /// Whether this job manager may try to lead now, after this leader. Cancel safe.
    fn may_try(&mut self, latest: Option<&LeaderRecord>) -> impl Future<Output = Result<bool, CodedError>> + Send;

    /// Lets others try: this one may, and cannot.
    fn give_way(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Says that the leader of this epoch lives.
    fn give_sign(&mut self, epoch: u64) -> impl Future<Output = Result<Sign, CodedError>> + Send;

    /// Says that the leader of this epoch lets go: whoever waits need not wait any longer.
    fn resign(&mut self, epoch: u64) -> impl Future<Output = Result<(), CodedError>> + Send;
}

/// What became of a sign of life.
#[derive(Debug)]
pub(crate) enum Sign {
    /// It was taken: nobody else tries for a lease from when it was begun.
    Taken,
    /// Somebody else has the place.
    #[cfg_attr(
        not(feature = "kubernetes"),
        allow(dead_code, reason = "a place is given by a Lease alone")
    )]
    Refused,
    /// Nobody takes signs of life at present, and nobody gets the place either who has not it already. Whoever leads goes on for as long
    /// as the records say so.
    #[cfg_attr(
        not(feature = "kubernetes"),
        allow(dead_code, reason = "where the records are the place, they are deaf together")
    )]
    Unheard(CodedError),
}
