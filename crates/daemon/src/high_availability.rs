//! From the configuration, and what surrounds a pod, to how job managers find out which of them leads.

use std::path::{Path, PathBuf};
use std::time::Duration;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::options::{ConfigOption, Configuration, host_and_port, keys};
use streamd_jobmanager::{ElectionTimes, HighAvailability, KubernetesLease};

use crate::job_manager::millis;

/// Where Kubernetes puts what a pod may show to the API server.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Flink's bound: names are made of it, which have at most 63 characters.
const LONGEST_CLUSTER_ID: usize = 45;

/// What a pod knows of its cluster. Outside of a pod, nothing.
pub struct Surroundings<V> {
    /// The value of a variable of the environment.
    pub variable: V,
    /// The folder of the service account.
    pub service_account: PathBuf,
}

/// What surrounds this process.
pub fn surroundings() -> Surroundings<impl Fn(&str) -> Option<String>> {
    Surroundings {
        variable: |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty()),
        service_account: SERVICE_ACCOUNT.into(),
    }
}

/// Whether a configuration has several job managers, of which one is elected.
pub fn is_elected(configuration: &Configuration) -> bool {
    configuration.get(keys::HA_TYPE) != "none"
}

/// Whether there are other job managers. Errors on times that let two try to lead all the time, and on what is missing.
pub fn high_availability<V: Fn(&str) -> Option<String>>(
    configuration: &Configuration,
    surroundings: &Surroundings<V>,
) -> Result<HighAvailability, CodedError> {
    match configuration.get(keys::HA_TYPE).as_str() {
        "object-store" => {
            let options = [keys::HA_LEASE_DURATION, keys::HA_RENEW_DEADLINE, keys::HA_RETRY_PERIOD];
            Ok(HighAvailability::ObjectStore(times(configuration, options)?))
        }
        "kubernetes" => {
            let options = [
                keys::HA_KUBERNETES_LEASE_DURATION,
                keys::HA_KUBERNETES_RENEW_DEADLINE,
                keys::HA_KUBERNETES_RETRY_PERIOD,
            ];
            let times = times(configuration, options)?;
            Ok(HighAvailability::Kubernetes(times, lease(configuration, surroundings)?))
        }
        _none => Ok(HighAvailability::None),
    }
}

/// Lease, deadline and period, which must be ever shorter.
fn times(
    configuration: &Configuration,
    [lease, deadline, period]: [ConfigOption<Duration>; 3],
) -> Result<ElectionTimes, CodedError> {
    let times = ElectionTimes {
        lease_duration_ms: millis(configuration.get(lease)),
        renew_deadline_ms: millis(configuration.get(deadline)),
        retry_period_ms: millis(configuration.get(period)),
    };
    if times.retry_period_ms < times.renew_deadline_ms && times.renew_deadline_ms < times.lease_duration_ms {
        return Ok(times);
    }
    let [lease, deadline, period] = [lease, deadline, period].map(|option| option.definition);
    let message = format!(
        "`{}` must be below `{}`, and that below `{}`",
        period.key, deadline.key, lease.key
    );
    let [lease, deadline, period] = [lease, deadline, period].map(|definition| definition.fallback.shown());
    Err(CodedError::new(ErrorCode::InvalidConfiguration, message)
        .with_hint(format!("leave them out to have {period}, {deadline} and {lease}")))
}

fn lease<V: Fn(&str) -> Option<String>>(
    configuration: &Configuration,
    surroundings: &Surroundings<V>,
) -> Result<KubernetesLease, CodedError> {
    let cluster = cluster_id(configuration)?;
    let named = configuration.get(keys::KUBERNETES_API_SERVER);
    let is_of_pod = named.is_none();
    let of_pod = |file: &str| is_of_pod.then(|| surroundings.service_account.join(file));
    let api_server = match named {
        Some(url) => url,
        None => api_server_of_pod(surroundings)?,
    };
    let namespace = match configuration.get(keys::KUBERNETES_NAMESPACE) {
        Some(namespace) => checked_label(keys::KUBERNETES_NAMESPACE, namespace, 63)?,
        None => namespace_of_pod(&surroundings.service_account),
    };
    Ok(KubernetesLease {
        api_server,
        ca_file: configuration.get(keys::KUBERNETES_CA_FILE).or_else(|| of_pod("ca.crt")),
        token_file: configuration
            .get(keys::KUBERNETES_TOKEN_FILE)
            .or_else(|| of_pod("token")),
        namespace,
        name: format!("{cluster}-leader"),
        host: (surroundings.variable)("HOSTNAME"),
    })
}

fn cluster_id(configuration: &Configuration) -> Result<String, CodedError> {
    let option = keys::KUBERNETES_CLUSTER_ID;
    match configuration.get(option) {
        Some(id) => checked_label(option, id, LONGEST_CLUSTER_ID),
        None => {
            let message = format!(
                "`{}` is `kubernetes`, which needs `{}`",
                keys::HA_TYPE.key(),
                option.key()
            );
            Err(CodedError::new(ErrorCode::InvalidConfiguration, message)
                .with_hint("set it to the name of this cluster, the same for all of its processes"))
        }
    }
}

/// A name that can be part of the path of a request, as Kubernetes wants names anyway.
fn checked_label(option: ConfigOption<Option<String>>, name: String, longest: usize) -> Result<String, CodedError> {
    let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.len() <= longest && name.chars().all(is_inner) && !name.starts_with('-') && !name.ends_with('-') {
        return Ok(name);
    }
    let message = format!("`{}` is `{name}`, which is no name of Kubernetes", option.key());
    Err(
        CodedError::new(ErrorCode::InvalidConfiguration, message).with_hint(format!(
            "write small letters, digits and `-`, at most {longest} of them, with no `-` at the ends"
        )),
    )
}

fn api_server_of_pod<V: Fn(&str) -> Option<String>>(surroundings: &Surroundings<V>) -> Result<String, CodedError> {
    let variable = &surroundings.variable;
    let (host, port) = (variable("KUBERNETES_SERVICE_HOST"), variable("KUBERNETES_SERVICE_PORT"));
    let (Some(host), Some(port)) = (host, port.and_then(|port| port.parse().ok())) else {
        let message = "this process is in no pod of Kubernetes, and no API server is configured";
        return Err(
            CodedError::new(ErrorCode::InvalidConfiguration, message).with_hint(format!(
                "set `{}`, or `{}: object-store`, which needs no Kubernetes",
                keys::KUBERNETES_API_SERVER.key(),
                keys::HA_TYPE.key()
            )),
        );
    };
    Ok(format!("https://{}", host_and_port(&host, port)))
}

fn namespace_of_pod(service_account: &Path) -> String {
    let written = std::fs::read_to_string(service_account.join("namespace"));
    let written = written.map(|namespace| namespace.trim().to_owned()).unwrap_or_default();
    if written.is_empty() {
        "default".to_owned()
    } else {
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the settings give in a pod whose service account is in this folder, or outside of a pod.
    fn chosen(settings: &[&str], pod: Option<&Path>) -> Result<HighAvailability, CodedError> {
        let configuration = Configuration::default().with_arguments(settings).unwrap();
        let variable = |name: &str| {
            let value = match name {
                "KUBERNETES_SERVICE_HOST" => "fd00::1",
                "KUBERNETES_SERVICE_PORT" => "443",
                "HOSTNAME" => "streamd-0",
                _other => return None,
            };
            pod.map(|_| value.to_owned())
        };
        let service_account = pod.unwrap_or(Path::new("/nowhere")).to_owned();
        high_availability(
            &configuration,
            &Surroundings {
                variable,
                service_account,
            },
        )
    }

    const KUBERNETES: [&str; 2] = ["high-availability.type=kubernetes", "kubernetes.cluster-id=c"];

    #[test]
    fn a_pod_has_what_it_needs_but_the_name_of_the_cluster() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("namespace"), "streaming\n").unwrap();
        let lease = KubernetesLease {
            api_server: "https://[fd00::1]:443".to_owned(),
            ca_file: Some(folder.path().join("ca.crt")),
            token_file: Some(folder.path().join("token")),
            namespace: "streaming".to_owned(),
            name: "c-leader".to_owned(),
            host: Some("streamd-0".to_owned()),
        };
        let times = ElectionTimes {
            lease_duration_ms: 15_000,
            renew_deadline_ms: 12_000,
            retry_period_ms: 5_000,
        };
        let chosen_in_pod = chosen(&KUBERNETES, Some(folder.path())).unwrap();
        assert_eq!(chosen_in_pod, HighAvailability::Kubernetes(times, lease));
        let unnamed = chosen(&KUBERNETES[..1], Some(folder.path())).unwrap_err();
        assert_eq!(
            unnamed.message,
            "`high-availability.type` is `kubernetes`, which needs `kubernetes.cluster-id`"
        );
    }

    #[test]
    fn outside_of_a_pod_only_what_is_configured_is_shown_to_the_server() {
        let error = chosen(&KUBERNETES, None).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidConfiguration);
        assert!(error.hint.unwrap().contains("kubernetes.api-server.url"));
        let url = "kubernetes.api-server.url=http://127.0.0.1:8001/";
        let HighAvailability::Kubernetes(_, lease) = chosen(&[&KUBERNETES[..], &[url]].concat(), None).unwrap() else {
            panic!("another type");
        };
        assert_eq!((lease.ca_file, lease.token_file, lease.host), (None, None, None));
        assert_eq!(
            (lease.api_server.as_str(), lease.namespace.as_str()),
            ("http://127.0.0.1:8001", "default")
        );
    }

    #[test]
    fn names_that_are_no_names_and_times_that_are_no_order_are_refused() {
        let long = format!("kubernetes.cluster-id={}", "c".repeat(46));
        for wrong in [
            "kubernetes.cluster-id=../secrets",
            "kubernetes.cluster-id=-c",
            "kubernetes.cluster-id=C",
            &long,
            "kubernetes.namespace=a/b",
            "high-availability.kubernetes.leader-election.renew-deadline=15 s",
            "high-availability.kubernetes.leader-election.retry-period=12 s",
        ] {
            let settings = [&KUBERNETES[..], &["kubernetes.api-server.url=https://k:6443", wrong]].concat();
            let error = chosen(&settings, None).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidConfiguration, "{wrong}");
        }
    }
}
