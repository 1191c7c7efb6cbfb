//! Who leads a cluster: one record per epoch, created if absent. Whoever creates the next one leads, and everybody before is past.
//!
//! ```text
//! <storage>/leaders/<epoch, 20 digits>.json             who leads in this epoch, and where it is reached
//! <storage>/leaders/<epoch>-<n, 20 digits>.alive.json   signs of life of that leader, the newest two
//! ```
//!
//! Signs of life say when to try; only the record of an epoch says who leads. No clock is compared: a standby measures with its own
//! how long it has seen nothing new.

use serde::{Deserialize, Serialize};
use streamd_core::time::WallTime;

use crate::error::SnapshotError;
use crate::layout;
use crate::publish::random_nonce;
use crate::record::{self, Creation};
use crate::store::Location;

/// The version of both records that this build writes.
const RECORD_VERSION: u32 = 1;

/// Bytes of a record at most: it holds an address and a few numbers.
const MAX_RECORD_BYTES: u64 = 64 << 10;

/// Who leads in one epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderRecord {
    /// The version of the record.
    pub version: u32,
    /// The epoch, from 1.
    pub epoch: u64,
    /// `host:port` at which the leader is reached.
    pub address: String,
    /// Since when, for people.
    pub elected_at: WallTime,
    /// Unique to this writing.
    pub nonce: String,
}

/// A sign of life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SignOfLife {
    version: u32,
    epoch: u64,
    number: u64,
    nonce: String,
    /// Whether it is the last: the leader has let go.
    #[serde(default)]
    resigned: bool,
}

/// How a leader was last seen. Two of them differ if the leader has given a sign of life in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// Who leads.
    pub leader: LeaderRecord,
    /// Its newest sign of life.
    pub sign: u64,
    /// Whether it has let go of the leadership.
    pub resigned: bool,
}

/// The records of a cluster's leaders. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LeaderRecords {
    base: Location,
}

impl LeaderRecords {
    /// The records below the folder that outlives job managers.
    pub fn new(base: Location) -> Self {
        Self { base }
    }

    /// The leader of the latest epoch; `None` where there never was one.
    pub async fn latest(&self) -> Result<Option<LeaderRecord>, SnapshotError> {
        let names = self.base.child(layout::LEADERS)?.list_names().await?;
        let listed = names.iter().filter_map(|name| layout::leader_epoch(name)).max();
        let Some(mut epoch) = listed else {
            return self.record(1).await;
        };
        let mut latest = self.record(epoch).await?;
        // A listing may be late; a look at the record is not.
        while let Some(after) = epoch.checked_add(1)
            && let Some(next) = self.record(after).await?
        {
            epoch = after;
            latest = Some(next);
        }
        Ok(latest)
    }

    async fn record(&self, epoch: u64) -> Result<Option<LeaderRecord>, SnapshotError> {
        let location = self.base.child(&layout::leader_record(epoch))?;
        let found: Option<LeaderRecord> = record::read(&location, RECORD_VERSION, MAX_RECORD_BYTES).await?;
        // Whoever comes next takes the epoch after it: there must be one, and it must not be one of the past.
        match found {
            Some(record) if record.epoch != epoch || epoch == u64::MAX => Err(SnapshotError::Malformed {
                uri: location.uri(),
                reason: format!("it speaks of epoch {}", record.epoch),
            }),
            found => Ok(found),
        }
    }

    /// Tries to lead in an epoch. `None`: somebody else does.
    pub async fn claim(&self, epoch: u64, address: &str, now: WallTime) -> Result<Option<LeaderRecord>, SnapshotError> {
        let new = LeaderRecord {
            version: RECORD_VERSION,
            epoch,
            address: address.to_owned(),
            elected_at: now,
            nonce: random_nonce(),
        };
        let location = self.base.child(&layout::leader_record(epoch))?;
        let creation = record::create(&location, &new).await?;
        Ok((creation == Creation::Created).then_some(new))
    }

    /// Whether nobody leads in a later epoch.
    pub async fn is_led_in(&self, epoch: u64) -> Result<bool, SnapshotError> {
        Ok(!self.base.child(&layout::leader_record(epoch + 1))?.exists().await?)
    }

    /// A leader and its newest sign of life.
    pub async fn sight(&self, leader: LeaderRecord) -> Result<Sighting, SnapshotError> {
        let names = self.base.child(layout::LEADERS)?.list_names().await?;
        let of_leader = |name: &String| layout::sign_of_life_of(name, leader.epoch);
        let sign = names.iter().filter_map(of_leader).max().unwrap_or(0);
        let location = self.base.child(&layout::sign_of_life(leader.epoch, sign))?;
        let found: Option<SignOfLife> = match sign {
            0 => None,
            _given => record::read(&location, RECORD_VERSION, MAX_RECORD_BYTES).await?,
        };
        let resigned = found.is_some_and(|sign| sign.resigned);
        Ok(Sighting { leader, sign, resigned })
    }

    /// Gives the next sign of life, from 1 on, and removes the one before the last.
    pub async fn give_sign(&self, epoch: u64, number: u64) -> Result<(), SnapshotError> {
        self.sign(epoch, number, false).await
    }

    /// Says that the leader lets go: whoever waits need not wait any longer.
    pub async fn resign(&self, epoch: u64, number: u64) -> Result<(), SnapshotError> {
        self.sign(epoch, number, true).await
    }

    async fn sign(&self, epoch: u64, number: u64, resigned: bool) -> Result<(), SnapshotError> {
        let sign = SignOfLife {
            version: RECORD_VERSION,
            epoch,
            number,
            nonce: random_nonce(),
            resigned,
        };
        record::create(&self.base.child(&layout::sign_of_life(epoch, number))?, &sign).await?;
        if let Some(old) = number.checked_sub(2).filter(|old| *old > 0) {
            self.base.child(&layout::sign_of_life(epoch, old))?.delete().await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> LeaderRecords {
        LeaderRecords::new(Location::open(&format!("memory://{}/ha", random_nonce())).unwrap())
    }

    #[tokio::test]
    async fn of_many_that_want_an_epoch_one_has_it() {
        let records = records();
        let claims = (0..8).map(|n| {
            let records = records.clone();
            async move { records.claim(1, &format!("h:{n}"), WallTime(0)).await.unwrap() }
        });
        let won: Vec<LeaderRecord> = futures::future::join_all(claims).await.into_iter().flatten().collect();
        assert_eq!(won.len(), 1);
        assert_eq!(records.latest().await.unwrap(), Some(won[0].clone()));
    }

    #[tokio::test]
    async fn a_later_epoch_ends_the_one_before() {
        let records = records();
        assert_eq!(records.latest().await.unwrap(), None);
        records.claim(1, "a:1", WallTime(0)).await.unwrap().unwrap();
        assert!(records.is_led_in(1).await.unwrap());
        assert_eq!(records.claim(1, "b:1", WallTime(0)).await.unwrap(), None);
        let second = records.claim(2, "b:1", WallTime(0)).await.unwrap();
        assert!(!records.is_led_in(1).await.unwrap());
        assert_eq!(records.latest().await.unwrap(), second);
    }

    /// A record as it is in the store, under the name of an epoch.
    async fn put(records: &LeaderRecords, name: &str, epoch: u64) {
        let json = format!(r#"{{"version":1,"epoch":{epoch},"address":"a:1","elected_at":0,"nonce":"n"}}"#);
        let place = records.base.child(layout::LEADERS).unwrap().child(name).unwrap();
        place.put_create(json).await.unwrap();
    }

    /// Taken at its word, the second record would be the successor of itself for ever.
    #[tokio::test]
    async fn a_record_that_speaks_of_another_epoch_is_refused() {
        let records = records();
        records.claim(1, "a:1", WallTime(0)).await.unwrap();
        put(&records, "00000000000000000002.json", 1).await;
        let refused = records.latest().await;
        assert!(matches!(refused, Err(SnapshotError::Malformed { .. })), "{refused:?}");
    }

    #[tokio::test]
    async fn a_record_of_an_epoch_that_none_can_follow_is_refused() {
        let records = records();
        put(&records, "18446744073709551615.json", u64::MAX).await;
        let refused = records.latest().await;
        assert!(matches!(refused, Err(SnapshotError::Malformed { .. })), "{refused:?}");
    }

    #[tokio::test]
    async fn only_names_that_a_leader_makes_are_epochs() {
        let records = records();
        let first = records.claim(1, "a:1", WallTime(0)).await.unwrap();
        for name in ["+7.json", "7.json", "000000000000000000007.json", "7.alive.json"] {
            put(&records, name, 7).await;
        }
        assert_eq!(records.latest().await.unwrap(), first);
    }

    #[tokio::test]
    async fn a_leader_is_seen_to_live_until_it_lets_go() {
        let records = records();
        let leader = records.claim(1, "a:1", WallTime(0)).await.unwrap().unwrap();
        let mut before = records.sight(leader.clone()).await.unwrap();
        for number in 1..=3 {
            records.give_sign(1, number).await.unwrap();
            let now = records.sight(leader.clone()).await.unwrap();
            assert_ne!(before, now);
            assert!(!now.resigned);
            before = now;
        }
        records.resign(1, 4).await.unwrap();
        assert!(records.sight(leader).await.unwrap().resigned);
        let left = records.base.child(layout::LEADERS).unwrap().list_names().await.unwrap();
        assert_eq!(left.len(), 3, "{left:?}");
        // The next epoch begins without a sign.
        let successor = records.claim(2, "b:1", WallTime(0)).await.unwrap().unwrap();
        let next = records.sight(successor).await.unwrap();
        assert_eq!((next.leader.epoch, next.sign, next.resigned), (2, 0, false));
    }
}
