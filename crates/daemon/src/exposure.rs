//! Which addresses may be listened on: without encryption and passwords, those that only this machine reaches.

use std::net::IpAddr;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::options::{ConfigOption, Configuration, keys};
use tracing::warn;

/// Refuses an address to listen on that other machines reach, unless the configuration allows it.
pub async fn check_exposure(configuration: &Configuration, option: ConfigOption<String>) -> Result<(), CodedError> {
    let host = configuration.get(option);
    let Some(exposed) = exposed_address(&host).await else {
        return Ok(());
    };
    if configuration.get(keys::ALLOW_INSECURE_BIND) {
        warn!(
            key = option.key(),
            address = %exposed,
            "other machines can connect, without encryption or passwords: whoever does can run programs here"
        );
        return Ok(());
    }
    let message = format!(
        "`{}` is `{host}` (from {}), which other machines reach, and this version has neither encryption nor passwords",
        option.key(),
        configuration.origin(option)
    );
    Err(CodedError::new(ErrorCode::InsecureBind, message).with_hint(format!(
        "listen on 127.0.0.1 and come through an ssh tunnel, or, where nobody else can connect, set `{}: true`",
        keys::ALLOW_INSECURE_BIND.key()
    )))
}

/// The first address of a host that is not this machine's alone. A name that leads nowhere is told when it is listened on.
async fn exposed_address(host: &str) -> Option<IpAddr> {
    let mut addresses = tokio::net::lookup_host((host, 0)).await.ok()?;
    addresses.find_map(|address| {
        let ip = address.ip().to_canonical();
        (!ip.is_loopback()).then_some(ip)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn verdict(settings: &[&str]) -> Result<(), CodedError> {
        let configuration = Configuration::default().with_arguments(settings).unwrap();
        check_exposure(&configuration, keys::JOB_MANAGER_BIND_HOST).await
    }

    #[tokio::test]
    async fn only_what_this_machine_alone_reaches_is_listened_on() {
        for host in ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "localhost"] {
            assert_eq!(
                verdict(&[&format!("jobmanager.bind-host={host}")]).await,
                Ok(()),
                "{host}"
            );
        }
        for host in ["0.0.0.0", "::", "192.0.2.1", "::ffff:10.0.0.1", "2001:db8::1"] {
            let setting = format!("jobmanager.bind-host={host}");
            let error = verdict(&[&setting]).await.unwrap_err();
            assert_eq!(error.code, ErrorCode::InsecureBind, "{host}");
            assert!(error.message.contains("(from `-D`)"), "{error}");
            assert_eq!(
                verdict(&[&setting, "security.allow-insecure-bind=true"]).await,
                Ok(()),
                "{host}"
            );
        }
        assert_eq!(verdict(&[]).await, Ok(()));
    }
}
