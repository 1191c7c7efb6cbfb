//! The object: `coordination.k8s.io/v1` Lease, of which whatever is not understood here stays as it is.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use streamd_core::time::WallTime;

/// A Lease as the API server has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Lease {
    api_version: String,
    kind: String,
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    namespace: String,
    /// Another one after each write. Sent back with an update, it makes the server refuse one that has not seen the last.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    resource_version: String,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    #[serde(skip_serializing_if = "Option::is_none")]
    holder_identity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_duration_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acquire_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    renew_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_transitions: Option<i64>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// What of a Lease changes when its holder lives. Compared for equality alone: the times in it are those of another clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Observation {
    holder: Option<String>,
    renew_time: Option<String>,
    resource_version: String,
}

impl Lease {
    /// A Lease that nobody holds, to be created.
    pub(super) fn new(namespace: &str, name: &str) -> Self {
        Self {
            api_version: "coordination.k8s.io/v1".to_owned(),
            kind: "Lease".to_owned(),
            metadata: Metadata {
                name: name.to_owned(),
                namespace: namespace.to_owned(),
                ..Metadata::default()
            },
            spec: Spec::default(),
            others: Map::new(),
        }
    }

    /// Whoever holds it; `None` once it was released.
    pub(super) fn holder(&self) -> Option<&str> {
        self.spec.holder_identity.as_deref().filter(|holder| !holder.is_empty())
    }

    pub(super) fn observation(&self) -> Observation {
        Observation {
            holder: self.holder().map(str::to_owned),
            renew_time: self.spec.renew_time.clone(),
            resource_version: self.metadata.resource_version.clone(),
        }
    }

    /// The same Lease, held by `holder` from now on for `duration_ms` or longer.
    pub(super) fn held_by(mut self, holder: &str, duration_ms: u64, now: WallTime) -> Self {
        let time = micro_time(now);
        if self.holder() != Some(holder) {
            let transitions = self.spec.lease_transitions.map_or(0, |count| count.saturating_add(1));
            self.spec.lease_transitions = Some(transitions);
            self.spec.acquire_time = Some(time.clone());
            self.spec.holder_identity = Some(holder.to_owned());
        }
        // Whole seconds, and at least one: for people, and for tools that show Leases.
        self.spec.lease_duration_seconds = Some(i64::try_from(duration_ms.div_ceil(1_000)).unwrap_or(i64::MAX));
        self.spec.renew_time = Some(time);
        self
    }

    /// The same Lease, held by nobody.
    pub(super) fn released(mut self, now: WallTime) -> Self {
        self.spec.holder_identity = Some(String::new());
        self.spec.lease_duration_seconds = Some(1);
        self.spec.renew_time = Some(micro_time(now));
        self
    }
}

/// A time as the API writes it (`MicroTime`), for people: `2026-11-21T15:52:15.123000Z`.
fn micro_time(time: WallTime) -> String {
    let (days, millis) = (time.0.div_euclid(86_400_000), time.0.rem_euclid(86_400_000));
    let (year, month, day) = date(days);
    let (seconds, micros) = (millis / 1_000, millis % 1_000 * 1_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// Year, month and day of the Gregorian calendar, so many days after the beginning of 1970.
fn date(days: i64) -> (i64, i64, i64) {
    // Years begin in March here, so that the leap day is the last of its year; 400 of them have 146,097 days.
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_api_reads_them() {
        for (millis, expected) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (-1, "1969-12-31T23:59:59.999000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000000Z"),
            (1_709_251_199_001, "2024-02-29T23:59:59.001000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000000Z"),
        ] {
            assert_eq!(micro_time(WallTime(millis)), expected);
        }
    }

    #[test]
    fn what_others_have_written_into_the_lease_stays() {
        let json = serde_json::json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": "c-leader", "namespace": "n", "resourceVersion": "7", "uid": "u", "labels": {"team": "a"},
                "managedFields": [{"manager": "kubectl"}],
            },
            "spec": {"holderIdentity": "a", "leaseTransitions": 4, "acquireTime": "then", "renewTime": "then",
                "leaseDurationSeconds": 15, "strategy": "OldestEmulationVersion"},
        });
        let lease: Lease = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(serde_json::to_value(&lease).unwrap(), json);
        let renewed = serde_json::to_value(lease.clone().held_by("a", 15_000, WallTime(0))).unwrap();
        let mut expected = json.clone();
        expected["spec"]["renewTime"] = "1970-01-01T00:00:00.000000Z".into();
        assert_eq!(renewed, expected);
        let taken = serde_json::to_value(lease.held_by("b", 1_500, WallTime(0))).unwrap();
        expected["spec"]["holderIdentity"] = "b".into();
        expected["spec"]["acquireTime"] = "1970-01-01T00:00:00.000000Z".into();
        expected["spec"]["leaseTransitions"] = 5.into();
        expected["spec"]["leaseDurationSeconds"] = 2.into();
        assert_eq!(taken, expected);
    }
}
